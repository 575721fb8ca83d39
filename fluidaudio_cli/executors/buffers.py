"""Aligned NumPy buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from fluidaudio_cli.executors.base import Array

ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register


def aligned_empty(shape: Sequence[int], dtype: DTypeLike = np.float32) -> Array:
    """An uninitialised array whose first element lies on a 64-byte boundary."""
    element = np.dtype(dtype)
    wanted = math.prod(shape) * element.itemsize
    raw = np.empty(wanted + ALIGNMENT, dtype=np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    aligned: Array = raw[offset : offset + wanted].view(element).reshape(shape)
    return aligned
