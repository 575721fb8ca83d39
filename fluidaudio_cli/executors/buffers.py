"""Aligned NumPy buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fluidaudio_cli.executors.base import Array

_Scalar = TypeVar("_Scalar", bound=np.generic)
ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register


def aligned_empty(shape: Sequence[int], dtype: DTypeLike = np.float32) -> Array:
    """An uninitialised array whose first element lies on a 64-byte boundary."""
    element = np.dtype(dtype)
    wanted = math.prod(shape) * element.itemsize
    raw = np.empty(wanted + ALIGNMENT, dtype=np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    aligned: Array = raw[offset : offset + wanted].view(element).reshape(shape)
    return aligned


def aligned_copy(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The same numbers from a 64-byte boundary on."""
    copy = cast("NDArray[_Scalar]", aligned_empty(array.shape, array.dtype))
    copy[...] = array
    return copy
