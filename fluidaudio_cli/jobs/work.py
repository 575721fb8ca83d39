"""What a job does: a function of a recording and a plan, and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fluidaudio_cli.errors import FluidAudioError


@dataclass(frozen=True)
class Facts:
    """Where and how a worker runs. ``plan``: as plain values."""

    host: str
    architecture: str
    plan: dict[str, Any]


class Session(Protocol):
    """Loaded models: once a worker, for all recordings that it is given."""

    @property
    def facts(self) -> Facts:
        """Where and how it runs; the work may know more."""

    def run(self, sources: Sequence[Any]) -> Iterator[Any]:
        """A document for each source, in order, or the ``InputError`` of one that is no good.

        Raises ``HostError`` for what ends the job.
        """


class Work(Protocol):
    """The function, before it is anywhere: small, picklable, and sent to each worker."""

    def start(self, threads: int | None) -> Session:
        """Load what it takes, to use so many processors of the machine that this is called on."""


@dataclass(frozen=True)
class Outcome:
    """What became of recording ``number``: a document, or the error in its place.

    ``set_aside``: its worker was lost twice, the second time with nothing else to do.
    """

    number: int
    document: Any
    facts: Facts | None = None
    set_aside: bool = False

    @property
    def failed(self) -> bool:
        """Whether there is no document."""
        return isinstance(self.document, FluidAudioError)
