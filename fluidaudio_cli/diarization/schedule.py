"""Work on blocks serially or side by side, with the same results in the same order.

Side by side, one thread decodes and each worker takes whole blocks: decoding, segmentation and
embedding of different blocks overlap, and no stage waits for another. The number of buffers
bounds memory and holds the decoder back; the first error ends the run.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from fluidaudio_cli.diarization.block_worker import BlockResult
from fluidaudio_cli.diarization.blocks import Block, Event, Samples
from fluidaudio_cli.diarization.clock import StageClock


class Worker(Protocol):
    """What turns blocks into results."""

    def process(self, block: Block, clock: StageClock) -> Sequence[BlockResult]:
        """Take a block, which is not looked at afterwards; the results that are ready."""

    def flush(self, clock: StageClock) -> Sequence[BlockResult]:
        """The results that are not out yet: no block follows."""


_Item = TypeVar("_Item")
MakeReader = Callable[[Callable[[], Samples]], Iterable[Event]]
Outcome = Event | BlockResult


def run_serially(
    make_reader: MakeReader, worker: Worker, buffer: Samples, clock: StageClock
) -> Iterator[Outcome]:
    """Decode a block, process it, decode the next; blocks are replaced by their results.

    A block's result may come after events that follow the block.
    """
    for event in make_reader(lambda: buffer):
        if isinstance(event, Block):
            yield from worker.process(event, clock)
        else:
            yield event
    yield from worker.flush(clock)


def run_concurrently(
    make_reader: MakeReader,
    workers: Sequence[Worker],
    buffers: Sequence[Samples],
    clock: StageClock,
) -> Iterator[Outcome]:
    """As :func:`run_serially`, overlapped. Closing the iterator stops all threads.

    ``buffers``: more than there are workers, so that decoding runs ahead.
    """
    run = _ConcurrentRun(make_reader, workers, buffers, clock)
    try:
        run.start()
        yield from run.outcomes()
    finally:
        run.stop()


_READY, _FREE = "blocks ready", "free buffers"


class _StoppedError(Exception):
    """The run is over; unwinds a thread that waits."""


class _ConcurrentRun:
    def __init__(
        self,
        make_reader: MakeReader,
        workers: Sequence[Worker],
        buffers: Sequence[Samples],
        clock: StageClock,
    ) -> None:
        self._make_reader = make_reader
        self._clock = clock
        self._workers = workers
        self._stopping = threading.Event()
        self._free: queue.Queue[Samples] = queue.Queue()
        for buffer in buffers:
            self._free.put(buffer)
        self._blocks: queue.Queue[Block | None] = queue.Queue()
        # (position, outcome) in any order; an exception ends the run.
        self._done: queue.Queue[tuple[int, Outcome] | BaseException | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._guard, args=(self._decode,), name="decode", daemon=True)
        ]
        for number, worker in enumerate(workers):
            self._threads.append(
                threading.Thread(
                    target=self._guard,
                    args=(self._work, worker),
                    name=f"worker-{number}",
                    daemon=True,
                )
            )
        self._positions: dict[int, int] = {}
        self._total: int | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def outcomes(self) -> Iterator[Outcome]:
        """Outcomes in the order in which the reader gave their events."""
        waiting: dict[int, Outcome] = {}
        position = 0
        while self._total is None or position < self._total:
            item = self._done.get()
            if isinstance(item, BaseException):
                raise item
            if item is not None:
                waiting[item[0]] = item[1]
            while position in waiting:
                yield waiting.pop(position)
                position += 1

    def _guard(self, work: Callable[..., None], *args: object) -> None:
        try:
            work(*args)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._stopping.set()
            self._done.put(error)

    def _decode(self) -> None:
        position = 0
        for event in self._make_reader(self._take_buffer):
            if isinstance(event, Block):
                self._positions[event.index] = position
                self._blocks.put(event)
                self._clock.depth(_READY, self._blocks.qsize())
            else:
                self._done.put((position, event))
            position += 1
            self._check()
        for _ in self._workers:
            self._blocks.put(None)
        self._total = position
        self._done.put(None)

    def _work(self, worker: Worker) -> None:
        while (block := self._take_block()) is not None:
            results = worker.process(block, self._clock)
            self._free.put(block.buffer)
            self._clock.depth(_FREE, self._free.qsize())
            self._hand_over(results)
        self._hand_over(worker.flush(self._clock))

    def _hand_over(self, results: Sequence[BlockResult]) -> None:
        for result in results:
            self._done.put((self._positions[result.index], result))

    def _take_block(self) -> Block | None:
        with self._clock.stage("wait for a block"):
            block = self._wait_for(self._blocks)
        self._clock.depth(_READY, self._blocks.qsize())
        return block

    def _take_buffer(self) -> Samples:
        with self._clock.stage("wait for a free buffer"):
            buffer = self._wait_for(self._free)
        self._clock.depth(_FREE, self._free.qsize())
        return buffer

    def _wait_for(self, source: queue.Queue[_Item]) -> _Item:
        """Next item, or ``_StoppedError`` once the run is over."""
        while True:
            self._check()
            try:
                return source.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _StoppedError


# How soon a waiting thread notices that the run was stopped.
_POLL_SECONDS = 0.1
