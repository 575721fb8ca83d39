"""The robustness suite as tables and charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fluidaudio_cli.benchmark.results import BenchmarkResult
from fluidaudio_cli.benchmark.robustness import Degradation, degradations, doubling
from fluidaudio_cli.report.benchmark_tables import heading, interval_ends, medians
from fluidaudio_cli.report.html_page import PALETTE, Figure, axis, error_bars, line, plot
from fluidaudio_cli.report.tables import Table

_PARTS = ("der_strict", "missed", "false_alarm", "confusion", "speaker_count", "count_bias")
_BASE = "base"
_DASH = "—"


def robustness_tables(result: BenchmarkResult) -> Iterator[Table]:
    """Each series' conditions, then where its error doubles."""
    rows = degradations(result)
    for series in dict.fromkeys(row.series for row in rows):
        own = [row for row in rows if row.series == series]
        yield Table(
            f"Robustness: {series}",
            ("condition", *map(heading, _PARTS), "points more", "95 %"),
            tuple(_row(each) for each in own),
            (
                "the same conversations under each condition; points more than the base, with a "
                "paired bootstrap interval over conversations",
            ),
        )
    factors = dict.fromkeys(row.levels[0][0] for row in rows if len(row.levels) == 1)
    names = tuple(dict.fromkeys(row.series for row in rows))
    yield Table(
        "Where the error doubles",
        ("factor", *names),
        tuple(
            (factor, *(doubling(rows, series, factor) or "nowhere measured" for series in names))
            for factor in factors
        ),
    )


def _row(each: Degradation) -> tuple[str, ...]:
    name = " ".join(f"{factor}={level}" for factor, level in each.levels) or _BASE
    points = None if each.difference is None else each.difference.der_points
    more = _DASH if points is None else f"{points.value:+.2f}"
    return (name, *medians(each.record, _PARTS), more, interval_ends(points))


def factor_figures(result: BenchmarkResult) -> Iterator[tuple[str, Figure]]:
    """A small chart of each factor: DER over its levels, a line a series; the base first."""
    rows = degradations(result)
    names = tuple(dict.fromkeys(row.series for row in rows))
    for factor in dict.fromkeys(row.levels[0][0] for row in rows if len(row.levels) == 1):
        traces: list[dict[str, Any]] = []
        for number, series in enumerate(names):
            found = [
                (row.levels[0][1] if row.levels else _BASE, row.der, row.difference)
                for row in rows
                if row.series == series
                and row.der is not None
                and (not row.levels or [f for f, _ in row.levels] == [factor])
            ]
            base = found[0][1] if found else None
            colour = PALETTE[number % len(PALETTE)]
            bars = error_bars([_around(base, each) for _, _, each in found], colour)
            points = [(level, der) for level, der, _ in found]
            traces.append(line(series, points, number, error_y=bars))
        yield (
            factor,
            plot(
                traces,
                240,
                showlegend=len(names) > 1,
                xaxis=axis(factor, type="category"),
                yaxis=axis("DER strict, %", rangemode="tozero"),
            ),
        )


def _around(base: float | None, difference: Any) -> tuple[float, float]:
    points = None if difference is None else difference.der_points
    if base is None or points is None or points.low is None or points.high is None:
        return 0.0, 0.0
    return points.value - points.low, points.high - points.value


def crossing_figures(result: BenchmarkResult) -> Iterator[tuple[str, Figure]]:
    """A heat map of each crossing of two factors, single factors and the base included."""
    rows = degradations(result)
    for series in dict.fromkeys(row.series for row in rows):
        own = {row.levels: row.der for row in rows if row.series == series}
        pairs = dict.fromkeys(
            tuple(factor for factor, _ in levels) for levels in own if len(levels) == 2
        )
        for first, second in pairs:
            axes = [_levels(own, factor, (first, second)) for factor in (first, second)]
            cells = [
                [
                    own.get(tuple(p for p in ((first, a), (second, b)) if p[1] != _BASE))
                    for b in axes[1]
                ]
                for a in axes[0]
            ]
            yield (
                f"{series}: {first} and {second}",
                plot(
                    [
                        {
                            "type": "heatmap",
                            "x": axes[1],
                            "y": axes[0],
                            "z": cells,
                            # Light, so that the numbers can be read on all of it.
                            "colorscale": [[0.0, "#fdf6ec"], [1.0, PALETTE[1]]],
                            "textfont": {"color": "#1b1b1f"},
                            "texttemplate": "%{z:.1f}",
                            "colorbar": {"title": {"text": "DER, %"}},
                            "hovertemplate": f"{first} %{{y}}, {second} %{{x}}: %{{z:.1f}} %"
                            "<extra></extra>",
                        }
                    ],
                    280,
                    xaxis=axis(second, type="category"),
                    yaxis=axis(first, type="category"),
                ),
            )


def _levels(
    own: dict[tuple[tuple[str, str], ...], float | None], factor: str, crossing: Sequence[str]
) -> list[str]:
    found = {
        level
        for levels in own
        if [name for name, _ in levels] == list(crossing)
        for name, level in levels
        if name == factor
    }
    singles = [levels[0][1] for levels in own if len(levels) == 1 and levels[0][0] == factor]
    return [_BASE, *(level for level in singles if level in found)]
