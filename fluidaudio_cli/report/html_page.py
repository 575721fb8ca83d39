"""The shell of an HTML report: one page with everything in it, charts by plotly.js, no network.

The page's content policy forbids any request, so that it cannot make one even by mistake.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

_TEMPLATE = Path(__file__).with_name("templates") / "page.html"

# Distinguishable from each other, also by most colour-blind readers, on light and dark ground.
PALETTE = (
    "#4c78a8",
    "#f58518",
    "#54a24b",
    "#e45756",
    "#b279a2",
    "#3aa6a0",
    "#d6a700",
    "#9d755d",
    "#ff8fa3",
    "#8f8a87",
)
GREY = "#8a94a0"

Figure = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A table's cell: what is shown, and what it is sorted by (the text by default).

    ``tone``: ``good`` or ``bad`` colours it.
    """

    text: str
    value: float | str | None = None
    tone: str = ""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document."""
    from plotly.offline import get_plotlyjs

    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        body="\n".join(parts),
        # Only this ends a script element early.
        library=get_plotlyjs().replace("</script", "<\\/script"),
    )


def escape(text: object) -> str:
    """Text for HTML, quotes included."""
    return html.escape(str(text))


def header(title: str, subtitle: str) -> str:
    """The page's heading."""
    return f'<header><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p></header>'


def cards(figures: Sequence[tuple[str, str]]) -> str:
    """Key figures: (value, what it is)."""
    inner = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label in figures
    )
    return f'<div class="cards">{inner}</div>'


def section(name: str, title: str, *parts: str, note: str = "") -> str:
    """A block with a heading; ``name`` is its id."""
    soft = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f'<section id="{escape(name)}"><h2>{escape(title)}</h2>{soft}{"".join(parts)}</section>'


def paragraph(text: str, soft: bool = False) -> str:
    """A paragraph of plain text."""
    return f'<p class="soft">{escape(text)}</p>' if soft else f"<p>{escape(text)}</p>"


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], name: str = "") -> str:
    """A table whose columns sort when their heading is pressed."""
    head = "".join(
        f'<th scope="col"><button type="button">{escape(heading)}</button></th>'
        for heading in headings
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    identity = f' id="{escape(name)}"' if name else ""
    return (
        f'<div class="scroll"><table{identity}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    value: object = cell.text if cell.value is None else cell.value
    if isinstance(value, float) and not math.isfinite(value):
        value = ""
    tone = f' class="{cell.tone}"' if cell.tone else ""
    return f'<td{tone} data-value="{escape(value)}">{escape(cell.text)}</td>'


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """Names and values, which may be long."""
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows
    )
    return f'<table class="facts"><tbody>{body}</tbody></table>'


def details(summary: str, *parts: str) -> str:
    """Parts that are folded away until wanted."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def chart(name: str, figure: Figure, label: str) -> str:
    """A chart; ``figure`` in plotly's terms, checked against plotly's schema.

    ``label`` describes it for readers who cannot see it. Raises ``ValueError`` for a figure that
    plotly does not know.
    """
    from plotly.graph_objects import Figure as PlotlyFigure

    text = PlotlyFigure(figure, skip_invalid=False).to_json()
    layout = json.loads(text)["layout"]
    # Room for the chart before it is drawn, so that the page does not jump.
    height = int(layout.get("height", 320))
    inline = text.replace("<", "\\u003c")
    return (
        f'<div class="chart" id="{escape(name)}" role="img" aria-label="{escape(label)}" '
        f'style="min-height:{height}px"></div>'
        f'<script type="application/json" data-chart="{escape(name)}">{inline}</script>'
    )


def layout(height: int, **more: Any) -> dict[str, Any]:
    """What all charts have in common: no template, no background, little margin."""
    common: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12, "family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "xanchor": "left"},
        "hoverlabel": {"align": "left"},
        "bargap": 0.2,
    }
    return common | more


def time_axis(title: str, end: float) -> dict[str, Any]:
    """A horizontal axis of seconds that can be zoomed but starts whole."""
    return {
        "title": {"text": title, "standoff": 4},
        # A little more than the whole, or the labels of both ends have no room.
        "range": [-0.01 * end, 1.01 * end],
        "nticks": 7,
        "showgrid": True,
        "zeroline": False,
        "automargin": True,
    }
