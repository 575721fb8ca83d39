"""Bandwidth of memory and cache as a program without special instructions gets it.

Copy and triad after STREAM (McCalpin 1995): bytes counted as the arithmetic names them, without
the extra read that a store may cost. Arrays are far larger than the caches for memory, and fit
the last-level cache for that one, where a network's activations mostly are. NumPy releases its
lock in both kernels, so that threads run side by side. It has no fused triad: ``a = b + s * c``
is two passes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_TIMES_CACHE = 2  # a larger array than the last-level cache holds
_LEAST_BYTES = 256 * 2**20  # where the caches' sizes are not to be had
_MEMORY_SHARE = 10  # three arrays: at most 3/10 of what is free
# Arrays for the cache: three of them in the last level, and beyond the one before it.
_CACHE_SHARE = 16
_CACHE_LEAST_BYTES, _CACHE_MOST_BYTES = 2**20, 8 * 2**20
_PASSES = 3
_PASS_BYTES = 256 * 2**20  # small arrays are gone over again until a pass has so many bytes
_COPY_STREAMS = 2  # read b, write a
_TRIAD_STREAMS = 5  # read c, write a; read a, read b, write a

Level = Literal["memory", "cache"]


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second of the fastest pass; ``array_bytes`` is the size of each array."""

    level: Level
    threads: int
    copy: float
    triad: float
    array_bytes: int

    @property
    def best(self) -> float:
        """The higher of the two."""
        return max(self.copy, self.triad)


def measure_bandwidth(level: Level, threads: int, array_bytes: int | None = None) -> Bandwidth:
    """Measure with ``threads`` threads, each on its own slice of the arrays."""
    size = _array_bytes(level) if array_bytes is None else array_bytes
    count = size // 4
    target, left, right = (np.ones(count, np.float32) for _ in range(3))
    edges = np.linspace(0, count, threads + 1).astype(int)
    slices = [slice(first, last) for first, last in pairwise(edges)]
    rounds = max(1, _PASS_BYTES // size)

    def copy(part: slice) -> None:
        for _ in range(rounds):
            np.copyto(target[part], left[part])

    def triad(part: slice) -> None:
        for _ in range(rounds):
            np.multiply(right[part], np.float32(3.0), out=target[part])
            np.add(target[part], left[part], out=target[part])

    total = 4 * count
    copied, summed = (
        streams * total * rounds / min(_pass_seconds(kernel, slices) for _ in range(_PASSES))
        for kernel, streams in ((copy, _COPY_STREAMS), (triad, _TRIAD_STREAMS))
    )
    return Bandwidth(level, threads, copied, summed, total)


def _pass_seconds(kernel: Callable[[slice], None], slices: list[slice]) -> float:
    start = threading.Barrier(len(slices) + 1)

    def work(part: slice) -> None:
        start.wait()
        kernel(part)

    workers = [threading.Thread(target=work, args=(part,)) for part in slices]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def _array_bytes(level: Level) -> int:
    """Twice the last-level cache, as far as free memory allows; a share of it for the cache."""
    cache = last_level_cache_bytes()
    if level == "cache":
        return min(max(cache // _CACHE_SHARE, _CACHE_LEAST_BYTES), _CACHE_MOST_BYTES)
    wanted = max(_LEAST_BYTES, _TIMES_CACHE * cache)
    return min(wanted, int(psutil.virtual_memory().available) // _MEMORY_SHARE)


def last_level_cache_bytes(folder: Path = _CACHES) -> int:
    """Size of the largest cache of the first processor, 0 where the system does not tell."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    largest = 0
    for path in folder.glob("index*/size"):
        text = path.read_text(encoding="utf-8").strip()
        number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "")
        if number.isdigit():
            largest = max(largest, int(number) * units.get(unit, 1))
    return largest
