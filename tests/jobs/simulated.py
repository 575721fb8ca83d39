"""Work that takes no time, and what befalls workers: told by the names of recordings."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fluidaudio_cli.errors import AudioError, HostError
from fluidaudio_cli.jobs.recordings import Recording
from fluidaudio_cli.jobs.work import Facts


@dataclass(frozen=True)
class Simulated:
    """The document of a recording is its name in capitals.

    ``log``: gets a line for each start and each recording. A name that begins with ``bad`` is an
    error, ``odd`` raises what nobody expects, ``kill`` ends the worker, ``once`` ends it unless a
    file of the name is in ``log``'s folder already.
    """

    log: Path
    loads: bool = True

    def start(self, threads: int | None) -> Simulated:
        if (self.log.parent / "dies-at-start").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if not self.loads:
            raise HostError("no models", "build them")
        self.note(f"start {threads}")
        return self

    @property
    def facts(self) -> Facts:
        return Facts("here", "x", {"pid": os.getpid()})

    def run(self, sources: Sequence[str]) -> Iterator[str | AudioError]:
        for name in sources:
            self.note(name)
            if name.startswith("odd"):
                raise ZeroDivisionError("at\nwork")
            mark = self.log.parent / name
            if name.startswith("kill") or (name.startswith("once") and not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield AudioError(f"{name} is bad") if name.startswith("bad") else name.upper()

    def note(self, line: str) -> None:
        with self.log.open("a") as stream:
            stream.write(f"{line}\n")


def name_of(recording: Recording) -> str:
    return recording.uri
