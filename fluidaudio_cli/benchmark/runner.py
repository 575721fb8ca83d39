"""Run every variant over every file and collect samples; the order of work and what is kept.

Per variant: a cold load in a process of its own with an empty cache; then one process that
loads (warm) and takes the files in seeded order: warm-up runs, measured runs; then another one,
loaded for low latency, takes single windows of them. The caller's ``save`` gets the result after
each file, so an interruption loses at most the file in progress.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import product
from typing import Any

from fluidaudio_cli import __version__
from fluidaudio_cli.benchmark import environment, power, resume
from fluidaudio_cli.benchmark.measure import Assess, Item, Meter, measure_file
from fluidaudio_cli.benchmark.memory_limit import exceeded, hold, longest_seconds
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    DatasetRecord,
    FileRecord,
    LoadRecord,
    ModelRecord,
    PlanRecord,
    VariantRecord,
)
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.diarization.loading import make_plan
from fluidaudio_cli.diarization.tuning import load_tuning
from fluidaudio_cli.errors import ExecutorUnavailableError, FluidAudioError
from fluidaudio_cli.progress import ProgressCallback, no_progress

CACHE_VARIABLE = "FLUIDAUDIO_CACHE_DIR"


@dataclass(frozen=True)
class Hooks:
    """What the run tells its caller while it works."""

    save: Callable[[BenchmarkResult], None] = lambda result: None
    warn: Callable[[str], None] = lambda line: None
    progress: ProgressCallback = no_progress


@dataclass
class BenchmarkRun:
    """One benchmark in progress: the plan, what is measured so far, and how to go on.

    ``previous`` is an interrupted run's result; what it holds is not measured again.
    """

    plan: PlanRecord
    dataset: DatasetRecord
    items: Sequence[Item]
    assess: Assess
    hooks: Hooks = field(default_factory=Hooks)
    command: WorkerCommand = field(default_factory=WorkerCommand)
    previous: BenchmarkResult | None = None

    def run(self) -> BenchmarkResult:
        """Measure everything not yet measured; the complete result.

        A file that fails is recorded and the rest goes on. Raises ``UsageError`` when
        ``previous`` does not fit, ``ExecutorUnavailableError`` when the one executor asked for
        is not here, and what loading raises.
        """
        self._done = 0
        opened = power.open_meter() if self.plan.measure_power else None
        self._meter: Meter = None if isinstance(opened, power.Unavailable) else opened
        self._result = self._first_result(opened)
        for line in (*environment.busy_before(), *self._tuning_in_use()):
            self._note(line)
        before = environment.cpu_snapshot()
        for key in self._keys():
            self._run_variant(self._known_variant(*key))
        for line in environment.busy_during(before, environment.cpu_snapshot()):
            self._note(line)
        self._update(complete=True)
        return self._result

    def _keys(self) -> list[tuple[str, str, str]]:
        return list(product(self.plan.modes, self.plan.executors, self.plan.precisions))

    def _tuning_in_use(self) -> Iterator[str]:
        """One line when settings stored on this machine replace those of the modes."""
        tuning = load_tuning()
        if tuning and "auto" in self.plan.executors and "auto" in self.plan.precisions:
            yield f"modes that leave it to auto run as tuned on this machine: {tuning}"

    def _first_result(self, meter: power.EnergyMeter | power.Unavailable | None) -> BenchmarkResult:
        fresh = BenchmarkResult(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            version=__version__,
            complete=False,
            plan=self.plan,
            dataset=self.dataset,
            environment=environment.describe(),
            power=_describe_meter(meter),
        )
        if self.previous is None:
            return fresh
        resume.check_same_run(self.previous, fresh)
        return self.previous.model_copy(update={"complete": False})

    def _known_variant(self, mode: str, executor: str, precision: str) -> VariantRecord:
        for variant in self._result.variants:
            if (variant.mode, variant.executor, variant.precision) == (mode, executor, precision):
                return variant
        return VariantRecord(mode=mode, executor=executor, precision=precision)

    def _run_variant(self, known: VariantRecord) -> None:
        finished = {record.uri for record in known.finished}
        pending = [item for item in self.items if item.uri not in finished]
        self._advance((len(self.items) - len(pending)) * self._passes)
        options = PipelineOptions(
            known.executor, known.precision, self.plan.compute_units, self.plan.threads
        )
        if pending:
            known = self._run_files(known, pending, options)
        if self.plan.latency_windows and known.unavailable is None:
            self._measure_latency(known, replace(options, low_latency=True))

    def _run_files(
        self, known: VariantRecord, pending: list[Item], options: PipelineOptions
    ) -> VariantRecord:
        finished = known.finished
        random.Random(self.plan.seed).shuffle(pending)
        with ExitStack() as workers:
            try:
                mode = self._mode_to_load(known, options)
                load = known.load if finished else self._cold_load(mode, options)
                worker, loaded = self._warm_worker(workers, mode, options)
            except ExecutorUnavailableError as error:
                if len(self.plan.executors) * len(self.plan.precisions) == 1:
                    raise
                # One of "all": said in the result, not an error of the run.
                absent = known.model_copy(update={"unavailable": str(error)})
                self._keep(absent)
                self._advance(len(pending) * self._passes)
                return absent
            variant = _describe_variant(known, loaded, load)
            self._keep(variant)
            for item in pending:
                if not worker.alive:
                    worker, loaded = self._warm_worker(workers, mode, options)
                record = self._run_file(worker, item, loaded["rss_bytes"])
                variant = self._with_file(variant, record)
        return variant

    def _with_file(self, variant: VariantRecord, record: FileRecord) -> VariantRecord:
        files = {file.uri: file for file in (*variant.files, record)}
        in_order = tuple(files[uri] for uri in self.dataset.uris if uri in files)
        variant = variant.model_copy(update={"files": in_order})
        self._keep(variant)
        return variant

    def _measure_latency(self, variant: VariantRecord, options: PipelineOptions) -> None:
        """Single windows, in a process of its own: it is loaded for them, not for recordings."""
        missing = {file.uri: file for file in variant.finished if not file.latency_seconds}
        if not missing:
            return
        with ExitStack() as workers:
            try:
                worker, _ = self._warm_worker(workers, variant.mode, options)
                for item in self.items:
                    if item.uri in missing:
                        seconds = worker.latency(item.audio, self.plan.latency_windows)
                        record = missing[item.uri].model_copy(update={"latency_seconds": seconds})
                        variant = self._with_file(variant, record)
            except FluidAudioError as error:
                self._note(f"latency unavailable: {error}")

    def _mode_to_load(
        self, variant: VariantRecord, options: PipelineOptions
    ) -> str | Mapping[str, Any]:
        """The variant's mode, or a plan that holds it under the limit."""
        limit = self.plan.memory_limit_bytes
        if limit is None:
            return variant.mode
        seconds = longest_seconds(item.audio for item in self.items)
        plan = make_plan(variant.mode, **options.as_dict())
        held = hold(plan, limit, seconds, command=self.command)
        for note in held.notes:
            self._note(f"{variant.name}: {note}")
        return held.plan.as_dict()

    def _cold_load(self, mode: str | Mapping[str, Any], options: PipelineOptions) -> LoadRecord:
        with (
            tempfile.TemporaryDirectory(prefix="fluidaudio-cold-") as cache,
            Worker(self.command.with_env(**{CACHE_VARIABLE: cache})) as worker,
        ):
            loaded = worker.load(mode, options)
        if loaded["cached"]:
            return LoadRecord(note="cold load unavailable: nothing was compiled with no cache")
        return LoadRecord(cold_seconds=loaded["load_seconds"])

    def _warm_worker(
        self, workers: ExitStack, mode: str | Mapping[str, Any], options: PipelineOptions
    ) -> tuple[Worker, dict[str, Any]]:
        """A loaded worker; loaded twice when the first load had to fill the user's cache."""
        worker = workers.enter_context(Worker(self.command))
        loaded = worker.load(mode, options)
        if not loaded["cached"]:
            worker.close()
            worker = workers.enter_context(Worker(self.command))
            loaded = worker.load(mode, options)
        return worker, loaded

    def _run_file(self, worker: Worker, item: Item, baseline: int) -> FileRecord:
        done = self._done
        try:
            record = measure_file(
                worker,
                item,
                self.plan,
                baseline_bytes=baseline,
                meter=self._meter,
                assess=self.assess,
                tick=lambda: self._advance(1),
            )
        except FluidAudioError as error:
            self._note(f"{item.uri} failed: {error}")
            self._advance(done + self._passes - self._done)
            return FileRecord(uri=item.uri, error=str(error))
        limit = self.plan.memory_limit_bytes
        if limit is not None and record.memory is not None:
            line = exceeded(record.memory.peak_rss_bytes, limit)
            if line is not None:
                self._note(f"{item.uri}: {line}")
        if not record.repeatable:
            self._note(f"{item.uri}: turns differ between iterations; the first is scored")
        return record

    @property
    def _passes(self) -> int:
        return self.plan.warmup + self.plan.iterations

    def _advance(self, passes: int) -> None:
        self._done += passes
        self.hooks.progress(self._done, len(self._keys()) * len(self.items) * self._passes)

    def _keep(self, variant: VariantRecord) -> None:
        variants = {known.name: known for known in self._result.variants}
        variants[variant.name] = variant
        self._update(variants=tuple(variants.values()))

    def _note(self, line: str) -> None:
        self.hooks.warn(line)
        if line not in self._result.warnings:
            self._update(warnings=(*self._result.warnings, line))

    def _update(self, **changes: Any) -> None:
        self._result = self._result.model_copy(update=changes)
        self.hooks.save(self._result)


def _describe_variant(
    known: VariantRecord, loaded: dict[str, Any], load: LoadRecord
) -> VariantRecord:
    fresh = VariantRecord(
        mode=known.mode,
        executor=known.executor,
        precision=known.precision,
        config=loaded["config"],
        plan=loaded["plan"],
        executors=loaded["executors"],
        models=tuple(ModelRecord(**model) for model in loaded["models"]),
        load=load.model_copy(
            update={"warm_seconds": loaded["load_seconds"], "peak_rss_bytes": loaded["peak_bytes"]}
        ),
        files=known.files,
    )
    if known.finished:
        resume.check_same_variant(known, fresh)
    return fresh


def _describe_meter(meter: power.EnergyMeter | power.Unavailable | None) -> str:
    if meter is None:
        return "not asked for"
    if isinstance(meter, power.Unavailable):
        return f"unavailable: {meter.reason}"
    return meter.description
