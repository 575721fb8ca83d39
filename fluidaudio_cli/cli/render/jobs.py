"""How far a job is, as a bar, and what it did, as a table by host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from fluidaudio_cli.cli import messages
from fluidaudio_cli.cli.diarize_job import HostTally, Tally
from fluidaudio_cli.cli.render.console import stderr_console
from fluidaudio_cli.cli.render.tables import titled_table

_HOUR = 3600.0


@contextmanager
def job_bar(before: int, recordings: int) -> Iterator[Callable[[Tally], None]]:
    """A bar on stderr, driven by the callback it yields; silent when piped."""
    if not messages.is_watched():
        yield lambda tally: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr_console(), transient=True) as bar:
        task = bar.add_task("loading", total=recordings, completed=before)
        yield lambda tally: bar.update(
            task, completed=tally.before + tally.done + tally.failed, description=described(tally)
        )


def described(tally: Tally) -> str:
    """As in ``12 of 300 recordings, 1.5 h, 140x, 1 failed, 0:03:20 left``."""
    parts = [
        f"{tally.before + tally.done + tally.failed} of {tally.recordings} recordings",
        f"{tally.audio_seconds / _HOUR:.1f} h of audio",
        f"{tally.rtfx:.0f}x",
        f"{tally.failed} failed",
    ]
    if tally.seconds_left is not None:
        minutes, seconds = divmod(round(tally.seconds_left), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")
    return ", ".join(parts)


def render_hosts(console: Console, tally: Tally) -> None:
    """Print a line for each host, and the sum."""
    headings = ("recordings", "failed", "audio hours", "busy seconds", "RTFx busy")
    table = titled_table("", "host", *headings)
    total = HostTally()
    for host, one in sorted(tally.hosts.items()):
        table.add_row(host, *_cells(one))
        total.add(one)
    if len(tally.hosts) > 1:
        table.add_section()
        table.add_row("all", *_cells(total))
    console.print(table)


def _cells(one: HostTally) -> tuple[str, ...]:
    pace = f"{one.audio_seconds / one.busy_seconds:.0f}x" if one.busy_seconds else "-"
    return (
        str(one.recordings),
        str(one.failed),
        f"{one.audio_seconds / _HOUR:.2f}",
        f"{one.busy_seconds:.1f}",
        pace,
    )
