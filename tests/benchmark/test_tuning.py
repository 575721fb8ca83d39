"""Tuning keeps the fastest setting that costs no accuracy, per machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fluidaudio_cli.benchmark import tuning as tuner
from fluidaudio_cli.diarization.config import ModeConfig, load_mode
from fluidaudio_cli.diarization.tuning import Tuning, load_tuning, machine_identity, save_tuning
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.base import Availability
from fluidaudio_cli.executors.probe import ProbeResult, ProbeSetting

CHOICE = Tuning("onnxruntime", "fp32", "all", 4, 8, 1, machine_identity())


@pytest.fixture(autouse=True)
def _own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLUIDAUDIO_TUNING", str(tmp_path / "tuning.json"))


def test_a_choice_is_read_back_on_the_same_machine_only() -> None:
    assert load_tuning() is None
    save_tuning(CHOICE)
    assert load_tuning() == CHOICE
    save_tuning(replace(CHOICE, machine="another x64"))
    assert load_tuning() is None


def test_a_broken_file_is_said_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "tuning.json").write_text("{}")
    with pytest.raises(HostError, match="run fluidaudio tune, or delete it"):
        load_tuning()


def test_a_choice_changes_modes_that_leave_it_to_auto_only() -> None:
    tuned = CHOICE.apply(load_mode("fast"))
    assert (tuned.windows.batch, tuned.embedding.batch) == (4, 8)
    assert (tuned.execution.executor, tuned.execution.precision) == ("onnxruntime", "fp32")
    assert tuned.clustering == load_mode("fast").clustering
    assert CHOICE.apply(load_mode("reference")) == load_mode("reference")


def _probe(setting: ProbeSetting, timeout: float) -> ProbeResult:
    if setting.executor == "coreml":
        return ProbeResult(setting, None, "exit status -6")
    speed = {"fp32": 100.0, "bf16": 300.0}[setting.precision] + setting.batch + setting.streams
    return ProbeResult(setting, speed)


def _machine(monkeypatch: pytest.MonkeyPatch, ders: dict[str, float]) -> None:
    here = {
        "coreml": Availability(True, precisions=("fp16",)),
        "openvino": Availability(True, precisions=("fp32", "bf16")),
    }
    monkeypatch.setattr(tuner, "availabilities", lambda: here)
    monkeypatch.setattr(tuner, "probe", _probe)

    def der(mode: ModeConfig, executor: str, precision: str, units: str) -> float:
        return ders["exact" if executor == "onnxruntime" else precision]

    monkeypatch.setattr(tuner, "_der", der)


def test_the_fastest_is_taken_when_its_error_is_that_of_fp32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _machine(monkeypatch, {"exact": 0.100, "fp32": 0.100, "bf16": 0.1019})
    result = tuner.tune()
    assert result.chosen.tuning.precision == "bf16"
    assert result.chosen.tuning.window_batch == max(tuner.WINDOW_BATCHES)
    assert result.rejected == ()


def test_a_faster_one_that_costs_accuracy_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, {"exact": 0.100, "fp32": 0.100, "bf16": 0.1021})
    result = tuner.tune()
    assert result.chosen.tuning.precision == "fp32"
    assert {item.reason for item in result.rejected} == {
        "DER 10.21% against 10.00% in fp32: +0.21 points"
    }


def test_a_crashing_executor_is_a_failed_probe_each(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, {"exact": 0.1, "fp32": 0.1, "bf16": 0.1})
    failures = [probe for probe in tuner.tune().probes if probe.failure]
    assert {probe.setting.executor for probe in failures} == {"coreml"}
    assert {probe.setting.batch for probe in failures} == {1}


def test_nothing_usable_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, {"exact": 0.1, "fp32": 0.5, "bf16": 0.5})
    with pytest.raises(HostError, match=r"no setting works on this machine: .*exit status -6"):
        tuner.tune()
