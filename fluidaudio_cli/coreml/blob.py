"""Reader of the weight file of ML Programs (MIL blob storage, version 2), memory-mapped.

Layout, all little-endian: a 64-byte header (record count, version), then records that each
start on a multiple of 64 with 64 bytes of metadata (sentinel, element type, size in bytes,
offset of the data in the file). MIL refers to a record by the offset of its metadata.
Source: the published ``MILBlob/Blob/StorageFormat.hpp`` of coremltools.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.coreml.dtypes import decode, stored_bytes
from fluidaudio_cli.errors import ModelFormatError, os_errors

_HEADER = struct.Struct("<II56x")
_RECORD = struct.Struct("<IIQQ40x")
_VERSION = 2
_SENTINEL = 0xDEADBEEF
_TYPES = {
    1: "fp16",
    2: "fp32",
    3: "uint8",
    4: "int8",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}
_REMEDY = "copy or convert the package again"


class BlobFile:
    """One mapped weight file. ``ModelFormatError`` names the file and what is wrong in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with os_errors(f"cannot read the weight file {path}", _REMEDY, ModelFormatError):
            self._bytes: NDArray[np.uint8] = (
                np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
            )
        if len(self._bytes) < _HEADER.size:
            raise self._damaged(f"{len(self._bytes)} bytes are too few for a header")
        _, version = _HEADER.unpack(self._bytes[: _HEADER.size].tobytes())
        if version != _VERSION:
            raise self._damaged(f"storage version {version}, expected {_VERSION}")

    def read(self, offset: int, dtype: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """The array whose metadata is at ``offset``; whole-byte types are views of the file."""
        if offset % 64 or offset < _HEADER.size or offset + _RECORD.size > len(self._bytes):
            raise self._damaged(f"no record can be at offset {offset}")
        sentinel, code, size, start = _RECORD.unpack(
            self._bytes[offset : offset + _RECORD.size].tobytes()
        )
        if sentinel != _SENTINEL:
            raise self._damaged(f"no record at offset {offset}")
        stored = _TYPES.get(code)
        if stored is None:
            raise self._damaged(f"record at offset {offset} has unknown element type {code}")
        # Booleans have no storage type of their own; one byte each.
        if stored != dtype and (stored, dtype) != ("uint8", "bool"):
            raise self._damaged(f"record at offset {offset} holds {stored}, expected {dtype}")
        count = int(np.prod(shape, dtype=np.int64))
        if size != stored_bytes(dtype, count):
            raise self._damaged(
                f"record at offset {offset} holds {size} bytes, "
                f"expected {stored_bytes(dtype, count)} for {dtype} {list(shape)}"
            )
        if start + size > len(self._bytes):
            raise self._damaged(
                f"truncated: record at offset {offset} ends at byte {start + size}, "
                f"the file at {len(self._bytes)}"
            )
        return decode(self._bytes[start : start + size], dtype, count).reshape(shape)

    def _damaged(self, what: str) -> ModelFormatError:
        return ModelFormatError(f"{self._path}: weight file: {what}", _REMEDY)
