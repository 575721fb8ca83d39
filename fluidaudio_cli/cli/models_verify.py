"""What ``models verify`` and ``doctor`` check of the bundled models, with progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fluidaudio_cli.cli import messages
from fluidaudio_cli.errors import SelfTestError, UsageError
from fluidaudio_cli.executors.base import Availability
from fluidaudio_cli.executors.select import EXECUTOR_NAMES, availabilities, select_executor
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.models.verification import (
    HashCheck,
    SelfTestOutcome,
    run_selftests,
    verify_hash,
)

SCHEMA = "fluidaudio.models-verify/1"


@dataclass(frozen=True)
class VerificationReport:
    """Hashes, self-tests where they could be run, and why not elsewhere."""

    hashes: tuple[HashCheck, ...]
    selftests: tuple[SelfTestOutcome, ...]
    absent: Mapping[str, Availability]

    @property
    def ok(self) -> bool:
        """Whether everything that could be checked is as it should be."""
        return all(one.ok for one in self.hashes) and all(one.ok for one in self.selftests)

    def as_dict(self) -> dict[str, Any]:
        """As a "fluidaudio.models-verify/1" document."""
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "hashes": [{**asdict(check), "ok": check.ok} for check in self.hashes],
            "selftests": [{**asdict(check), "ok": check.ok} for check in self.selftests],
            "absent": {
                name: {"reason": state.reason, "remedy": state.remedy}
                for name, state in self.absent.items()
            },
        }


def verify_models(executor: str = "all") -> VerificationReport:
    """Check the bundled models on ``executor``, or on all that are present.

    Raises ``UsageError`` for an executor there is not, ``ExecutorUnavailableError`` for one that
    was named and is not here.
    """

    if executor not in (*EXECUTOR_NAMES, "all"):
        raise UsageError(
            f"there is no executor {executor!r}", f"use all, {', '.join(EXECUTOR_NAMES)}"
        )
    states = availabilities()
    if executor != "all":
        name = select_executor(executor).name
        states = {name: states[name]}
    present = {name: state.precisions for name, state in states.items() if state.ok}
    models = bundled_models()
    with messages.progress_bar("running self-tests") as progress:
        outcomes = run_selftests(models, present, progress)
    return VerificationReport(
        tuple(verify_hash(model) for model in models.values()),
        outcomes,
        {name: state for name, state in states.items() if not state.ok},
    )


def first_failure(report: VerificationReport) -> SelfTestError | None:
    """One line about what failed first, and how much else did."""
    for check in report.hashes:
        if not check.ok:
            found = f"has the hash {check.actual}" if check.actual else check.error
            return SelfTestError(
                f"{check.model} is not the package of the manifest: {found}, not {check.expected}",
                "reinstall fluidaudio",
            )
    failed = [check for check in report.selftests if not check.ok]
    if not failed:
        return None
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return SelfTestError(f"{failed[0].error}{more}")
