"""How long work reports its progress without knowing who shows it."""

from __future__ import annotations

from collections.abc import Callable

# (done, total) in one unit, seconds of audio or bytes; total is None while unknown.
ProgressCallback = Callable[[float, float | None], None]


def no_progress(done: float, total: float | None) -> None:
    """Report to nobody."""
