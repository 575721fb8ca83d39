"""Windows in, evidence out: in order, whatever the number of workers.

With one worker everything happens in the caller's thread. With several, one thread takes the
windows (and so decodes them) and each worker takes whole batches: decoding, segmentation and
embedding of different batches overlap, and no stage waits for another. The number of batches
bounds memory and holds the decoder back; the first error ends the run.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.evidence import WindowEvidence
from fluidaudio_cli.diarization.evidence_worker import Found, WindowBatch
from fluidaudio_cli.diarization.windows import Window

# Batches beyond one for each worker: one being filled, one ready.
_SPARE_BATCHES = 2
# How soon a waiting thread notices that the run was stopped.
_POLL_SECONDS = 0.1
# How long the end waits for the thread that takes items: it may wait for a pipe that says nothing.
_STOP_SECONDS = 1.0
_READY, _FREE = "batches ready", "free batches"

_T = TypeVar("_T")
_Item = TypeVar("_Item")


class Worker(Protocol):
    """Takes batches of windows through networks; used by one thread at a time."""

    def process(self, batch: WindowBatch) -> Sequence[Found]:
        """Work on ``batch``, which is not looked at afterwards; what is ready by now."""

    def flush(self, clock: StageClock) -> Sequence[Found]:
        """What is not out yet: no window follows."""

    def discard(self) -> None:
        """Forget what was not asked for, after a run that was broken off."""


class Frontend:
    """Networks, batches and threads; it knows nothing of speakers and recordings.

    ``workers``: as many windows' batches are worked on at a time. ``batch``: windows in one. Not
    for several threads at once: a run uses all workers itself.
    """

    def __init__(self, workers: Sequence[Worker], batch: int) -> None:
        self._workers = workers
        count = 1 if len(workers) == 1 else len(workers) + _SPARE_BATCHES
        self._batches = [WindowBatch(batch) for _ in range(count)]

    def evidence(
        self, items: Iterable[Window | _T], clock: StageClock
    ) -> Iterator[WindowEvidence | _T]:
        """The evidence of every window among ``items``; all else passes through in its place.

        A window's samples may be overwritten once the next item is asked for. Items are taken in
        another thread where there are several workers. ``clock`` counts waiting; work is counted
        by each window's own. Closing the iterator stops all threads.
        """
        for worker in self._workers:
            worker.discard()
        for batch in self._batches:
            batch.clear()
        if len(self._workers) == 1:
            return _in_order(self._serially(items))
        return self._concurrently(items, clock)

    def _serially(self, items: Iterable[Window | _T]) -> Iterator[tuple[int, WindowEvidence | _T]]:
        (worker,), (batch,) = self._workers, self._batches
        clock = StageClock()
        for place, item in enumerate(items):
            if not isinstance(item, Window):
                yield place, item
                continue
            clock = item.clock
            batch.add(item, place)
            if batch.full:
                yield from worker.process(batch)
                batch.clear()
        if batch.windows:
            yield from worker.process(batch)
            batch.clear()
        yield from worker.flush(clock)

    def _concurrently(
        self, items: Iterable[Window | _T], clock: StageClock
    ) -> Iterator[WindowEvidence | _T]:
        run = _ConcurrentRun(items, self._workers, self._batches, clock)
        try:
            run.start()
            yield from _in_order(run.found())
        finally:
            run.stop()


def _in_order(found: Iterable[tuple[int, _Item]]) -> Iterator[_Item]:
    """Items by their places 0, 1, 2 …, each as soon as those before it are there."""
    waiting: dict[int, _Item] = {}
    following = 0
    for place, item in found:
        waiting[place] = item
        while following in waiting:
            yield waiting.pop(following)
            following += 1


class _StoppedError(Exception):
    """The run is over; unwinds a thread that waits."""


class _ConcurrentRun(Generic[_T]):
    def __init__(
        self,
        items: Iterable[Window | _T],
        workers: Sequence[Worker],
        batches: Sequence[WindowBatch],
        clock: StageClock,
    ) -> None:
        self._items = items
        self._clock = clock
        self._stopping = threading.Event()
        self._free: queue.Queue[WindowBatch] = queue.Queue()
        for batch in batches:
            self._free.put(batch)
        self._ready: queue.Queue[WindowBatch | None] = queue.Queue()
        # (place, item) in any order; None from each thread that ends; an exception ends the run.
        self._done: queue.Queue[tuple[int, WindowEvidence | _T] | BaseException | None] = (
            queue.Queue()
        )
        self._threads = [self._thread("decode", self._fill)]
        for number, worker in enumerate(workers):
            self._threads.append(self._thread(f"worker-{number}", self._work, worker))
        self._workers = len(workers)

    def _thread(self, name: str, *work: object) -> threading.Thread:
        return threading.Thread(target=self._guard, args=work, name=name, daemon=True)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        taking = self._threads[0]
        for thread in self._threads:
            if thread.is_alive():  # Ctrl-C may have come before it was started
                thread.join(_STOP_SECONDS if thread is taking else None)

    def found(self) -> Iterator[tuple[int, WindowEvidence | _T]]:
        running = len(self._threads)
        while running:
            item = self._done.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item

    def _guard(self, work: Callable[..., None], *args: object) -> None:
        try:
            work(*args)
            self._done.put(None)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._stopping.set()
            self._done.put(error)

    def _fill(self) -> None:
        """Take items and deal windows out in batches."""
        batch: WindowBatch | None = None
        items = iter(self._items)
        try:
            for place, item in enumerate(items):
                if self._stopping.is_set():  # the batches may be another run's by now
                    raise _StoppedError
                if not isinstance(item, Window):
                    self._done.put((place, item))
                else:
                    if batch is None:
                        batch = self._wait_for(self._free, "wait for a free batch", _FREE)
                    batch.add(item, place)
                    if batch.full:
                        self._deal(batch)
                        batch = None
        finally:
            # Here, not when it is collected: what it holds open is closed by the thread using it.
            if hasattr(items, "close"):
                items.close()
        if batch is not None:
            self._deal(batch)
        for _ in range(self._workers):
            self._ready.put(None)

    def _deal(self, batch: WindowBatch) -> None:
        self._ready.put(batch)
        self._clock.depth(_READY, self._ready.qsize())

    def _work(self, worker: Worker) -> None:
        clock = self._clock
        while (batch := self._wait_for(self._ready, "wait for a batch", _READY)) is not None:
            clock = batch.windows[-1].clock
            found = worker.process(batch)
            batch.clear()
            self._free.put(batch)
            self._clock.depth(_FREE, self._free.qsize())
            self._hand_over(found)
        self._hand_over(worker.flush(clock))

    def _hand_over(self, found: Sequence[Found]) -> None:
        for each in found:
            self._done.put(each)

    def _wait_for(self, source: queue.Queue[_Item], stage: str, name: str) -> _Item:
        """Next item, or ``_StoppedError`` once the run is over."""
        with self._clock.stage(stage):
            while True:
                if self._stopping.is_set():
                    raise _StoppedError
                try:
                    item = source.get(timeout=_POLL_SECONDS)
                    break
                except queue.Empty:
                    continue
        self._clock.depth(name, source.qsize())
        return item
