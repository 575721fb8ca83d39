"""What deals out recordings sees of workers, wherever they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fluidaudio_cli.jobs.work import Outcome, Session, Work


@dataclass(frozen=True)
class Chunk:
    """Recordings that a worker is given at once: their numbers, and their sources.

    ``alone``: a single one that a worker was lost with.
    """

    numbers: tuple[int, ...]
    sources: tuple[Any, ...]
    alone: bool = False


@dataclass(frozen=True)
class News:
    """What happened: outcomes of a chunk and, once no more will come of it, that it has ended.

    ``lost``: its worker is gone, and so; the recordings without an outcome are as they were.
    """

    chunk: Chunk
    outcomes: Sequence[Outcome] = ()
    ended: bool = False
    lost: str = ""


class Pool(Protocol):
    """Workers, all with the same work; to be closed."""

    @property
    def capacity(self) -> int:
        """How many chunks may be under way."""

    def submit(self, chunk: Chunk) -> None:
        """Have a worker do it; returns at once."""

    def wait(self) -> News:
        """The next news. Raises what ended a worker's ``start`` or its ``run``."""

    def close(self) -> None:
        """End all workers; at once."""


class Inline:
    """This process in place of workers: for pipes, which only it can read, and held memory."""

    capacity = 1

    def __init__(self, work: Work, threads: int | None) -> None:
        self._work, self._threads = work, threads
        self._session: Session | None = None
        self._running: Any = None
        self._chunk: Chunk | None = None

    def submit(self, chunk: Chunk) -> None:
        """Begin it."""
        if self._session is None:
            self._session = self._work.start(self._threads)
        self._chunk = chunk
        self._running = zip(chunk.numbers, self._session.run(chunk.sources), strict=True)

    def wait(self) -> News:
        """Do the next recording."""
        assert self._chunk is not None
        assert self._session is not None
        for number, document in self._running:
            return News(self._chunk, [Outcome(number, document, self._session.facts)])
        return News(self._chunk, ended=True)

    def close(self) -> None:
        """Nothing to end."""
