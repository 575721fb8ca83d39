"""Drafts: gone with their block, gone after a killed process, never taken from a running one."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest

from fluidaudio_cli.coreml.package import package_sha256
from fluidaudio_cli.corpora.store import data_root
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.files import (
    atomic_path,
    file_sha256,
    folder_bytes,
    folder_files,
    remove_orphans,
    scratch_folder,
    write_text_atomic,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders are locked on POSIX only")

HOLD = """
import sys, time
from pathlib import Path
from fluidaudio_cli.files import atomic_path
with atomic_path(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_goes_and_what_a_running_one_holds_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "result.json")]
    killed, running = (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    for each in (killed, running):
        assert each.stdout is not None
        assert each.stdout.readline() == "held\n"
    killed.kill()
    killed.wait()
    (tmp_path / ".fluidaudio-notours").write_text("a file")
    (tmp_path / ".fluidaudio-longer_name").mkdir()
    assert len(list(tmp_path.iterdir())) == 4
    write_text_atomic(tmp_path / "other.json", "{}")
    drafts = [path for path in tmp_path.iterdir() if (path / "result.json").exists()]
    assert len(drafts) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path not in drafts) == [
        ".fluidaudio-longer_name",
        ".fluidaudio-notours",
        "other.json",
    ]
    running.kill()
    running.wait()
    remove_orphans(tmp_path)
    assert not drafts[0].exists()


def test_a_private_file_stays_private(tmp_path: Path) -> None:
    target = tmp_path / "turns.json"
    for before, after in ((0o600, 0o600), (0o640, 0o640), (0o666, 0o644)):
        target.touch()
        target.chmod(before)
        previous = os.umask(0o022)
        try:
            write_text_atomic(target, "new")
        finally:
            os.umask(previous)
        assert (target.stat().st_mode & 0o777, target.read_text()) == (after, "new")


def test_what_does_not_help_is_not_advised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was wrong, the remedy was to free space."""
    for number, remedy in (
        (errno.EMFILE, "allow more open files (ulimit -n)"),
        (errno.EIO, "check the disk"),
        (errno.ENOSPC, "free space there, or choose another place"),
    ):

        def fails(*_: object, number: int = number, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "write_text", fails)
        with pytest.raises(HostError, match=f"{os.strerror(number)}: {re.escape(remedy)}$"):
            write_text_atomic(tmp_path / "a.json", "{}")


def test_what_came_into_a_folder_meanwhile_stays(tmp_path: Path) -> None:
    """Of two that made the same folder the second one removed the result of the first."""
    target = tmp_path / "talks"
    target.mkdir()

    def make() -> None:
        with atomic_path(target) as draft:
            draft.mkdir()
            write_text_atomic(target / "first.wav", "whole")

    with pytest.raises(HostError, match=r"^cannot write .*talks: Directory not empty: "):
        make()
    assert (target / "first.wav").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_looked_into_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package's hash was that of the rest of it."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.bin").write_bytes(b"abc")
    scan = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("weights"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return scan(path)

    assert folder_bytes(tmp_path) == 3
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match=r"Input/output error: '.*weights'"):
        package_sha256(tmp_path)
    assert folder_files(tmp_path / "gone") == []


def test_a_read_that_fails_says_of_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system names a file that cannot be opened, not one that cannot be read."""
    path = tmp_path / "a.bin"

    def read(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", lambda *_: nullcontext(SimpleNamespace(read=read)))
    with pytest.raises(OSError, match=r"Input/output error: .*a\.bin"):
        file_sha256(path)


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under any number."""

    def unknown(*_: object) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("FLUIDAUDIO_DATA_DIR", raising=False)
    for kind in ("cache", "config", "data"):
        monkeypatch.setattr(platformdirs, f"user_{kind}_dir", unknown)
    with pytest.raises(HostError) as caught:
        data_root()
    assert str(caught.value) == (
        "this user has no home, where the data folder would be: set HOME or FLUIDAUDIO_DATA_DIR"
    )
    monkeypatch.setenv("FLUIDAUDIO_DATA_DIR", "elsewhere")
    assert data_root() == Path("elsewhere")


def test_a_draft_taken_for_an_orphan_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight processes on a cold cache met this: one sweeps just when another makes its draft."""
    make, made = tempfile.mkdtemp, []

    def and_sweep(**where: object) -> str:
        made.append(make(prefix=str(where["prefix"]), dir=str(where["dir"])))
        if len(made) == 1:
            remove_orphans(tmp_path)
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", and_sweep)
    with scratch_folder(tmp_path) as folder:
        assert str(folder) == made[1]
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
