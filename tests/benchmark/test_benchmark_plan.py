"""How options become a plan: names expanded, unknown ones refused, outputs checked first."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarking import plan, tiny_dataset

from fluidaudio_cli.benchmark.grid import Cell, Condition, Effort
from fluidaudio_cli.benchmark.resume import locked
from fluidaudio_cli.cli.benchmark_plan import (
    Asked,
    Chosen,
    build_grid,
    choose,
    choose_models,
    choose_modes,
    journal_path,
    open_conditions,
    output_formats,
)
from fluidaudio_cli.cli.compare import check_kinds
from fluidaudio_cli.cli.options import ExecutorChoice, PrecisionChoice
from fluidaudio_cli.corpora import download
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.executors import select
from fluidaudio_cli.executors.base import Availability
from fluidaudio_cli.executors.select import EXECUTOR_NAMES
from fluidaudio_cli.resources import packages_dir
from fluidaudio_cli.simulate import bundled

KNOWN = ("reference", "fast")


def test_all_and_auto_and_one() -> None:
    assert choose("--precision", "all", PrecisionChoice) == ("fp32", "bf16", "fp16")
    assert choose("--precision", "auto", PrecisionChoice) == ("auto",)
    assert choose("--executor", "cuda", ExecutorChoice) == ("cuda",)
    with pytest.raises(UsageError, match="--precision int4: choose all, auto, fp32, bf16, fp16"):
        choose("--precision", "int4", PrecisionChoice)


def test_modes_repeat_once_and_may_be_files(tmp_path: Path) -> None:
    chosen = choose_modes(["fast", "all"], KNOWN)
    assert chosen == {"fast": "fast", "reference": "reference"}
    (tmp_path / "other").mkdir()
    own, moved = tmp_path / "mine.yaml", tmp_path / "other" / "mine.yaml"
    for path in (own, moved):
        path.write_text("windows: {}\n")
    # Called by what it holds, not by where it lies.
    assert choose_modes([str(own)], KNOWN) == {"mine-02c51bd7": str(own)}
    assert list(choose_modes([str(moved)], KNOWN)) == ["mine-02c51bd7"]
    with pytest.raises(UsageError, match=r"cannot read the mode file absent\.yaml: No such file"):
        choose_modes(["absent.yaml"], KNOWN)
    with pytest.raises(UsageError, match="--performance-mode slow: choose all, reference, fast"):
        choose_modes(["slow"], KNOWN)


def test_formats_go_by_extension_and_the_journal_is_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [tmp_path / name for name in ("r.csv", "r.json", "r.MD", "r.xml", "r.out")]
    formats = output_formats(outputs, "junit")
    assert list(formats.values()) == ["csv", "json", "markdown", "junit", "junit"]
    assert output_formats([Path("-")], "summary", tmp_path / "r.htm") == {
        tmp_path / "r.htm": "html"
    }
    with pytest.raises(UsageError, match=r"--html .*r\.csv has no such ending: end it in .html, "):
        output_formats([], "json", tmp_path / "r.csv")
    assert list(tmp_path.iterdir()) == []
    quick, slow = plan(Cell(mode="fast")), plan(Cell(mode="accurate"))
    assert journal_path(formats, quick, ["f"]) == tmp_path / "r.json"
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(tmp_path))
    journals = {journal_path({}, each, [data]) for each in (quick, slow) for data in ("f", "g")}
    assert len(journals) == 4
    assert {path.parent for path in journals} == {tmp_path / "benchmark"}


def test_two_runs_do_not_share_a_journal(tmp_path: Path) -> None:
    journal = tmp_path / "r.json"
    with (
        locked(journal, tmp_path / "locks"),
        pytest.raises(HostError, match=r"another benchmark is writing .*r\.json: wait for it"),
        locked(journal, tmp_path / "locks"),
    ):
        pass
    with locked(journal, tmp_path / "locks"):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(HostError, match="set FLUIDAUDIO_CACHE_DIR to a folder that can be written"),
        locked(journal, tmp_path / "file" / "locks"),
    ):
        pass


def test_an_output_that_cannot_be_written_fails_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot write"):
        output_formats([tmp_path / "file" / "r.json"], "summary")
    with pytest.raises(UsageError, match="is a folder: give a file"):
        output_formats([tmp_path], "json")
    with pytest.raises(UsageError, match=r"r\.docx has no known ending"):
        output_formats([tmp_path / "r.docx"], "detailed")


def test_a_baseline_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    taken = r"--output .*b\.json is given for something else too: write to another file"
    with pytest.raises(UsageError, match=taken):
        output_formats([tmp_path / "b.json"], "json", None, [None, tmp_path / "link" / "b.json"])


def test_all_executors_are_set_against_one_that_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {name: Availability(name in ("onnxruntime", "cuda")) for name in EXECUTOR_NAMES}
    monkeypatch.setattr(select, "availabilities", lambda: states)
    asked = Asked(("fast",), ("bundled",), "all", "fp32", (), Effort())
    recordings = SimpleNamespace(items=tiny_dataset(tmp_path, "one"))
    with ExitStack() as stack:
        grid = build_grid(asked, {"": Condition("", recordings)}, stack)
    (study,) = grid.studies
    found = [(each.cell.executor, each.base.executor) for each in study.contrasts]
    assert found == [(name, "onnxruntime") for name in ("cuda", "coreml", "openvino")]


def test_kinds_of_difference() -> None:
    assert check_kinds(" machine,models ") == ("machine", "models")
    assert check_kinds("") == ()
    with pytest.raises(UsageError, match="--allow-different mood: choose from machine, models"):
        check_kinds("mood")


def test_unasked_the_sample_and_conversations_made_here_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = bundled.bundled_recipe("conversations").model_copy(
        update={"conversations": 1, "seconds": 15.0, "speakers": 1}
    )
    monkeypatch.setattr(bundled, "bundled_recipe", lambda name: short)
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(tmp_path))
    conditions = open_conditions(None, (), Chosen(auto_download=True))
    recordings = conditions[""].recordings
    assert [item.uri for item in recordings.items] == ["sample", "conversations-001-1spk"]
    assert recordings.name == "sample+conversations"
    assert conditions[""].note.startswith("no --dataset given: measured on the bundled sample")
    again = open_conditions(None, (), Chosen(auto_download=True))[""].recordings
    assert again.fingerprint == recordings.fingerprint


def test_conditions_are_datasets_by_name(tmp_path: Path) -> None:
    given = ["noise=babble snr=10=sample"]
    conditions = open_conditions("sample", given, Chosen())
    assert list(conditions) == ["", "noise=babble snr=10"]
    with pytest.raises(UsageError, match=r"--condition noisy: give NAME=DATASET"):
        open_conditions("sample", ["noisy"], Chosen())


def test_an_absent_corpus_is_downloaded_once_and_else_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUIDAUDIO_DATA_DIR", str(tmp_path))
    calls: list[tuple[str, int | None, str | None]] = []

    def downloaded(name: str, max_files: int | None, single: str | None, progress: object) -> None:
        calls.append((name, max_files, single))

    monkeypatch.setattr(download, "download_dataset", downloaded)
    for allowed in (False, True):
        with pytest.raises(HostError, match="fluidaudio datasets download ami-sdm --max-files 1"):
            open_conditions("ami-sdm", (), Chosen(None, 1, allowed))
    with pytest.raises(HostError, match="fluidaudio datasets download ami-sdm`"):
        open_conditions("ami-sdm", (), Chosen("ES2004b", None, True))
    assert calls == [("ami-sdm", 1, None), ("ami-sdm", None, "ES2004b")]


def test_sets_of_models_are_called_by_their_files_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (packages_dir() / "bundled.yaml").read_text(encoding="utf-8")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "mine.yaml"
        path.write_text(card.replace("file: ", "file: bundled:"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # Another version of the program runs elsewhere.
    assert choose_models(["bundled", "a/mine.yaml", "a/mine.yaml"]) == {
        "bundled": "bundled",
        "mine": str(tmp_path / "a" / "mine.yaml"),
    }
    with pytest.raises(UsageError, match="two sets of --models are called mine: rename one's"):
        choose_models(["a/mine.yaml", "b/mine.yaml"])
    with pytest.raises(UsageError, match="there is no set of models 'other'"):
        choose_models(["other"])
