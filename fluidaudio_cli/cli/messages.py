"""What is said on stderr beside results: all of it, less with ``-q``, more with ``-v``.

Errors are not said here: they end the command (``process.py``) and are never silenced.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from fluidaudio_cli.progress import ProgressCallback, no_progress

_quiet = False
_verbose = False


def set_quiet(wanted: bool) -> None:
    """Say nothing but errors, and show no progress."""
    global _quiet
    _quiet = wanted
    if wanted:
        warnings.simplefilter("ignore")


def set_verbose(wanted: bool) -> None:
    """Say also how the command runs, beginning with what the program is."""
    global _verbose
    _verbose = wanted
    if wanted:
        import platform

        from fluidaudio_cli import __version__
        from fluidaudio_cli.executors.cache import cache_dir

        detail(f"fluidaudio {__version__}, Python {platform.python_version()}, cache {cache_dir()}")


def is_verbose() -> bool:
    """Whether details are said."""
    return _verbose


def say(line: str) -> None:
    """A note, a warning, or where a file went."""
    if not _quiet:
        typer.echo(line, err=True)


def detail(line: str) -> None:
    """What only ``-v`` shows."""
    if _verbose:
        typer.echo(line, err=True)


def is_watched() -> bool:
    """Whether a person sees progress."""
    return not _quiet and sys.stderr.isatty()


@contextmanager
def progress_bar(description: str, *, hidden: bool = False) -> Iterator[ProgressCallback]:
    """A bar with ETA on stderr, driven by the callback it yields; silent when piped."""
    if hidden or not is_watched():
        yield no_progress
        return
    # Imported here: most output has no bar, and a run of a second would notice.
    from rich import progress

    from fluidaudio_cli.cli.render.console import stderr_console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TextColumn("{task.percentage:>3.0f}%"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=stderr_console(), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
