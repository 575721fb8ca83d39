"""Tables as they are before anybody draws them, in a terminal, on a page or as text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A table's cell: what is shown, and what it is sorted by (the text by default)."""

    text: str
    value: float | str | None = None

    def __str__(self) -> str:
        """What is shown."""
        return self.text


@dataclass(frozen=True)
class Table:
    """A titled table; all columns but the first hold figures. ``notes`` stand below it.

    A cell that is a plain text is sorted by the number it begins with, if any.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """What the rows show."""
        return tuple(tuple(map(str, row)) for row in self.rows)
