"""A benchmark's figures as CSV, long form: one row per variant, file and metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import BenchmarkResult, FileRecord, VariantRecord
from fluidaudio_cli.report.benchmark_tables import POOLED

HEADER = (
    "dataset",
    "mode",
    "executor",
    "precision",
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
    """RFC 4180 text, numbers with a point; the pooled rows have ``all files`` as their file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for variant in result.variants:
        for record in variant.finished:
            writer.writerows(_rows(result, variant, record.uri, (record,)))
        if variant.finished:
            writer.writerows(_rows(result, variant, POOLED, variant.finished))
    return text.getvalue()


def _rows(
    result: BenchmarkResult, variant: VariantRecord, name: str, files: Sequence[FileRecord]
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for metric in METRICS.values():
        summary = metric.measure(variant, files)
        if summary is not None:
            figures = (summary.median, summary.q1, summary.q3, summary.minimum, summary.maximum)
            rows.append(
                (
                    result.dataset.name,
                    variant.mode,
                    variant.executor,
                    variant.precision,
                    name,
                    metric.name,
                    metric.unit,
                    *(f"{value:.6g}" for value in figures),
                    summary.count,
                )
            )
    return rows
