"""A benchmark result as one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fluidaudio_cli.benchmark.compare import Change, compare
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.pareto import pareto_optimal
from fluidaudio_cli.benchmark.results import BenchmarkResult, FileRecord, VariantRecord
from fluidaudio_cli.report.html_page import (
    GREY,
    PALETTE,
    Cell,
    Figure,
    cards,
    chart,
    facts,
    header,
    layout,
    page,
    paragraph,
    section,
    table,
)

_DASH = "—"
_TONES = {"regression": "bad", "improvement": "good"}
_FILE_METRICS = ("rtfx", "wall", "cpu", "der_strict", "der_lenient", "jer", "memory_growth")


def benchmark_page(result: BenchmarkResult, baseline: BenchmarkResult | None = None) -> str:
    """The page of ``result``, compared with ``baseline`` where one is given.

    The caller has checked that the two may be compared.
    """
    measured = [variant for variant in result.variants if variant.finished]
    best = pareto_optimal(result.variants)
    title = f"Benchmark on {result.dataset.name}"
    machine = result.environment.machine
    parts = [
        header(
            title,
            f"{machine.cpu_model}, {machine.usable_cores} cores · {result.created} · "
            f"fluidaudio {result.version}",
        ),
        cards(_key_figures(result, measured)),
        *(paragraph(f"Note: {note}", soft=True) for note in _notes(result)),
    ]
    trade = speed_against_error(measured, best)
    if trade is None:
        parts.append(section("pareto", "Speed against error", paragraph("Nothing was scored.")))
    else:
        parts.append(
            section(
                "pareto",
                "Speed against error",
                chart("chart-pareto", trade, "Real-time factor against strict DER of each variant"),
                note="Up and to the left is better. No variant beats those on the line in all "
                f"that was measured: {', '.join(best)}.",
            )
        )
    parts.append(section("variants", "Variants", _variant_table(result.variants, best)))
    if measured:
        parts.append(
            section(
                "distributions",
                "Distributions",
                chart("chart-speed", spread(measured), "Spread of the real-time factor"),
                *_latency_chart(measured),
                note="Every measured pass over the files is a point; the box holds the middle "
                "half. Latency is that of single windows of 10 s.",
            )
        )
    parts.append(section("files", "Files", _file_table(result.variants)))
    if baseline is not None:
        parts.append(_comparison(baseline, result))
    parts.append(section("environment", "Environment", _environment(result)))
    return page(title, parts)


def _key_figures(
    result: BenchmarkResult, measured: Sequence[VariantRecord]
) -> list[tuple[str, str]]:
    figures = [
        (str(len(result.dataset.uris)), "recordings"),
        (str(result.plan.iterations), "measured runs of each"),
    ]
    for name, better in (("rtfx", max), ("der_strict", min)):
        metric = METRICS[name]
        values = [
            (summary.median, variant.name)
            for variant in measured
            if (summary := metric.measure(variant)) is not None
        ]
        if values:
            value, variant_name = better(values)
            unit = "x" if metric.unit == "x" else f" {metric.unit}"
            figures.append((f"{value:.4g}{unit}", f"best {metric.label}: {variant_name}"))
    return figures


def _notes(result: BenchmarkResult) -> list[str]:
    notes = [result.dataset.note] if result.dataset.note else []
    if not result.complete:
        notes.append("the run was interrupted; what follows is what was finished")
    notes.extend(f"{name}: {record.uri} failed: {record.error}" for name, record in result.failures)
    notes.extend(
        f"{variant.name}: unavailable: {variant.unavailable}"
        for variant in result.variants
        if variant.unavailable
    )
    return [*notes, *result.warnings]


def speed_against_error(variants: Sequence[VariantRecord], best: Sequence[str]) -> Figure | None:
    """Each variant at its pooled error and speed; the Pareto-optimal ones joined by a line."""
    points = []
    for number, variant in enumerate(variants):
        speed, error = METRICS["rtfx"].measure(variant), METRICS["der_strict"].measure(variant)
        if speed is not None and error is not None:
            points.append((error.median, speed, variant.name, PALETTE[number % len(PALETTE)]))
    if not points:
        return None
    front = sorted((x, speed.median) for x, speed, name, _ in points if name in best)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for x, _ in front],
            "y": [y for _, y in front],
            "line": {"color": GREY, "dash": "dot", "width": 2},
            "hoverinfo": "skip",
        }
    ]
    traces.extend(
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": name,
            "x": [x],
            "y": [speed.median],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [speed.maximum - speed.median],
                "arrayminus": [speed.median - speed.minimum],
                "color": colour,
            },
            "text": [name],
            "textposition": "middle right",
            "marker": {
                "size": 12,
                "color": colour,
                "symbol": "circle" if name in best else "circle-open",
            },
            "hovertemplate": f"{name}: %{{x:.2f}} % DER, %{{y:.0f}}x<extra></extra>",
        }
        for x, speed, name, colour in points
    )
    ticks = _one_two_five(
        min(speed.minimum for _, speed, *_ in points), max(speed.maximum for _, speed, *_ in points)
    )
    lowest, highest = min(x for x, *_ in points), max(x for x, *_ in points)
    # Room for the labels, which stand to the right of their points.
    room = max(0.25 * (highest - lowest), 0.03 * highest, 0.1)
    return {
        "data": traces,
        "layout": layout(
            420,
            showlegend=False,
            margin={"l": 8, "r": 8, "t": 20, "b": 40},
            xaxis={
                "title": {"text": "DER strict, %", "standoff": 4},
                "range": [lowest - 0.4 * room, highest + 1.2 * room],
                "automargin": True,
                "zeroline": False,
                "nticks": 7,
            },
            yaxis={
                "title": {"text": "x real time"},
                "type": "log",
                "automargin": True,
                "tickvals": ticks,
                "ticktext": [f"{tick:g}" for tick in ticks],
            },
        ),
    }


def _one_two_five(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from below ``low`` to above ``high``."""
    first = math.floor(math.log10(low))
    last = math.ceil(math.log10(high))
    return [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]


def spread(variants: Sequence[VariantRecord]) -> Figure:
    """Speed of every pass, a box for each variant."""
    return _boxes([(v.name, METRICS["rtfx"].samples(v)) for v in variants], "x real time")


def _latency_chart(variants: Sequence[VariantRecord]) -> list[str]:
    rows = [
        (
            variant.name,
            [1e3 * value for record in variant.finished for value in record.latency_seconds],
        )
        for variant in variants
    ]
    rows = [row for row in rows if row[1]]
    if not rows:
        return []
    figure = _boxes(rows, "milliseconds for a window of 10 s")
    return [chart("chart-latency", figure, "Spread of the latency of single windows")]


def _boxes(rows: Sequence[tuple[str, Sequence[float]]], title: str) -> Figure:
    return {
        "data": [
            {
                "type": "box",
                "name": name,
                "y": list(values),
                "boxpoints": "all",
                "jitter": 0.4,
                "pointpos": 0,
                "marker": {"color": PALETTE[number % len(PALETTE)], "size": 4, "opacity": 0.6},
                "line": {"width": 1.5},
            }
            for number, (name, values) in enumerate(rows)
        ],
        "layout": layout(
            320,
            showlegend=False,
            xaxis={"automargin": True},
            yaxis={
                "title": {"text": title},
                "automargin": True,
                "zeroline": False,
                "rangemode": "tozero",
            },
        ),
    }


def _variant_table(variants: Sequence[VariantRecord], best: Sequence[str]) -> str:
    shown = [
        metric
        for metric in METRICS.values()
        if any(metric.measure(variant) is not None for variant in variants)
    ]
    headings = (
        "variant",
        "Pareto",
        *(f"{metric.label}{f', {metric.unit}' if metric.unit else ''}" for metric in shown),
    )
    rows = []
    for variant in variants:
        cells = [Cell(variant.name), Cell("yes" if variant.name in best else _DASH)]
        for metric in shown:
            summary = metric.measure(variant)
            cells.append(
                Cell(_DASH, "")
                if summary is None
                else Cell(f"{summary.median:.4g}", summary.median)
            )
        rows.append(cells)
    return table(headings, rows, "table-variants")


def _file_table(variants: Sequence[VariantRecord]) -> str:
    shown = [METRICS[name] for name in _FILE_METRICS]
    headings = (
        "file",
        "variant",
        "audio, s",
        *(f"{metric.label}{f', {metric.unit}' if metric.unit else ''}" for metric in shown),
        "speakers found",
        "true",
    )
    rows = [
        _file_row(variant, record, len(headings))
        for variant in variants
        for record in variant.files
    ]
    return table(headings, rows, "table-files")


def _file_row(variant: VariantRecord, record: FileRecord, columns: int) -> list[Cell]:
    cells = [Cell(record.uri), Cell(variant.name)]
    if record.error is not None:
        cells.append(Cell("failed", "", "bad"))
        return cells + [Cell(_DASH, "")] * (columns - len(cells))
    cells.append(Cell(f"{record.audio_seconds:.1f}", record.audio_seconds))
    for name in _FILE_METRICS:
        summary = METRICS[name].measure(variant, [record])
        cells.append(
            Cell(_DASH, "") if summary is None else Cell(f"{summary.median:.4g}", summary.median)
        )
    if record.accuracy is None:
        return [*cells, Cell(_DASH, ""), Cell(_DASH, "")]
    found, true = record.accuracy.speakers_found, record.accuracy.speakers_true
    tone = "good" if found == true else "bad"
    return [*cells, Cell(str(found), found, tone), Cell(str(true), true)]


def _comparison(baseline: BenchmarkResult, result: BenchmarkResult) -> str:
    changes = compare(baseline, result, seed=result.plan.seed)
    rows = [_change_row(change) for change in changes]
    headings = ("variant", "metric", "baseline", "now", "ratio", "95 % interval", "verdict")
    return section(
        "baseline",
        "Against the baseline",
        table(headings, rows, "table-baseline"),
        note=f"Baseline of {baseline.created}, fluidaudio {baseline.version}.",
    )


def _environment(result: BenchmarkResult) -> str:
    environment = result.environment
    known: dict[str, object] = {
        **asdict(environment.machine),
        "system": environment.system_release,
        "python": environment.python,
        "git commit": environment.git_commit,
        "load average": environment.load_average,
        **{f"package {name}": version for name, version in environment.packages.items()},
    }
    return facts(known.items())


def _change_row(change: Change) -> list[Cell]:
    ratio = interval = Cell(_DASH, "")
    if change.ratio is not None:
        ratio = Cell(f"{change.ratio.ratio:.3f}", change.ratio.ratio)
        if change.p is not None:
            interval = Cell(f"{change.ratio.low:.3f} to {change.ratio.high:.3f}", change.ratio.low)
    return [
        Cell(change.variant),
        Cell(f"{change.metric}{f', {change.unit}' if change.unit else ''}"),
        Cell(f"{change.base:.4g}", change.base),
        Cell(f"{change.head:.4g}", change.head),
        ratio,
        interval,
        Cell(change.verdict, tone=_TONES.get(change.verdict, "")),
    ]
