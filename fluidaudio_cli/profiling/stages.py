"""From the calls of one run to figures per stage, per thread, and how they overlap."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from fluidaudio_cli.executors.base import CompiledModel, TensorSpec
from fluidaudio_cli.measure.statistics import percentile
from fluidaudio_cli.profiling.clock import Call
from fluidaudio_cli.profiling.records import (
    Concurrency,
    StageProfile,
    ThreadProfile,
    Unavailable,
)

_ITEM_SIZE = {"float16": 2, "float32": 4, "int32": 4, "int64": 8, "float64": 8, "bool": 1}
_PERCENTILES = (50, 90, 99)
_WAIT_PREFIX = "wait"

Traffic = tuple[int | Unavailable, int | Unavailable, int]
Cpu = Callable[[str, Sequence[Call]], float | Unavailable]


def is_waiting(stage: str) -> bool:
    """Whether a stage of this name waits for another thread and does no work."""
    return stage.startswith(_WAIT_PREFIX)


def stage_profiles(
    calls: Sequence[Call],
    audio_seconds: float,
    traffic: Mapping[str, Traffic],
    allocated: Mapping[str, int] | Unavailable,
    cpu: Cpu,
    rss: Sequence[tuple[float, int]],
    baseline_rss: int,
) -> tuple[StageProfile, ...]:
    """One profile per stage in order of first use.

    ``traffic`` and ``allocated``: bytes in, out and copied, and allocations, by stage.
    ``rss``: (``perf_counter`` seconds, resident bytes) from a sampler.
    """
    by_stage: dict[str, list[Call]] = {}
    for call in calls:
        by_stage.setdefault(call.span.stage, []).append(call)
    working = sum(call.seconds for call in calls if not is_waiting(call.span.stage))
    unknown = Unavailable("what this stage reads and writes is not counted")
    profiles = []
    for name, own in by_stage.items():
        seconds = [call.seconds for call in own]
        wall = sum(seconds)
        waiting = is_waiting(name)
        bytes_in, bytes_out, copied = traffic.get(name, (unknown, unknown, 0))
        profiles.append(
            StageProfile(
                name=name,
                wall_seconds=wall,
                cpu_seconds=cpu(name, own),
                share=0.0 if waiting or not working else wall / working,
                calls=len(own),
                call_seconds=tuple(percentile(seconds, percent) for percent in _PERCENTILES),
                items=sum(call.span.items for call in own),
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                copied_bytes=copied,
                allocated_bytes=allocated
                if isinstance(allocated, Unavailable)
                else allocated.get(name, 0),
                rss_delta_bytes=max(0, _peak_rss(own, rss) - baseline_rss),
                rtfx=audio_seconds / wall if wall else math.inf,
                waiting=waiting,
            )
        )
    return tuple(profiles)


def _peak_rss(calls: Sequence[Call], rss: Sequence[tuple[float, int]]) -> int:
    peak = max(max(call.rss_before, call.rss_after) for call in calls)
    times = [at for at, _ in rss]
    for call in calls:
        during = slice(bisect_left(times, call.span.start), bisect_right(times, call.span.end))
        peak = max([peak, *(size for _, size in rss[during])])
    return peak


def network_traffic(model: CompiledModel, items: int) -> Traffic:
    """Bytes of a network's inputs and outputs for ``items`` rows of its batch."""
    return (
        sum(items * _row_bytes(spec) for spec in model.inputs),
        sum(items * _row_bytes(spec) for spec in model.outputs),
        0,
    )


def _row_bytes(spec: TensorSpec) -> int:
    sizes = [size or 1 for size in spec.shape[1:]]
    return math.prod(sizes) * _ITEM_SIZE[spec.dtype]


def concurrency(
    calls: Sequence[Call], started: float, seconds: float, overlapped: bool
) -> Concurrency:
    """Who waited and how many worked at once, in the ``seconds`` from ``started``."""
    threads: dict[str, list[float]] = {}
    for call in calls:
        busy = threads.setdefault(call.span.thread, [0.0, 0.0])
        busy[is_waiting(call.span.stage)] += call.seconds
    rows = tuple(
        ThreadProfile(name, busy, waiting, max(0.0, seconds - busy - waiting))
        for name, (busy, waiting) in sorted(threads.items())
    )
    working = [call for call in calls if not is_waiting(call.span.stage)]
    return Concurrency(overlapped, rows, parallel_seconds(working, started, started + seconds))


def parallel_seconds(calls: Sequence[Call], start: float, end: float) -> tuple[float, ...]:
    """Seconds from ``start`` to ``end`` with 0, 1, 2 … calls running."""
    totals = [0.0]
    for begins, ends, running in _stretches(calls):
        seconds = min(ends, end) - max(begins, start)
        if running and seconds > 0.0:
            totals += [0.0] * (len(running) + 1 - len(totals))
            totals[len(running)] += seconds
    totals[0] = max(0.0, end - start - sum(totals))
    return tuple(totals)


def busiest_while_idle(calls: Sequence[Call], workers: int) -> str | None:
    """The stage that ran longest while fewer than ``workers`` worker threads were at work."""
    totals: dict[str, float] = {}
    working = [call for call in calls if not is_waiting(call.span.stage)]
    for begins, ends, running in _stretches(working):
        if sum(call.span.thread.startswith("worker") for call in running) < workers:
            for stage in dict.fromkeys(call.span.stage for call in running):
                totals[stage] = totals.get(stage, 0.0) + ends - begins
    return max(totals, key=lambda stage: totals[stage]) if totals else None


def _stretches(calls: Sequence[Call]) -> Iterator[tuple[float, float, list[Call]]]:
    """Stretches of time within which no call starts or ends, and the calls that run in each."""
    edges = sorted(
        edge
        for number, call in enumerate(calls)
        if call.span.end > call.span.start
        for edge in ((call.span.start, 1, number), (call.span.end, -1, number))
    )
    running: set[int] = set()
    for (begins, step, number), (ends, *_) in pairwise(edges):
        (running.add if step > 0 else running.discard)(number)
        yield begins, ends, [calls[each] for each in sorted(running)]
