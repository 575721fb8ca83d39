"""Errors of many recordings, by several workers at once: the recordings of cells are a job.

What runs side by side shares processors and memory bandwidth: its times are not those of a
machine that does nothing else. So nothing is timed, and records hold errors only.
"""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from fluidaudio_cli.benchmark.grid import ONCE, Cell
from fluidaudio_cli.benchmark.memory_limit import longest_seconds
from fluidaudio_cli.benchmark.passes import measure_in_turn
from fluidaudio_cli.benchmark.results import FileRecord
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.errors import FluidAudioError
from fluidaudio_cli.jobs.pool import Pool
from fluidaudio_cli.jobs.recordings import Recordings
from fluidaudio_cli.jobs.run import run
from fluidaudio_cli.jobs.work import Facts, Work

NOTE = "measured by workers side by side: errors only, no times, memory or energy"

_TIMED = ("load_seconds", "peak_bytes")


@dataclass(frozen=True)
class CellFacts(Facts):
    """``loaded``: what the worker said of its pipeline."""

    loaded: Mapping[str, Any]


@dataclass(frozen=True)
class CellWork:
    """Diarize and score recordings (:class:`~.grid.Item`), as a cell's worker does it."""

    command: WorkerCommand
    mode: str | Mapping[str, Any]
    options: PipelineOptions
    timeout: float | None = None

    def start(self, threads: int | None) -> _Session:
        """Start a benchmark's worker beside this process; raises what loading raises."""
        # Another machine has its Python elsewhere.
        command = replace(self.command, argv=(sys.executable, *self.command.argv[1:]))
        options = replace(self.options, threads=self.options.threads or threads)
        return _Session(replace(self, command=command, options=options))


class _Session:
    def __init__(self, work: CellWork) -> None:
        self._work = work
        self._open()

    def run(self, sources: Sequence[Sequence[Any]]) -> Iterator[list[FileRecord]]:
        """Of each source, which is all items that have one recording, the records."""
        for items in sources:
            yield [self._record(item) for item in items]

    def _open(self) -> None:
        self._worker = Worker(self._work.command, self._work.timeout)
        try:
            loaded = self._worker.load(self._work.mode, self._work.options)
        except BaseException:
            self._worker.close()
            raise
        host, machine = socket.gethostname(), platform.machine()
        told = {key: value for key, value in loaded.items() if key not in _TIMED}
        self.facts = CellFacts(host, machine, loaded["plan"], told)

    def _record(self, item: Any) -> FileRecord:
        if not self._worker.alive:
            self._open()
        (record,) = measure_in_turn(
            [self._worker],
            item,
            ONCE,
            audio_seconds=longest_seconds([item.audio]),
            baselines=[0],
            warm_on=None,
            meter=None,
            scored=True,
            tick=lambda: None,
        )
        return record.model_copy(update={"iterations": ()})


def records(
    wanted: Sequence[tuple[Cell, Any]], work: CellWork, pool: Callable[[Work], Pool]
) -> Iterator[tuple[Cell, FileRecord, Mapping[str, Any]]]:
    """The record of each cell's item as it comes, and what the pipeline said that made it.

    ``wanted``: of cells that load the same. A recording with which workers are lost has its error.
    Raises what loading raises.
    """
    by_audio: dict[Any, list[tuple[Cell, Any]]] = {}
    for cell, item in wanted:
        by_audio.setdefault(item.audio, []).append((cell, item))
    loaded: Mapping[str, Any] = {}
    source = {place: [item for _, item in owners] for place, owners in by_audio.items()}
    with closing(Recordings(by_audio)) as recordings:
        for outcome in run(recordings, pool(work), lambda each: source[each.place]):
            owners = by_audio[recordings.at(outcome.number).place]
            found = outcome.document
            if isinstance(found, FluidAudioError):
                found = [FileRecord(uri=item.uri, error=str(found)) for _, item in owners]
            if isinstance(outcome.facts, CellFacts):
                loaded = outcome.facts.loaded
            for (cell, _), record in zip(owners, found, strict=True):
                yield cell, record, loaded
