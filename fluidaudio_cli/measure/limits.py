"""What this machine can do at most: products of matrices and bandwidth, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fluidaudio_cli.errors import ExecutorUnavailableError
from fluidaudio_cli.executors.gemm_probe import PRODUCTS, GemmPeak, gemm_peak
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.measure.bandwidth import Bandwidth, Level, measure_bandwidth

_LEVELS: tuple[Level, ...] = ("memory", "cache")


@dataclass(frozen=True)
class MachinePeaks:
    """What was measured, and why something could not be."""

    gemm: tuple[GemmPeak, ...]
    bandwidth: tuple[Bandwidth, ...]
    unavailable: tuple[str, ...] = ()

    def flops_per_second(self, precision: str, threads: int) -> float | None:
        """The highest rate of any executor; ``None`` where it was not measured."""
        wanted = precision, threads
        known = (each for each in self.gemm if (each.precision, each.threads) == wanted)
        return max((each.flops_per_second for each in known), default=None)

    def bytes_per_second(self, level: Level, threads: int) -> float | None:
        """The best bandwidth with so many threads; ``None`` where it was not measured."""
        known = (each for each in self.bandwidth if (each.level, each.threads) == (level, threads))
        return max((each.best for each in known), default=None)


def measure_machine(
    threads: Sequence[int] | None = None,
    products: Sequence[tuple[str, str]] = PRODUCTS,
) -> MachinePeaks:
    """Products by (executor, precision), and bandwidth; about 15 s.

    ``threads``: one and all processors unless given. What an executor does not offer here is
    listed in ``unavailable``.
    """
    counts = tuple(threads) if threads is not None else tuple(sorted({1, processors()}))
    gemm: list[GemmPeak] = []
    unavailable: list[str] = []
    for executor, precision in products:
        try:
            gemm.extend(gemm_peak(executor, precision, count) for count in counts)
        except ExecutorUnavailableError as error:  # noqa: PERF203 - the others are measured still
            unavailable.append(f"{executor} {precision}: {error}")
    bandwidth = tuple(measure_bandwidth(level, count) for level in _LEVELS for count in counts)
    return MachinePeaks(tuple(gemm), bandwidth, tuple(unavailable))
