"""Aligned NumPy buffers, and a pool that hands them out again instead of allocating."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from fluidaudio_cli.executors.base import Array

ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register


def aligned_empty(
    shape: Sequence[int], dtype: DTypeLike = np.float32, row_multiple: int = 1
) -> Array:
    """An uninitialised array whose first element lies on a 64-byte boundary.

    With ``row_multiple`` above 1 the innermost dimension is padded in memory to a multiple of
    that many elements, so that every row starts as aligned as the first; the array returned is
    then a view of ``shape`` with that row stride, and not C-contiguous unless nothing was padded.
    """
    element = np.dtype(dtype)
    sizes = tuple(int(size) for size in shape)
    padded = (*sizes[:-1], -(-sizes[-1] // row_multiple) * row_multiple) if sizes else sizes
    wanted = math.prod(padded) * element.itemsize
    raw = np.empty(wanted + ALIGNMENT, dtype=np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    whole: Array = raw[offset : offset + wanted].view(element).reshape(padded)
    return whole if padded == sizes else whole[..., : sizes[-1]]


def is_aligned(array: Array) -> bool:
    """Whether the array's first element lies on a 64-byte boundary."""
    return bool(array.ctypes.data % ALIGNMENT == 0)


@dataclass(frozen=True)
class PoolStatistics:
    """What a pool did: allocations made, their bytes, takes served without one, buffers out."""

    allocations: int
    allocated_bytes: int
    reused: int
    outstanding: int


class AlignedPool:
    """Buffers by shape and dtype, reused once given back. Safe for several threads.

    A buffer keeps its last content; who takes it overwrites it. Buffers are never freed before
    the pool is: a pipeline's working set is bounded by what it holds at one time.
    """

    def __init__(self, row_multiple: int = 1) -> None:
        self._row_multiple = row_multiple
        self._lock = threading.Lock()
        self._free: dict[tuple[tuple[int, ...], str], list[Array]] = {}
        self._out: dict[int, Array] = {}
        self._allocations = 0
        self._allocated_bytes = 0
        self._reused = 0

    def take(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> Array:
        """A buffer of exactly this shape, 64-byte-aligned, content undefined."""
        key = (tuple(shape), np.dtype(dtype).str)
        with self._lock:
            waiting = self._free.get(key)
            if waiting:
                buffer = waiting.pop()
                self._reused += 1
            else:
                buffer = aligned_empty(shape, dtype, self._row_multiple)
                self._allocations += 1
                self._allocated_bytes += buffer.nbytes
            self._out[id(buffer)] = buffer
        return buffer

    def give_back(self, buffer: Array) -> None:
        """Return a buffer that :meth:`take` gave out (itself, not a view of it).

        Raises:
            ValueError: the array is not one that is out, which would let two users share it.
        """
        with self._lock:
            if self._out.pop(id(buffer), None) is None:
                raise ValueError(
                    f"an array of shape {buffer.shape} was given back that is not out of this pool"
                )
            self._free.setdefault((buffer.shape, buffer.dtype.str), []).append(buffer)

    @property
    def statistics(self) -> PoolStatistics:
        """Counts since the pool was made."""
        with self._lock:
            return PoolStatistics(
                self._allocations, self._allocated_bytes, self._reused, len(self._out)
            )
