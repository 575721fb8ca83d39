"""The fastest setting whose measured peak fits under the limit, and what is said about it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarking import stub_command, stub_run, tiny_dataset

from fluidaudio_cli.benchmark import peak_memory
from fluidaudio_cli.benchmark.compare import differences
from fluidaudio_cli.benchmark.kept_result import Settings
from fluidaudio_cli.benchmark.memory_limit import (
    UNKNOWN_SECONDS,
    exceeded,
    growth_bytes,
    hold,
    longest_seconds,
    parse_size,
    settings,
)
from fluidaudio_cli.benchmark.peak_memory import measure_peak
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog, LocalVoice, WindowEvidence, unit_length
from fluidaudio_cli.diarization.loading import make_plan
from fluidaudio_cli.diarization.modes import ModeConfig, load_mode
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    machine_identity,
    save_tuning,
)
from fluidaudio_cli.errors import ExecutorUnavailableError, HostError, UsageError

MB = 1_000_000
BESIDE = 10 * MB  # reserved for the command itself
# Workers, windows at a time, crops at a time.
Size = tuple[int, int, int]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def size_of(plan: Plan) -> Size:
    return plan.workers, plan.mode.windows.batch, plan.mode.embedding.batch


class Scales:
    """Measures by formula: 100 MB, 50 for each worker, 10 for each window at a time."""

    def __init__(self) -> None:
        self.asked: list[Size] = []
        self.fails: dict[Size, HostError] = {}

    def __call__(self, plan: Plan, _: WorkerCommand) -> int:
        size = size_of(plan)
        self.asked.append(size)
        if size in self.fails:
            raise self.fails[size]
        return (100 + 50 * size[0] + 10 * size[1]) * MB


@pytest.fixture
def mode() -> ModeConfig:
    fast = load_mode("fast")
    return replace(
        fast,
        windows=replace(fast.windows, batch=8),
        embedding=replace(fast.embedding, batch=4),
    )


@pytest.fixture
def plan(mode: ModeConfig) -> Plan:
    return make_plan(mode, threads=4, tuning=False)


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("300MB", 300_000_000),
        ("1GB", 10**9),
        ("512MiB", 536_870_912),
        ("1.5 gb", 1_500_000_000),
        ("4096KiB", 4_194_304),
        ("4096kB", 4_096_000),
        ("2GiB", 2**31),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "300", "MB", "-1MB", "0MB", "1TBx", "3 00MB", "1e3MB"])
def test_anything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="give one such as 300MB, 1GB or 512MiB"):
        parse_size(text)


# Which setting


def test_settings_go_from_the_mode_to_one_worker_to_batches_of_one(plan: Plan) -> None:
    found = settings(plan)
    assert found[0] == plan
    assert [size_of(each) for each in found] == [
        (4, 8, 4),
        (2, 8, 4),
        (1, 8, 4),
        (1, 4, 2),
        (1, 2, 1),
        (1, 1, 1),
    ]
    serial = make_plan("reference", threads=4)
    assert settings(serial) == [serial]


# By the formula, the settings above take 380, 280, 230, 190, 170 and 160 MB; 3 % and 10 MB are
# reserved, so that 401.4, 298.4, 246.9, 205.7, 185.1 and 174.8 MB are needed.
@pytest.mark.parametrize(
    ("limit", "chosen", "asked"),
    [
        (401.5, (4, 8, 4), [(4, 8, 4)]),
        (401.3, (2, 8, 4), [(4, 8, 4), (1, 1, 1), (2, 8, 4)]),
        (247, (1, 8, 4), [(4, 8, 4), (1, 1, 1), (2, 8, 4), (1, 8, 4)]),
        (175, (1, 1, 1), [(4, 8, 4), (1, 1, 1), (2, 8, 4), (1, 8, 4), (1, 4, 2), (1, 2, 1)]),
    ],
)
def test_the_fastest_that_fits_is_taken(
    plan: Plan, limit: float, chosen: Size, asked: list[Size]
) -> None:
    scales = Scales()
    held = hold(plan, int(limit * MB), 0.0, measure=scales)
    assert size_of(held.plan) == chosen
    assert scales.asked == asked
    assert held.plan.mode.reconstruction == plan.mode.reconstruction


def test_the_choice_is_said_and_so_is_what_it_may_change(plan: Plan) -> None:
    (choice,) = hold(plan, 420 * MB, 0.0, measure=Scales()).notes
    assert choice == (
        "held under 420 MB: 4 workers, batches of 8 windows and 4 crops (as the mode has it); "
        "380 MB measured, 22 MB reserved"
    )
    (choice,) = hold(plan, 257 * MB, 0.0, measure=Scales()).notes
    assert choice.startswith("held under 257 MB: 1 worker, batches of 8 windows and 4 crops; 230")
    choice, change = hold(plan, 175 * MB, 0.0, measure=Scales()).notes
    assert choice.startswith("held under 175 MB: 1 worker, batches of 1; 160 MB measured")
    assert "in bf16 the last digits of scores may differ" in change


def test_the_impossible_is_said_after_two_measurements(plan: Plan) -> None:
    scales = Scales()
    with pytest.raises(HostError) as refusal:
        hold(plan, 50 * MB, 0.0, measure=scales)
    assert scales.asked == [(4, 8, 4), (1, 1, 1)]
    assert str(refusal.value) == (
        "--memory-limit 50 MB cannot be held: mode fast needs 175 MB here even with 1 worker, "
        "batches of 1: allow 175 MB, or use a mode that needs less"
    )
    # What it says is enough is enough.
    assert hold(plan, 175 * MB, 0.0, measure=scales).plan.mode.windows.batch == 1


def test_a_setting_that_dies_does_not_fit(plan: Plan) -> None:
    scales = Scales()
    scales.fails = {(4, 8, 4): HostError("the worker process ended (-9)")}
    assert size_of(hold(plan, 999 * MB, 0.0, measure=scales).plan) == (2, 8, 4)


def test_a_smallest_setting_that_dies_is_said_as_it_died(plan: Plan) -> None:
    scales = Scales()
    scales.fails = {(1, 1, 1): HostError("the worker process ended (-9)")}
    with pytest.raises(HostError, match=r"ended \(-9\)"):
        hold(plan, 100 * MB, 0.0, measure=scales)


def test_what_does_not_run_here_at_all_is_said_as_such(plan: Plan) -> None:
    scales = Scales()
    scales.fails = {(4, 8, 4): ExecutorUnavailableError("coreml is not available")}
    with pytest.raises(ExecutorUnavailableError, match="coreml is not available"):
        hold(plan, 999 * MB, 0.0, measure=scales)
    assert scales.asked == [(4, 8, 4)]


def test_a_tuning_in_use_is_what_is_measured_and_reduced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: ModeConfig
) -> None:
    monkeypatch.setenv("FLUIDAUDIO_TUNING", str(tmp_path / "tuning.json"))
    network = NetworkTuning("fp32", 16)
    save_tuning(Tuning("onnxruntime", "cpu-only", 2, network, network, machine_identity()))
    plan = make_plan(mode, threads=4)
    assert size_of(hold(plan, 999 * MB, 0.0, measure=Scales()).plan) == (2, 16, 16)
    smaller = hold(plan, 260 * MB, 0.0, measure=Scales()).plan
    assert size_of(smaller) == (1, 8, 8)
    # What is loaded is the plan: nothing undoes the choice.
    assert smaller.networks["segmentation"].batch == 8
    assert smaller.options("segmentation").streams == 1
    assert smaller.options("segmentation").compute_units == "cpu-only"


# What is remembered


def test_measurements_are_remembered(plan: Plan, own_cache: Path) -> None:
    scales = Scales()
    first = hold(plan, 175 * MB, 0.0, measure=scales)
    count = len(scales.asked)
    assert hold(plan, 175 * MB, 0.0, measure=scales) == first
    assert len(scales.asked) == count
    for path in (own_cache / "memory").iterdir():
        path.write_text("{", encoding="utf-8")
    assert hold(plan, 175 * MB, 0.0, measure=scales) == first
    assert len(scales.asked) == 2 * count


def other_step(mode: ModeConfig) -> ModeConfig:
    return replace(mode, windows=replace(mode.windows, step_seconds=5.0))


@pytest.mark.parametrize(
    ("change", "options", "command"),
    [
        (other_step, {}, WorkerCommand()),
        (lambda mode: mode, {"threads": 2}, WorkerCommand()),
        (lambda mode: mode, {"executor": "onnxruntime"}, WorkerCommand()),
        (lambda mode: mode, {}, WorkerCommand(("python", "other.py"))),
    ],
)
def test_other_circumstances_are_measured_anew(
    mode: ModeConfig,
    change: Callable[[ModeConfig], ModeConfig],
    options: dict[str, Any],
    command: WorkerCommand,
) -> None:
    scales = Scales()
    asked: dict[str, Any] = {"threads": 4, "executor": "openvino", "tuning": False}
    hold(make_plan(mode, **asked), 999 * MB, 0.0, measure=scales)
    other = make_plan(change(mode), **(asked | options))
    hold(other, 999 * MB, 0.0, measure=scales, command=command)
    assert len(scales.asked) == 2


@pytest.mark.parametrize("name", ["machine_identity", "source_digest"])
def test_another_machine_or_program_is_measured_anew(
    plan: Plan, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = Scales()
    hold(plan, 999 * MB, 0.0, measure=scales)
    monkeypatch.setattr(peak_memory, name, lambda: "another")
    hold(plan, 999 * MB, 0.0, measure=scales)
    assert len(scales.asked) == 2


# What is reserved


def test_the_reserve_follows_the_length(mode: ModeConfig, plan: Plan) -> None:
    # 61 windows of 8 kB, and 122 voices compared pair by pair at 24 bytes.
    assert growth_bytes(mode, 600.0) == 61 * 8000 + 24 * 122**2
    assert growth_bytes(mode, 3600.0) == 361 * 8000 + 24 * 400**2
    # Beyond the voices compared at once, only the windows count.
    assert growth_bytes(mode, 36_000.0) == 3601 * 8000 + 24 * 400**2
    assert growth_bytes(mode, None) == growth_bytes(mode, UNKNOWN_SECONDS)
    held = hold(plan, 999 * MB, 3600.0, measure=Scales())
    assert held.reserve_bytes == growth_bytes(mode, 3600.0) + BESIDE + 0.03 * 380 * MB
    scored = hold(plan, 999 * MB, 3600.0, measure=Scales(), scoring=True)
    assert scored.reserve_bytes == held.reserve_bytes + 120 * MB


def test_deciding_who_is_who_takes_no_more_than_what_is_reserved(mode: ModeConfig) -> None:
    """300 windows in which two of eight people, chosen at random, speak one after the other."""
    generator = np.random.default_rng(0)
    people = unit_length(generator.standard_normal((8, 192)).astype(np.float32))
    presence = np.zeros((589, 3), np.uint8)
    presence[:300, 0] = presence[280:, 1] = 255
    log = EvidenceLog()
    windows = 300
    for number in range(windows):
        chosen = people[generator.choice(8, 2, replace=False)]
        heard = unit_length(chosen + 0.05 * generator.standard_normal((2, 192), np.float32))
        voices = tuple(LocalVoice(slot, 4.0, vector) for slot, vector in enumerate(heard))
        log.append(WindowEvidence.of(number, voices, presence))
    log.samples = windows * 80_000
    conclude(speaker_model(mode, log), mode, SpeakerBounds(), StageClock())
    tracemalloc.start()
    try:
        conclude(speaker_model(mode, log), mode, SpeakerBounds(), StageClock())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < growth_bytes(mode, windows * mode.windows.step_seconds)


def test_the_longest_stated_length_counts(tmp_path: Path) -> None:
    paths = [item.audio for item in tiny_dataset(tmp_path, "one", "two")]
    assert longest_seconds(paths) == pytest.approx(10.0)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    assert longest_seconds([*paths, broken]) == pytest.approx(10.0)


def test_what_went_over_is_said_in_full() -> None:
    assert exceeded(None, 300 * MB) is None
    assert exceeded(300 * MB, 300 * MB) is None
    assert exceeded(312 * MB, 300 * MB) == (
        "memory reached 312 MB, 12 MB more than --memory-limit 300 MB"
    )


# Measured for real, in processes


def test_a_process_is_measured_as_a_whole(tmp_path: Path, mode: ModeConfig) -> None:
    peak = measure_peak(make_plan(mode, threads=1), stub_command(tmp_path / "cache"))
    # An interpreter with numpy, without any runtime.
    assert 15 * MB < peak < 150 * MB


def test_a_benchmark_holds_its_workers_and_says_so(tmp_path: Path) -> None:
    limit = 10**10
    run = stub_run(tmp_path, settings=Settings(memory_limit_bytes=limit), memory=True)
    result = run.run()
    assert any("fast: held under 10000 MB" in line for line in result.warnings)
    assert result.plan.memory_limit_bytes == limit
    free = result.model_copy(
        update={"plan": result.plan.model_copy(update={"memory_limit_bytes": None})}
    )
    (difference,) = differences(free, result)
    assert difference.text == f"memory_limit_bytes was None and is {limit}"
