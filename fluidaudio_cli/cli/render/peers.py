"""Peers beside our modes, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.benchmark.peers.comparison import ComparedRun, speed_ratio
from fluidaudio_cli.benchmark.peers.results import PeerResult


def render_peers(
    console: Console,
    ours: Sequence[ComparedRun],
    peers: Sequence[ComparedRun],
    results: Sequence[PeerResult] = (),
) -> None:
    """One table: our modes and the peers, and how many times as fast each mode is.

    Below it, what is not equal between the pipelines, and the files that a peer failed on.
    """
    available = [peer for peer in peers if not peer.unavailable]
    table = Table(title="Against peers", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("program", overflow="fold")
    for heading in ("RTFx", "DER strict", "DER lenient", "right speaker count", "peak RSS"):
        table.add_column(heading, justify="right")
    for peer in available:
        table.add_column(f"speed ÷ {peer.name}", justify="right")
    for run in (*ours, *peers):
        if run.unavailable:
            continue
        name = f"{run.name} ({run.note})" if run.note else run.name
        ratios = ["" if run in peers else _ratio(speed_ratio(run, peer)) for peer in available]
        table.add_row(*(Text(cell) for cell in (name, *_figures(run), *ratios)))
    console.print(table)
    for run in (*ours, *peers):
        if run.unavailable:
            _line(console, f"{run.name}: unavailable: {run.unavailable}")
    for result in results:
        _remarks(console, result)


def _remarks(console: Console, result: PeerResult) -> None:
    if result.unavailable:
        return
    _line(console, f"{result.name}: models loaded in {result.load_seconds:.2f} s, not in RTFx")
    if result.thread_trials:
        tried = ", ".join(f"{n}: {s:.2f} s" for n, s in sorted(result.thread_trials.items()))
        _line(console, f"{result.name}: threads tried on one stretch of audio: {tried}")
    for difference in result.differences:
        _line(console, f"{result.name} differs: {difference}")
    for failure in result.failures:
        _line(console, f"{result.name} failed: {failure.path}: {failure.error}")


def _figures(run: ComparedRun) -> tuple[str, ...]:
    count = f"{run.speakers_right}/{run.files}" if run.strict is not None else "—"
    memory = "—" if run.peak_rss_bytes is None else f"{run.peak_rss_bytes / 1e6:.0f} MB"
    return (
        "—" if run.rtfx is None else f"{run.rtfx:.1f}x",
        _percent(run.strict),
        _percent(run.lenient),
        count,
        memory,
    )


def _percent(rate: float | None) -> str:
    return "—" if rate is None else f"{100.0 * rate:.2f} %"


def _ratio(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}x"


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
