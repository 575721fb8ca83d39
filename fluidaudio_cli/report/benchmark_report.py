"""A benchmark's result with everything concluded from it, and what a reader must know of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

from fluidaudio_cli.benchmark.compare import Change
from fluidaudio_cli.benchmark.findings import DEFAULT_MAX_SLOWDOWN
from fluidaudio_cli.benchmark.gates import Check
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord, DifferenceRecord
from fluidaudio_cli.benchmark.studies import AGAINST
from fluidaudio_cli.measure.statistics import outliers
from fluidaudio_cli.wording import listed


@dataclass(frozen=True)
class BenchmarkReport:
    """What is reported: measurements, gate verdicts, changes from a baseline."""

    result: BenchmarkResult
    checks: tuple[Check, ...] = ()
    changes: tuple[Change, ...] = ()
    max_slowdown: float = DEFAULT_MAX_SLOWDOWN

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """Gates that did not pass, comparisons in turn with another version included."""
        return tuple(check for check in self.all_checks if not check.passed)

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """Every gate, and every comparison of ``--against`` as one."""
        found = (each for each in self.result.findings.differences if each.study == AGAINST)
        return (*self.checks, *(_check(each, self.max_slowdown) for each in found))


def remarks(report: BenchmarkReport) -> tuple[str, ...]:
    """Everything a reader must know before trusting the figures, one line each."""
    return tuple(dict.fromkeys(_remarks(report)))


def _remarks(report: BenchmarkReport) -> Iterator[str]:
    result = report.result
    yield from (dataset.note for dataset in result.datasets.values() if dataset.note)
    if not result.complete:
        yield "incomplete: this run was interrupted; continue it with --resume"
    if result.plan.measure_power:
        yield f"energy: {result.power}"
    yield from result.warnings
    for cell in result.cells:
        if cell.unavailable is not None:
            yield f"{cell.name} unavailable: {cell.unavailable}"
        if cell.cold_note:
            yield f"{cell.name}: {cell.cold_note}"
        yield from (f"{cell.name} differs: {line}" for line in cell.remarks)
        yield from _outliers(cell)
    yield from (f"unavailable: {line}" for line in result.findings.limits_unavailable)
    noted: dict[str, list[str]] = {}
    for each in result.findings.differences:
        noted.setdefault(each.note, []).append(f"{each.cell} against {each.base}")
    yield from (f"{listed(pairs)}: {note}" for note, pairs in noted.items() if note)
    for each in result.findings.differences:
        if (
            each.study == AGAINST
            and each.speed != "worse"
            and each.wall_ratio is not None
            and (each.wall_ratio.high or math.inf) > 1 + 2 * report.max_slowdown
        ):
            yield (
                f"the pairs spread too much to exclude a slowdown of "
                f"{200 * report.max_slowdown:.0f} %: give more --pairs"
            )


def _outliers(cell: CellRecord) -> Iterator[str]:
    several = len(cell.processes) > 1
    for uri in (record.uri for record in cell.finished):
        samples = [
            (f"iteration {index} of {uri}" + f" in process {number}" * several, sample.wall_seconds)
            for number, process in enumerate(cell.processes, 1)
            for record in process.finished
            if record.uri == uri
            for index, sample in enumerate(record.iterations, 1)
        ]
        for place in outliers([wall for _, wall in samples]):
            which, wall = samples[place]
            yield (
                f"{cell.name}: {which} is an outlier "
                f"({figure(wall, 's')}); medians stand, means would not"
            )


def _check(each: DifferenceRecord, max_slowdown: float) -> Check:
    clocks = {"wall time": each.wall_ratio, "CPU time": each.cpu_ratio}
    known = {
        name: ratio for name, ratio in clocks.items() if ratio is not None and ratio.low is not None
    }
    name = f"{each.cell} slowdown against {each.base}"
    limit = f"≤ {100 * max_slowdown:g} %"
    if not known:
        return Check(name, limit, None, False, each.note or "not measured")
    clock, ratio = next(iter(known.items()))
    if each.speed == "worse":
        above = [pair for pair in known.items() if pair[1].value > 1 + max_slowdown]
        # Of those that fail, the clock that says most against this version.
        clock, ratio = max(above, key=lambda pair: pair[1].low or 0.0)
    ends = "…".join(f"{100 * ((end or 0.0) - 1):+.1f}" for end in (ratio.low, ratio.high))
    slower = 100 * (ratio.value - 1)
    return Check(
        name=f"{name} ({clock})",
        limit=f"{limit} (95 % interval {ends} %)",
        value=slower,
        passed=each.speed != "worse",
        measured=f"{slower:.4g} %",
    )


def error_line(cell: CellRecord) -> str:
    """Pooled strict error and its parts in one line; empty without a reference."""
    scores = [file.accuracy.strict for file in cell.finished if file.accuracy is not None]
    if not scores:
        return ""
    pooled = reduce(add, scores)
    parts = " + ".join(
        f"{100 * value / pooled.total:.2f} {name}"
        for name, value in (
            ("missed", pooled.missed_detection),
            ("false alarm", pooled.false_alarm),
            ("confusion", pooled.confusion),
        )
    )
    return f"DER {100 * pooled.rate:.2f} % = {parts}, over {figure(pooled.total, 's')} of speech"


def figure(value: float, unit: str = "") -> str:
    """A number for people: three significant digits, whole from 100, with its unit."""
    if value < 0:
        return f"-{figure(-value, unit)}"
    rounded = float(f"{value:.3g}")  # by what is shown, so that 0.9996 is 1.00
    if rounded >= 100:
        text = f"{value:,.0f}".replace(",", " ")
    elif rounded >= 10:
        text = f"{rounded:.1f}"
    elif rounded >= 1 or rounded == 0:
        text = f"{abs(rounded):.2f}"
    else:
        text = f"{rounded:.3g}"
    return f"{text} {unit}".strip()
