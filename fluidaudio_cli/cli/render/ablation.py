"""What each optimisation is worth, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fluidaudio_cli.benchmark.ablation import AblationRow


def render_ablation(console: Console, rows: Sequence[AblationRow]) -> None:
    """One table: each mode against the one it was changed from."""
    table = Table(title="Ablation (medians)", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("mode")
    table.add_column("against")
    for heading in ("RTFx", "IQR", "speed", "DER", "peak memory"):
        table.add_column(heading, justify="right")
    for row in rows:
        if row.unavailable:
            table.add_row(row.name, row.against, f"unavailable: {row.unavailable}")
            continue
        table.add_row(
            row.name,
            row.against,
            _number(row.rtfx, "{:.0f}x"),
            _number(None if row.spread is None else 100 * row.spread, "{:.0f} %"),
            _number(row.speed, "{:.2f}x"),
            _number(row.der_change, "{:+.2f} points"),
            _number(row.memory_change_mb, "{:+.0f} MB"),
        )
    console.print(table)


def _number(value: float | None, pattern: str) -> str:
    return "—" if value is None else pattern.format(value)
