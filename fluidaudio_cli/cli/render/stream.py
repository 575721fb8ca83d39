"""The live view of a stream: who speaks now, the last minute of each speaker, delay and load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.cli.render.console import stdout_console
from fluidaudio_cli.diarization.ledger import Ledger
from fluidaudio_cli.turns import Turn

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.stream import Step

_STRIP_SECONDS = 60
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta")
# Somebody who ended so recently is shown as speaking: what is newest is tentative.
_NOW_SECONDS = 0.3


class LiveView:
    """Draws one stream on stdout; use it as a context manager."""

    def __init__(self, latency: float, step_seconds: float) -> None:
        self._latency, self._step = latency, step_seconds
        self._ledger = Ledger()
        self._note, self._foot = "", Text("", "dim")
        console = stdout_console()
        self._live = Live(self._foot, console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveView:
        """Take the terminal."""
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        self.close()

    def close(self) -> None:
        """Give the terminal back, for what is said at the end."""
        self._live.stop()

    def say(self, text: str) -> None:
        """A line under the view, at once: where nothing comes, no step draws it."""
        self._note = self._foot.plain = text
        self._live.refresh()

    def step(self, step: Step, wall: float) -> None:
        """Draw what a step brought."""
        now = step.seconds
        self._ledger.add(step.change.final)
        self._ledger.apply(step.change.revisions)
        seen = [*self._ledger.turns(now - _STRIP_SECONDS), *step.tentative]
        table = Table(box=None, show_header=False, padding=(0, 1))
        for number, name in enumerate(step.speakers):
            own = [turn for turn in seen if turn.speaker == name]
            speaks = any(turn.end > now - _NOW_SECONDS for turn in own)
            style = _COLOURS[number % len(_COLOURS)]
            table.add_row(
                Text("●" if speaks else " ", style),
                Text(name, f"bold {style}" if speaks else style),
                Text(_strip(own, now), style),
                f"{sum(max(0.0, t.end - max(t.start, now - _STRIP_SECONDS)) for t in own):.0f} s",
            )
        load = 100.0 * step.computing_seconds / self._step
        head = Text(
            f"{now:8.1f} s   final after {self._latency:g} s   "
            f"step {1000 * step.computing_seconds:.0f} ms ({load:.0f} % of {self._step:g} s)"
        )
        self._foot.plain = "behind: coarser step" if step.behind else self._note
        self._live.update(Group(head, table, self._foot), refresh=True)


def _strip(turns: list[Turn], now: float) -> str:
    """One character a second of the last minute."""
    first = int(now) - _STRIP_SECONDS + 1
    cells = []
    for second in range(first, first + _STRIP_SECONDS):
        spoken = sum(max(0.0, min(t.end, second + 1) - max(t.start, second)) for t in turns)
        cells.append("█" if spoken > 0.5 else "▄" if spoken > 0.1 else "·")
    return "".join(cells)
