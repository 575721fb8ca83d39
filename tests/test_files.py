"""Drafts: gone with their block, gone after a killed process, never taken from a running one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
import pytest

from fluidaudio_cli.corpora.store import data_root
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.files import remove_orphans, scratch_folder, write_text_atomic

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
