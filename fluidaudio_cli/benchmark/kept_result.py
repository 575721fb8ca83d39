"""The result of a benchmark while it grows: saved with every change, so that little is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from fluidaudio_cli import __version__
from fluidaudio_cli.benchmark import resume
from fluidaudio_cli.benchmark.grid import Cell, Grid, Item, Program, Study
from fluidaudio_cli.benchmark.memory_limit import exceeded
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    CellRecord,
    DatasetRecord,
    FileRecord,
    ModelRecord,
    PlanRecord,
    ProcessRecord,
    StudyRecord,
)
from fluidaudio_cli.measure import environment
from fluidaudio_cli.progress import ProgressCallback, no_progress


@dataclass(frozen=True)
class Hooks:
    """What the run tells its caller while it works."""

    save: Callable[[BenchmarkResult], None] = lambda result: None
    warn: Callable[[str], None] = lambda line: None
    progress: ProgressCallback = no_progress


@dataclass(frozen=True)
class Settings:
    """What holds for all cells. ``timeout``: of each request, None for one by the length."""

    seed: int = 0
    compute_units: str = "all"
    measure_power: bool = False
    memory_limit_bytes: int | None = None
    timeout: float | None = None
    tuning: bool = True


def plan_record(grid: Grid, settings: Settings) -> PlanRecord:
    """What a run of ``grid`` is asked for."""
    return PlanRecord(
        studies=tuple(
            StudyRecord(
                name=study.name,
                cells=study.cells,
                contrasts=tuple((each.cell, each.base) for each in study.contrasts),
                in_turn=study.in_turn,
                processes=study.effort.processes,
                warmup=study.effort.warmup,
                iterations=study.effort.iterations,
                latency_windows=study.effort.latency_windows,
                measure_memory=study.effort.memory,
            )
            for study in grid.studies
        ),
        seed=settings.seed,
        compute_units=settings.compute_units,
        measure_power=settings.measure_power,
        memory_limit_bytes=settings.memory_limit_bytes,
        timeout_seconds=settings.timeout,
        tuning=settings.tuning,
    )


def unmeasured(grid: Grid, settings: Settings) -> BenchmarkResult:
    """The result of a run of ``grid`` before it has any cell."""
    return BenchmarkResult(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        complete=False,
        plan=plan_record(grid, settings),
        datasets={
            name: DatasetRecord(
                name=condition.recordings.name,
                fingerprint=condition.recordings.fingerprint,
                uris=tuple(item.uri for item in condition.recordings.items),
                conversations=dict(condition.conversations),
                note=condition.note,
            )
            for name, condition in grid.conditions.items()
        },
        environment=environment.describe(),
        power="",
    )


class KeptResult:
    """What a run has measured so far: ``result``, which every change replaces and saves."""

    def __init__(self, grid: Grid, settings: Settings, hooks: Hooks) -> None:
        self.result = unmeasured(grid, settings)
        self._hooks = hooks
        self._memory_limit = settings.memory_limit_bytes

    def begin(self, previous: BenchmarkResult | None, meter: str) -> None:
        """Go on from an interrupted run, if there was one; raises as ``check_same_run``.

        ``meter``: of energy, in words.
        """
        if previous is None:
            self.result = self.result.model_copy(update={"power": meter})
            return
        resume.check_same_run(previous, self.result)
        # What failed is tried again, and is said again if it fails again.
        failed = {_failed(*each) for each in previous.failures}
        warnings = tuple(line for line in previous.warnings if line not in failed)
        self.result = previous.model_copy(update={"complete": False, "warnings": warnings})

    @property
    def finished_files(self) -> int:
        """Recordings measured so far, those of the interrupted run among them."""
        return sum(len(each.finished) for cell in self.result.cells for each in cell.processes)

    def known(self, study: Study, cell: Cell) -> CellRecord:
        """What is known of a cell."""
        return self.result.record_of(cell) or CellRecord(cell=cell, study=study.name)

    def describe(
        self, study: Study, cell: Cell, index: int, loaded: dict[str, Any], program: Program
    ) -> None:
        """Take in what loading process ``index`` of a cell said; raises as ``check_same_cell``."""
        known = self.known(study, cell)
        fresh = known.model_copy(
            update={
                "config": loaded.get("config", {}),
                "plan": loaded.get("plan", {}),
                "executors": loaded.get("executors", {}),
                "models": tuple(ModelRecord(**model) for model in loaded.get("models", ())),
                "remarks": program.remarks,
            }
        )
        if known.finished:
            resume.check_same_cell(known, fresh)
        self.keep(fresh)
        process = ProcessRecord(
            load_seconds=loaded.get("load_seconds"),
            peak_rss_bytes=loaded.get("peak_bytes"),
            files=fresh.processes[index].files if index < len(fresh.processes) else (),
        )
        self.keep_process(study, cell, index, process)

    def unavailable(self, study: Study, cell: Cell, reason: str) -> None:
        """Keep that a cell cannot be had here: one of several, so no error of the run."""
        self.keep(self.known(study, cell).model_copy(update={"unavailable": reason}))

    def did_not_load(self, study: Study, cell: Cell, index: int, reason: str) -> None:
        """Keep that a process of a cell could not be loaded, and what it measured before."""
        self.note(_failed(cell.name, "", reason))
        before = (*self.known(study, cell).processes[index : index + 1], ProcessRecord())[0]
        self.keep_process(study, cell, index, before.model_copy(update={"error": reason}))

    def keep_process(self, study: Study, cell: Cell, index: int, process: ProcessRecord) -> None:
        """Keep what a process of a cell measured."""
        known = self.known(study, cell)
        processes = (*known.processes[:index], process, *known.processes[index + 1 :])
        self.keep(known.model_copy(update={"processes": processes}))

    def keep_file(
        self, study: Study, cell: Cell, index: int, record: FileRecord, order: Iterable[Item]
    ) -> None:
        """Keep what was measured of a recording; ``order``: of all recordings of the cell."""
        before = self.known(study, cell)
        known = before.processes[index]
        files = {file.uri: file for file in (*known.files, record)}
        in_order = tuple(files[item.uri] for item in order if item.uri in files)
        self.keep_process(study, cell, index, known.model_copy(update={"files": in_order}))
        if record.error is not None:
            self.note(_failed(cell.name, record.uri, record.error))
        elif not record.repeatable:
            self.note(
                f"{cell.name}: {record.uri}: turns differ between iterations; the first is scored"
            )
        elif any(f.uri == record.uri and f.accuracy != record.accuracy for f in before.finished):
            self.note(
                f"{cell.name}: {record.uri}: processes differ in their error; the first's is shown"
            )
        limit = self._memory_limit
        if limit is not None and record.memory is not None and not cell.program:
            line = exceeded(record.memory.peak_rss_bytes, limit)
            if line is not None:
                self.note(f"{record.uri}: {line}")

    def keep(self, record: CellRecord) -> None:
        """Put a cell in place of what was known of it."""
        cells = {known.cell: known for known in self.result.cells}
        cells[record.cell] = record
        self.update(cells=tuple(cells.values()))

    def note(self, line: str) -> None:
        """Warn of something, and keep it with the result."""
        self._hooks.warn(line)
        if line not in self.result.warnings:
            self.update(warnings=(*self.result.warnings, line))

    def update(self, **changes: Any) -> None:
        """Change fields of the result, and save it."""
        self.result = self.result.model_copy(update=changes)
        self._hooks.save(self.result)


def _failed(cell: str, uri: str, reason: str) -> str:
    return f"{cell}: {uri} failed: {reason}" if uri else f"{cell} did not load: {reason}"
