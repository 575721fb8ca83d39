"""Run every cell of a grid over its recordings and collect samples.

A cell has a number of fresh processes. Rounds go over all cells of a study, one process of each,
so that a drift of the machine falls on all of them; cells in turn have theirs side by side. Within
a process recordings come in seeded order, each with warm-up passes and measured ones; single
windows are timed in another process, loaded for low latency. The caller's ``save`` gets the
result after each recording, so that an interruption loses at most the one in progress.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fluidaudio_cli.benchmark import side_by_side
from fluidaudio_cli.benchmark.grid import (
    PIPELINE_OPTIONS,
    Cell,
    Condition,
    Effort,
    Grid,
    Item,
    Program,
    Study,
)
from fluidaudio_cli.benchmark.kept_result import Hooks, KeptResult, Settings
from fluidaudio_cli.benchmark.memory_limit import hold, longest_seconds
from fluidaudio_cli.benchmark.passes import Lane, Meter, measure_in_turn
from fluidaudio_cli.benchmark.programs import CommandLane
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    CellRecord,
    FindingsRecord,
)
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.corpora.dataset import open_dataset
from fluidaudio_cli.diarization.loading import load_pipeline, make_plan
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.diarization.tuning import TUNING_VARIABLE, load_tuning
from fluidaudio_cli.errors import ExecutorUnavailableError, FluidAudioError
from fluidaudio_cli.executors.cache import ENVIRONMENT_VARIABLE
from fluidaudio_cli.files import temporary_folder
from fluidaudio_cli.jobs.pool import Pool
from fluidaudio_cli.jobs.work import Work
from fluidaudio_cli.measure import environment, power
from fluidaudio_cli.measure.long_audio import RepeatedAudio


@dataclass(frozen=True)
class _Made:
    """A recording made for a length of audio; it has no reference."""

    uri: str
    audio: Path


@dataclass(frozen=True)
class _Start:
    """How a worker of a cell is started and what it loads."""

    command: WorkerCommand
    mode: str | Mapping[str, Any]
    options: PipelineOptions
    settings: Mapping[str, Any]

    def open(self, processes: ExitStack, timeout: float | None) -> tuple[Worker, dict[str, Any]]:
        """A loaded worker; loaded twice when the first load had to fill the cache."""
        for attempt in range(2):
            worker = processes.enter_context(Worker(self.command, timeout))
            loaded = worker.load(self.mode, self.options, self.settings)
            if loaded["cached"] or attempt:
                break
            worker.close()
        return worker, loaded


@dataclass(frozen=True)
class _Opened:
    """A lane that is loaded, and what loading it said."""

    lane: Lane
    loaded: dict[str, Any]

    @property
    def alive(self) -> bool:
        return not isinstance(self.lane, Worker) or self.lane.alive


@dataclass
class BenchmarkRun:
    """One benchmark in progress: the grid, what is measured so far, and how to go on.

    ``previous`` is an interrupted run's result; what it holds is not measured again. ``command``
    starts this program's worker. ``conclude`` finds what follows from all cells together. ``pool``:
    of workers that find errors side by side, in place of measuring (``benchmark/side_by_side.py``).
    """

    grid: Grid
    settings: Settings = field(default_factory=Settings)
    hooks: Hooks = field(default_factory=Hooks)
    command: WorkerCommand = field(default_factory=WorkerCommand)
    previous: BenchmarkResult | None = None
    conclude: Callable[[BenchmarkResult], FindingsRecord] = lambda result: FindingsRecord()
    pool: Callable[[Work], Pool] | None = None

    def __post_init__(self) -> None:
        """Nothing is measured yet."""
        self._kept = KeptResult(self.grid, self.settings, self.hooks)
        self._done = 0

    def run(self) -> BenchmarkResult:
        """Measure everything not yet measured; the complete result.

        What fails is recorded and the rest goes on. Raises ``UsageError`` when ``previous`` does
        not fit; where there is one cell only, what loading raises.
        """
        opened = power.open_meter() if self.settings.measure_power else None
        self._meter: Meter = None if isinstance(opened, power.Unavailable) else opened
        self._kept.begin(self.previous, _describe_meter(opened))
        for line in (*environment.busy_before(), *self._tuning_in_use()):
            self._kept.note(line)
        before = environment.cpu_snapshot()
        for study in self.grid.studies:
            with ExitStack() as stack:
                self._files = self._make_audio(study, stack)
                if study.measure is not None:
                    self._run_own(study, study.measure)
                elif self.pool is not None:
                    self._run_side_by_side(study, self.pool)
                else:
                    self._run_study(study, stack)
        for line in environment.busy_during(before, environment.cpu_snapshot()):
            self._kept.note(line)
        self._kept.update(findings=self.conclude(self._kept.result), complete=True)
        return self._kept.result

    @property
    def finished_files(self) -> int:
        """Files measured so far, those of ``previous`` among them."""
        return self._kept.finished_files

    def _run_study(self, study: Study, stack: ExitStack) -> None:
        own = {cell for owner, cell in self.grid.cells if owner is study}
        self._caches: dict[str, dict[str, str]] = {}
        self._shared: dict[str, tuple[Worker, dict[str, Any]]] = {}
        for index in range(study.effort.processes):
            for block in study.blocks():
                if own & set(block):
                    self._run_block(study, block, index, stack)

    def _run_own(self, study: Study, measure: Callable[..., Iterator[CellRecord]]) -> None:
        """Cells that their study measures, but for those that an earlier run has."""

        def load(cell: Cell, **more: Any) -> Pipeline:
            options = {**self._options(cell).as_dict(), **more}
            return load_pipeline(self.grid.mode_to_load(cell), **options)

        pending = [cell for cell in study.cells if self._kept.result.record_of(cell) is None]
        for record in measure(pending, load, self._items, self.hooks.progress):
            self._kept.keep(record)

    def _run_side_by_side(self, study: Study, pool: Callable[[Work], Pool]) -> None:
        """Errors of the recordings that are missing; one job of all cells that load the same."""
        self._kept.note(side_by_side.NOTE)
        jobs: dict[str, list[Cell]] = {}
        for owner, cell in self.grid.cells:
            if owner is study:
                key = repr((self._mode_to_load(cell), self._options(cell)))
                jobs.setdefault(key, []).append(cell)
        for cells in jobs.values():
            every = [(cell, item) for cell in cells for item in self._items(cell)]
            missing = [(c, i) for c, i in every if not _has(self._kept.known(study, c), 0, i)]
            self._advance(len(every) - len(missing))
            mode, options = self._mode_to_load(cells[0]), self._options(cells[0])
            work = side_by_side.CellWork(self.command, mode, options, self.settings.timeout)
            described = set()
            try:
                for cell, record, loaded in side_by_side.records(missing, work, pool):
                    if cell not in described:
                        self._kept.describe(study, cell, 0, dict(loaded), Program(""))
                        described.add(cell)
                    self._kept.keep_file(study, cell, 0, record, self._items(cell))
                    self._advance(1)
            except ExecutorUnavailableError as error:
                if len(self.grid.cells) == 1:
                    raise
                for cell in cells:
                    self._kept.unavailable(study, cell, str(error))

    def _make_audio(self, study: Study, stack: ExitStack) -> dict[tuple[str, float], Path]:
        """Recordings of the lengths that the study's cells ask for, until it ends."""
        wanted = sorted(
            {(cell.condition, cell.length) for cell in study.cells if cell.length is not None}
        )
        files: dict[tuple[str, float], Path] = {}
        if wanted:
            folder = stack.enter_context(temporary_folder())
        for number, (condition, seconds) in enumerate(wanted):
            items = self.grid.conditions[condition].recordings.items
            path = folder / f"{number}-{seconds:g}s.wav"
            made = RepeatedAudio([item.audio for item in items])
            made.write(path, seconds, (self.settings.seed, number))
            files[condition, seconds] = path
        return files

    def _items(self, cell: Cell) -> Sequence[Item]:
        if cell.length is None:
            return self.grid.conditions[cell.condition].recordings.items
        path = self._files[cell.condition, cell.length]
        return (_Made(path.stem, path),)

    def _run_block(
        self, study: Study, block: tuple[Cell, ...], index: int, stack: ExitStack
    ) -> None:
        """One process of each cell of ``block``, over the recordings that are missing."""
        effort = study.effort
        records = [self._kept.known(study, cell) for cell in block]
        items = self._items(block[0])
        passes = (effort.warmup + effort.iterations) * len(block)
        pending = [item for item in items if not all(_has(each, index, item) for each in records)]
        self._advance((len(items) - len(pending)) * passes)
        if pending and all(record.unavailable is None for record in records):
            expected = self._done + len(pending) * passes
            self._measure_block(study, block, index, pending, stack)
            self._done = expected
        if effort.latency_windows:
            for cell in block:
                self._measure_latency(study, cell, index)

    def _measure_block(
        self,
        study: Study,
        block: tuple[Cell, ...],
        index: int,
        pending: Sequence[Item],
        stack: ExitStack,
    ) -> None:
        random.Random(self.settings.seed).shuffle(order := list(pending))
        with ExitStack() as processes:

            def open_lanes() -> list[_Opened]:
                # Whoever starts second was seen to be slower beside busy neighbours.
                places = sorted(range(len(block)), key=lambda place: (place + index) % len(block))
                opened = {
                    place: self._open(study, block[place], index, processes, stack)
                    for place in places
                }
                return [each for _, each in sorted(opened.items()) if each is not None]

            opened = open_lanes()
            for item in order:
                if not all(each.alive for each in opened):
                    opened = open_lanes()
                if len(opened) < len(block):
                    return
                found = measure_in_turn(
                    [each.lane for each in opened],
                    item,
                    study.effort,
                    audio_seconds=longest_seconds([item.audio]),
                    baselines=[each.loaded.get("rss_bytes", 0) for each in opened],
                    warm_on=self._shortest(study) if study.effort.warm_on_shortest else None,
                    meter=self._meter,
                    scored=study.effort.score and not isinstance(item, _Made),
                    tick=lambda: self._advance(1),
                )
                for cell, record in zip(block, found, strict=True):
                    self._kept.keep_file(study, cell, index, record, self._items(cell))

    def _shortest(self, study: Study) -> Path:
        items = [item for cell in study.cells for item in self._items(cell)]
        return min(items, key=lambda item: item.audio.stat().st_size).audio

    def _open(
        self, study: Study, cell: Cell, index: int, processes: ExitStack, stack: ExitStack
    ) -> _Opened | None:
        """A lane of the cell; None where it cannot be had, which is then in the result."""
        program = self.grid.program(cell)
        try:
            if program.unavailable:
                raise ExecutorUnavailableError(program.unavailable)
            if program.kind != "worker":
                lane = CommandLane(
                    self._untuned(program.command, stack),
                    self.grid.mode_to_load(cell),
                    program.kind == "process",
                    self.settings.timeout,
                )
                self._kept.describe(study, cell, index, {}, program)
                return _Opened(lane, {})
            command = self._command(program, stack)
            start = _Start(command, self._mode_to_load(cell), self._options(cell), program.settings)
            if study.effort.cold and self._kept.known(study, cell).cold_seconds is None:
                self._cold_load(study, cell, start)
            if study.effort.share:
                worker, loaded = self._shared_worker(start, stack)
            else:
                worker, loaded = start.open(processes, self.settings.timeout)
        except ExecutorUnavailableError as error:
            if len(self.grid.cells) == 1:
                raise
            self._kept.unavailable(study, cell, str(error))
            return None
        except FluidAudioError as error:
            if len(self.grid.cells) == 1 and not self._kept.known(study, cell).finished:
                raise
            self._kept.did_not_load(study, cell, index, str(error))
            return None
        self._kept.describe(study, cell, index, loaded, program)
        return _Opened(worker, loaded)

    def _command(self, program: Program, stack: ExitStack) -> WorkerCommand:
        if not program.name:
            return self.command
        if not program.own_cache:
            return program.command
        if program.name not in self._caches:
            cache = stack.enter_context(temporary_folder())
            self._caches[program.name] = {ENVIRONMENT_VARIABLE: str(cache)}
        return self._untuned(program.command, stack).with_env(**self._caches[program.name])

    def _untuned(self, command: WorkerCommand, stack: ExitStack) -> WorkerCommand:
        """Without what ``fluidaudio tune`` stored: found with one version, unknown to another."""
        if "untuned" not in self._caches:
            folder = stack.enter_context(temporary_folder())
            self._caches["untuned"] = {TUNING_VARIABLE: str(folder / "none.json")}
        return command.with_env(**self._caches["untuned"])

    def _options(self, cell: Cell) -> PipelineOptions:
        levels = {option: getattr(cell, option) for option in PIPELINE_OPTIONS}
        levels["models"] = self.grid.models.get(cell.models, cell.models)
        return PipelineOptions(compute_units=self.settings.compute_units, **levels)

    def _mode_to_load(self, cell: Cell) -> str | Mapping[str, Any]:
        """The cell's mode, or a plan that holds it under the memory limit."""
        limit, mode = self.settings.memory_limit_bytes, self.grid.mode_to_load(cell)
        own = self.grid.plans.get(cell)
        if own is not None:
            return own.as_dict()
        if limit is None or cell.program:
            return mode
        seconds = longest_seconds(item.audio for item in self._items(cell))
        plan = make_plan(mode, **self._options(cell).as_dict())
        held = hold(plan, limit, seconds, command=self.command)
        for note in held.notes:
            self._kept.note(f"{cell.name}: {note}")
        return held.plan.as_dict()

    def _cold_load(self, study: Study, cell: Cell, start: _Start) -> None:
        with temporary_folder() as cache:
            command = start.command.with_env(**{ENVIRONMENT_VARIABLE: str(cache)})
            with Worker(command, self.settings.timeout) as worker:
                loaded = worker.load(start.mode, start.options)
        found: dict[str, Any] = {"cold_seconds": loaded["load_seconds"]}
        if loaded["cached"]:
            found = {"cold_note": "cold load unavailable: nothing was compiled with no cache"}
        self._kept.keep(self._kept.known(study, cell).model_copy(update=found))

    def _shared_worker(self, start: _Start, stack: ExitStack) -> tuple[Worker, dict[str, Any]]:
        """The study's worker that has this loaded; a fresh one where it ended."""
        key = repr(start)
        if key not in self._shared or not self._shared[key][0].alive:
            self._shared[key] = start.open(stack, self.settings.timeout)
        return self._shared[key]

    def _measure_latency(self, study: Study, cell: Cell, index: int) -> None:
        """Single windows, in a process of its own: it is loaded for them, not for recordings."""
        record = self._kept.known(study, cell)
        if record.unavailable is not None or len(record.processes) <= index:
            return
        known = record.processes[index].finished
        missing = {file.uri: file for file in known if not file.latency_seconds}
        if not missing:
            return
        options = replace(self._options(cell), low_latency=True)
        start = _Start(self.command, self.grid.mode_to_load(cell), options, {})
        with ExitStack() as processes:
            try:
                worker, _ = start.open(processes, self.settings.timeout)
                for item in self._items(cell):
                    if item.uri in missing:
                        seconds = worker.latency(item.audio, study.effort.latency_windows)
                        update = {"latency_seconds": seconds}
                        file = missing[item.uri].model_copy(update=update)
                        self._kept.keep_file(study, cell, index, file, self._items(cell))
            except FluidAudioError as error:
                self._kept.note(f"{cell.name}: latency unavailable: {error}")

    def _tuning_in_use(self) -> Iterator[str]:
        """One line when settings stored on this machine replace those of the modes."""
        tuning = load_tuning()
        left = any(
            cell.executor == cell.precision == "auto"
            for _, cell in self.grid.cells
            if cell not in self.grid.plans
        )
        if tuning and left:
            yield f"modes that leave it to auto run as tuned on this machine: {tuning}"

    def _advance(self, passes: int) -> None:
        self._done += passes
        total = sum(
            study.effort.processes
            * (study.effort.warmup + study.effort.iterations)
            * (1 if cell.length else len(self.grid.conditions[cell.condition].recordings.items))
            for study, cell in self.grid.cells
        )
        self.hooks.progress(self._done, total)


def measure_plans(
    study: str,
    plans: Mapping[Cell, Plan],
    effort: Effort,
    settings: Settings,
    command: WorkerCommand,
    hooks: Hooks,
) -> BenchmarkResult:
    """Cells that run ``plans``, on the bundled sample or, where they have a length, on repeats.

    Raises as :meth:`BenchmarkRun.run`.
    """
    condition = Condition("", open_dataset("sample").require())
    grid = Grid((Study(study, tuple(plans), effort),), {"": condition}, plans=plans)
    return BenchmarkRun(grid, settings, hooks=hooks, command=command).run()


def _has(record: CellRecord, index: int, item: Item) -> bool:
    """Whether process ``index`` of the cell measured the recording."""
    if index >= len(record.processes):
        return False
    return any(file.uri == item.uri for file in record.processes[index].finished)


def _describe_meter(meter: power.EnergyMeter | power.Unavailable | None) -> str:
    if meter is None:
        return "not asked for"
    if isinstance(meter, power.Unavailable):
        return f"unavailable: {meter.reason}"
    return meter.description
