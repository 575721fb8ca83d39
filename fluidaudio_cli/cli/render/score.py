"""Scores as tables: error rates under each condition side by side, then the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fluidaudio_cli.cli.render.tables import print_line, titled_table
from fluidaudio_cli.scoring.metrics import ConditionScore, FileScore, Scores

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_POOLED = "pooled"
_ABSENT = "n/a"
_UEM_SENTENCES = {
    "given": "the UEM given",
    "audio": "the whole audio (no UEM given)",
    "extent": "from the first to the last boundary of reference and hypothesis (no UEM given)",
}


def render_scores(
    console: Console,
    files: Sequence[FileScore],
    pooled: Scores,
    *,
    regions: str,
    tolerance: float,
) -> None:
    """Print both tables, and below them what was scored and how."""
    rows: list[tuple[str, Scores]] = [(item.uri, item) for item in files]
    console.print(_error_rates(rows, pooled, regions))
    console.print(_other_figures(rows, pooled))
    sources = dict.fromkeys(_UEM_SENTENCES[item.uem_source] for item in files)
    for line in (
        *(item.condition.description for item in pooled.conditions),
        f"scored time: {'; '.join(sources)}, {pooled.scored_seconds:.1f} s in all",
        f"boundaries: onsets with onsets, offsets with offsets, up to {tolerance:g} s apart",
    ):
        print_line(console, line)


def _error_rates(rows: Sequence[tuple[str, Scores]], pooled: Scores, regions: str) -> Table:
    title = "Error rates, %" if regions == "all" else f"Error rates, %, {regions} regions only"
    names = [item.condition.name for item in pooled.conditions]
    columns = [
        f"{name if index == 0 else ''}\n{figure}"
        for name in names
        for index, figure in enumerate(("DER", "miss", "FA", "conf", "JER"))
    ]
    return _table(title, columns, rows, pooled, _rate_cells)


def _rate_cells(scores: Scores) -> list[str]:
    return [cell for item in scores.conditions for cell in _condition_cells(item)]


def _condition_cells(item: ConditionScore) -> list[str]:
    der = item.der
    parts = (der.missed_detection, der.false_alarm, der.confusion)
    shares = [part / der.total if der.total > 0 else math.nan for part in parts]
    return [_percent(value) for value in (der.rate, *shares, item.jer.rate)]


def _other_figures(rows: Sequence[tuple[str, Scores]], pooled: Scores) -> Table:
    columns = [
        "speakers\nfound/true",
        "boundary\nmed. ms",
        "\np90",
        "\nbias",
        "\nprec. %",
        "\nrec. %",
        "overlap\ntotal s",
        "\nmissed",
        "\nfalse",
    ]
    return _table("Speakers, boundaries, overlap", columns, rows, pooled, _other_cells)


def _other_cells(scores: Scores) -> list[str]:
    speakers, edges, overlap = scores.speakers, scores.boundaries, scores.overlap
    count = f"{speakers.hypothesis}/{speakers.reference}"
    if speakers.files > 1:
        count = f"{speakers.correct_files}/{speakers.files} right"
    times = (edges.median_seconds, edges.p90_seconds, edges.bias_seconds)
    return [
        count,
        *(_ABSENT if math.isnan(value) else f"{1000 * value:.0f}" for value in times),
        _percent(edges.precision),
        _percent(edges.recall),
        *(f"{value:.1f}" for value in (overlap.total, overlap.missed, overlap.false_alarm)),
    ]


def _table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Scores]],
    pooled: Scores,
    cells: Callable[[Scores], list[str]],
) -> Table:
    table = titled_table(title)
    table.add_column("\nrecording", overflow="fold", min_width=9)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for name, scores in rows:
        table.add_row(name, *cells(scores))
    if len(rows) > 1:
        table.add_section()
        table.add_row(_POOLED, *cells(pooled), style="bold")
    return table


def _percent(value: float) -> str:
    return _ABSENT if math.isnan(value) else f"{100 * value:.1f}"
