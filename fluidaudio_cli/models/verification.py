"""Whether the bundled packages are whole, and compute what they should wherever they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fluidaudio_cli.coreml.package import package_sha256
from fluidaudio_cli.errors import ExecutorUnavailableError, FluidAudioError
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.executors.selftest import Agreement, check
from fluidaudio_cli.models.registry import BundledModel
from fluidaudio_cli.progress import ProgressCallback, no_progress


@dataclass(frozen=True)
class HashCheck:
    """The package's SHA-256 as the manifest states it and as it is; ``error`` if unreadable."""

    model: str
    expected: str
    actual: str
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the package is the one the manifest describes."""
        return self.actual == self.expected


@dataclass(frozen=True)
class SelfTestOutcome:
    """One model on one executor in one precision: the figures, or why it failed.

    ``unavailable``: why the executor does not take this model in this precision; no fault.
    """

    model: str
    executor: str
    precision: str
    agreements: tuple[Agreement, ...] = ()
    error: str = ""
    unavailable: str = ""

    @property
    def ok(self) -> bool:
        """Whether the model computes here what it should, or is refused before it computes."""
        return not self.error


def verify_hash(model: BundledModel) -> HashCheck:
    """Hash the package anew; no remembered hash is believed."""
    try:
        return HashCheck(model.name, model.sha256, package_sha256(model.package))
    except (FluidAudioError, OSError) as error:
        return HashCheck(model.name, model.sha256, "", str(error))


def run_selftests(
    models: Mapping[str, BundledModel],
    executors: Mapping[str, Sequence[str]],
    progress: ProgressCallback = no_progress,
) -> tuple[SelfTestOutcome, ...]:
    """Run every model's self-test on each executor in each precision it is used in.

    ``executors``: name to precisions. A package that was converted in fp32, as the filter bank
    is, runs in fp32 whatever the others run in. A failure is a result like any other.
    """
    tests = [
        (model, name, precision)
        for name, precisions in executors.items()
        for model in models.values()
        for precision in (
            ("fp32",) if model.facts["conversion"]["precision"] == "fp32" else precisions
        )
    ]
    outcomes = []
    for test in tests:
        outcomes.append(_run(*test))
        progress(len(outcomes), len(tests))
    return tuple(outcomes)


def _run(model: BundledModel, executor_name: str, precision: str) -> SelfTestOutcome:
    options = ExecutorOptions(precision=precision)  # type: ignore[arg-type]
    try:
        compiled = executor(executor_name).load(model.package, options)
        try:
            report = check(compiled, model.selftest())
        finally:
            compiled.close()
    except ExecutorUnavailableError as error:
        return SelfTestOutcome(model.name, executor_name, precision, unavailable=str(error))
    except FluidAudioError as error:
        return SelfTestOutcome(model.name, executor_name, precision, error=str(error))
    return SelfTestOutcome(model.name, executor_name, report.ran.precision, report.agreements)
