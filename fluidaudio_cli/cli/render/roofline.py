"""The machine's measured limits and how near the networks come, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.benchmark.roofline import RooflineRow
from fluidaudio_cli.measure.limits import MachinePeaks


def render_roofline(console: Console, peaks: MachinePeaks, rows: Sequence[RooflineRow]) -> None:
    """Two tables: what was measured of the machine, and each stage against it."""
    machine = _table("Measured limits of this machine", ("what", "threads", "best", "median"))
    for peak in peaks.gemm:
        machine.add_row(
            f"products {peak.precision}, {peak.executor}",
            str(peak.threads),
            _rate(peak.flops_per_second),
            _rate(peak.median_flops_per_second),
        )
    for each in peaks.bandwidth:
        threads, size = str(each.threads), f"{each.array_bytes / 2**20:.0f} MiB arrays"
        machine.add_row(f"{each.level} copy, {size}", threads, f"{each.copy / 1e9:.1f} GB/s", "")
        machine.add_row(f"{each.level} triad, {size}", threads, f"{each.triad / 1e9:.1f} GB/s", "")
    console.print(machine)
    for reason in peaks.unavailable:
        console.print(Text(f"unavailable: {reason}"), soft_wrap=True)
    if not rows:
        return
    heading = (
        "stage",
        "GFLOP per audio second",
        "reached",
        "of peak",
        "FLOP per byte",
        "limit",
        "of limit",
        "bound by",
    )
    stages = _table("Networks against these limits", heading)
    for row in rows:
        stages.add_row(
            f"{row.stage} ({row.precision})",
            f"{row.gflop_per_audio_second:.3f}",
            _rate(row.achieved),
            _share(row.share_of_peak),
            f"{row.intensity:.1f}",
            "—" if row.limit is None else _rate(row.limit),
            _share(row.share_of_limit),
            row.bound or "—",
        )
    console.print(stages)
    console.print(
        Text(
            "FLOP per byte counts every operation's operands and results as moved through the "
            "cache; where operations are fused, the limit may be exceeded"
        ),
        soft_wrap=True,
    )


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _rate(flops_per_second: float) -> str:
    return f"{flops_per_second / 1e9:.1f} GFLOP/s"


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100.0 * value:.1f} %"
