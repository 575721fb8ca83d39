"""Tuning keeps the fastest setting that costs no accuracy, per machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarking import cell, file_record, result

from fluidaudio_cli.benchmark import tuning as tuner
from fluidaudio_cli.benchmark.grid import Cell, Effort
from fluidaudio_cli.benchmark.kept_result import Settings
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord, ProcessRecord
from fluidaudio_cli.benchmark.studies import TUNING
from fluidaudio_cli.diarization.loading import make_plan
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    load_tuning,
    machine_identity,
    save_tuning,
)
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.base import Availability

CHOICE = Tuning(
    "onnxruntime",
    "all",
    1,
    NetworkTuning("fp32", 4),
    NetworkTuning("fp32", 32),
    machine_identity(),
)


@pytest.fixture(autouse=True)
def own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "tuning.json"
    monkeypatch.setenv("FLUIDAUDIO_TUNING", str(path))
    return path


# What is stored, and what it applies to


def test_a_choice_is_read_back_on_the_same_machine_only() -> None:
    assert load_tuning() is None
    save_tuning(CHOICE)
    assert load_tuning() == CHOICE
    save_tuning(replace(CHOICE, machine="another x64"))
    assert load_tuning() is None


@pytest.mark.parametrize(
    "content", ["{}", '{"schema": "fluidaudio.tuning/1"}', '{"schema": "fluidaudio.tuning/2"}', "["]
)
def test_a_broken_or_older_file_is_said_not_ignored(own_file: Path, content: str) -> None:
    own_file.write_text(content)
    with pytest.raises(HostError, match="run fluidaudio tune, or delete it"):
        load_tuning()


def test_a_choice_sets_batches_and_workers_but_not_fixed_ones() -> None:
    choice = replace(CHOICE, embedding=NetworkTuning("bf16", 16))
    fast = load_mode("fast")
    tuned = choice.apply(fast)
    assert (tuned.windows.batch, tuned.embedding.batch, tuned.execution.workers) == (4, 16, 1)
    assert tuned.reconstruction == fast.reconstruction
    serial = replace(fast, execution=replace(fast.execution, workers=3))
    assert choice.apply(serial).execution.workers == 3


# The search, on made-up machines

BEST = "openvino bf16 bf16"


class Machine:
    """Speeds and errors by setting; keeps what was measured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: int = 2) -> None:
        self.executors = {"openvino": ("fp32", "bf16"), "onnxruntime": ("fp32",)}
        self.speed = {"openvino fp32 fp32": 50.0, BEST: 100.0, "onnxruntime fp32 fp32": 40.0}
        self.batch_gain: dict[tuple[int, int], float] = {}  # by windows and voices
        self.worker_gain: dict[int, float] = {}
        self.der: dict[str, float] = {}
        self.der_of_batches: dict[tuple[int, int], float] = {}
        self.crashes: set[str] = set()
        self.timed: list[tuple[str, int, tuple[int, int]]] = []
        self.checked: list[str] = []
        monkeypatch.setattr(tuner, "processors", lambda: cores)
        monkeypatch.setattr(tuner, "availabilities", self.availabilities)
        monkeypatch.setattr(tuner, "_plan", self.plan)
        monkeypatch.setattr(tuner, "measure_plans", self.measure)

    def availabilities(self) -> dict[str, Availability]:
        return {
            name: Availability(bool(precisions), precisions=precisions)
            for name, precisions in self.executors.items()
        }

    def plan(self, tuning: Tuning | None) -> Plan:
        self.tuning = tuning
        return make_plan("balanced", threads=2, tuning=False)

    def measure(
        self,
        study: str,
        plans: Mapping[Cell, Plan],
        effort: Effort,
        settings: Settings,
        *_: Any,
    ) -> BenchmarkResult:
        assert study == TUNING
        assert settings.timeout == 120.0
        (asked,) = plans
        tuning = self.tuning
        if tuning is None:
            if asked.mode in self.crashes:
                raise HostError("it died")
            return self.record(asked, 1.0, 0.1)
        assert asked.mode == str(tuning)
        batches = (tuning.segmentation.batch, tuning.embedding.batch)
        name = f"{tuning.executor} {tuning.segmentation.precision} {tuning.embedding.precision}"
        if name in self.crashes:
            raise HostError("it died")
        if not effort.score:
            assert asked.length
            self.timed.append((name, tuning.workers, batches))
        else:
            self.checked.append(name)
        speed = self.speed.get(name, 30.0) * self.worker_gain.get(tuning.workers, 1.0)
        speed *= self.batch_gain.get(batches, 1.0)
        error = self.der_of_batches.get(batches, self.der.get(name, 0.1))
        return self.record(asked, speed, error)

    @staticmethod
    def record(asked: Cell, speed: float, error: float) -> BenchmarkResult:
        file = file_record(walls=(100.0 / speed,), error_seconds=50.0 * error)
        return result(cell(asked.mode, file, study=TUNING, length=asked.length))


def test_every_layout_is_looked_at_and_the_fastest_exact_one_refined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    found = tuner.tune()
    usual = load_mode("balanced")
    assert (found.chosen.executor, found.chosen.workers) == ("openvino", 2)
    assert found.chosen.segmentation == NetworkTuning("bf16", usual.windows.batch)
    assert found.chosen.embedding == NetworkTuning("bf16", usual.embedding.batch)
    assert found.rtfx == pytest.approx(100.0)
    assert (found.der, found.fp32_der, found.rejected) == (0.1, 0.1, ())
    assert 0.0 < found.seconds < 60.0
    # Four mixes and one, then of the best: one worker, nine batches less the two known.
    assert len(machine.timed) == 5 + 1 + 9 - 2
    assert {name for name, *_ in machine.timed[5:]} == {BEST}
    assert len(set(machine.timed)) == len(machine.timed)
    # All of it in one document, the errors among it.
    (study,) = found.measured.plan.studies
    assert len(study.cells) == len(found.measured.cells) == len(machine.timed) + 2


def test_each_network_gets_its_batch_and_small_gains_are_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    usual = load_mode("balanced")
    windows, voices = usual.windows.batch, usual.embedding.batch
    other = next(each for each in tuner.BATCHES["embedding"] if each != voices)
    machine.batch_gain = {(4, voices): 1.02, (windows, other): 1.10}
    found = tuner.tune()
    assert (found.chosen.segmentation.batch, found.chosen.embedding.batch) == (windows, other)
    assert found.rtfx == pytest.approx(110.0)


def test_a_batch_that_changes_the_error_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    usual = load_mode("balanced")
    windows, voices = usual.windows.batch, usual.embedding.batch
    other = next(each for each in tuner.BATCHES["embedding"] if each != voices)
    machine.batch_gain = {(windows, other): 1.10}
    machine.der_of_batches = {(windows, other): 0.11}
    found = tuner.tune()
    assert found.chosen.embedding.batch == voices
    assert [each.reason for each in found.rejected] == [
        "DER 11.00% against 10.00% in fp32: +1.00 points"
    ]


def test_fewer_workers_are_tried_while_they_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, cores=16)
    machine.worker_gain = {8: 1.2, 4: 1.3, 2: 1.32, 1: 9.0}
    assert tuner.tune().chosen.workers == 4
    # 2 gained under 3 %, so that 1 was not asked.
    assert {workers for _, workers, _ in machine.timed} == {16, 8, 4, 2}


def test_networks_may_differ_in_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.speed["openvino bf16 fp32"] = 80.0
    machine.der = {BEST: 0.1021}
    found = tuner.tune()
    chosen = found.chosen
    assert (chosen.segmentation.precision, chosen.embedding.precision) == ("bf16", "fp32")
    assert [item.reason for item in found.rejected] == [
        "DER 10.21% against 10.00% in fp32: +0.21 points"
    ]


def test_a_change_within_the_limit_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.der = {BEST: 0.1019}
    found = tuner.tune()
    assert found.chosen.embedding.precision == "bf16"
    assert [found.der, found.fp32_der] == pytest.approx([0.1019, 0.1])


def test_a_crashing_setting_is_a_failed_one_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.crashes = {BEST, "openvino fp32 fp32"}
    machine.speed["onnxruntime fp32 fp32"] = 400.0
    found = tuner.tune()
    assert found.chosen.executor == "onnxruntime"
    # By name, though a setting that does not load leaves no record of being measured.
    assert [why for setting, why in found.failed.items() if "openvino" in setting] == [
        "it died"
    ] * 2


def test_nothing_usable_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.executors = {"openvino": ("bf16",)}
    machine.crashes = {BEST}
    with pytest.raises(HostError) as raised:
        tuner.tune()
    assert str(raised.value) == ("no setting works on this machine: it died: run fluidaudio doctor")


def test_nothing_is_chosen_where_fp32_has_no_error_to_compare_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.crashes = {"fp32"}
    machine.der = {BEST: 0.9}
    told = "no setting works on this machine: it died; there is no error in fp32 to compare with"
    with pytest.raises(HostError, match=told):
        tuner.tune()


def test_a_file_that_failed_is_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.executors = {"openvino": ("bf16",)}
    broken = ProcessRecord(error="cut off")

    def fails(study: str, plans: Mapping[Cell, Plan], *_: Any) -> BenchmarkResult:
        (asked,) = plans
        return result(CellRecord(cell=asked, study=study, processes=(broken,)))

    monkeypatch.setattr(tuner, "measure_plans", fails)
    with pytest.raises(HostError, match="no setting works on this machine: cut off"):
        tuner.tune()


def test_on_core_ml_the_units_are_searched_and_the_package_sets_the_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.executors = {"coreml": ("fp32", "fp16")}
    steps: list[tuple[str, int]] = []
    found = tuner.tune(lambda *step: steps.append(step))
    assert [name for name, *_ in machine.timed[:4]] == ["coreml auto auto"] * 4
    units = ("cpu-and-ne", "cpu-and-gpu", "cpu-only", "all")
    for unit, (name, _) in zip(units, steps, strict=False):
        assert name.startswith("coreml, " if unit == "all" else f"coreml on {unit}, ")
    assert str(found.chosen).startswith("coreml on cpu-and-ne, 2 at a time; ")
    assert [done for _, done in steps] == list(range(len(steps)))


# For real, in processes of its own


def test_the_error_is_that_of_the_default_mode_as_tuned(own_file: Path) -> None:
    save_tuning(replace(CHOICE, executor="none"))  # what is stored must not matter
    search = tuner._Search(lambda what, done: None, 120.0)
    exact = search.error(None)
    assert 0.05 < exact < 0.16
    # In fp32 batches do not change the turns.
    assert search.error(CHOICE) == pytest.approx(exact, abs=0.002)
    assert search.failures == {}


def test_a_setting_that_gives_no_answer_is_a_failed_one() -> None:
    search = tuner._Search(lambda what, done: None, 0.05)
    assert search.unlike(CHOICE, 0.1).endswith(
        "gave no answer within 0.05 s and was ended: allow more with --timeout"
    )
