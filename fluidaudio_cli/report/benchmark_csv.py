"""A benchmark's figures as CSV, long form: one row per cell, recording and metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from fluidaudio_cli.benchmark.grid import FACTORS
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    CellRecord,
    DifferenceRecord,
    FileRecord,
    IntervalRecord,
)
from fluidaudio_cli.report.benchmark_tables import POOLED

HEADER = (
    "dataset",
    "study",
    *FACTORS,
    "against",
    "file",
    "metric",
    "unit",
    "median",
    "q1",
    "q3",
    "minimum",
    "maximum",
    "samples",
)


def to_csv(result: BenchmarkResult) -> str:
    """RFC 4180 text, numbers with a point; the pooled rows have ``all files`` as their file.

    Differences have the other cell in ``against``, and the ends of their 95 % interval as
    ``minimum`` and ``maximum``; the machine's limits and networks have no factors.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for cell in result.cells:
        for record in cell.finished:
            writer.writerows(_rows(result, cell, record.uri, (record,)))
        if cell.finished:
            writer.writerows(_rows(result, cell, POOLED, cell.finished))
    levels = {cell.name: cell for cell in result.cells}
    for each in result.findings.differences:
        writer.writerows(_difference_rows(result, levels[each.cell], each))
    nowhere = (result.dataset.name, "limits", *[""] * len(FACTORS))
    for row in result.findings.roofline:
        start = (*_start(result, levels[row.cell]), "", row.stage)
        writer.writerow((*start, "achieved", "GFLOP/s", *_single(row.achieved / 1e9)))
    for limit in result.findings.limits:
        what = f"{limit.what}, {limit.threads} thread(s)"
        writer.writerow((*nowhere, "", "", what, f"G{limit.unit}", *_single(limit.best / 1e9)))
    for growth in result.findings.growth:
        start = (*nowhere[:1], "scaling", growth.series, *nowhere[3:], "", "")
        if growth.time_share is not None:
            writer.writerow((*start, "time_growth", "%", *_single(100 * growth.time_share)))
        if growth.memory_bytes is not None:
            figures = _single(growth.memory_bytes / 1e6)
            writer.writerow((*start, "memory_growth_with_length", "MB", *figures))
    return text.getvalue()


def _start(result: BenchmarkResult, cell: CellRecord) -> tuple[object, ...]:
    levels = (getattr(cell.cell, name) for name in FACTORS)
    dataset = result.datasets[cell.cell.condition].name
    return (dataset, cell.study, *("" if level is None else level for level in levels))


def _rows(
    result: BenchmarkResult, cell: CellRecord, name: str, files: Sequence[FileRecord]
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for metric in METRICS.values():
        summary = metric.measure(cell, files)
        if summary is not None:
            figures = (summary.median, summary.q1, summary.q3, summary.minimum, summary.maximum)
            numbers = (f"{value:.6g}" for value in figures)
            start = (*_start(result, cell), "", name, metric.name, metric.unit)
            rows.append((*start, *numbers, summary.count))
    return rows


def _difference_rows(
    result: BenchmarkResult, cell: CellRecord, each: DifferenceRecord
) -> list[tuple[object, ...]]:
    start = (*_start(result, cell)[:1], each.study, *_start(result, cell)[2:], each.base, POOLED)
    figures: tuple[tuple[str, str, IntervalRecord | None, int], ...] = (
        ("wall_ratio", "x", each.wall_ratio, each.processes),
        ("cpu_ratio", "x", each.cpu_ratio, each.processes),
        ("der_difference", "points", each.der_points, each.recordings),
    )
    return [
        (*start, name, unit, f"{f.value:.6g}", "", "", _end(f.low), _end(f.high), count)
        for name, unit, f, count in figures
        if f is not None
    ]


def _single(value: float) -> tuple[object, ...]:
    return (f"{value:.6g}", "", "", "", "", 1)


def _end(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
