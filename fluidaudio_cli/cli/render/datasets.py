"""The catalogue of corpora as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fluidaudio_cli.cli.render.tables import add_row, print_line, titled_table
from fluidaudio_cli.corpora.catalogue import CatalogueRow

if TYPE_CHECKING:
    from rich.console import Console


def render_catalogue(console: Console, rows: Sequence[CatalogueRow]) -> None:
    """Print one line per split."""
    headings = ("dataset", "split", "what", "licence", "recordings", "here")
    table = titled_table("Datasets", *headings, left=4)
    previous = ""
    for row in rows:
        first = row.name != previous
        previous = row.name
        also = f" (also {', '.join(row.aliases)})" if row.aliases else ""
        add_row(
            table,
            row.name + also if first else "",
            row.split + (" *" if row.default else ""),
            row.title if first else "",
            row.licence if first else "",
            str(row.recordings),
            str(row.here),
        )
    console.print(table)
    print_line(console, "* used when no split is named. Any folder of audio and RTTM works too.")
