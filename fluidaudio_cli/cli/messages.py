"""What is said on stderr beside results: all of it, less with ``-q``, more with ``-v``.

Errors are not said here: they end the command (``process.py``) and are never silenced.
"""

from __future__ import annotations

import warnings

import typer

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


def is_quiet() -> bool:
    """Whether only errors are said."""
    return _quiet


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
