"""Changes between two results as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.benchmark.compare import Change
from fluidaudio_cli.report.benchmark_report import figure

_STYLES = {"regression": "bold red", "improvement": "green", "inconclusive": "yellow"}


def render_changes(console: Console, changes: Sequence[Change]) -> None:
    """Print one row per variant and metric, then the notes."""
    table = Table(title="Changes, base to head", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("mode")
    table.add_column("metric")
    for name in ("base", "head", "ratio", "95 % interval", "p"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for change in changes:
        ratio, interval = "", ""
        if change.ratio is not None:
            ratio = f"{change.ratio.ratio:.3f}"
            if change.p is not None:
                interval = f"{change.ratio.low:.3f}…{change.ratio.high:.3f}"
        table.add_row(
            change.variant,
            change.metric,
            figure(change.base, change.unit),
            figure(change.head, change.unit),
            ratio,
            interval,
            "" if change.p is None else f"{change.p:.3g}",
            Text(change.verdict, _STYLES.get(change.verdict, "")),
        )
    console.print(table)
    for change in changes:
        if change.note:
            console.print(Text(f"{change.variant} {change.metric}: {change.note}"), soft_wrap=True)
