"""Tuning keeps the fastest setting that costs no accuracy, per machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fluidaudio_cli.benchmark import tuning as tuner
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    load_tuning,
    machine_identity,
    save_tuning,
)
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.base import Availability
from fluidaudio_cli.executors.probe import ProbeResult, ProbeSetting

CHOICE = Tuning(
    "onnxruntime",
    "all",
    1,
    NetworkTuning("fp32", 4),
    NetworkTuning("fp32", 32),
    machine_identity(),
)
MIDDLE = {"segmentation": 8, "embedding": 16}  # the batches of the made-up default mode


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


class Machine:
    """Speeds and errors by setting; keeps what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: int = 2) -> None:
        self.executors = {"openvino": ("fp32", "bf16"), "onnxruntime": ("fp32",)}
        self.speed = {"openvino fp32": 100.0, "openvino bf16": 400.0, "onnxruntime fp32": 90.0}
        self.batch_gain: dict[tuple[str, int], float] = {}
        self.worker_gain: dict[int, float] = {}
        self.der: dict[str, float] = {}
        self.crashes: set[str] = set()
        self.asked: list[tuple[str, str, str, int, tuple[int, ...]]] = []
        self.checked: list[str] = []
        self.cores = cores
        mode = load_mode("balanced")
        mode = replace(
            mode,
            windows=replace(mode.windows, batch=MIDDLE["segmentation"]),
            embedding=replace(mode.embedding, batch=MIDDLE["embedding"]),
        )
        monkeypatch.setattr(tuner, "load_mode", lambda name: mode)
        monkeypatch.setattr(tuner, "processors", lambda: cores)
        monkeypatch.setattr(tuner, "availabilities", self.availabilities)
        monkeypatch.setattr(tuner, "probe", self.probe)
        monkeypatch.setattr(tuner, "bundled_sample_der", self.error)

    def availabilities(self) -> dict[str, Availability]:
        return {
            name: Availability(bool(precisions), precisions=precisions)
            for name, precisions in self.executors.items()
        }

    def probe(
        self, setting: ProbeSetting, batches: Sequence[int], timeout: float
    ) -> tuple[ProbeResult, ...]:
        assert timeout == 120.0
        network = Path(setting.package).stem
        layout = f"{setting.executor} {setting.precision}"
        self.asked.append((network, layout, setting.compute_units, setting.streams, tuple(batches)))
        threads = setting.streams if setting.executor == "onnxruntime" else self.cores
        assert setting.threads == threads
        if layout in self.crashes:
            return tuple(ProbeResult(setting, batch, None, "exit status -6") for batch in batches)
        speed = self.speed.get(f"{network} {layout}", self.speed.get(layout, 100.0))
        speed *= self.worker_gain.get(setting.streams, 1.0)
        return tuple(
            ProbeResult(setting, batch, speed * self.batch_gain.get((network, batch), 1.0))
            for batch in batches
        )

    def error(self, tuning: Tuning | None, timeout: float) -> float:
        assert timeout == 120.0
        if tuning is None:
            return 0.1
        name = f"{tuning.executor} {tuning.segmentation.precision} {tuning.embedding.precision}"
        self.checked.append(name)
        if name in self.crashes:
            raise HostError("it died")
        return self.der.get(name, 0.1)


def test_slow_layouts_are_looked_at_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    result = tuner.tune()
    chosen = result.chosen.tuning
    assert (chosen.executor, chosen.workers) == ("openvino", 2)
    assert chosen.segmentation == NetworkTuning("bf16", 8)
    assert chosen.embedding == NetworkTuning("bf16", 16)
    # One window at 1/400 s and 1.5 crops at 1/400 s each.
    assert result.chosen.windows_per_second == pytest.approx(160.0)
    assert result.rejected == ()
    middle = [(network, (batch,)) for network, batch in MIDDLE.items()]
    for layout in ("openvino fp32", "onnxruntime fp32"):
        asked = [
            (network, batches) for network, own, _, _, batches in machine.asked if own == layout
        ]
        assert sorted(asked) == sorted(middle)
    bf16 = [(streams, batches) for _, own, _, streams, batches in machine.asked if "bf16" in own]
    assert sorted(bf16) == sorted(
        [(2, (8,)), (2, (16,)), (1, (8,)), (1, (16,))]
        + [(2, batches) for batches in tuner.BATCHES.values()]
    )
    # Six looks, two at fewer workers, and nine batches.
    assert len(result.probes) == 6 + 2 + 9


def test_each_network_gets_its_batch_and_small_gains_are_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.batch_gain = {
        ("segmentation", 4): 1.02,
        ("embedding", 8): 1.05,
        ("embedding", 32): 1.10,
    }
    chosen = tuner.tune().chosen
    assert (chosen.tuning.segmentation.batch, chosen.tuning.embedding.batch) == (8, 32)
    assert chosen.windows_per_second == pytest.approx(1 / (1 / 400 + 1.5 / 440))


def test_fewer_workers_are_tried_while_they_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, cores=16)
    machine.worker_gain = {8: 1.2, 4: 1.3, 2: 1.32, 1: 9.0}
    assert tuner.tune().chosen.tuning.workers == 4
    # 2 gained under 3 %, so that 1 was not asked.
    assert {streams for *_, streams, _ in machine.asked} == {16, 8, 4, 2}


def test_networks_may_differ_in_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.speed["embedding openvino fp32"] = 280.0
    machine.der = {"openvino bf16 bf16": 0.1021}
    result = tuner.tune()
    chosen = result.chosen.tuning
    assert (chosen.segmentation.precision, chosen.embedding.precision) == ("bf16", "fp32")
    assert [item.reason for item in result.rejected] == [
        "DER 10.21% against 10.00% in fp32: +0.21 points"
    ]
    assert result.der == 0.1


def test_a_change_within_the_limit_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.der = {"openvino bf16 bf16": 0.1019}
    result = tuner.tune()
    assert result.chosen.tuning.embedding.precision == "bf16"
    assert (result.der, result.fp32_der) == (0.1019, 0.1)


def test_slow_layouts_get_their_turn_when_no_fast_one_is_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.der = {"openvino bf16 bf16": 0.2, "openvino bf16 fp32": 0.2, "openvino fp32 bf16": 0.2}
    result = tuner.tune()
    assert machine.checked[0] == "openvino bf16 bf16"
    assert machine.checked[-1] == "openvino fp32 fp32"
    assert result.chosen.tuning.segmentation.precision == "fp32"
    assert len(result.rejected) == 3
    # Refined as well, though it was not at first.
    assert ("embedding", "openvino fp32", "all", 2, tuner.BATCHES["embedding"]) in machine.asked


def test_no_probe_is_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.speed = {}  # all alike, so that every mix is refined
    machine.der = {"openvino fp32 fp32": 0.2}
    tuner.tune()
    assert len(machine.asked) == len(set(machine.asked))


def test_a_crashing_executor_is_a_failed_probe_each(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.crashes = {"openvino fp32", "openvino bf16"}
    result = tuner.tune()
    assert result.chosen.tuning.executor == "onnxruntime"
    failures = [(probe.setting.executor, probe.batch) for probe in result.probes if probe.failure]
    assert sorted(failures) == sorted([("openvino", 8), ("openvino", 16)] * 2)


def test_a_crashing_check_passes_to_the_next_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.crashes = {"openvino bf16 bf16"}
    result = tuner.tune()
    assert result.rejected[0].reason == "it died"
    assert result.chosen.tuning.executor == "openvino"


def test_nothing_usable_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.crashes = set(machine.speed)
    with pytest.raises(HostError) as raised:
        tuner.tune()
    assert str(raised.value) == (
        "no setting works on this machine: exit status -6: run fluidaudio doctor"
    )


def test_on_core_ml_the_units_are_searched_and_the_package_sets_the_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.executors = {"coreml": ("fp32", "fp16"), "onnxruntime": ("fp32",)}
    result = tuner.tune()
    first = [(units, layout) for _, layout, units, streams, _ in machine.asked[:8]]
    assert first == [
        (units, "coreml auto")
        for units in ("cpu-and-ne", "cpu-and-gpu", "cpu-only", "all")
        for _ in MIDDLE
    ]
    assert result.chosen.tuning.compute_units == "cpu-and-ne"
    assert str(result.chosen.tuning).startswith("coreml on cpu-and-ne, 2 at a time; ")


def test_progress_counts_towards_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch)
    steps: list[tuple[str, int, int]] = []
    tuner.tune(lambda *step: steps.append(step))
    assert [done for _, done, _ in steps] == list(range(len(steps)))
    # 6 looks; fewer workers and batches for two networks; the error in fp32 and of the choice.
    assert len(steps) == 12
    assert {expected for _, _, expected in steps} == {12}
    assert steps[0][0] == "segmentation on openvino fp32, 2 at a time, by 8"
    assert steps[6][0] == "error in fp32"


# The check of the error, in a process of its own


def test_the_check_runs_the_default_mode_as_tuned(own_file: Path) -> None:
    save_tuning(replace(CHOICE, executor="none"))  # what is stored must not matter
    exact = tuner.bundled_sample_der(None, 120.0)
    assert 0.05 < exact < 0.16
    # In fp32 batches do not change the turns.
    assert tuner.bundled_sample_der(CHOICE, 120.0) == pytest.approx(exact, abs=0.002)
    impossible = replace(CHOICE, segmentation=NetworkTuning("bf16", 4))
    with pytest.raises(HostError, match="onnxruntime does not run bf16"):
        tuner.bundled_sample_der(impossible, 120.0)


def _worker(monkeypatch: pytest.MonkeyPatch, on_load: str) -> None:
    hello = json.dumps({"protocol": 1})
    code = f"import os, sys, time; print({hello!r}, flush=True); input(); {on_load}"
    command = WorkerCommand((sys.executable, "-c", code))
    monkeypatch.setattr(tuner, "WorkerCommand", lambda: command)


def test_a_hanging_check_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    _worker(monkeypatch, "time.sleep(60)")
    with pytest.raises(HostError, match=r"gave no answer within 0\.5 s and was ended"):
        tuner.bundled_sample_der(CHOICE, 0.5)


def test_a_crashing_check_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _worker(monkeypatch, "os._exit(7)")
    with pytest.raises(HostError, match=r"worker process ended \(7\)"):
        tuner.bundled_sample_der(CHOICE, 60.0)
