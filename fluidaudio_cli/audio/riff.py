"""The length a WAV file's header states, held against the file's size.

FFmpeg quietly believes the smaller of the two, so that a recording cut off in a copy looks whole.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_PLACEHOLDERS = (range(1), range(0x7FFF_0000, 0x8000_1000), range(0xFFFF_0000, 0x1_0000_0000))
"""Data lengths written by programs that stream and cannot know it (FFmpeg, SoX, arecord write
the largest number they can; some write 0)."""

_DS64_BYTES = 28


@dataclass(frozen=True)
class WavLength:
    """Seconds of sound the header states, and seconds the file has room for."""

    stated_seconds: float
    present_seconds: float


def wav_length(file: BinaryIO) -> WavLength | None:
    """Read a WAV, RF64 or BW64 header; leave ``file`` where it was.

    ``None`` for any other file, one that cannot seek, a header that is cut off, and a stated
    length that is a placeholder.
    """
    if not file.seekable():
        return None
    start = file.tell()
    try:
        return _read(file)
    except struct.error:  # the header itself is cut off: FFmpeg will say so
        return None
    finally:
        file.seek(start)


def _read(file: BinaryIO) -> WavLength | None:
    total = os.fstat(file.fileno()).st_size
    magic, _, kind = struct.unpack("<4sI4s", file.read(12))
    if magic not in (b"RIFF", b"RF64", b"BW64") or kind != b"WAVE":
        return None
    bytes_per_second, long_size = 0, 0
    while True:
        name, size = struct.unpack("<4sI", file.read(8))
        body = file.tell()
        if name == b"fmt ":
            bytes_per_second = struct.unpack("<HHIIHH", file.read(16))[3]
        elif name == b"ds64":
            long_size = struct.unpack("<QQQI", file.read(_DS64_BYTES))[1]
        elif name == b"data":
            stated = long_size if any(size in span for span in _PLACEHOLDERS) else size
            if not stated or not bytes_per_second:
                return None
            present = min(stated, total - body)
            return WavLength(stated / bytes_per_second, present / bytes_per_second)
        file.seek(body + size + size % 2)  # chunks are padded to even length
