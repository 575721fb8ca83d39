"""Serial and concurrent runs: same outcomes, first error wins, no thread is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.block_worker import BlockResult
from fluidaudio_cli.diarization.blocks import Block, Ended, Event, Failed
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.schedule import run_concurrently, run_serially
from fluidaudio_cli.errors import AudioError

Samples = npt.NDArray[np.float32]
TakeBuffer = Callable[[], Samples]


def buffers(count: int) -> list[Samples]:
    return [np.zeros(4, np.float32) for _ in range(count)]


class Reader:
    """Blocks that hold their own number, with other events between them."""

    def __init__(self, blocks: int, fails_after: int | None = None) -> None:
        self.blocks = blocks
        self.fails_after = fails_after
        self.given = 0

    def __call__(self, take_buffer: TakeBuffer) -> Iterator[Event]:
        for index in range(self.blocks):
            if index == self.fails_after:
                raise OSError("the disk is gone")
            buffer = take_buffer()
            buffer[:] = index
            self.given += 1
            yield Block(index, buffer)
            if index % 3 == 0:
                yield Ended(index, index, 1)
            if index % 4 == 0:
                yield Failed(index, AudioError(f"bad {index}"))


class Doubler:
    """Doubles what a block holds; slow on every other block, so that order is put to the test."""

    def __init__(self, fails_at: int | None = None, seconds: float = 0.002) -> None:
        self.fails_at = fails_at
        self.seconds = seconds
        self.done = 0

    def process(self, block: Block, clock: StageClock) -> list[BlockResult]:
        with clock.stage("double"):
            if block.index % 2 == 0:
                time.sleep(self.seconds)
            if block.index == self.fails_at:
                raise RuntimeError(f"block {block.index} broke")
            self.done += 1
            return [BlockResult(block.index, (), int(2 * block.buffer[0]), 0)]

    def flush(self, clock: StageClock) -> list[BlockResult]:
        return []


class Hoarder(Doubler):
    """Gives results out three at a time, and the rest when told that no block follows."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[BlockResult] = []

    def process(self, block: Block, clock: StageClock) -> list[BlockResult]:
        self.kept += super().process(block, clock)
        return self.flush(clock) if len(self.kept) >= 3 else []

    def flush(self, clock: StageClock) -> list[BlockResult]:
        kept, self.kept = self.kept, []
        return kept


def told(outcome: object) -> object:
    return str(outcome.error) if isinstance(outcome, Failed) else outcome


def alive() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_serial_run_replaces_blocks_by_results() -> None:
    found = list(run_serially(Reader(3), Doubler(), buffers(1)[0], StageClock()))
    assert [told(outcome) for outcome in found] == [
        BlockResult(0, (), 0, 0),
        Ended(0, 0, 1),
        "bad 0",
        BlockResult(1, (), 2, 0),
        BlockResult(2, (), 4, 0),
    ]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("blocks", [0, 1, 2, 40])
def test_concurrent_run_gives_the_same_in_the_same_order(workers: int, blocks: int) -> None:
    before = alive()
    serial = list(run_serially(Reader(blocks), Doubler(), buffers(1)[0], StageClock()))
    clock = StageClock()
    found = list(
        run_concurrently(
            Reader(blocks), [Doubler() for _ in range(workers)], buffers(workers + 1), clock
        )
    )
    assert [told(outcome) for outcome in found] == [told(outcome) for outcome in serial]
    assert alive() == before
    doubled = [row for row in clock.timings(1.0, overlapped=True) if row.name == "double"]
    assert sum(row.calls for row in doubled) == blocks


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("blocks", [0, 1, 2, 40])
def test_results_that_come_late_keep_their_place(workers: int, blocks: int) -> None:
    at_once = list(run_serially(Reader(blocks), Doubler(), buffers(1)[0], StageClock()))
    late = run_concurrently(
        Reader(blocks), [Hoarder() for _ in range(workers)], buffers(workers + 1), StageClock()
    )
    assert [told(outcome) for outcome in late] == [told(outcome) for outcome in at_once]
    serial = list(run_serially(Reader(blocks), Hoarder(), buffers(1)[0], StageClock()))
    results = [outcome for outcome in serial if isinstance(outcome, BlockResult)]
    assert [result.index for result in results] == list(range(blocks))


def test_decoder_waits_for_a_free_buffer() -> None:
    """While the worker holds the first of three buffers, three blocks are decoded, not more."""
    reader = Reader(50)
    gate = threading.Event()
    given = []

    class Held(Doubler):
        def process(self, block: Block, clock: StageClock) -> list[BlockResult]:
            gate.wait(60)
            return super().process(block, clock)

    def release() -> None:
        given.append(reader.given)
        gate.set()

    run = run_concurrently(reader, [Held(seconds=0.0)], buffers(3), StageClock())
    threading.Timer(0.3, release).start()
    assert len([outcome for outcome in run if isinstance(outcome, BlockResult)]) == 50
    assert 1 <= given[0] <= 3
    assert reader.given == 50


def test_error_of_a_worker_ends_the_run() -> None:
    before = alive()
    run = run_concurrently(
        Reader(1000), [Doubler(fails_at=5), Doubler(fails_at=5)], buffers(4), StageClock()
    )
    with pytest.raises(RuntimeError, match=r"^block 5 broke$"):
        list(run)
    assert alive() == before


def test_error_of_the_decoder_ends_the_run() -> None:
    before = alive()
    run = run_concurrently(
        Reader(1000, fails_after=7), [Doubler(), Doubler()], buffers(4), StageClock()
    )
    with pytest.raises(OSError, match=r"^the disk is gone$"):
        list(run)
    assert alive() == before


def test_first_error_is_the_one_raised() -> None:
    """The worker breaks while the decoder, which would fail later, waits for it."""
    run = run_concurrently(
        Reader(50, fails_after=40), [Doubler(fails_at=0)], buffers(2), StageClock()
    )
    with pytest.raises(RuntimeError, match=r"^block 0 broke$"):
        list(run)


def test_closing_a_run_stops_its_threads() -> None:
    before = alive()
    reader = Reader(10_000)
    run = run_concurrently(reader, [Doubler(), Doubler()], buffers(4), StageClock())
    next(run)
    assert len(alive()) > len(before)
    run.close()  # type: ignore[attr-defined]
    assert alive() == before
    assert reader.given < 10_000


def test_run_that_is_never_started_needs_no_stopping() -> None:
    before = alive()
    run = run_concurrently(Reader(3), [Doubler()], buffers(2), StageClock())
    run.close()  # type: ignore[attr-defined]
    assert alive() == before
