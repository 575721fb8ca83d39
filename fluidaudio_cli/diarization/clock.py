"""The one clock of the pipeline: when each stage ran, on which thread, over how many items."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class StageTiming:
    """Time spent in one stage: ``busy_seconds`` of wall time summed over workers.

    ``concurrent`` stages ran beside others, so that their busy time does not add up to the
    run's. ``calls`` counts batches, ``items`` what was in them (windows, crops, samples).
    """

    name: str
    busy_seconds: float
    calls: int
    items: int
    concurrent: bool


class Span(NamedTuple):
    """One call of a stage: ``start`` and ``end`` on ``time.perf_counter``, in seconds."""

    stage: str
    start: float
    end: float
    thread: str
    items: int


class StageClock:
    """Collects spans from all threads of one run; none, unless ``kept``."""

    def __init__(self, *, kept: bool = True) -> None:
        self._kept = kept
        self._spans: list[Span] = []
        self.started = time.perf_counter()

    @contextmanager
    def stage(self, name: str, items: int = 1) -> Iterator[None]:
        """Time the block as one call of stage ``name`` over ``items`` items."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self._kept:
                # Appending to a list is atomic.
                self._spans.append(
                    Span(name, start, time.perf_counter(), threading.current_thread().name, items)
                )

    def depth(self, queue: str, items: int) -> None:
        """Take note of how many items a queue holds; only a profiler keeps it."""

    def spans(self) -> tuple[Span, ...]:
        """All calls so far, sorted by start."""
        return tuple(sorted(self._spans, key=lambda span: span.start))

    def timings(self, total_seconds: float, overlapped: bool) -> tuple[StageTiming, ...]:
        """Busy time per stage in order of first use.

        Of a serial run, what no stage accounts for is added as ``other``.
        """
        totals: dict[str, tuple[float, int, int]] = {}
        for span in self.spans():
            seconds, calls, items = totals.get(span.stage, (0.0, 0, 0))
            totals[span.stage] = (seconds + span.end - span.start, calls + 1, items + span.items)
        rows = [
            StageTiming(name, seconds, calls, items, overlapped)
            for name, (seconds, calls, items) in totals.items()
        ]
        if not overlapped:
            rest = total_seconds - sum(row.busy_seconds for row in rows)
            rows.append(StageTiming("other", max(0.0, rest), 1, 1, False))
        return tuple(rows)
