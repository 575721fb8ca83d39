"""``fluidaudio tune``: what it prints, stores, shows and forgets; the search has its own tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarking import cell, file_record, result

from fluidaudio_cli.benchmark import tuning as tuner
from fluidaudio_cli.benchmark.results import read_result
from fluidaudio_cli.benchmark.studies import TUNING
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    load_tuning,
    machine_identity,
    save_tuning,
)
from fluidaudio_cli.errors import HostError

Command = Callable[..., tuple[int, str, str]]

CHOICE = Tuning(
    "openvino",
    "all",
    2,
    NetworkTuning("bf16", 16),
    NetworkTuning("fp32", 32),
    machine_identity(),
)
WORDS = "openvino, 2 at a time; segmentation in bf16 by 16, embedding in fp32 by 32"


@pytest.fixture(autouse=True)
def own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "tuning.json"
    monkeypatch.setenv("FLUIDAUDIO_TUNING", str(path))
    return path


def test_the_stored_choice_is_shown_and_forgotten(process: Command, own_file: Path) -> None:
    none = f"no choice for this machine in {own_file}; auto uses the defaults\n"
    assert process("tune", "--show") == (0, none, "")
    save_tuning(CHOICE)
    assert process("tune", "--show") == (0, f"{WORDS}\nstored in {own_file}\n", "")
    assert process("tune", "--forget") == (0, "", "")
    assert not own_file.exists()
    assert process("tune", "--forget")[0] == 0


def test_cells_choice_time_and_place_are_printed_and_the_choice_stored(
    command: Command, monkeypatch: pytest.MonkeyPatch, own_file: Path, tmp_path: Path
) -> None:
    measured = result(cell(WORDS, file_record(walls=(1.25,)), study=TUNING))

    def found(watch: tuner.Watch, timeout: float) -> tuner.TuningResult:
        assert timeout == 9.0
        watch("embedding", 0)
        rejected = (tuner.Rejected(CHOICE, "it died [at once]"),)
        failed = {"coreml": "it gave no answer"}
        return tuner.TuningResult(CHOICE, 81.6, 0.1234, 0.1233, rejected, measured, 61.7, failed)

    monkeypatch.setattr(tuner, "tune", found)
    kept = tmp_path / "kept.json"
    code, out, err = command("tune", "--timeout", "9", "--measured", kept)
    assert (code, err) == (0, "")  # silent where nobody watches
    (row,) = (line for line in out.splitlines() if line.split("onnxruntime")[0].strip() == WORDS)
    assert row.split()[-8] == "80.0"
    assert out.splitlines()[-5:] == [
        "failed: coreml: it gave no answer",
        f"not taken: {WORDS}: it died [at once]",
        f"chosen: {WORDS}",
        "82x real time; DER on the bundled sample 12.34%, in fp32 12.33%",
        f"took 62 s; stored in {own_file}",
    ]
    assert load_tuning() == CHOICE
    assert read_result(kept) == measured
    document = json.loads(command("tune", "--timeout", "9", "--format", "json")[1])
    assert document["benchmark"] == json.loads(kept.read_text())
    assert document["chosen"]["workers"] == 2
    assert document["failed"] == {"coreml": "it gave no answer"}
    taken = f"--output {kept} is given for something else too: write to another file"
    code, out, err = command("tune", "--measured", kept, "--output", kept)
    assert (code, out) == (2, "")
    assert taken in err


def test_nothing_is_stored_when_no_setting_works(
    command: Command, monkeypatch: pytest.MonkeyPatch, own_file: Path
) -> None:
    def none(watch: tuner.Watch, timeout: float) -> tuner.TuningResult:
        raise HostError(
            "no setting works on this machine: it died [at once]", "run fluidaudio doctor"
        )

    monkeypatch.setattr(tuner, "tune", none)
    code, out, err = command("tune")
    assert (code, out) == (4, "")
    assert "no setting works on this machine: it died [at once]: run fluidaudio doctor" in err
    assert not own_file.exists()


def test_where_a_choice_cannot_be_kept_nothing_is_measured(
    process: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "none"
    mine.write_text("not a tuning")
    monkeypatch.setenv("FLUIDAUDIO_TUNING", "none")
    for options in ((), ("--show",), ("--forget",)):
        assert process("tune", *options) == (
            2,
            "",
            "fluidaudio: FLUIDAUDIO_TUNING is none: what is stored is not followed: unset it, or "
            "name a file\n",
        )
    assert mine.read_text() == "not a tuning"
    monkeypatch.setenv("FLUIDAUDIO_TUNING", "/dev/null/tuning.json")
    code, _, err = process("tune")
    assert code == 4
    assert err.startswith("fluidaudio: cannot write /dev/null/tuning.json: ")
    assert err.endswith(": choose another FLUIDAUDIO_TUNING\n")
