"""Peak memory of a mode: measured in a process of its own, and remembered in the cache."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import fluidaudio_cli
from fluidaudio_cli.benchmark.grid import Cell, Effort
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.diarization.tuning import machine_identity
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.cache import cache_dir
from fluidaudio_cli.files import keep_record, read_record
from fluidaudio_cli.measure.environment import package_versions, source_digest
from fluidaudio_cli.models.card import load_card
from fluidaudio_cli.models.registry import packages_of

# Batches beyond one for each worker: buffers ahead.
_FURTHER_BATCHES = 4
# Side by side, workers reach their peaks together only by chance, but on a repeat almost surely.
_ROUNDS = 2

# Of a plan: what tells people where it comes from, and changes nothing.
_WORDS = ("tuning", "asked", "notes")

_VERSIONED = ("numpy", "av", "soxr", "onnxruntime", "openvino", "coremltools")


# (plan, worker's command) → peak of resident memory in bytes.
Measure = Callable[[Plan, WorkerCommand], int]


def measure_peak(plan: Plan, command: WorkerCommand) -> int:
    """Peak of a process that loads ``plan`` and diarizes until every buffer was in use, in bytes.

    A cell of its own. Raises what loading raises, and ``HostError`` when the process ends before
    it is done.
    """
    # The runner holds its workers by this; it is not needed where nothing is measured.
    from fluidaudio_cli.benchmark.kept_result import Hooks, Settings
    from fluidaudio_cli.benchmark.runner import measure_plans

    seconds = 10.0 * plan.mode.windows.batch * (plan.workers + _FURTHER_BATCHES)
    cell = Cell(mode=plan.mode.name, length=seconds)
    rounds = _ROUNDS if plan.workers > 1 else 1
    effort = Effort(warmup=0, iterations=rounds, memory=True, score=False)
    result = measure_plans("memory", {cell: plan}, effort, Settings(), command, Hooks())
    for _, reason in result.cells[0].failures:
        raise HostError(reason)
    (file,) = result.cells[0].finished
    assert file.memory is not None
    return max(file.memory.peak_rss_bytes, result.cells[0].processes[0].peak_rss_bytes or 0)


class Peaks:
    """Peaks of settings: those remembered, and the others measured and then remembered.

    ``failure``: of the last process that ended before it was done.
    """

    def __init__(self, command: WorkerCommand, measure: Measure) -> None:
        self.measured: dict[str, int | None] = {}
        self.failure: HostError | None = None
        self._command = command
        self._measure = measure

    def of(self, plan: Plan) -> int | None:
        """The peak in bytes; ``None`` where the process did not survive."""
        key = _circumstances(plan, self._command)
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        if name in self.measured:
            return self.measured[name]
        path = cache_dir() / "memory" / f"{plan.mode.name}-{name}.json"
        peak = _remembered(path)
        if peak is None:
            try:
                peak = self._measure(plan, self._command)
            except HostError as error:
                # Its subclasses say that the mode does not run here, whatever the memory.
                if type(error) is not HostError:
                    raise
                self.failure = error
                self.measured[name] = None
                return None
            record = {"peak_bytes": peak, "of": key}
            keep_record(path, record)
        self.measured[name] = peak
        return peak


def _circumstances(plan: Plan, command: WorkerCommand) -> dict[str, object]:
    """All that the peak of a process may depend on."""
    return {
        "plan": {key: value for key, value in plan.as_dict().items() if key not in _WORDS},
        "process": [*command.argv[1:], sorted(command.env.items())],
        "models": {
            role: model.sha256 for role, model in packages_of(load_card(plan.models)).items()
        },
        "program": [fluidaudio_cli.__version__, source_digest()],
        "python": sys.version,
        "runtimes": package_versions(_VERSIONED),
        "machine": machine_identity(),
    }


def _remembered(path: Path) -> int | None:
    peak = read_record(path).get("peak_bytes")
    return peak if isinstance(peak, int) and peak > 0 else None
