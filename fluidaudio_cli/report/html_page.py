"""The shell of an HTML report: one page with everything in it, charts by plotly.js, no network.

The page's content policy forbids any request, so that it cannot make one even by mistake.
"""

from __future__ import annotations

import html
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from fluidaudio_cli.measure.environment import Environment
from fluidaudio_cli.report.tables import Cell, Table

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
# What some texts of cells mean, and the number that others begin with.
_TONES = {
    "regression": "bad", "worse": "bad", "fail": "bad", "failed": "bad",
    "improvement": "good", "better": "good", "pass": "good",
}  # fmt: skip
_NUMBER = re.compile(r"[-+]?\d[\d ]*(?:\.\d+)?(?:e[-+]?\d+)?")
_DASH = "—"

Figure = Mapping[str, Any]


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


def table(made: Table, name: str = "") -> str:
    """A table whose columns sort when their heading is pressed."""
    head = "".join(
        f'<th scope="col"><button type="button">{escape(heading)}</button></th>'
        for heading in made.header
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in made.rows)
    identity = f' id="{escape(name)}"' if name else ""
    return (
        f'<div class="scroll"><table{identity}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell | str) -> str:
    tone = ""
    if isinstance(cell, str):
        found = _NUMBER.match(cell)
        own = float(found[0].replace(" ", "")) if found else "" if cell == _DASH else None
        tone = f' class="{_TONES[cell]}"' if cell in _TONES else ""
        cell = Cell(cell, own)
    value: object = cell.text if cell.value is None else cell.value
    if isinstance(value, float) and not math.isfinite(value):
        value = ""
    return f'<td{tone} data-value="{escape(value)}">{escape(cell.text)}</td>'


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """Names and values, which may be long."""
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows
    )
    return f'<table class="facts"><tbody>{body}</tbody></table>'


def environment_section(found: Environment) -> str:
    """Where and with what it was measured."""
    known: dict[str, object] = {
        **asdict(found.machine),
        "system": found.system_release,
        "python": found.python,
        "git commit": found.commit(),
        "load average": found.load_average,
        **{f"package {name}": version for name, version in found.packages.items()},
    }
    return section("environment", "Environment", facts(known.items()))


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


def plot(traces: Sequence[dict[str, Any]], height: int, **more: Any) -> Figure:
    """A figure in the manner of all: no template, no background, little margin."""
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
    return {"data": traces, "layout": common | more}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title that has room for its ticks."""
    return {
        "title": {"text": title, "standoff": 4},
        "automargin": True,
        "zeroline": False,
    } | more


def time_axis(title: str, end: float) -> dict[str, Any]:
    """A horizontal axis of seconds that can be zoomed but starts whole."""
    # A little more than the whole, or the labels of both ends have no room.
    return axis(title, range=[-0.01 * end, 1.01 * end], nticks=7, showgrid=True)


def ticks_at(values: Sequence[float], texts: Iterable[str] | None = None) -> dict[str, Any]:
    """Ticks of an axis where there is something to read, by default the numbers themselves."""
    return {
        "tickvals": list(values),
        "ticktext": list(texts) if texts is not None else [f"{value:g}" for value in values],
    }


def line(
    name: str, points: Iterable[tuple[Any, float | None]], number: int, **more: Any
) -> dict[str, Any]:
    """A line through points (x, y), in the colour of its number."""
    known = list(points)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [x for x, _ in known],
        "y": [y for _, y in known],
        "line": {"color": PALETTE[number % len(PALETTE)]},
    } | more


def error_bars(ends: Sequence[tuple[float, float]], colour: str) -> dict[str, Any]:
    """Of each point, how far its interval goes below and above it."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [above for _, above in ends],
        "arrayminus": [below for below, _ in ends],
        "color": colour,
    }


def labelled_rows(labels: Sequence[str], shift: float, wrap: int = 0) -> dict[str, Any]:
    """Rows from the top whose labels stand above their bars: a phone has no room beside them.

    ``shift``: from a row's middle up to its label, in rows; ``wrap``: characters of a line.
    """
    texts = map(plain_text, labels)
    return {
        "yaxis": {
            "range": [len(labels) - 0.4, -0.65],
            "showticklabels": False,
            "ticks": "",
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        # Not tick labels inside the plot: those hide the ticks of the other axis below them.
        "annotations": [
            {
                "text": "<br>".join(textwrap.wrap(text, wrap)) if wrap else text,
                "xref": "paper",
                "x": 0,
                "xanchor": "left",
                "y": row - shift,
                "yanchor": "bottom" if wrap else "middle",
                "align": "left",
                "showarrow": False,
                "font": {"size": 11 if wrap else 12},
            }
            for row, text in enumerate(texts)
        ],
    }


def plain_text(text: str) -> str:
    """Text that plotly takes for neither markup nor a placeholder."""
    return text.replace("<", "(").replace(">", ")").replace("%{", "% {")
