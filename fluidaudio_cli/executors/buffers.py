"""Aligned NumPy buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
