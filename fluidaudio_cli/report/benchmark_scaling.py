"""The table of ``--scaling`` and what it comes to, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from fluidaudio_cli.benchmark.results import BenchmarkResult
from fluidaudio_cli.benchmark.scaling import (
    JUDGED_FROM_SECONDS,
    MAX_GROWTH_BYTES,
    MAX_TIME_DEVIATION,
    ScalingVerdict,
    length_name,
    scaling_rows,
    scaling_verdicts,
)
from fluidaudio_cli.report.benchmark_report import figure
from fluidaudio_cli.report.benchmark_tables import Table

_Value = TypeVar("_Value", int, float)


def scaling_table(result: BenchmarkResult) -> Table | None:
    """One row per mode, length and number of threads; ``None`` where none was measured."""
    rows = tuple(
        (
            row.variant,
            length_name(row.length_seconds),
            str(row.threads),
            figure(row.load_seconds),
            figure(row.wall_seconds),
            figure(row.seconds_per_hour),
            f"{figure(row.rtfx)}x",
            f"{row.peak_bytes / 1e6:.1f}",
        )
        for row in scaling_rows(result.scaling)
    )
    header = (
        "mode", "audio", "threads", "load (s)", "wall (s)", "s per audio hour", "RTFx",
        "peak memory (MB)",
    )  # fmt: skip
    return Table("Scaling with the length of the audio", header, rows) if rows else None


def scaling_lines(result: BenchmarkResult) -> tuple[str, ...]:
    """Two verdicts for each mode: on time and on memory."""
    verdicts = scaling_verdicts(scaling_rows(result.scaling))
    return tuple(line for verdict in verdicts for line in _lines(verdict))


def _lines(verdict: ScalingVerdict) -> tuple[str, str]:
    if not verdict.time:
        reason = f"not judged, fewer than two lengths from {length_name(JUDGED_FROM_SECONDS)} on"
        return (
            f"{verdict.variant}: time per audio hour {reason}",
            f"{verdict.variant}: memory growth {reason}",
        )
    lengths = f"{length_name(verdict.shortest)} to {length_name(verdict.longest)}"
    time = _by_threads(verdict.time, lambda share: f"{100 * share:+.1f} %")
    growth = _by_threads(verdict.growth, lambda size: f"{size / 1e6:+.1f} MB")
    return (
        f"{verdict.variant}: time per audio hour, {lengths}: {time}; "
        f"limit ±{100 * MAX_TIME_DEVIATION:.0f} %: {_word(verdict.time_holds)}",
        f"{verdict.variant}: memory growth, {lengths}: {growth}; "
        f"limit {MAX_GROWTH_BYTES / 1e6:.0f} MB: {_word(verdict.memory_holds)}",
    )


def _by_threads(values: Mapping[int, _Value], text: Callable[[_Value], str]) -> str:
    return ", ".join(
        f"{text(value)} with {threads} thread{'' if threads == 1 else 's'}"
        for threads, value in values.items()
    )


def _word(passed: bool) -> str:
    return "pass" if passed else "fail"
