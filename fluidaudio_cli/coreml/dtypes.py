"""Element types of MIL: their names, NumPy types, and packed storage."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

# MIL name -> NumPy type that holds one element in memory (sub-byte types widened to a byte).
NUMPY_TYPES: dict[str, DTypeLike] = {
    "bool": np.bool_,
    "string": np.str_,
    "fp16": np.float16,
    "fp32": np.float32,
    "fp64": np.float64,
    "int4": np.int8,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint1": np.uint8,
    "uint2": np.uint8,
    "uint3": np.uint8,
    "uint4": np.uint8,
    "uint6": np.uint8,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
}

# Bits of one stored element where that is less than a byte.
SUB_BYTE_BITS = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}

FLOAT_TYPES = frozenset({"fp16", "fp32", "fp64"})


def stored_bytes(dtype: str, count: int) -> int:
    """Bytes that ``count`` elements take when packed."""
    bits = SUB_BYTE_BITS.get(dtype) or np.dtype(NUMPY_TYPES[dtype]).itemsize * 8
    return (count * bits + 7) // 8


def decode(raw: NDArray[np.uint8], dtype: str, count: int) -> NDArray[np.generic]:
    """``count`` elements from little-endian bytes ``raw``; sub-byte types are packed LSB first.

    An element of a packed type may straddle two bytes: its low bits then fill the high bits of
    the first byte (MIL blob storage, "SubByteTypes").
    """
    bits = SUB_BYTE_BITS.get(dtype)
    if bits is None:
        return np.asarray(raw.view(np.dtype(NUMPY_TYPES[dtype]).newbyteorder("<"))[:count])
    numbers = unpack_bits(raw, bits, count)
    if dtype == "int4":
        return ((numbers ^ 8).astype(np.int8) - 8).astype(np.int8)
    return numbers


def unpack_bits(raw: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """``count`` unsigned integers of ``bits`` bits each from a little-endian bit stream."""
    stream = np.unpackbits(raw, bitorder="little")[: count * bits].reshape(count, bits)
    return np.asarray(np.packbits(stream, axis=1, bitorder="little")[:, 0])
