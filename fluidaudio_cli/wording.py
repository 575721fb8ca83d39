"""Numbers and lists in the words of a message."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

_LISTED = 5


def counted(number: int, what: str) -> str:
    """``1 voice``, ``2 voices``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def listed(names: Collection[str]) -> str:
    """The first five of ``names``, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in islice(names, _LISTED))
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
