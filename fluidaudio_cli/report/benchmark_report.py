"""A benchmark's result with everything concluded from it, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fluidaudio_cli.benchmark.against import Judgement
from fluidaudio_cli.benchmark.gates import Check
from fluidaudio_cli.benchmark.metrics import pooled_der
from fluidaudio_cli.benchmark.results import BenchmarkResult, PairedRecord, VariantRecord
from fluidaudio_cli.measure.statistics import outliers


@dataclass(frozen=True)
class BenchmarkReport:
    """What is reported: measurements, gate verdicts, verdicts on interleaved runs."""

    result: BenchmarkResult
    checks: tuple[Check, ...] = ()
    judgements: tuple[tuple[PairedRecord, Judgement], ...] = ()

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """Gates that did not pass, interleaved comparisons included."""
        return tuple(check for check in self.all_checks if not check.passed)

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """Every gate, and every interleaved comparison as one."""
        return (*self.checks, *(_paired_check(*pair) for pair in self.judgements))


def remarks(report: BenchmarkReport) -> tuple[str, ...]:
    """Everything a reader must know before trusting the figures, one line each."""
    return tuple(_remarks(report))


def _remarks(report: BenchmarkReport) -> Iterator[str]:
    result = report.result
    if result.dataset.note:
        yield result.dataset.note
    if not result.complete:
        yield "incomplete: this run was interrupted; continue it with --resume"
    if result.plan.measure_power:
        yield f"energy: {result.power}"
    yield from result.warnings
    for variant in result.variants:
        if variant.unavailable is not None:
            yield f"{variant.name} unavailable: {variant.unavailable}"
        if variant.load.note:
            yield f"{variant.name}: {variant.load.note}"
        for record in variant.finished:
            walls = [sample.wall_seconds for sample in record.iterations]
            for index in outliers(walls):
                yield (
                    f"{variant.name}: iteration {index + 1} of {record.uri} is an outlier "
                    f"({figure(walls[index], 's')}); medians stand, means would not"
                )
    for _, judgement in report.judgements:
        if judgement.blurred:
            yield (
                f"the pairs spread too much to exclude a slowdown of "
                f"{200 * judgement.max_slowdown:.0f} %: give more --pairs"
            )


def _paired_check(record: PairedRecord, judgement: Judgement) -> Check:
    worse = judgement.cpu if judgement.slower == ("cpu",) else judgement.wall
    assert worse is not None
    clock = "CPU time" if worse is judgement.cpu else "wall time"
    low, high = 100 * (worse.low - 1), 100 * (worse.high - 1)
    return Check(
        name=f"{record.variant} slowdown against {record.base} ({clock})",
        limit=f"≤ {100 * judgement.max_slowdown:g} % (95 % interval {low:+.1f}…{high:+.1f} %)",
        unit="%",
        value=100 * (worse.ratio - 1),
        passed=not judgement.regression,
    )


def error_line(variant: VariantRecord) -> str:
    """Pooled strict error and its parts in one line; empty without a reference."""
    pooled = pooled_der(variant.finished, "strict")
    if pooled is None:
        return ""
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
    if value >= 99.95:
        text = f"{value:,.0f}".replace(",", " ")
    elif value >= 9.995:
        text = f"{value:.1f}"
    elif value >= 0.995 or value == 0:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3g}"
    return f"{text} {unit}".strip()
