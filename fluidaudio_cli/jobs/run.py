"""Deal recordings out to workers until each is done, failed, or set aside."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from fluidaudio_cli.errors import HostError
from fluidaudio_cli.jobs.manifest import Stamp
from fluidaudio_cli.jobs.pool import Chunk, Pool
from fluidaudio_cli.jobs.recordings import Recording, Recordings, State
from fluidaudio_cli.jobs.work import Outcome

_CHUNK_RECORDINGS = 8
"""At most, of short ones: they fill batches of windows together, and dealing them out costs an
eighth. What a lost worker repeats stays small."""

_CHUNK_BYTES = 32_000_000
"""At most, of long ones: a quarter of an hour of WAV, half an hour and more of anything else."""

_ROUNDS_LEFT = 2
"""Towards the end chunks shrink so that each worker still gets this many: then all end together."""


def run(
    recordings: Recordings, pool: Pool, source: Callable[[Recording], Any]
) -> Iterator[Outcome]:
    """Have ``pool`` do all ``recordings`` that are not settled; an outcome of each, as it comes.

    ``source``: what ``Work`` is given of a recording. A recording whose worker is lost is tried
    again by itself; lost again, its outcome is set aside. Whoever takes an outcome settles it.
    Raises ``HostError`` where workers cannot do their work at all.
    """
    dealer = _Dealer(recordings, source)
    under_way: dict[int, set[int]] = {}  # by the chunk's first number: those without an outcome
    with closing(pool):
        while True:
            while len(under_way) < pool.capacity:
                chunk = dealer.next(pool.capacity)
                if chunk is None:
                    break
                pool.submit(chunk)
                under_way[chunk.numbers[0]] = set(chunk.numbers)
            if not under_way:
                return
            news = pool.wait()
            name = news.chunk.numbers[0]
            for outcome in news.outcomes:
                under_way[name].discard(outcome.number)
                yield outcome
            if news.ended:
                missing = under_way.pop(name)
                if news.chunk.alone and missing:
                    yield Outcome(news.chunk.numbers[0], _lost(news.lost), set_aside=True)
                else:
                    dealer.lost(missing)


def _lost(how: str) -> HostError:
    return HostError(
        f"its worker was lost, and again when it was tried alone ({how})",
        "it is left aside; the others are done",
    )


class _Dealer:
    """Makes chunks of what waits, in order; then of suspects, one at a time."""

    def __init__(self, recordings: Recordings, source: Callable[[Recording], Any]) -> None:
        self._recordings, self._source = recordings, source
        self._left = recordings.count(State.waiting)
        # The last ones dealt out, of either state.
        self._waiting = self._suspect = 0
        self._lost: deque[Recording] = deque()

    def next(self, workers: int) -> Chunk | None:
        """The next chunk; ``None`` when there is none for now."""
        most = _CHUNK_RECORDINGS
        if workers > 1:
            most = min(most, max(1, -(-self._left // (_ROUNDS_LEFT * workers))))
        found: list[Recording] = []
        size = 0
        while len(found) < most and size < _CHUNK_BYTES:
            recording = self._recordings.following(self._waiting, State.waiting)
            if recording is None:
                break
            self._waiting = recording.number
            self._left -= 1
            size += Stamp.of(recording.place).bytes or 0
            found.append(recording)
        alone = not found
        if alone:
            suspect = self._recordings.following(self._suspect, State.suspect)
            if suspect is not None:
                self._suspect = suspect.number
            elif self._lost:
                suspect = self._lost.popleft()
            else:
                return None
            found.append(suspect)
        numbers = tuple(each.number for each in found)
        return Chunk(numbers, tuple(map(self._source, found)), alone)

    def lost(self, numbers: Iterable[int]) -> None:
        """Have each be tried by itself, when nothing else waits."""
        self._lost.extend(self._recordings.at(number) for number in sorted(numbers))
