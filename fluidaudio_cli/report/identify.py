"""Identification as tables and charts: errors by seconds and channel, DET curves, calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import ndtri

from fluidaudio_cli.benchmark.identify import IDENTIFY
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord
from fluidaudio_cli.benchmark.trials import error_curve, expected_and_observed
from fluidaudio_cli.report.benchmark_tables import medians
from fluidaudio_cli.report.html_page import Figure, axis, line, plot, ticks_at
from fluidaudio_cli.report.tables import Table

_FIGURES = {
    "eer": "EER, %",
    "min_dcf": "minDCF",
    "cllr": "Cllr, bits",
    "false_accept_1": "FA at 1 %",
    "false_reject_1": "FR at 1 %",
    "false_accept_5": "FA at 5 %",
    "false_reject_5": "FR at 5 %",
}
# Rates (%) marked on the axes of a DET curve, which are normal quantiles of them.
_MARKS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
# Points of a curve: more are not to be seen.
_MOST_POINTS = 300


def identify_tables(result: BenchmarkResult) -> Iterator[Table]:
    """Errors under each condition, then how often what was said with some probability is so."""
    cells = result.of_study(IDENTIFY)
    yield Table(
        "Identification",
        ("condition", "voices", "trials of one, of two", *_FIGURES.values()),
        tuple(_row(cell) for cell in cells if cell.identification is not None),
        (
            "enrolled from the beginning, identified from the end of each voice's recordings, so "
            "many seconds of audio; FA, FR: false accepts and rejects (%) where so many accepts "
            "are asked",
        ),
    )
    rows = [
        (cell.name, f"{100 * said:.1f} %", f"{100 * so:.1f} %", str(count))
        for cell in cells
        if cell.identification is not None
        for said, so, count in expected_and_observed(cell.identification)
    ]
    yield Table(
        "Probabilities of identity",
        ("condition", "said on average", "one person", "trials"),
        tuple(rows),
        ("one person and two count alike; trials in bands up to 10, 50, 90 and 100 %",),
    )


def _row(cell: CellRecord) -> tuple[str, ...]:
    found = cell.identification
    assert found is not None
    counts = f"{len(found.same_odds) + found.unheard}, {len(found.stranger_odds)}"
    return (cell.name, str(found.voices), counts, *medians(cell, _FIGURES))


def det_figure(result: BenchmarkResult) -> Figure | None:
    """False rejects over false accepts of every condition, on scales of normal quantiles."""
    traces: list[dict[str, Any]] = []
    for number, cell in enumerate(result.of_study(IDENTIFY)):
        if cell.identification is None:
            continue
        accepts, rejects = error_curve(cell.identification)
        seen = (accepts > 0.0) & (accepts < 1.0) & (rejects > 0.0) & (rejects < 1.0)
        rows = np.flatnonzero(seen)
        rows = rows[:: max(1, len(rows) // _MOST_POINTS)]
        if not len(rows):
            continue
        traces.append(
            line(
                cell.name,
                ndtri(np.stack([accepts[rows], rejects[rows]], 1)).round(4).tolist(),
                number,
                mode="lines",
                customdata=np.stack([accepts[rows], rejects[rows]], 1).round(5).tolist(),
                hovertemplate="false accepts %{customdata[0]:.2%}, "
                "false rejects %{customdata[1]:.2%}",
            )
        )
    if not traces:
        return None
    quantiles = [float(ndtri(mark / 100.0)) for mark in _MARKS]
    marks = ticks_at(quantiles, [f"{mark:g}" for mark in _MARKS])
    return plot(
        traces,
        460,
        showlegend=True,
        xaxis=axis("false accepts, %", **marks),
        yaxis=axis("false rejects, %", **marks),
    )
