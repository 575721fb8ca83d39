"""``fluidaudio tune``: what it prints, stores, shows and forgets; the search has its own tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fluidaudio_cli.benchmark import tuning as tuner
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    load_tuning,
    machine_identity,
    save_tuning,
)
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.probe import ProbeResult, ProbeSetting

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


def test_show_and_forget_exclude_each_other(command: Command) -> None:
    code, out, err = command("tune", "--show", "--forget")
    assert (code, out) == (2, "")
    assert "--show excludes --forget: give one of them" in err


def test_probes_choice_time_and_place_are_printed_and_the_choice_stored(
    command: Command, monkeypatch: pytest.MonkeyPatch, own_file: Path
) -> None:
    setting = ProbeSetting("packages/embedding.mlpackage", "openvino", "bf16", 4, 2)

    def found(watch: tuner.Watch, timeout: float) -> tuner.TuningResult:
        assert timeout == 9.0
        watch("embedding", 0, 1)
        return tuner.TuningResult(
            tuner.Candidate(CHOICE, 81.6),
            0.1234,
            0.1233,
            (tuner.Rejected(CHOICE, "it died"),),
            (
                ProbeResult(setting, 16, 123.46),
                ProbeResult(setting, 32, None, "exit status -6"),
            ),
            61.7,
        )

    monkeypatch.setattr(tuner, "tune", found)
    code, out, err = command("tune", "--timeout", "9")
    assert (code, err) == (0, "")  # silent where nobody watches
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    assert ["embedding", "openvino bf16", "2", "4", "16", "123.5"] in rows
    assert ["32", "failed: exit status -6"] in [row[-2:] for row in rows if row]
    assert out.splitlines()[-4:] == [
        f"not taken: {WORDS}: it died",
        f"chosen: {WORDS}",
        "about 82 windows/s through both networks; "
        "DER on the bundled sample 12.34%, in fp32 12.33%",
        f"took 62 s; stored in {own_file}",
    ]
    assert load_tuning() == CHOICE


def test_nothing_is_stored_when_no_setting_works(
    command: Command, monkeypatch: pytest.MonkeyPatch, own_file: Path
) -> None:
    def none(watch: tuner.Watch, timeout: float) -> tuner.TuningResult:
        raise HostError("no setting works on this machine: it died", "run fluidaudio doctor")

    monkeypatch.setattr(tuner, "tune", none)
    code, out, err = command("tune")
    assert (code, out) == (4, "")
    assert "no setting works on this machine: it died: run fluidaudio doctor" in err
    assert not own_file.exists()
