"""The tables of a benchmark report.

Every exporter and the terminal show these same tables, so no two outputs can disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fluidaudio_cli.benchmark.metrics import METRICS, passes
from fluidaudio_cli.benchmark.pareto import AXES, pareto_optimal
from fluidaudio_cli.benchmark.results import FileRecord, VariantRecord
from fluidaudio_cli.benchmark.statistics import Summary
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, figure

POOLED = "all files"
REFERENCE_MODE = "reference"

_OVERVIEW = (
    "rtfx",
    "der_strict",
    "der_lenient",
    "jer",
    "speaker_count",
    "latency_p50",
    "latency_p90",
    "peak_memory",
    "load_warm",
    "power",
)
_PER_FILE = (
    "rtfx",
    "wall",
    "der_strict",
    "missed",
    "false_alarm",
    "confusion",
    "der_lenient",
    "jer",
    "latency_p90",
    "peak_memory",
)


@dataclass(frozen=True)
class Table:
    """A titled table of texts; all columns but the first hold figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def overview(report: BenchmarkReport) -> Table:
    """One row per variant: the figures people ask for first."""
    variants = report.result.variants
    shown = [name for name in _OVERVIEW if any(METRICS[name].measure(v) for v in variants)]
    header = ("mode", "ran on", *(_heading(name) for name in shown))
    rows = [
        (variant.name, _ran_on(variant), *(_median(variant, name) for name in shown))
        if variant.unavailable is None
        else (variant.name, f"unavailable: {variant.unavailable}", *[""] * len(shown))
        for variant in variants
    ]
    return Table("Performance modes", header, tuple(rows))


def comparison(report: BenchmarkReport) -> Table | None:
    """Each variant against ``reference``: speed and memory as ratios, error as a difference."""
    measured = [variant for variant in report.result.variants if variant.finished]
    reference = next((v for v in measured if v.mode == REFERENCE_MODE), None)
    if reference is None or len(measured) < 2:
        return None
    best = pareto_optimal(measured)
    rows = []
    for variant in measured:
        speed, error, memory = (_pair(reference, variant, axis) for axis in AXES)
        rows.append(
            (
                variant.name,
                "—" if speed is None else f"{speed[1] / speed[0]:.2f}x",
                "—" if error is None else f"{error[1] - error[0]:+.2f} points",
                "—" if memory is None else f"{memory[1] / memory[0]:.2f}x",
                "yes" if variant.name in best else "",
            )
        )
    header = ("mode", "speed", "DER strict", "peak memory", "Pareto-optimal")
    return Table(f"Against {reference.name}", header, tuple(rows))


def pareto_line(report: BenchmarkReport) -> str:
    """Which variants nothing beats on every measured axis, in one line; empty for one variant."""
    measured = [variant for variant in report.result.variants if variant.finished]
    if len(measured) < 2:
        return ""
    axes = [METRICS[axis].label for axis in AXES if all(METRICS[axis].measure(v) for v in measured)]
    return f"Pareto-optimal ({', '.join(axes)}): {', '.join(pareto_optimal(measured))}"


def variant_details(variant: VariantRecord) -> Table:
    """Every measured metric of one variant, pooled over its files."""
    rows = []
    for metric in METRICS.values():
        summary = metric.measure(variant)
        if summary is not None:
            rows.append((metric.label, *_spread(summary, metric.unit)))
    header = ("metric", "median", "IQR", "min…max", "n")
    return Table(f"{variant.name}: {POOLED}", header, tuple(rows))


def stage_table(variant: VariantRecord) -> Table:
    """Busy time per stage over one pass, median over iterations, and what it sums to."""
    rounds = passes(variant.finished)
    wall = METRICS["wall"].measure(variant)
    overlapped = any(sample.overlapped for samples in rounds for sample in samples)
    busy: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    for samples in rounds:
        totals: dict[str, float] = {}
        for sample in samples:
            for stage in sample.stages:
                totals[stage.name] = totals.get(stage.name, 0.0) + stage.busy_seconds
        for name, seconds in totals.items():
            busy.setdefault(name, []).append(seconds)
    for sample in rounds[0] if rounds else ():
        for stage in sample.stages:
            calls[stage.name] = calls.get(stage.name, 0) + stage.calls
    medians = {name: sorted(values)[len(values) // 2] for name, values in busy.items()}
    total = wall.median if wall is not None else 0.0
    rows = [
        (name, figure(seconds, "s"), f"{seconds / total:.1%}", str(calls.get(name, 0)))
        for name, seconds in medians.items()
    ]
    rows.append(("sum", figure(sum(medians.values()), "s"), _share(medians, total), ""))
    share = "busy ÷ wall" if overlapped else "share of wall"
    kind = "concurrent: busy times overlap" if overlapped else "serial"
    return Table(f"{variant.name}: stages ({kind})", ("stage", "busy", share, "calls"), tuple(rows))


def file_table(variant: VariantRecord) -> Table:
    """One row per file of one variant."""
    shown = [name for name in _PER_FILE if METRICS[name].measure(variant)]
    header = ("file", "audio", "speakers", *(_heading(name) for name in shown))
    rows = tuple(_file_row(variant, record, shown) for record in variant.files)
    return Table(f"{variant.name}: files", header, rows)


def gate_table(report: BenchmarkReport) -> Table | None:
    """Each gate with its value, limit and verdict."""
    rows = tuple(
        (check.name, check.measured, check.limit, check.verdict) for check in report.all_checks
    )
    return Table("Gates", ("gate", "value", "limit", "verdict"), rows) if rows else None


def paired_table(report: BenchmarkReport) -> Table | None:
    """Each interleaved comparison: ratio with interval, and error rates beside it."""
    rows = []
    for record, judgement in report.judgements:
        ratio = judgement.ratio
        errors = [
            "—" if der is None else f"{100 * der.rate:.2f} %"
            for der in (record.base_strict, record.head_strict)
        ]
        rows.append(
            (
                record.variant,
                record.base,
                f"{ratio.ratio:.3f}",
                f"{ratio.low:.3f}…{ratio.high:.3f}",
                str(len(record.base_seconds)),
                *errors,
                "slower" if judgement.regression else "pass",
            )
        )
    header = (
        "mode", "against", "time ratio", "95 % interval", "pairs",
        "DER strict, theirs", "ours", "verdict",
    )  # fmt: skip
    return Table("Interleaved with another version", header, tuple(rows)) if rows else None


def _file_row(variant: VariantRecord, record: FileRecord, shown: Sequence[str]) -> tuple[str, ...]:
    if record.error is not None:
        return (record.uri, "", "", f"failed: {record.error}", *[""] * (len(shown) - 1))
    accuracy = record.accuracy
    speakers = "" if accuracy is None else f"{accuracy.speakers_found}/{accuracy.speakers_true}"
    figures = (_median(variant, name, (record,)) for name in shown)
    return (record.uri, figure(record.audio_seconds, "s"), speakers, *figures)


def _ran_on(variant: VariantRecord) -> str:
    ran = {str(run.get("ran", run)) for run in variant.executors.values()}
    return ", ".join(sorted(ran)) or "—"


def _heading(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.label} ({metric.unit})" if metric.unit not in ("", "x") else metric.label


def _median(variant: VariantRecord, name: str, files: Sequence[FileRecord] | None = None) -> str:
    summary = METRICS[name].measure(variant, files)
    return "—" if summary is None else figure(summary.median)


def _spread(summary: Summary, unit: str) -> tuple[str, ...]:
    if summary.count == 1:
        return (figure(summary.median, unit), "", "", "1")
    return (
        figure(summary.median, unit),
        figure(summary.iqr, unit),
        f"{figure(summary.minimum)}…{figure(summary.maximum, unit)}",
        str(summary.count),
    )


def _pair(
    reference: VariantRecord, variant: VariantRecord, axis: str
) -> tuple[float, float] | None:
    first, second = METRICS[axis].measure(reference), METRICS[axis].measure(variant)
    if first is None or second is None or (axis != "der_strict" and first.median == 0):
        return None
    return first.median, second.median


def _share(medians: dict[str, float], total: float) -> str:
    return f"{sum(medians.values()) / total:.1%}" if total else "—"
