"""Compare two result files of the same work: ratios with intervals, tests, verdicts.

Two separate runs differ by the machine's drift as well as by the program; a shared runner drifts
by 10–40 %. ``--against`` (interleaved pairs) is the gate for such machines; this is for quiet
ones and for accuracy and memory, which do not drift. Samples are processes: two of the same
program differ by 5–20 % for as long as they live, whatever is measured within them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from fluidaudio_cli.benchmark.findings import FEWEST_PROCESSES
from fluidaudio_cli.benchmark.metrics import METRICS, Pooled
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.measure import statistics
from fluidaudio_cli.wording import counted

Kind = Literal["machine", "models", "dataset", "config", "executor", "plan"]
KINDS: tuple[Kind, ...] = ("machine", "models", "dataset", "config", "executor", "plan")

Verdict = Literal["regression", "improvement", "unchanged", "inconclusive"]

_SIGNIFICANCE = 0.05
_TIMED = ("wall", "latency_p50", "step_p50")
# What a slowdown must show in as well, because a drift of the machine moves wall time alone.
_WITNESS = {"wall": "cpu"}
_RATES = ("der_strict", "der_lenient", "jer", "online_der", "refined_der", "eer")
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
    """One metric of one cell, base against head, in the metric's unit.

    ``ratio`` is head over base, with an interval where there are samples; ``p`` is of the
    two-sample test. ``None`` where a single figure leaves nothing to test.
    """

    cell: str
    metric: str
    unit: str
    base: float
    head: float
    ratio: statistics.RatioInterval | None
    p: float | None
    verdict: Verdict
    note: str = ""


def check_comparable(
    base: BenchmarkResult, head: BenchmarkResult, allowed: Sequence[str] = ()
) -> tuple[Difference, ...]:
    """The differences that were allowed; ``UsageError`` on the first that was not."""
    found = tuple(differences(base, head))
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
    """Changes of every cell both results have, over the recordings both finished."""
    limits = tolerance or Tolerance()
    pairs = [(old, new) for old in base.cells for new in head.cells if old.cell == new.cell]
    if not pairs:
        raise UsageError("the results have no cell in common", "measure the same modes")
    return tuple(change for old, new in pairs for change in _changes(old, new, limits, seed))


def not_compared(
    one: BenchmarkResult, other: BenchmarkResult, *, later: bool = False
) -> Iterator[str]:
    """Cells, recordings and figures that ``one`` measured and ``other`` did not.

    ``later``: that is ``other``, and what failed in it is a regression.
    """
    for cell in one.cells:
        same = other.record_of(cell.cell)
        if same is None:
            yield cell.name
            continue
        known = {record.uri for record in same.finished}
        missing = {record.uri for record in cell.finished} - known
        if later:
            missing -= set(_lost(cell, same))
        if missing and len(missing) == len(cell.finished):
            yield cell.name
            continue
        yield from (f"{cell.name} {uri}" for uri in sorted(missing))
        for name in (*_TIMED, *_RATES, *_SIZED) if cell.finished and known else ():
            if METRICS[name].measure(cell) is not None and METRICS[name].measure(same) is None:
                yield f"{cell.name} {name}"


def _lost(base: CellRecord, head: CellRecord) -> list[str]:
    """Recordings that ``base`` measured and at which ``head`` failed, if only by not loading."""
    known = {record.uri for record in head.finished}
    failed = {uri for uri, _ in head.failures}
    uris = [record.uri for record in base.finished if record.uri not in known]
    return uris if "" in failed else [uri for uri in uris if uri in failed]


def differences(base: BenchmarkResult, head: BenchmarkResult) -> Iterator[Difference]:
    """Everything that differs in what must be equal for a comparison."""
    old, new = base.environment.machine, head.environment.machine
    for name in (field.name for field in fields(old)):
        if getattr(old, name) != getattr(new, name):
            yield Difference(
                "machine", f"{name} was {getattr(old, name)} and is {getattr(new, name)}"
            )
    for condition, first in base.datasets.items():
        second = head.datasets.get(condition, first)
        if first.fingerprint != second.fingerprint:
            text = f"dataset was {first.name} and is {second.name} (by content)"
            yield Difference("dataset", text)
    for name in ("compute_units", "memory_limit_bytes", "tuning"):
        before, now = getattr(base.plan, name), getattr(head.plan, name)
        if before != now:
            yield Difference("plan", f"{name} was {before} and is {now}")
    known = {each.cell: each for each in head.cells}
    for cell in base.cells:
        other = known.get(cell.cell)
        if other is None or not (cell.finished and other.finished):
            continue
        facts: tuple[tuple[Kind, str, Any, Any], ...] = (
            ("models", "ran other models", _hashes(cell), _hashes(other)),
            ("config", "was configured otherwise", cell.config, other.config),
            ("executor", "ran otherwise", cell.executors, other.executors),
        )
        for kind, what, before, now in facts:
            if before != now:
                yield Difference(kind, f"{cell.name} {what}: {_first_difference(before, now)}")


def _hashes(cell: CellRecord) -> dict[str, str]:
    return {model.name: model.sha256[:12] for model in cell.models}


def _first_difference(old: Any, new: Any, name: str = "") -> str:
    """The first value, by its dotted name, that differs in two trees."""
    if not all(isinstance(value, dict) for value in (old, new) if value is not None):
        before, now = ("absent" if value is None else value for value in (old, new))
        return f"{name} was {before} and is {now}"
    old, new = old or {}, new or {}
    key = min(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return _first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)


def _changes(base: CellRecord, head: CellRecord, limits: Tolerance, seed: int) -> Iterator[Change]:
    new_files = {record.uri: record for record in head.finished}
    old_common = [record for record in base.finished if record.uri in new_files]
    new_common = [new_files[record.uri] for record in old_common]
    if lost := _lost(base, head):
        yield Change(
            head.name, "files", "", len(base.finished), len(new_common), None, None,
            "regression", f"no result for {', '.join(lost)}",
        )  # fmt: skip
    if not old_common:
        return
    uris = frozenset(record.uri for record in old_common)
    for name in _TIMED:
        change = _timed(base, head, name, uris, limits.slowdown, seed)
        if change is not None:
            yield change
    for name in (*_RATES, *_SIZED):
        first = METRICS[name].measure(base, old_common)
        second = METRICS[name].measure(head, new_common)
        if first is not None and second is not None:
            change = _single(head.name, name, first.median, second.median, limits)
            pooled = METRICS[name].compute
            if isinstance(pooled, Pooled):  # a rate of each recording
                pairs = zip(
                    map(pooled.parts, old_common), map(pooled.parts, new_common), strict=True
                )
                change = _with_interval(change, [(a, b) for a, b in pairs if a and b], seed)
            yield change


def _timed(
    base: CellRecord, head: CellRecord, name: str, uris: frozenset[str], limit: float, seed: int
) -> Change | None:
    """One metric of time, a sample for each process."""
    metric = METRICS[name]
    old, new = metric.by_process(base, uris), metric.by_process(head, uris)
    if not old or not new:
        return None
    ratio, p = statistics.ratio_of_medians(old, new, seed=seed), None
    slower, faster = ratio.ratio > 1 + limit, ratio.ratio < 1 / (1 + limit)
    verdict: Verdict = "unchanged"
    note = ""
    enough = min(len(old), len(new)) >= FEWEST_PROCESSES
    if enough:
        p = statistics.two_sample_p(old, new)
    if slower or faster:
        verdict = "inconclusive"
        note = f"not proven by {len(old)} and {len(new)} processes; use --against"
        if not enough:
            note = (
                f"{min(len(old), len(new))} process(es) a side prove nothing: give --processes "
                f"{FEWEST_PROCESSES} or more, or use --against"
            )
        elif p is not None and p < _SIGNIFICANCE and not ratio.low <= 1 <= ratio.high:
            witness = _WITNESS.get(name)
            if witness is None or _agrees(base, head, witness, uris, limit, slower):
                verdict, note = ("regression" if slower else "improvement"), ""
            else:
                note = "CPU time does not agree, so the machine may have drifted; use --against"
    before, now = (statistics.summarise(samples).median for samples in (old, new))
    if not enough:
        ratio = statistics.RatioInterval(ratio.ratio, 0.0, math.inf)
    return Change(head.name, name, metric.unit, before, now, ratio, p, verdict, note)


def _agrees(
    base: CellRecord,
    head: CellRecord,
    name: str,
    uris: frozenset[str],
    limit: float,
    slower: bool,
) -> bool:
    """Whether another clock shows the same change, proven as well."""
    old, new = METRICS[name].by_process(base, uris), METRICS[name].by_process(head, uris)
    if not old or not new or min(*old, *new) <= 0:
        return False
    ratio = statistics.ratio_of_medians(old, new)
    if statistics.two_sample_p(old, new) >= _SIGNIFICANCE:
        return False
    return ratio.ratio > 1 + limit if slower else ratio.ratio < 1 / (1 + limit)


def _with_interval(
    change: Change, pairs: Sequence[tuple[tuple[float, float], tuple[float, float]]], seed: int
) -> Change:
    """A rate's change with its interval over recordings; not proven by it is inconclusive."""
    if not pairs:
        return change
    found = statistics.paired_rate_difference(*zip(*pairs, strict=True), seed=seed)
    unchanged = change.verdict == "unchanged"
    if not math.isfinite(found.high):
        whole = sum(a[1] > 0 and b[1] > 0 for a, b in pairs)
        few = f"{counted(whole, 'recording')} with speech: too few for an interval"
        return change if unchanged else replace(change, note=few)
    note = f"95 % interval of the change: {100 * found.low:+.2f} to {100 * found.high:+.2f} points"
    proven = found.proven or unchanged
    return replace(change, verdict=change.verdict if proven else "inconclusive", note=note)


def _single(cell: str, name: str, base: float, head: float, limits: Tolerance) -> Change:
    margin = limits.memory * base if name in _SIZED else limits.error_points
    verdict: Verdict = "unchanged"
    if head - base > margin:
        verdict = "regression"
    elif base - head > margin:
        verdict = "improvement"
    ratio = None
    if base > 0 and name in _SIZED:
        ratio = statistics.RatioInterval(head / base, head / base, head / base)
    return Change(cell, name, METRICS[name].unit, base, head, ratio, None, verdict)
