"""Find the fastest setting of this machine that costs no accuracy on the bundled sample.

The full product of executors, precisions, compute units, workers and batches is a hundred
measurements, most of them of what one look rules out. So the search goes in steps, each of cells
of the benchmark's grid with a plan of their own:

1. every executor, precision and set of compute units, at the mode's own batches and with all
   processors at work;
2. the error on the sample, fastest first, until one is close enough to fp32;
3. of that one fewer workers with more threads each, then every batch of windows, then of voices;
   what is fastest must stay as close to fp32, or the setting of step 2 is taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

from fluidaudio_cli.benchmark.grid import Cell, Effort
from fluidaudio_cli.benchmark.kept_result import Hooks, Settings
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord
from fluidaudio_cli.benchmark.runner import measure_plans
from fluidaudio_cli.benchmark.studies import TUNING
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.diarization.modes import DEFAULT_MODE, load_mode
from fluidaudio_cli.diarization.plan import Asked, Machine, Plan, resolve
from fluidaudio_cli.diarization.tuning import NetworkTuning, Tuning, machine_identity
from fluidaudio_cli.errors import FluidAudioError, HostError
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.executors.select import availabilities, traits_of
from fluidaudio_cli.models.card import load_card

BATCHES = {"segmentation": (1, 2, 4, 8, 16), "embedding": (4, 8, 16, 32)}
CORE_ML_UNITS = ("cpu-and-ne", "cpu-and-gpu", "cpu-only", "all")
# Fewer workers or another batch than the mode's must gain this much: less is noise.
WORTH_CHANGING = 1.03
# A setting may change the error rate of the bundled sample by this much, in points.
MAX_DER_CHANGE = 0.2
# A setting that takes longer than this to load, or for one pass, hangs.
TIMEOUT_SECONDS = 120.0
# Batches of windows for each worker: enough that none waits for long.
_BATCHES_EACH = 2
# The median of three passes shrugs off one that was disturbed.
_SPEED = Effort(warmup=1, iterations=3, score=False)
_ERROR = Effort(warmup=0, iterations=1)

Watch = Callable[[str, int], None]
"""(what is measured now, how many settings were before)"""


@dataclass(frozen=True)
class Rejected:
    """A faster setting that was not taken, and why."""

    tuning: Tuning
    reason: str


@dataclass(frozen=True)
class TuningResult:
    """The choice, its speed and error, what was passed over, and all that was measured.

    ``failed``: settings that could not be measured, and why.
    """

    chosen: Tuning
    rtfx: float
    der: float
    fp32_der: float
    rejected: tuple[Rejected, ...]
    measured: BenchmarkResult
    seconds: float
    failed: Mapping[str, str] = field(default_factory=dict)


def tune(watch: Watch = lambda what, done: None, timeout: float = TIMEOUT_SECONDS) -> TuningResult:
    """Search this machine's settings in the steps described above.

    Every setting runs in a process of its own, so that one that crashes, or gives no answer for
    ``timeout`` seconds, is only a failed one. Raises ``HostError`` when no setting can be used.
    """
    began = time.perf_counter()
    search = _Search(watch, timeout)
    looks = {tuning: search.speed(tuning) for tuning in _layouts()}
    exact = search.error(None)
    rejected: list[Rejected] = []
    running = (each for each in looks if looks[each])
    for tuning in sorted(running, key=lambda each: -looks[each]):
        reason = search.unlike(tuning, exact)
        if reason:
            rejected.append(Rejected(tuning, reason))
            continue
        chosen = search.refined(tuning)
        if chosen != tuning and (reason := search.unlike(chosen, exact)):
            rejected.append(Rejected(chosen, reason))
            chosen = tuning
        assert search.measured is not None
        return TuningResult(
            chosen,
            search.speed(chosen),
            search.error(chosen),
            exact,
            tuple(rejected),
            search.measured,
            time.perf_counter() - began,
            search.failures,
        )
    reasons = dict.fromkeys([*search.failures.values(), *(item.reason for item in rejected)])
    raise HostError(
        f"no setting works on this machine: {'; '.join(reasons)}", "run fluidaudio doctor"
    )


class _Search:
    """What was measured so far, nothing of it twice; ``failures`` by the cell's name."""

    def __init__(self, watch: Watch, timeout: float) -> None:
        self.measured: BenchmarkResult | None = None
        self.failures: dict[str, str] = {}
        self._watch = watch
        self._timeout = timeout
        self._known: dict[Cell, CellRecord] = {}

    def speed(self, tuning: Tuning) -> float:
        """Times real time under ``tuning``; 0 when it does not run."""
        plan = _plan(tuning)
        seconds = plan.mode.windows.step_seconds * plan.mode.windows.batch
        record = self._record(
            Cell(mode=str(tuning), length=seconds * plan.threads * _BATCHES_EACH), plan, _SPEED
        )
        found = METRICS["rtfx"].measure(record)
        return found.median if found else 0.0

    def error(self, tuning: Tuning | None) -> float:
        """Strict error rate on the sample; of fp32 on the reference executor without ``tuning``.

        Infinite where it does not run.
        """
        name = "fp32" if tuning is None else str(tuning)
        found = METRICS["der_strict"].measure(self._record(Cell(mode=name), _plan(tuning), _ERROR))
        return found.median / 100 if found else math.inf

    def unlike(self, tuning: Tuning, exact: float) -> str:
        """Why the error under ``tuning`` is not that of fp32; empty where it is."""
        if not math.isfinite(exact):
            return "there is no error in fp32 to compare with"
        der = self.error(tuning)
        if not math.isfinite(der):
            return self.failures.get(str(tuning), "it has no error rate")
        points = (der - exact) * 100
        if points <= MAX_DER_CHANGE:
            return ""
        return f"DER {der:.2%} against {exact:.2%} in fp32: {points:+.2f} points"

    def refined(self, tuning: Tuning) -> Tuning:
        """The setting with the workers and then the batches that suit it best."""
        best = tuning
        # With one thread for each worker, fewer would leave processors idle.
        while not traits_of(best.executor).sums_follow_threads and best.workers > 1:
            fewer = replace(best, workers=best.workers // 2)
            if self.speed(fewer) < self.speed(best) * WORTH_CHANGING:
                break
            best = fewer
        for name, batches in BATCHES.items():
            others = [best.with_batch(name, batch) for batch in batches]
            fastest = max(others, key=self.speed)
            if self.speed(fastest) >= self.speed(best) * WORTH_CHANGING:
                best = fastest
        return best

    def _record(self, cell: Cell, plan: Plan, effort: Effort) -> CellRecord:
        if cell not in self._known:
            self._watch(cell.name, len(self._known))
            settings = Settings(timeout=self._timeout, tuning=False)
            record = CellRecord(cell=cell, study=TUNING)
            try:
                result = measure_plans(
                    TUNING, {cell: plan}, effort, settings, WorkerCommand(), Hooks()
                )
            except FluidAudioError as error:
                self.failures[cell.mode] = str(error)
            else:
                (record,) = result.cells
                self.measured = _joined(self.measured, result)
                if record.failures:
                    self.failures[cell.mode] = record.failures[0][1]
            self._known[cell] = record
        return self._known[cell]


def _plan(tuning: Tuning | None) -> Plan:
    """How the default mode runs as tuned; without, in fp32 where it runs everywhere."""
    card = load_card()
    asked = Asked(mode=load_mode(DEFAULT_MODE), card=card)
    if tuning is None:
        asked = replace(asked, executor="onnxruntime", precision="fp32")
    return resolve(asked, Machine.here(), tuning)


def _layouts() -> Iterator[Tuning]:
    """Every executor, set of compute units and precision of each network to look at."""
    mode = load_mode(DEFAULT_MODE)
    for name, state in availabilities().items():
        if not state.ok:
            continue
        # A package's precision cannot be chosen; only the units can.
        fixed = traits_of(name).package_precision
        precisions = ("auto",) if fixed else state.precisions
        for units in CORE_ML_UNITS if fixed else ("all",):
            for segmentation, embedding in product(precisions, repeat=2):
                yield Tuning(
                    name,
                    units,
                    processors(),
                    NetworkTuning(segmentation, mode.windows.batch),
                    NetworkTuning(embedding, mode.embedding.batch),
                    machine_identity(),
                )


def _joined(known: BenchmarkResult | None, more: BenchmarkResult) -> BenchmarkResult:
    """One document of runs one after the other."""
    if known is None:
        return more
    (ours,), (theirs,) = known.plan.studies, more.plan.studies
    study = ours.model_copy(update={"cells": (*ours.cells, *theirs.cells)})
    return known.model_copy(
        update={
            "plan": known.plan.model_copy(update={"studies": (study,)}),
            "cells": (*known.cells, *more.cells),
            "warnings": tuple(dict.fromkeys((*known.warnings, *more.warnings))),
        }
    )
