"""Tables and lines on a terminal, which look alike in all commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fluidaudio_cli.report.tables import Table as Made

_STYLES = {
    "fail": "bold red",
    "worse": "bold red",
    "regression": "bold red",
    "pass": "green",
    "better": "green",
    "improvement": "green",
    "inconclusive": "yellow",
}


def titled_table(title: str, *headings: str, left: int = 1) -> Table:
    """A table without rows; the first ``left`` columns hold names, the others figures."""
    # Imported here, as everywhere in this file: what writes JSON needs no Rich.
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    name = coloured(title)
    table = Table(title=name, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", overflow="fold")
    return table


def print_table(console: Console, made: Made, *, whole: tuple[str, ...] = ()) -> None:
    """Print a table if it has rows, verdicts coloured, and its notes.

    ``whole``: headings of columns whose texts stand on the left and are not broken.
    """
    table = titled_table(made.title, *made.header)
    for name, column in zip(made.header, table.columns, strict=True):
        if name in whole:
            column.justify, column.no_wrap = "left", True
    for row in made.texts:
        table.add_row(*(coloured(text, _STYLES.get(text, "")) for text in row))
    if made.rows:
        console.print(table)
    for note in made.notes:
        print_line(console, note)


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is, as long as it is."""
    console.print(coloured(text, style), soft_wrap=True)


def coloured(text: str, style: str = "") -> Text:
    """A text as it is, in a style of Rich's."""
    from rich.text import Text

    return Text(text, style)
