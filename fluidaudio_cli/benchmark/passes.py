"""Measure one recording in one process of each of a block's cells: passes, memory, energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from fluidaudio_cli.benchmark.accuracy import assess, reference_turns
from fluidaudio_cli.benchmark.grid import Effort, Item
from fluidaudio_cli.benchmark.results import (
    EnergySample,
    FileRecord,
    IterationSample,
    MemoryRecord,
    StageSample,
)
from fluidaudio_cli.errors import FluidAudioError
from fluidaudio_cli.measure import power
from fluidaudio_cli.measure.memory import RssSampler
from fluidaudio_cli.turns import Turn

OTHER_STAGE = "other"

Reply = dict[str, Any]
Meter = power.EnergyMeter | None


class Lane(Protocol):
    """A process that diarizes when asked: a loaded :class:`~.workers.Worker`, or a command."""

    @property
    def pid(self) -> int | None:
        """The process whose memory is sampled; None for one that starts anew each time."""

    def diarize(self, path: Path, audio_seconds: float | None = None) -> Reply:
        """One timed diarization."""

    def oracle(self, reference: Sequence[Turn]) -> tuple[Turn, ...] | None:
        """Turns of the last one's evidence with oracle labels; None where it keeps none."""

    def reset_peak(self) -> tuple[bool, int | None]:
        """Start a new memory high-water mark: whether the kernel could, and the mark now."""


class _Runner:
    """One lane at one recording; stops at its first error."""

    def __init__(self, lane: Lane, item: Any, seconds: float | None, memory: bool) -> None:
        self.error: str | None = None
        self._lane, self._item, self._seconds = lane, item, seconds
        self.replies: list[Reply] = []
        self._samples: list[IterationSample] = []
        self.sampler: RssSampler | None = None
        self._was_reset, self._mark_before = False, None
        with self._guarded():
            if memory:
                self._was_reset, self._mark_before = lane.reset_peak()
                if lane.pid is not None:
                    self.sampler = RssSampler(lane.pid)

    def warm_up(self, path: Path | None) -> None:
        with self._guarded():
            self._lane.diarize(path or self._item.audio, self._seconds)

    def measure(self, meter: Meter) -> None:
        with self._guarded():
            reply, energy = self._metered(meter)
            self.replies.append(reply)
            self._samples.append(iteration_sample(reply, energy))

    def record(self, scored: bool, baseline: int) -> FileRecord:
        if self.error is None:
            try:
                return self._finished(scored, baseline)
            except FluidAudioError as error:
                self.error = str(error)
        return FileRecord(uri=self._item.uri, error=self.error)

    def _finished(self, scored: bool, baseline: int) -> FileRecord:
        first, memory = self.replies[0], None
        if self.sampler is not None:
            mark: int | None = self.replies[-1]["peak_bytes"]
            # A mark that could not be reset and did not rise is older than this recording.
            kernel = mark if self._was_reset or mark != self._mark_before else None
            memory = _memory_record(self.sampler, kernel, baseline)
        accuracy = None
        if scored and first["turns"] is not None:
            oracle = self._lane.oracle(reference_turns(self._item))
            seconds = first["audio_seconds"]
            accuracy = assess(self._item, turns_of(first), seconds, oracle)
        return FileRecord(
            uri=self._item.uri,
            audio_seconds=first["audio_seconds"],
            iterations=tuple(self._samples),
            accuracy=accuracy,
            repeatable=all(reply["turns"] == first["turns"] for reply in self.replies),
            memory=memory,
        )

    def _metered(self, meter: Meter) -> tuple[Reply, EnergySample | None]:
        if meter is not None:
            meter.start()
        started = time.perf_counter()
        reply = self._lane.diarize(self._item.audio, self._seconds)
        if meter is None:
            return reply, None
        domains = dict(meter.stop())
        seconds = time.perf_counter() - started
        joules = power.total_joules(domains)
        return reply, EnergySample(joules=joules, seconds=seconds, domains=domains)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keep the first expected error as the result."""
        try:
            yield
        except FluidAudioError as error:
            self.error = self.error or str(error)


def measure_in_turn(
    lanes: Sequence[Lane],
    item: Item,
    effort: Effort,
    *,
    audio_seconds: float | None,
    baselines: Sequence[int],
    warm_on: Path | None,
    meter: Meter,
    scored: bool,
    tick: Callable[[], None],
) -> tuple[FileRecord, ...]:
    """Every sample of one recording on each lane, A B A B …; a record for each.

    ``baselines``: resident bytes of each once loaded. ``warm_on``: what is diarized to warm up,
    by default the recording. ``tick`` is called after each pass of each lane. An expected error
    ends a lane's part and is in its record. ``scored``: against the reference.
    """
    runners = [_Runner(lane, item, audio_seconds, effort.memory) for lane in lanes]
    with ExitStack() as samplers:
        for runner in runners:
            if runner.sampler is not None:
                samplers.enter_context(runner.sampler)
        for number in range(effort.warmup + effort.iterations):
            for runner in runners:
                if runner.error is None:
                    if number < effort.warmup:
                        runner.warm_up(warm_on)
                    else:
                        runner.measure(meter)
                tick()
    return tuple(
        runner.record(scored, baseline) for runner, baseline in zip(runners, baselines, strict=True)
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


def _memory_record(sampler: RssSampler, kernel: int | None, baseline: int) -> MemoryRecord:
    return MemoryRecord(
        peak_rss_bytes=sampler.peak if kernel is None else max(kernel, sampler.peak),
        peak_source="sampled" if kernel is None else "kernel",
        baseline_rss_bytes=baseline,
        period_seconds=sampler.period,
        curve=tuple((round(seconds, 4), size) for seconds, size in sampler.curve),
    )
