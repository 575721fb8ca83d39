"""How options become a plan: names expanded, unknown ones refused, outputs checked first."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluidaudio_cli.cli.benchmark_plan import (
    choose,
    choose_modes,
    journal_path,
    open_recordings,
    output_formats,
)
from fluidaudio_cli.cli.compare import check_kinds
from fluidaudio_cli.errors import HostError, UsageError

KNOWN = ("reference", "fast")


def test_all_and_auto_and_one() -> None:
    assert choose("--executor", "all", KNOWN) == KNOWN
    assert choose("--executor", "auto", KNOWN) == ("auto",)
    assert choose("--executor", "fast", KNOWN) == ("fast",)
    with pytest.raises(UsageError, match="--executor cuda: choose auto, all, reference, fast"):
        choose("--executor", "cuda", KNOWN)


def test_modes_repeat_once_and_may_be_files(tmp_path: Path) -> None:
    assert choose_modes(["fast", "all"], KNOWN) == ("fast", "reference")
    own = tmp_path / "mine.yaml"
    assert choose_modes([str(own)], KNOWN) == (str(own),)
    with pytest.raises(UsageError, match="--performance-mode slow: choose all, reference, fast"):
        choose_modes(["slow"], KNOWN)


def test_formats_go_by_extension_and_the_journal_is_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [tmp_path / name for name in ("r.csv", "r.json", "r.MD", "r.xml", "r.out")]
    formats = output_formats(outputs, "junit")
    assert list(formats.values()) == ["csv", "json", "markdown", "junit", "junit"]
    assert list(tmp_path.iterdir()) == []
    assert journal_path(formats) == tmp_path / "r.json"
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(tmp_path))
    assert journal_path({}) == tmp_path / "benchmark" / "last.json"


def test_an_output_that_cannot_be_written_fails_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot write"):
        output_formats([tmp_path / "file" / "r.json"], "summary")
    with pytest.raises(UsageError, match="is a folder: give a file"):
        output_formats([tmp_path], "json")
    with pytest.raises(UsageError, match=r"r\.docx has no known extension"):
        output_formats([tmp_path / "r.docx"], "detailed")


def test_kinds_of_difference() -> None:
    assert check_kinds(" machine,models ") == ("machine", "models")
    assert check_kinds("") == ()
    with pytest.raises(UsageError, match="--allow-different mood: choose from machine, models"):
        check_kinds("mood")


def test_the_bundled_sample_needs_no_download() -> None:
    def refuse() -> None:
        raise AssertionError("downloaded what is bundled")

    (item,) = open_recordings(None, None, None, refuse).items
    assert item.uri == "sample"


def test_an_absent_corpus_is_downloaded_once_and_else_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUIDAUDIO_DATA_DIR", str(tmp_path))
    calls: list[int] = []
    with pytest.raises(HostError, match="fluidaudio datasets download ami-sdm --max-files 1"):
        open_recordings("ami-sdm", None, 1, lambda: calls.append(1))
    assert calls == [1]
