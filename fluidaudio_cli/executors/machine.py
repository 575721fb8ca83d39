"""Facts about this machine's processor that decide precision, threads and cached artifacts."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path

from fluidaudio_cli.executors.cgroups import cpu_quota


def processors() -> int:
    """Processors this process may use: its affinity, and no more than its quota of time.

    A broken quota counts as the next whole number: with 1.5 processors, one thread would leave
    a third of the time unused, and two only pause at the end of each period.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _quota()
    return count if quota is None else min(count, max(1, math.ceil(quota)))


@lru_cache(maxsize=1)
def _quota() -> float | None:
    return cpu_quota() if sys.platform == "linux" else None


@lru_cache(maxsize=1)
def limit_malloc_arenas() -> None:
    """Let glibc's allocator keep two heaps instead of eight for each processor.

    What one thread allocates and another frees stays in the heap of the first; over ten hours of
    audio that adds up to 10 MB.
    """
    _tell_malloc(_M_ARENA_MAX, 2)


def return_large_blocks() -> None:
    """Let glibc's allocator give blocks of 256 KiB and more back at once, however often they come.

    Else it keeps ever larger ones, between which an hour of small ones is strewn: a stream of an
    hour and 37 speakers grew by 14 MB after its first ten minutes, and by 5 to 6 with bounds of
    128 KiB and 1 MiB.
    """
    _tell_malloc(_M_MMAP_THRESHOLD, 2**18)


# Of malloc.h.
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3


def _tell_malloc(parameter: int, value: int) -> None:
    """Set a parameter of glibc's allocator; others have none such, and are left alone."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(parameter, value)


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Instruction-set flags as Linux names them; empty where the system does not tell."""
    return frozenset(_cpuinfo("flags", "Features").split())


@lru_cache(maxsize=1)
def cpu_identity() -> str:
    """Model and instruction set: a blob compiled for one value may not run on another."""
    model = _cpuinfo("model name", "CPU part") or platform.processor()
    parts = (sys.platform, platform.machine(), model, " ".join(sorted(cpu_flags())))
    return "|".join(parts)


def has_amx_bf16() -> bool:
    """Whether bf16 products run on tiles (AMX), where they are several times as fast."""
    return "amx_bf16" in cpu_flags()


def has_fast_bf16() -> bool:
    """Whether bf16 products have instructions of their own: tiles, or AVX-512's.

    These do twice as many a cycle as fp32's on Zen 4 (paired, OpenVINO: segmentation 1.86x,
    embedding 2.0x); where they are missing, OpenVINO only stores bf16.
    """
    return has_amx_bf16() or "avx512_bf16" in cpu_flags()


def has_fast_integers() -> bool:
    """Whether products of 8-bit integers have instructions of their own: VNNI, or tiles.

    On Zen 4 the embedding takes 59 ms for 97 in bf16 (docs/narrow.md). Without them sums are kept
    in 16 bits on the way, which gains little and can overflow.
    """
    return bool({"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags())


@lru_cache(maxsize=1)
def _cpuinfo_lines() -> tuple[tuple[str, str], ...]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    first_processor = text.split("\n\n", 1)[0]
    pairs = (line.partition(":")[::2] for line in first_processor.splitlines())
    return tuple((key.strip(), value.strip()) for key, value in pairs)


def _cpuinfo(*keys: str) -> str:
    return next((value for key, value in _cpuinfo_lines() if key in keys), "")
