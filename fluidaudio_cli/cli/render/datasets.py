"""The catalogue of corpora as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.corpora.catalogue import CatalogueRow


def render_catalogue(console: Console, rows: Sequence[CatalogueRow]) -> None:
    """Print one line per split."""
    table = Table(title="Datasets")
    for heading in ("dataset", "split"):
        table.add_column(heading, no_wrap=True)
    for heading in ("recordings", "here"):
        table.add_column(heading, justify="right")
    table.add_column("what")
    table.add_column("licence")
    previous = ""
    for row in rows:
        first = row.name != previous
        previous = row.name
        also = f" (also {', '.join(row.aliases)})" if row.aliases else ""
        table.add_row(
            Text(row.name + also if first else ""),
            Text(row.split + (" *" if row.default else "")),
            str(row.recordings),
            str(row.here),
            Text(row.title if first else ""),
            Text(row.licence if first else ""),
        )
    console.print(table)
    console.print(Text("* used when no split is named. Any folder of audio and RTTM works too."))
