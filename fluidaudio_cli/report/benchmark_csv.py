"""A benchmark's figures as CSV, long form: one row per cell, recording and metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from fluidaudio_cli.benchmark.grid import FACTORS
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    CellRecord,
    DifferenceRecord,
    FileRecord,
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

Row = dict[str, object]


def to_csv(result: BenchmarkResult) -> str:
    """RFC 4180 text, numbers with a point; the pooled rows have ``all files`` as their file.

    Differences have the other cell in ``against``, and the ends of their 95 % interval as
    ``minimum`` and ``maximum``; the machine's limits have no factors.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(result))
    return text.getvalue()


def _rows(result: BenchmarkResult) -> Iterator[Row]:
    starts = {cell.name: _start(result, cell) for cell in result.cells}
    for cell in result.cells:
        for record in cell.finished:
            yield from (starts[cell.name] | row for row in _figures(cell, record.uri, (record,)))
        yield from (starts[cell.name] | row for row in _figures(cell, POOLED, cell.finished))
    for each in result.findings.differences:
        yield from (starts[each.cell] | row for row in _differences(each))
    for network in result.findings.roofline:
        achieved = _single("achieved", "GFLOP/s", network.achieved / 1e9)
        yield starts[network.cell] | {"file": network.stage} | achieved
    name = {"dataset": result.dataset.name}
    for limit in result.findings.limits:
        what = f"{limit.what}, {limit.threads} thread(s)"
        yield name | {"study": "limits"} | _single(what, f"G{limit.unit}", limit.best / 1e9)
    # A series is called as its cells are without their length.
    series = {
        cell.cell.at(length=None).name: starts[cell.name] | {"length": None}
        for cell in result.cells
        if cell.cell.length is not None
    }
    for growth in result.findings.growth:
        start = series[growth.series]
        if growth.time_share is not None:
            yield start | _single("time_growth", "%", 100 * growth.time_share)
        if growth.memory_bytes is not None:
            yield start | _single("memory_growth_with_length", "MB", growth.memory_bytes / 1e6)


def _start(result: BenchmarkResult, cell: CellRecord) -> Row:
    # What has no level is empty.
    levels: Row = {name: getattr(cell.cell, name) for name in FACTORS}
    return {"dataset": result.datasets[cell.cell.condition].name, "study": cell.study} | levels


def _figures(cell: CellRecord, name: str, files: Sequence[FileRecord]) -> Iterator[Row]:
    for metric in METRICS.values():
        summary = metric.measure(cell, files)
        if summary is not None:
            ends = ("median", "q1", "q3", "minimum", "maximum")
            yield {
                "file": name,
                "metric": metric.name,
                "unit": metric.unit,
                **{end: f"{getattr(summary, end):.6g}" for end in ends},
                "samples": summary.count,
            }


def _differences(each: DifferenceRecord) -> Iterator[Row]:
    for name, unit, found, count in (
        ("wall_ratio", "x", each.wall_ratio, each.processes),
        ("cpu_ratio", "x", each.cpu_ratio, each.processes),
        ("der_difference", "points", each.der_points, each.recordings),
    ):
        if found is not None:
            ends = {"minimum": found.low, "maximum": found.high}
            yield {
                "study": each.study,
                "against": each.base,
                "file": POOLED,
                **_single(name, unit, found.value),
                **{key: f"{end:.6g}" for key, end in ends.items() if end is not None},
                "samples": count,
            }


def _single(metric: str, unit: str, value: float) -> Row:
    return {"metric": metric, "unit": unit, "median": f"{value:.6g}", "samples": 1}
