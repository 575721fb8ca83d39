"""The pipeline's clock with more readings: processor time and memory of every call.

Handed to the pipeline in place of its own ``StageClock``, so that nothing of a profile costs
anything when none is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil

from fluidaudio_cli.diarization.clock import Span, StageClock


class Call(NamedTuple):
    """One call of a stage.

    ``thread_cpu`` and ``process_cpu``: processor seconds of the calling thread and of the whole
    process while it lasted; ``rss_before`` and ``rss_after``: resident bytes of the process.
    """

    span: Span
    thread_cpu: float
    process_cpu: float
    rss_before: int
    rss_after: int

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self.span.end - self.span.start


class ProfilingClock(StageClock):
    """A ``StageClock`` that also keeps a :class:`Call` of every call."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Call] = []
        self._depths: list[tuple[str, float, int]] = []
        self._process = psutil.Process()

    @contextmanager
    def stage(self, name: str, items: int = 1) -> Iterator[None]:
        """Time the block as one call of stage ``name`` over ``items`` items."""
        rss = self._process.memory_info().rss
        process, thread = time.process_time(), time.thread_time()
        start = time.perf_counter()
        try:
            with super().stage(name, items):
                yield
        finally:
            end = time.perf_counter()
            thread, process = time.thread_time() - thread, time.process_time() - process
            span = Span(name, start, end, threading.current_thread().name, items)
            # Appending to a list is atomic.
            after = self._process.memory_info().rss
            self._calls.append(Call(span, thread, process, rss, after))

    def depth(self, queue: str, items: int) -> None:
        """Note that ``queue`` now holds ``items`` items."""
        self._depths.append((queue, time.perf_counter(), items))

    def queues(self) -> dict[str, tuple[tuple[float, int], ...]]:
        """(``perf_counter`` seconds, items) of every queue, in order of time."""
        found: dict[str, list[tuple[float, int]]] = {}
        for queue, at, items in sorted(self._depths, key=lambda each: each[1]):
            found.setdefault(queue, []).append((at, items))
        return {queue: tuple(readings) for queue, readings in found.items()}

    def calls(self) -> tuple[Call, ...]:
        """All calls so far, sorted by start."""
        return tuple(sorted(self._calls, key=lambda call: call.span.start))
