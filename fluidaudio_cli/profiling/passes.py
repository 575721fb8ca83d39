"""The passes of a profile over a recording: timed runs in turn with plain ones, allocations."""

from __future__ import annotations

import dataclasses
import os
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.loading import Wishes, load_pipeline
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.measure.memory import RssSampler, peak_bytes, reset_peak, resident_bytes
from fluidaudio_cli.models.card import BUNDLED
from fluidaudio_cli.profiling.clock import Call, ProfilingClock
from fluidaudio_cli.profiling.records import PassCost, Unavailable

# The timed run is repeated, in turn with a plain one, until the pairs took about this long.
_PAIRS_SECONDS = 4.0
_FEWEST_PAIRS, _MOST_PAIRS = 3, 9
# Of a run longer than this, one pair has to do.
_LONG_RUN_SECONDS = 10.0
_CLOCK_TRIALS = 200


@dataclass(frozen=True)
class Options:
    """What is profiled, as ``diarize`` would run it, and how much is measured.

    ``models``: name or path of a model card; ``wishes``: what else a plan is made of. ``tuning``:
    follow what was stored for this machine. ``peaks``: measure what the machine can do, some
    seconds. ``reference``, ``uem``: files to score the turns with.
    """

    mode: str = "balanced"
    models: str = BUNDLED
    wishes: Wishes = field(default_factory=Wishes)
    tuning: bool = True
    speakers: SpeakerBounds = SpeakerBounds()  # noqa: RUF009 - immutable
    reference: Path | None = None
    uem: Path | None = None
    peaks: bool = True
    precision_report: bool = False


class TimedRun(NamedTuple):
    """One run under the profiling clock; times are on ``time.perf_counter``."""

    result: Diarization
    calls: tuple[Call, ...]
    queues: Mapping[str, tuple[tuple[float, int], ...]]
    started: float
    seconds: float
    curve: tuple[tuple[float, int], ...]
    baseline_rss: int
    peak_rss: int | Unavailable


def load(mode: ModeConfig, options: Options, *, profile: bool = False) -> Pipeline:
    """The pipeline as ``diarize`` would load it."""
    return load_pipeline(
        mode,
        models=options.models,
        tuning=options.tuning,
        profile=profile,
        **options.wishes,
    )


def run_seconds(
    pipeline: Pipeline, path: Path, options: Options, clock: StageClock | None = None
) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    pipeline.diarize(path, speakers=options.speakers, clock=clock)
    return time.perf_counter() - began


def _timed(pipeline: Pipeline, path: Path, options: Options) -> TimedRun:
    can_reset = reset_peak()
    clock = ProfilingClock()
    baseline = resident_bytes()
    with RssSampler(os.getpid()) as sampler:
        started = time.perf_counter()
        result = pipeline.diarize(path, speakers=options.speakers, clock=clock)
        seconds = time.perf_counter() - started
    peak: int | Unavailable = Unavailable("this system keeps no resettable high-water mark")
    if can_reset:
        peak = peak_bytes() or peak
    return TimedRun(
        result,
        clock.calls(),
        clock.queues(),
        started,
        seconds,
        tuple(sampler.curve),
        baseline,
        peak,
    )


def paired_runs(
    pipeline: Pipeline, path: Path, options: Options, first: Diarization
) -> tuple[list[TimedRun], PassCost]:
    """Timed runs, each paired with a plain one so that the machine's moods cancel out."""

    once = max(first.timings.processing_seconds, 1e-3)
    fewest = 1 if once > _LONG_RUN_SECONDS else _FEWEST_PAIRS
    pairs = int(min(max(fewest, _PAIRS_SECONDS / (2 * once)), _MOST_PAIRS))
    plain_seconds, runs = [], []
    for number in range(pairs):
        if number % 2:
            runs.append(_timed(pipeline, path, options))
            plain_seconds.append(run_seconds(pipeline, path, options))
        else:
            plain_seconds.append(run_seconds(pipeline, path, options))
            runs.append(_timed(pipeline, path, options))
    name = "stage clock, processor time and memory"
    return runs, PassCost.of_pairs(name, plain_seconds, [run.seconds for run in runs])


def clock_cost(calls: int, seconds: float) -> PassCost:
    """What the clock alone adds to a run, free of the machine's noise: calls times their cost."""
    clock = ProfilingClock()
    began = time.perf_counter()
    for _ in range(_CLOCK_TRIALS):
        with clock.stage("trial"):
            pass
    each = (time.perf_counter() - began) / _CLOCK_TRIALS
    added = calls * each
    return PassCost(
        f"of that the clock, reckoned: {calls} calls of {1e6 * each:.0f} µs",
        seconds,
        seconds + added,
        1 + added / seconds,
        0,
    )


class _AllocationClock(StageClock):
    """Highest traced memory within each stage over what was traced at its start."""

    def __init__(self) -> None:
        super().__init__()
        self.highest: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str, items: int = 1) -> Iterator[None]:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        try:
            with super().stage(name, items):
                yield
        finally:
            peak = tracemalloc.get_traced_memory()[1] - before
            self.highest[name] = max(self.highest.get(name, 0), peak)


def allocations(
    mode: ModeConfig, path: Path, options: Options
) -> tuple[Mapping[str, int] | Unavailable, PassCost | None]:
    """A serial pass: of stages side by side nobody could tell who allocated what."""
    serial = dataclasses.replace(mode, execution=dataclasses.replace(mode.execution, workers=1))
    try:
        pipeline = load(serial, options)
    except HostError as error:
        return Unavailable(error.message), None
    run_seconds(pipeline, path, options)
    plain = run_seconds(pipeline, path, options)
    clock = _AllocationClock()
    tracemalloc.start()
    try:
        traced = run_seconds(pipeline, path, options, clock)
    finally:
        tracemalloc.stop()
    pipeline.close()
    cost = PassCost.of_pairs("allocations (tracemalloc, one worker)", [plain], [traced])
    return clock.highest, cost
