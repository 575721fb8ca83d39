"""A benchmark result as one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fluidaudio_cli.benchmark.grid import MODES, ROBUSTNESS, length_name
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.pareto import pareto_optimal
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord, DifferenceRecord
from fluidaudio_cli.report import benchmark_tables as tables
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, remarks
from fluidaudio_cli.report.benchmark_tables import heading
from fluidaudio_cli.report.html_page import (
    GREY,
    PALETTE,
    Figure,
    axis,
    cards,
    chart,
    details,
    environment_section,
    error_bars,
    header,
    labelled_rows,
    line,
    page,
    paragraph,
    plot,
    section,
    table,
    ticks_at,
)
from fluidaudio_cli.report.identify import det_figure
from fluidaudio_cli.report.robustness import crossing_figures, factor_figures
from fluidaudio_cli.report.streaming import latency_figure

_FEWEST_TICKS = 3
_ROW_PIXELS = 60
# Above the middle of its row, in rows, and broken into lines that a phone has room for.
_LABELS = (0.22, 44)


def benchmark_page(report: BenchmarkReport) -> str:
    """The page of a report: every table that the terminal shows, and charts."""
    result = report.result
    modes = [cell for cell in result.of_study(MODES) if cell.finished]
    shown = [
        cell
        for cell in result.cells
        if cell.finished and cell.cell.length is None and cell.study != ROBUSTNESS
    ]
    machine = result.environment.machine
    title = f"Benchmark on {result.dataset.name}"
    parts = [
        header(
            title,
            f"{machine.cpu_model}, {machine.usable_cores} cores · {result.created} · "
            f"fluidaudio {result.version}",
        ),
        cards(_key_figures(result, modes)),
        *(paragraph(f"Note: {note}", soft=True) for note in remarks(report)),
        *(
            paragraph(f"Failed: {cell}: {uri}: {reason}", soft=True)
            for cell, uri, reason in result.failures
        ),
        _trade_section(shown),
    ]
    for number, each in enumerate(tables.summary_tables(report)):
        parts.append(
            section(
                f"summary-{number}",
                each.title,
                table(each, f"table-summary-{number}"),
                note="; ".join(each.notes),
            )
        )
    differences = [each for each in result.findings.differences if each.study != ROBUSTNESS]
    label = "Change of the strict error with its 95 % interval"
    parts += _charted("differences", label, differences_figure(differences))
    parts += _robustness_sections(result)
    parts += _charted("det", "False rejects over false accepts (DET)", det_figure(result))
    parts += _charted("streaming", "Strict error against latency", latency_figure(result))
    parts += _lengths_sections(result)
    spreads = [
        chart(name, _boxes(rows, title), label)
        for name, title, label, rows in (
            (
                "chart-speed",
                "x real time",
                "Spread of the real-time factor",
                [(cell.name, METRICS["rtfx"].samples(cell)) for cell in shown],
            ),
            (
                "chart-latency",
                "milliseconds for a window of 10 s",
                "Spread of the latency of single windows",
                [(cell.name, _window_milliseconds(cell)) for cell in shown],
            ),
        )
        if any(values for _, values in rows)
    ]
    note = (
        "Every measured pass over the files is a point; the box holds the middle half. Latency is "
        "that of single windows of 10 s."
    )
    parts += [section("distributions", "Distributions", *spreads, note=note)] if spreads else []
    for number, cell in enumerate(result.cells):
        if found := tables.detail_tables(cell):
            inner = [
                part
                for place, each in enumerate(found)
                for part in (
                    paragraph(each.title.removeprefix(f"{cell.name}: ")),
                    table(each, f"table-cell-{number}-{place}"),
                )
            ]
            parts.append(section(f"cell-{number}", cell.name, details("all figures", *inner)))
    parts.append(environment_section(result.environment))
    return page(title, parts)


def _charted(name: str, label: str, figure: Figure | None) -> list[str]:
    """A section of one chart, where there is anything to show."""
    return [] if figure is None else [section(name, label, chart(f"chart-{name}", figure, label))]


def _trade_section(cells: Sequence[CellRecord]) -> str:
    placed = [c for c in cells if METRICS["rtfx"].measure(c) and METRICS["der_strict"].measure(c)]
    if not placed:
        nothing = paragraph("Nothing was both timed and scored.")
        return section("pareto", "Speed against error", nothing)
    best = pareto_optimal(placed)
    names = [f"{number} {cell.name}" for number, cell in enumerate(placed, 1)]
    return section(
        "pareto",
        "Speed against error",
        chart(
            "chart-pareto",
            speed_against_error(placed, best),
            "Real-time factor against strict DER of each cell",
        ),
        # Names beside the points would lie on each other, and be cut off on a phone.
        paragraph(" · ".join(names), soft=True),
        note="Up and to the left is better. No cell beats those on the line in all that was "
        f"measured: {', '.join(best)}.",
    )


def _robustness_sections(result: BenchmarkResult) -> list[str]:
    factors = [
        chart(f"chart-robust-{factor}", figure, f"DER over {factor}")
        for factor, figure in factor_figures(result)
    ]
    crossed = [
        part
        for number, (label, figure) in enumerate(crossing_figures(result))
        for part in (paragraph(label), chart(f"chart-crossed-{number}", figure, label))
    ]
    note = "Bars: 95 % interval of the difference from the base, paired by conversation."
    parts = [section("robust-factors", "One factor at a time", *factors, note=note)]
    parts += [section("robust-crossed", "Two factors at once", *crossed)] if crossed else []
    return parts if factors else []


def _lengths_sections(result: BenchmarkResult) -> list[str]:
    charts = []
    for name in ("wall", "rtfx", "peak_memory"):
        figure = lengths_figure(result.cells, name)
        if figure is not None:
            label = f"{heading(name)} over the length of the audio"
            charts.append(chart(f"chart-length-{name}", figure, label))
    return [section("lengths", "Over the length of the audio", *charts)] if charts else []


def _key_figures(result: BenchmarkResult, measured: Sequence[CellRecord]) -> list[tuple[str, str]]:
    figures = [
        (str(len(result.dataset.uris)), "recordings"),
        (str(len(result.cells)), "cells"),
    ]
    for name, better in (("rtfx", max), ("der_strict", min)):
        metric = METRICS[name]
        values = [
            (summary.median, cell.name)
            for cell in measured
            if (summary := metric.measure(cell)) is not None
        ]
        if values:
            value, cell_name = better(values)
            unit = "x" if metric.unit == "x" else f" {metric.unit}"
            figures.append((f"{value:.4g}{unit}", f"best {metric.label}: {cell_name}"))
    return figures


def speed_against_error(cells: Sequence[CellRecord], best: Sequence[str]) -> Figure:
    """Each cell at its pooled error and speed; the Pareto-optimal ones joined by a line."""
    points = []
    for number, cell in enumerate(cells):
        speed, error = METRICS["rtfx"].measure(cell), METRICS["der_strict"].measure(cell)
        assert speed is not None and error is not None  # noqa: PT018 - of cells that have both
        points.append((error.median, speed, cell.name, PALETTE[number % len(PALETTE)]))
    front = sorted((x, speed.median) for x, speed, name, _ in points if name in best)
    traces: list[dict[str, Any]] = [
        line(
            "",
            front,
            0,
            mode="lines",
            line={"color": GREY, "dash": "dot", "width": 2},
            hoverinfo="skip",
        )
    ]
    traces.extend(
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": name,
            "x": [x],
            "y": [speed.median],
            "error_y": error_bars(
                [(speed.median - speed.minimum, speed.maximum - speed.median)], colour
            ),
            "text": [str(number)],
            "textposition": "top right",
            "marker": {
                "size": 12,
                "color": colour,
                "symbol": "circle" if name in best else "circle-open",
            },
            "hovertemplate": f"{name}: %{{x:.2f}} % DER, %{{y:.0f}}x<extra></extra>",
        }
        for number, (x, speed, name, colour) in enumerate(points, 1)
    )
    slowest = min(speed.minimum for _, speed, *_ in points)
    fastest = max(speed.maximum for _, speed, *_ in points)
    lowest, highest = min(x for x, *_ in points), max(x for x, *_ in points)
    # Room for the numbers, which stand to the right of their points.
    room = max(0.1 * (highest - lowest), 0.03 * highest, 0.1)
    return plot(
        traces,
        420,
        showlegend=False,
        margin={"l": 8, "r": 8, "t": 20, "b": 40},
        xaxis=axis("DER strict, %", range=[lowest - 0.4 * room, highest + 1.2 * room], nticks=7),
        yaxis=log_axis("x real time", slowest, fastest),
    )


def log_axis(title: str, low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis around ``low`` … ``high`` on which at least two ticks can be read."""
    room = 1.15 * max(1.0, (high / low) ** 0.08)
    ends = low / room, high * room
    around = [math.log10(end) for end in ends]
    return axis(title, type="log", range=around, **ticks_at(_ticks(*ends)))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within ``low`` … ``high``, from three to some ten of them.

    Powers of ten, then their 1, 2 and 5 times, where those are enough; else evenly spaced ones.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        found = [step * 10.0**power for power in powers for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= _FEWEST_TICKS:
            return found
    size = 10.0 ** math.floor(math.log10((high - low) / 2))
    for step in (5 * size, 2 * size, size, size / 2):
        numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
        if len(numbers) >= _FEWEST_TICKS:
            break
    return [round(step * number, 10) for number in numbers]


def _window_milliseconds(cell: CellRecord) -> list[float]:
    return [1e3 * value for record in cell.finished for value in record.latency_seconds]


def _boxes(rows: Sequence[tuple[str, Sequence[float]]], title: str) -> Figure:
    """A box and its points for each row, lying, so that names of any length can be read."""
    rows = [row for row in rows if row[1]]
    highest = max(max(values) for _, values in rows)
    return plot(
        [
            {
                "type": "box",
                "orientation": "h",
                "name": name,
                "x": list(values),
                "y": [number] * len(values),
                "boxpoints": "all",
                "jitter": 0.4,
                "pointpos": 0,
                "width": 0.5,
                "marker": {"color": PALETTE[number % len(PALETTE)], "size": 4, "opacity": 0.6},
                "line": {"width": 1.5},
                "hovertemplate": f"{name}: %{{x:.4g}}<extra></extra>",
            }
            for number, (name, values) in enumerate(rows)
        ],
        90 + _ROW_PIXELS * len(rows),
        showlegend=False,
        xaxis=axis(title, range=[0, 1.05 * highest], nticks=7),
        **labelled_rows([name for name, _ in rows], *_LABELS),
    )


def differences_figure(differences: Sequence[DifferenceRecord]) -> Figure | None:
    """Change of the strict error with its interval, a row for each pair of cells."""
    shown = [each for each in differences if each.der_points is not None]
    if not shown:
        return None
    traces: list[dict[str, Any]] = []
    ends = [0.0]
    for number, each in enumerate(shown):
        assert each.der_points is not None
        point = each.der_points
        low = point.value if point.low is None else point.low
        high = point.value if point.high is None else point.high
        ends += [low, high]
        colour = {"better": PALETTE[2], "worse": PALETTE[3]}.get(each.accuracy, GREY)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [point.value],
                "y": [number],
                "error_x": error_bars([(point.value - low, high - point.value)], colour),
                "marker": {"size": 9, "color": colour},
                "hovertemplate": f"%{{x:+.2f}} points: {each.accuracy}<extra></extra>",
            }
        )
    room = 0.08 * max(max(ends) - min(ends), 0.1)
    return plot(
        traces,
        90 + _ROW_PIXELS * len(shown),
        showlegend=False,
        xaxis=axis(
            "DER strict, points more than the other",
            range=[min(ends) - room, max(ends) + room],
            zeroline=True,
            nticks=7,
        ),
        **labelled_rows([f"{each.cell} against {each.base}" for each in shown], *_LABELS),
    )


def lengths_figure(cells: Sequence[CellRecord], name: str) -> Figure | None:
    """A metric over the length of the audio, a line for each series of cells."""
    metric = METRICS[name]
    lines: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        found = metric.measure(cell)
        if cell.cell.length is not None and found is not None:
            series = cell.cell.at(length=None).name
            lines.setdefault(series, []).append((cell.cell.length, found.median))
    if not lines:
        return None
    lengths = sorted({x for points in lines.values() for x, _ in points})
    values = [y for points in lines.values() for _, y in points]
    across = log_axis("length of the audio", lengths[0], lengths[-1])
    across |= ticks_at(lengths, map(length_name, lengths))
    return plot(
        [
            line(series, sorted(points), number)
            for number, (series, points) in enumerate(lines.items())
        ],
        330,
        margin={"l": 8, "r": 8, "t": 34, "b": 40},
        xaxis=across,
        yaxis={
            "title": {"text": heading(name)},
            "automargin": True,
            "range": [0, 1.1 * max(values)],
            "nticks": 7,
        },
    )
