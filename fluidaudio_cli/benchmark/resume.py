"""Whether an interrupted run may be continued: only by asking for the very same work."""

from __future__ import annotations

from fluidaudio_cli.benchmark.results import BenchmarkResult, VariantRecord
from fluidaudio_cli.errors import UsageError

_REMEDY = "run again without --resume, or with the same options"


def check_same_run(previous: BenchmarkResult, fresh: BenchmarkResult) -> None:
    """Raise ``UsageError`` unless version, plan, dataset and machine are those of ``previous``."""
    if previous.version != fresh.version:
        _refuse("program version", previous.version, fresh.version)
    _check_fields("plan", previous.plan, fresh.plan)
    _check_fields("dataset", previous.dataset, fresh.dataset)
    _check_fields("machine", previous.environment.machine, fresh.environment.machine)
    before, now = previous.environment.git_commit, fresh.environment.git_commit
    if before != now:
        _refuse("git commit", before, now)


def check_same_variant(previous: VariantRecord, fresh: VariantRecord) -> None:
    """Raise ``UsageError`` when what a mode loads has changed since its files were measured."""
    for part in ("config", "models", "executors"):
        if getattr(previous, part) != getattr(fresh, part):
            raise UsageError(
                f"cannot resume {previous.name}: its {part} changed since the interrupted run",
                "run again without --resume",
            )


def _check_fields(what: str, before: object, now: object) -> None:
    old, new = vars(before), vars(now)
    for name, value in old.items():
        if value != new[name]:
            _refuse(f"{what} {name}", value, new[name])


def _refuse(what: str, before: object, now: object) -> None:
    raise UsageError(f"cannot resume: {what} was {before}, now it is {now}", _REMEDY)
