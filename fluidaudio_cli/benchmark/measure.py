"""Measure one file on a loaded worker: warm-up, timed iterations, memory, energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from fluidaudio_cli.benchmark.results import (
    AccuracyRecord,
    EnergySample,
    FileRecord,
    IterationSample,
    MemoryRecord,
    PlanRecord,
    StageSample,
)
from fluidaudio_cli.benchmark.workers import Worker
from fluidaudio_cli.measure import power
from fluidaudio_cli.measure.memory import RssSampler
from fluidaudio_cli.turns import Turn

OTHER_STAGE = "other"

Reply = dict[str, Any]


class Item(Protocol):
    """One recording of a dataset, as ``corpora`` gives it."""

    @property
    def uri(self) -> str:
        """Name in the annotations."""

    @property
    def audio(self) -> Path:
        """The recording."""


Assess = Callable[[Any, Sequence[Turn], float], AccuracyRecord]
"""(item, turns found, audio seconds) → scores; raises ``AnnotationError``."""

Meter = power.EnergyMeter | None


def measure_file(
    worker: Worker,
    item: Item,
    plan: PlanRecord,
    *,
    baseline_bytes: int,
    meter: Meter,
    assess: Assess | None,
    tick: Callable[[], None],
) -> FileRecord:
    """Every sample of one file; ``tick`` is called after each pass. Raises the worker's errors.

    Without ``assess`` the turns are not scored.
    """
    was_reset, mark_before = worker.reset_peak() if plan.measure_memory else (False, None)
    sampler = RssSampler(worker.pid) if plan.measure_memory else None
    with sampler or nullcontext():
        for _ in range(plan.warmup):
            worker.diarize(item.audio)
            tick()
        replies, samples = [], []
        for _ in range(plan.iterations):
            reply, energy = _metered(worker, item.audio, meter)
            replies.append(reply)
            samples.append(iteration_sample(reply, energy))
            tick()
    first = replies[0]
    memory = None
    if sampler is not None:
        mark: int | None = replies[-1]["peak_bytes"]
        # A mark that could not be reset and did not rise is older than this file.
        kernel = mark if was_reset or mark != mark_before else None
        memory = _memory_record(sampler, kernel, baseline_bytes)
    return FileRecord(
        uri=item.uri,
        audio_seconds=first["audio_seconds"],
        iterations=tuple(samples),
        accuracy=assess and assess(item, turns_of(first), first["audio_seconds"]),
        repeatable=all(reply["turns"] == first["turns"] for reply in replies),
        memory=memory,
    )


def turns_of(reply: Reply) -> tuple[Turn, ...]:
    """The turns in a worker's reply."""
    return tuple(Turn(start, end, speaker) for start, end, speaker in reply["turns"])


def iteration_sample(reply: Reply, energy: EnergySample | None = None) -> IterationSample:
    """A worker's reply as a record; the time no serial stage accounts for becomes ``other``.

    Serial stages then sum to the wall time. Concurrent stages keep their busy times, which
    overlap, and get no ``other``: a share of the wall time would be made up.
    """
    stages = [StageSample(**stage) for stage in reply["stages"]]
    if not reply["overlapped"]:
        # The pipeline names its own remainder; the clock here saw the whole call.
        stages = [stage for stage in stages if stage.name != OTHER_STAGE]
        untold = reply["wall_seconds"] - sum(stage.busy_seconds for stage in stages)
        stages.append(StageSample(name=OTHER_STAGE, busy_seconds=max(0.0, untold), calls=1))
    return IterationSample(
        wall_seconds=reply["wall_seconds"],
        cpu_seconds=reply["cpu_seconds"],
        windows=reply["windows"],
        overlapped=reply["overlapped"],
        stages=tuple(stages),
        energy=energy,
    )


def _metered(worker: Worker, audio: Path, meter: Meter) -> tuple[Reply, EnergySample | None]:
    if meter is None:
        return worker.diarize(audio), None
    meter.start()
    started = time.perf_counter()
    reply = worker.diarize(audio)
    domains = dict(meter.stop())
    seconds = time.perf_counter() - started
    joules = power.total_joules(domains)
    return reply, EnergySample(joules=joules, seconds=seconds, domains=domains)


def _memory_record(sampler: RssSampler, kernel: int | None, baseline: int) -> MemoryRecord:
    return MemoryRecord(
        peak_rss_bytes=sampler.peak if kernel is None else max(kernel, sampler.peak),
        peak_source="sampled" if kernel is None else "kernel",
        baseline_rss_bytes=baseline,
        period_seconds=sampler.period,
        curve=tuple((round(seconds, 4), size) for seconds, size in sampler.curve),
    )
