"""Compare two result files of the same work: ratios with intervals, tests, verdicts.

Two separate runs differ by the machine's drift as well as by the program; a shared runner drifts
by 10–40 %. ``--against`` (interleaved pairs) is the gate for such machines; this is for quiet
ones and for accuracy and memory, which do not drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fluidaudio_cli.benchmark import statistics
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import BenchmarkResult, FileRecord, VariantRecord
from fluidaudio_cli.errors import UsageError

Kind = Literal["machine", "models", "dataset", "config", "executor", "plan"]
KINDS: tuple[Kind, ...] = ("machine", "models", "dataset", "config", "executor", "plan")

Verdict = Literal["regression", "improvement", "unchanged", "inconclusive"]

_SIGNIFICANCE = 0.05
# Latency samples of one process are not independent; a median of windows is still a location.
_TIMED = ("wall", "latency")
_ACCURACY = ("der_strict", "der_lenient", "jer")
_SIZED = ("peak_memory",)


@dataclass(frozen=True)
class Tolerance:
    """How much worse head may be before it is a regression."""

    slowdown: float = 0.05
    """Share of the base time."""
    error_points: float = 0.1
    """Percentage points of an error rate."""
    memory: float = 0.10
    """Share of the base memory."""


@dataclass(frozen=True)
class Difference:
    """Something that makes two results not comparable."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Change:
    """One metric of one variant, base against head, in the metric's unit.

    ``ratio`` is head over base, with an interval where there are samples; ``p`` is of the
    two-sample test. ``None`` where a single figure leaves nothing to test.
    """

    variant: str
    metric: str
    unit: str
    base: float
    head: float
    ratio: statistics.RatioInterval | None
    p: float | None
    verdict: Verdict
    note: str = ""


def differences(base: BenchmarkResult, head: BenchmarkResult) -> tuple[Difference, ...]:
    """Everything that differs in what must be equal for a comparison."""
    return tuple(_differences(base, head))


def check_comparable(
    base: BenchmarkResult, head: BenchmarkResult, allowed: Sequence[str] = ()
) -> tuple[Difference, ...]:
    """The differences that were allowed; ``UsageError`` on the first that was not."""
    found = differences(base, head)
    for difference in found:
        if difference.kind not in allowed:
            raise UsageError(
                f"the results are not comparable: {difference.text}",
                f"compare like with like, or give --allow-different {difference.kind}",
            )
    return found


def compare(
    base: BenchmarkResult,
    head: BenchmarkResult,
    tolerance: Tolerance | None = None,
    seed: int = 0,
) -> tuple[Change, ...]:
    """Changes of every variant both results have, over the files both finished."""
    limits = tolerance or Tolerance()
    pairs = [(old, new) for old in base.variants for new in head.variants if old.name == new.name]
    if not pairs:
        raise UsageError("the results have no mode in common", "run the same --performance-mode")
    return tuple(change for old, new in pairs for change in _changes(old, new, limits, seed))


def _differences(base: BenchmarkResult, head: BenchmarkResult) -> Iterator[Difference]:
    old, new = base.environment.machine, head.environment.machine
    for name in type(old).model_fields:
        if getattr(old, name) != getattr(new, name):
            yield Difference(
                "machine", f"{name} was {getattr(old, name)} and is {getattr(new, name)}"
            )
    if base.dataset.fingerprint != head.dataset.fingerprint:
        yield Difference(
            "dataset", f"dataset was {base.dataset.name} and is {head.dataset.name} (by content)"
        )
    for name in ("threads", "compute_units", "memory_limit_bytes", "tuning"):
        first, second = getattr(base.plan, name), getattr(head.plan, name)
        if first != second:
            yield Difference("plan", f"{name} was {first} and is {second}")
    known = {variant.name: variant for variant in head.variants}
    for variant in base.variants:
        other = known.get(variant.name)
        if other is None or not (variant.finished and other.finished):
            continue
        if variant.models != other.models:
            yield Difference("models", f"{variant.name} ran other models: {_other(variant, other)}")
        if variant.config != other.config:
            keys = sorted(
                key
                for key in variant.config.keys() | other.config.keys()
                if variant.config.get(key) != other.config.get(key)
            )
            yield Difference("config", f"{variant.name} was configured otherwise: {keys[0]}")
        if variant.executors != other.executors:
            yield Difference("executor", f"{variant.name} ran on another executor or precision")


def _other(base: VariantRecord, head: VariantRecord) -> str:
    old = {model.name: model.sha256 for model in base.models}
    new = {model.name: model.sha256 for model in head.models}
    name = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))[0]
    return f"{name} {old.get(name, 'absent')[:12]} and {new.get(name, 'absent')[:12]}"


def _changes(
    base: VariantRecord, head: VariantRecord, limits: Tolerance, seed: int
) -> Iterator[Change]:
    new_files = {record.uri: record for record in head.finished}
    old_common = [record for record in base.finished if record.uri in new_files]
    new_common = [new_files[record.uri] for record in old_common]
    lost = [record.uri for record in base.finished if record.uri not in new_files]
    if lost:
        yield Change(
            head.name, "files", "", len(base.finished), len(new_common), None, None,
            "regression", f"no result for {', '.join(lost)}",
        )  # fmt: skip
    if not old_common:
        return
    for name in _TIMED:
        old, new = _times(base, old_common, name), _times(head, new_common, name)
        if old and new:
            yield _timed(head.name, name, old, new, limits.slowdown, seed)
    for name in (*_ACCURACY, *_SIZED):
        first = METRICS[name].measure(base, old_common)
        second = METRICS[name].measure(head, new_common)
        if first is not None and second is not None:
            yield _single(head.name, name, first.median, second.median, limits)


def _times(variant: VariantRecord, files: Sequence[FileRecord], name: str) -> Sequence[float]:
    if name == "latency":
        return [1e3 * seconds for record in files for seconds in record.latency_seconds]
    return METRICS[name].samples(variant, files)


def _timed(
    variant: str, name: str, base: Sequence[float], head: Sequence[float], limit: float, seed: int
) -> Change:
    ratio = statistics.ratio_of_medians(base, head, seed=seed)
    p = statistics.two_sample_p(base, head)
    old, new = statistics.summarise(base).median, statistics.summarise(head).median
    slower, faster = ratio.ratio > 1 + limit, ratio.ratio < 1 / (1 + limit)
    verdict: Verdict = "unchanged"
    note = ""
    if slower or faster:
        proven = p < _SIGNIFICANCE and not ratio.low <= 1 <= ratio.high
        if proven:
            verdict = "regression" if slower else "improvement"
        else:
            verdict = "inconclusive"
            note = f"not proven by {len(base)} and {len(head)} samples; use --against"
    unit = "ms" if name == "latency" else METRICS[name].unit
    return Change(variant, name, unit, old, new, ratio, p, verdict, note)


def _single(variant: str, name: str, base: float, head: float, limits: Tolerance) -> Change:
    margin = limits.memory * base if name in _SIZED else limits.error_points
    verdict: Verdict = "unchanged"
    if head - base > margin:
        verdict = "regression"
    elif base - head > margin:
        verdict = "improvement"
    ratio = None
    if base > 0 and name in _SIZED:
        ratio = statistics.RatioInterval(head / base, head / base, head / base)
    return Change(variant, name, METRICS[name].unit, base, head, ratio, None, verdict)
