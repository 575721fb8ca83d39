"""The tables of a benchmark report.

Every exporter and the terminal show these same tables, so no two outputs can disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fluidaudio_cli.benchmark.metrics import METRICS, passes
from fluidaudio_cli.benchmark.pareto import AXES, pareto_optimal
from fluidaudio_cli.benchmark.results import FileRecord, VariantRecord
from fluidaudio_cli.measure.statistics import RatioInterval, Summary
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
        else (variant.name, "unavailable", *[""] * len(shown))
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
    """Busy time per stage in the pass of median wall time, and what the stages sum to.

    One real pass, not a median of each stage: those would sum to no pass's time.
    """
    rounds = sorted(
        passes(variant.finished), key=lambda samples: sum(s.wall_seconds for s in samples)
    )
    typical = rounds[(len(rounds) - 1) // 2] if rounds else ()
    wall = sum(sample.wall_seconds for sample in typical)
    overlapped = any(sample.overlapped for sample in typical)
    busy: dict[str, float] = {}
    calls: dict[str, int] = {}
    for sample in typical:
        for stage in sample.stages:
            busy[stage.name] = busy.get(stage.name, 0.0) + stage.busy_seconds
            calls[stage.name] = calls.get(stage.name, 0) + stage.calls
    rows = [
        (name, figure(seconds, "s"), f"{seconds / wall:.1%}", str(calls[name]))
        for name, seconds in busy.items()
    ]
    if wall:
        total = sum(busy.values())
        rows.append(("sum", figure(total, "s"), f"{total / wall:.1%}", ""))
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
        errors = [
            "—" if der is None else f"{100 * der.rate:.2f} %"
            for der in (record.base_strict, record.head_strict)
        ]
        rows.append(
            (
                record.variant,
                record.base,
                _interval(judgement.wall),
                "—" if judgement.cpu is None else _interval(judgement.cpu),
                str(len(record.base_seconds)),
                *errors,
                "slower" if judgement.regression else "pass",
            )
        )
    header = (
        "mode", "against", "wall ratio (95 %)", "CPU ratio (95 %)", "pairs",
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
    """Executors with the precisions they ran at, such as ``openvino bf16+fp32``."""
    precisions: dict[str, set[str]] = {}
    for run in variant.executors.values():
        ran = run["ran"]
        if isinstance(ran, dict):
            precisions.setdefault(str(ran["executor"]), set()).add(str(ran["precision"]))
    parts = (f"{name} {'+'.join(sorted(found))}" for name, found in sorted(precisions.items()))
    return ", ".join(parts) or "—"


def _interval(ratio: RatioInterval) -> str:
    return f"{ratio.ratio:.3f} ({ratio.low:.3f}…{ratio.high:.3f})"


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
