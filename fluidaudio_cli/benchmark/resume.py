"""Whether an interrupted run may be continued: only by asking for the very same work."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord, PlanRecord
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.executors.cache import ENVIRONMENT_VARIABLE
from fluidaudio_cli.files import held, resolved
from fluidaudio_cli.wording import listed

_REMEDY = "run again without --resume, or with the same options"


def check_same_run(previous: BenchmarkResult, fresh: BenchmarkResult) -> None:
    """Raise ``UsageError`` unless program, plan, recordings and machine are ``previous``'s."""
    _check("program version", previous.version, fresh.version)
    _check("studies", *(tuple(s.name for s in each.plan.studies) for each in (previous, fresh)))
    for old, new in zip(previous.plan.studies, fresh.plan.studies, strict=True):
        _check_fields(old.name, old, new)
    _check_fields("plan", previous.plan, fresh.plan)
    _check("conditions", tuple(previous.datasets), tuple(fresh.datasets))
    for name, dataset in previous.datasets.items():
        _check_fields("dataset", dataset, fresh.datasets[name])
    _check_fields("machine", previous.environment.machine, fresh.environment.machine)
    _check("git commit", previous.environment.git_commit, fresh.environment.git_commit)
    if previous.environment.source != fresh.environment.source:
        raise UsageError(
            "cannot resume: the program's source has changed since the interrupted run",
            "run again without --resume",
        )


def check_same_cell(previous: CellRecord, fresh: CellRecord) -> None:
    """Raise ``UsageError`` when what a cell loads has changed since it was measured."""
    for part in ("config", "models", "executors", "plan"):
        if getattr(previous, part) != getattr(fresh, part):
            raise UsageError(
                f"cannot resume {previous.name}: its {part} changed since the interrupted run",
                "run again without --resume",
            )


def journal_in(folder: Path, plan: PlanRecord, fingerprints: str) -> Path:
    """Where a run without a JSON output keeps its result: a file for each plan and data."""
    digest = hashlib.sha256(f"{plan.model_dump_json()}{fingerprints}".encode()).hexdigest()
    return folder / f"{digest[:16]}.json"


def locked(journal: Path, locks: Path) -> AbstractContextManager[None]:
    """Keep ``journal`` from other runs meanwhile; ``locks``: the folder for lock files.

    Raises ``HostError`` when another run has it.
    """
    name = hashlib.sha256(str(resolved(journal)).encode()).hexdigest()[:16]
    remedy = f"set {ENVIRONMENT_VARIABLE} to a folder that can be written"
    busy = HostError(
        f"another benchmark is writing {journal}",
        "wait for it, or give this one another --output FILE.json",
    )
    return held(locks / f"{name}.lock", f"cannot write in {locks}", remedy, busy)


def _check_fields(what: str, before: object, now: object) -> None:
    old, new = vars(before), vars(now)
    for name, value in old.items():
        _check(f"{what} {name}", value, new[name])


def _check(what: str, before: object, now: object) -> None:
    if before != now:
        old, new = _shown(before), _shown(now)
        told = f"was {old}, now it is {new}" if old != new else "is another"
        raise UsageError(f"cannot resume: {what} {told}", _REMEDY)


def _shown(value: object) -> str:
    """A value in a message: of many, the first few by their names."""
    if isinstance(value, tuple | Mapping):
        return listed([str(getattr(each, "name", each)) for each in value]) or "none"
    return str(value)
