"""The tables of a benchmark report.

Every exporter, the terminal and the page show these same tables, so no two can disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fluidaudio_cli.benchmark.compare import Change
from fluidaudio_cli.benchmark.grid import MODES, ROBUSTNESS, STREAMING, length_name
from fluidaudio_cli.benchmark.identify import IDENTIFY
from fluidaudio_cli.benchmark.metrics import METRICS, passes
from fluidaudio_cli.benchmark.pareto import AXES, pareto_optimal
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    CellRecord,
    DifferenceRecord,
    FileRecord,
    GrowthRecord,
    IntervalRecord,
)
from fluidaudio_cli.benchmark.studies import ABLATION, AGAINST, PEERS, SCALING, TUNING
from fluidaudio_cli.measure.statistics import Summary
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, figure
from fluidaudio_cli.report.tables import Table

POOLED = "all files"
_DASH = "—"
_TITLES = {
    MODES: "Performance modes",
    ABLATION: "Ablation: each optimisation off, and on, alone",
    SCALING: "Scaling with the length of the audio",
    PEERS: "Peers",
    AGAINST: "In turn with another version",
    TUNING: "Settings of this machine",
}
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
_BUDGET = (
    "der_strict",
    "budget_missed",
    "budget_false_alarm",
    "budget_overlap",
    "budget_confusion",
    "der_oracle",
    "clustering_cost",
)
_COUNTS = ("speaker_count", "count_off_by_one", "count_off_by_more", "count_bias")
_SCALING = ("load_warm", "wall", "rtfx", "peak_memory")
_PER_FILE = (
    "rtfx",
    "wall",
    "der_strict",
    "missed",
    "false_alarm",
    "confusion",
    "der_oracle",
    "der_lenient",
    "jer",
    "latency_p90",
    "peak_memory",
)


def summary_tables(report: BenchmarkReport) -> tuple[Table, ...]:
    """What is shown of every run: studies, differences, error budget, verdicts."""
    return tuple(table for table in _summary(report) if table.rows)


def detail_tables(cell: CellRecord) -> tuple[Table, ...]:
    """Everything of one cell: figures, stages, recordings."""
    if not cell.files:
        return ()
    return (cell_details(cell), stage_table(cell), file_table(cell))


def _summary(report: BenchmarkReport) -> Iterator[Table]:
    result = report.result
    from fluidaudio_cli.report.identify import identify_tables
    from fluidaudio_cli.report.robustness import robustness_tables
    from fluidaudio_cli.report.streaming import streaming_tables

    yield from robustness_tables(result)
    yield from identify_tables(result)
    yield from streaming_tables(result)
    shown_apart = (ROBUSTNESS, IDENTIFY, STREAMING)
    studies = dict.fromkeys(cell.study for cell in result.cells if cell.study not in shown_apart)
    for study in studies:
        cells = result.of_study(study)
        names = _SCALING if study == SCALING else _OVERVIEW
        yield _cells_table(_TITLES.get(study, study.capitalize()), cells, names)
    for study in studies:
        yield _differences_table(study, result)
    yield _growth_table(result.findings.growth)
    scored = [
        cell
        for cell in result.cells
        if METRICS["der_strict"].measure(cell) and cell.study != ROBUSTNESS
    ]
    yield _figures_table("Error budget, % of speech", scored, _BUDGET)
    yield _figures_table("Counts of speakers", scored, _COUNTS)
    yield _limits_table(result)
    yield _roofline_table(result)
    yield changes_table(report.changes)
    checks = ((c.name, c.measured, c.limit, c.verdict) for c in report.all_checks)
    yield Table("Gates", ("gate", "value", "limit", "verdict"), tuple(checks))


def _cells_table(title: str, cells: Sequence[CellRecord], names: Sequence[str]) -> Table:
    """One row per cell: the figures people ask for first."""
    shown = [name for name in names if any(METRICS[name].measure(cell) for cell in cells)]
    rows = [
        (cell.name, _ran_on(cell), *medians(cell, shown))
        if cell.unavailable is None
        else (cell.name, "unavailable", *[_DASH] * len(shown))
        for cell in cells
    ]
    return Table(title, ("cell", "ran on", *map(heading, shown)), tuple(rows))


def _figures_table(title: str, cells: Sequence[CellRecord], names: Sequence[str]) -> Table:
    shown = [name for name in names if any(METRICS[name].measure(cell) for cell in cells)]
    rows = tuple((cell.name, *medians(cell, shown)) for cell in cells)
    return Table(title, ("cell", *(METRICS[name].label for name in shown)), rows)


def _differences_table(study: str, result: BenchmarkResult) -> Table:
    """Each contrast of a study: time, error and memory, with intervals and verdicts."""
    rows = tuple(_difference_row(e) for e in result.findings.differences if e.study == study)
    header = (
        "cell", "against", "speed", "95 %", "CPU time", "DER, points", "95 %", "memory",
        "faster?", "errs less?", "files", "processes",
    )  # fmt: skip
    title = f"Differences: {_TITLES.get(study, study)}"
    note = "better and worse are said only where a 95 % interval excludes no difference"
    return Table(title, header, rows, (note,))


def _difference_row(each: DifferenceRecord) -> tuple[str, ...]:
    wall = each.wall_ratio
    speed = _DASH if wall is None else f"{1 / wall.value:.3g}x"
    ends = _DASH
    if wall is not None and wall.low and wall.high:
        ends = f"{1 / wall.high:.3g}…{1 / wall.low:.3g}"
    return (
        each.cell,
        each.base,
        speed,
        ends,
        _DASH if each.cpu_ratio is None else f"{each.cpu_ratio.value:.3g}x",
        _DASH if each.der_points is None else f"{each.der_points.value:+.2f}",
        interval_ends(each.der_points),
        _DASH if each.memory_ratio is None else f"{each.memory_ratio:.2f}x",
        each.speed,
        each.accuracy,
        str(each.recordings),
        str(each.processes),
    )


def interval_ends(interval: IntervalRecord | None) -> str:
    """An interval's ends, or a dash."""
    if interval is None or interval.low is None or interval.high is None:
        return _DASH
    return f"{interval.low:+.2f}…{interval.high:+.2f}"


def _growth_table(growth: Sequence[GrowthRecord]) -> Table:
    rows = tuple(
        (each.series, "too few lengths from 10 min on", *[_DASH] * 4)
        if each.time_share is None
        else (
            each.series,
            f"{length_name(each.shortest_seconds)} to {length_name(each.longest_seconds)}",
            f"{100 * each.time_share:+.1f} %",
            "pass" if each.time_holds else "fail",
            f"{(each.memory_bytes or 0.0) / 1e6:+.1f} MB",
            "pass" if each.memory_holds else "fail",
        )
        for each in growth
    )
    header = ("cell", "lengths", "time per audio hour", "±10 %", "peak memory", "+20 MB")
    return Table("Growth with the length of the audio", header, rows)


def _limits_table(result: BenchmarkResult) -> Table:
    rows = tuple(
        (
            each.what,
            str(each.threads),
            f"{each.best / 1e9:.1f} G{each.unit}",
            _DASH if each.median is None else f"{each.median / 1e9:.1f} G{each.unit}",
        )
        for each in result.findings.limits
    )
    return Table("Measured limits of this machine", ("what", "threads", "best", "median"), rows)


def _roofline_table(result: BenchmarkResult) -> Table:
    rows = tuple(
        (
            f"{each.cell}: {each.stage} ({each.precision})",
            f"{each.gflop_per_audio_second:.3f}",
            f"{each.achieved / 1e9:.1f}",
            _share(each.share_of_peak),
            f"{each.intensity:.1f}",
            _DASH if each.limit is None else f"{each.limit / 1e9:.1f}",
            _share(each.share_of_limit),
            each.bound or _DASH,
        )
        for each in result.findings.roofline
    )
    header = (
        "network", "GFLOP per audio second", "GFLOP/s", "of peak", "FLOP per byte",
        "limit, GFLOP/s", "of limit", "bound by",
    )  # fmt: skip
    note = (
        "FLOP per byte counts every operation's operands and results as moved through the cache; "
        "where operations are fused, the limit may be exceeded"
    )
    return Table("Networks against these limits", header, rows, (note,))


def changes_table(changes: Sequence[Change]) -> Table:
    """Changes from base to head: one row per cell and metric."""
    rows = []
    for change in changes:
        ratio = interval = ""
        if change.ratio is not None:
            ratio = f"{change.ratio.ratio:.3f}"
            if change.p is not None:
                interval = f"{change.ratio.low:.3f}…{change.ratio.high:.3f}"
        rows.append(
            (
                f"{change.cell} {change.metric}",
                figure(change.base, change.unit),
                figure(change.head, change.unit),
                ratio or _DASH,
                interval or _DASH,
                _DASH if change.p is None else f"{change.p:.3g}",
                change.verdict,
            )
        )
    header = ("figure", "base", "head", "ratio", "95 %", "p", "verdict")
    return Table("Changes, base to head", header, tuple(rows))


def pareto_line(report: BenchmarkReport) -> str:
    """Which modes nothing beats on every measured axis, in one line; empty for one mode."""
    measured = [cell for cell in report.result.of_study(MODES) if cell.finished]
    if len(measured) < 2:
        return ""
    axes = [METRICS[axis].label for axis in AXES if all(METRICS[axis].measure(c) for c in measured)]
    return f"Pareto-optimal ({', '.join(axes)}): {', '.join(pareto_optimal(measured))}"


def cell_details(cell: CellRecord) -> Table:
    """Every measured metric of one cell, pooled over its recordings."""
    rows = []
    for metric in METRICS.values():
        summary = metric.measure(cell)
        if summary is not None:
            rows.append((metric.label, *_spread(summary, metric.unit)))
    header = ("metric", "median", "IQR", "min…max", "n")
    return Table(f"{cell.name}: {POOLED}", header, tuple(rows))


def stage_table(cell: CellRecord) -> Table:
    """Busy time per stage in the pass of median wall time, and what the stages sum to.

    One real pass, not a median of each stage: those would sum to no pass's time.
    """
    rounds = sorted(passes(cell.finished), key=lambda samples: sum(s.wall_seconds for s in samples))
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
    return Table(f"{cell.name}: stages ({kind})", ("stage", "busy", share, "calls"), tuple(rows))


def file_table(cell: CellRecord) -> Table:
    """One row per recording of one cell."""
    shown = [name for name in _PER_FILE if METRICS[name].measure(cell)]
    header = ("file", "audio", "speakers", *(heading(name) for name in shown))
    rows = tuple(_file_row(cell, record, shown) for record in cell.files)
    return Table(f"{cell.name}: files", header, rows)


def _file_row(cell: CellRecord, record: FileRecord, shown: Sequence[str]) -> tuple[str, ...]:
    if record.error is not None:
        failed = (record.uri, "failed", "", record.error)
        return (*failed, *[""] * (len(shown) - 1))[: len(shown) + 3]
    accuracy = record.accuracy
    speakers = "" if accuracy is None else f"{accuracy.speakers_found}/{accuracy.speakers_true}"
    figures = medians(cell, shown, (record,))
    return (record.uri, figure(record.audio_seconds, "s"), speakers, *figures)


def _ran_on(cell: CellRecord) -> str:
    """Executors with the precisions they ran at, such as ``openvino bf16+fp32``."""
    precisions: dict[str, set[str]] = {}
    for run in cell.executors.values():
        ran = run["ran"]
        if isinstance(ran, dict):
            precisions.setdefault(str(ran["executor"]), set()).add(str(ran["precision"]))
    parts = (f"{name} {'+'.join(sorted(found))}" for name, found in sorted(precisions.items()))
    return ", ".join(parts) or _DASH


def _share(value: float | None) -> str:
    return _DASH if value is None else f"{100.0 * value:.1f} %"


def heading(name: str) -> str:
    """A metric's label with its unit."""
    metric = METRICS[name]
    return f"{metric.label} ({metric.unit})" if metric.unit not in ("", "x") else metric.label


def medians(
    cell: CellRecord, names: Iterable[str], files: Sequence[FileRecord] | None = None
) -> Iterator[str]:
    """Medians in three digits, or dashes."""
    for name in names:
        summary = METRICS[name].measure(cell, files)
        yield _DASH if summary is None else figure(summary.median)


def _spread(summary: Summary, unit: str) -> tuple[str, ...]:
    if summary.count == 1:
        return (figure(summary.median, unit), "", "", "1")
    return (
        figure(summary.median, unit),
        figure(summary.iqr, unit),
        f"{figure(summary.minimum)}…{figure(summary.maximum, unit)}",
        str(summary.count),
    )
