"""The cache: shown and emptied; doing without it is in ``test_cli_process``."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fluidaudio_cli.cli.messages import progress_bar
from tests import forked

Command = Callable[..., tuple[int, str, str]]


def test_unwritable_cache_is_said_once_and_worked_without(sample_wav: Path) -> None:
    arguments = ("diarize", sample_wav, "--format", "rttm", "--executor", "onnxruntime")
    env = {"FLUIDAUDIO_CACHE_DIR": "/dev/null/cache"}
    assert forked.run(*arguments, "-q", env=env).stderr == ""
    done = forked.run(*arguments, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SPEAKER sample 1 6.")
    assert done.stderr.count("cannot be written") == 1


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of 3 MB of models, a self-test, a conversation, and a benchmark's journal."""
    sizes = {"models/a": 1, "models/b/c": 2, "selftests/a": 1, "conversations/a/b": 4}
    for name, size in (*sizes.items(), ("benchmark/a", 9)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size * 1_000_000))
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_cache_is_shown_by_kind(command: Command, filled: Path) -> None:
    code, out, err = command("cache", "info")
    assert (code, err) == (0, "")
    assert out == (
        f"{filled}, 8.0 MB\n"
        "  compiled models: 2 files, 3.0 MB\n"
        "  self-tests that passed: 1 file, 1.0 MB\n"
        "  conversations made for benchmarks: 1 file, 4.0 MB\n"
    )
    _, out, _ = command("cache", "info", "--format", "json")
    document = json.loads(out)
    assert (document["path"], document["bytes"]) == (str(filled), 8_000_000)
    assert [kind["files"] for kind in document["kinds"].values()] == [2, 1, 0, 1]


def test_two_that_empty_it_at_once_both_do(
    command: Command, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went meanwhile ended the removal without a word; the rest stayed."""
    remove = shutil.rmtree

    def beside_another(path: Path) -> None:
        monkeypatch.setattr(shutil, "rmtree", remove)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path / "b" / "c")

    monkeypatch.setattr(shutil, "rmtree", beside_another)
    assert command("cache", "clear") == (0, "", f"freed 8.0 MB in {filled}\n")
    assert [path.name for path in filled.iterdir()] == ["benchmark"]


def test_brackets_in_names_are_no_markup(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "[red]a[" / "b]"
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(folder))
    assert command("cache", "info") == (0, f"{folder}, 0.0 MB\n", "")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("downloading a[/r]"):
        pass
    assert "downloading a[/r]" in terminal.getvalue()


def test_clearing_takes_one_kind_or_all_that_can_be_made_anew(
    command: Command, filled: Path
) -> None:
    def left() -> list[str]:
        return sorted(path.name for path in filled.iterdir())

    code, out, err = command("cache", "clear", "--kind", "blobs")
    assert (code, out) == (2, "")
    kinds = "models, selftests, memory, conversations"
    assert err == f"fluidaudio: --kind blobs is not known: use {kinds}\n"
    for kind, freed, names in (
        (("--kind", "models"), "3.0", ["benchmark", "conversations", "selftests"]),
        ((), "5.0", ["benchmark"]),
        ((), "0.0", ["benchmark"]),
    ):
        code, out, err = command("cache", "clear", *kind)
        assert (code, out, err) == (0, "", f"freed {freed} MB in {filled}\n")
        assert left() == names
