"""Consoles: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

# A pipe has no width; wide enough that no cell of ours is cut.
_PIPED_WIDTH = 160


class _Console(Console):
    """Rich's, but for texts, which are the user's: `[red]` or `:cat:` in one is itself.

    And a pipe that nobody reads is the command's to answer.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, **settings)

    def on_broken_pipe(self) -> None:
        """Called where ``BrokenPipeError`` is caught; Rich's own would end with code 1."""
        raise


def stdout_console() -> Console:
    """Console for results; without colours, and never narrowed, when piped."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return _Console(width=width)


def plain_text(render: Callable[[Console], object], width: int = _PIPED_WIDTH) -> str:
    """What ``render`` prints, for a file: the same from any terminal, without colours."""
    page = io.StringIO()
    render(_Console(file=page, width=width, color_system=None))
    return page.getvalue()


def stderr_console() -> Console:
    """Console for warnings and diagnostics."""
    return _Console(stderr=True, soft_wrap=True)
