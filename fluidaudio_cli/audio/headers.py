"""What a file's first and last bytes say about its length, where FFmpeg does not tell.

FFmpeg believes the smaller of a WAV's stated length and the file's size, guesses an MP3's
length where no header counts its frames, and takes an Ogg file's length from the last page it
finds: a recording cut off in a copy looks whole.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

_PLACEHOLDERS = (range(1), range(0x7FFF_0000, 0x8000_1000), range(0xFFFF_0000, 0x1_0000_0000))
"""Data lengths written by programs that stream and cannot know it (FFmpeg, SoX, arecord write
the largest number they can; some write 0)."""

_DS64_BYTES = 28


_WAV_MISCOUNT_BYTES = 64
"""Some writers count the header as sound."""

_MP3_HEAD_BYTES = 512
"""From the first frame's beginning; its Xing or Info tag is within the first 40 bytes."""

_OGG_PAGE_BYTES = 65_307
"""The longest Ogg page: a header of 27 bytes, 255 lengths, 255 segments of 255 bytes."""


@dataclass(frozen=True)
class HeaderLength:
    """``wav_seconds`` as stated, ``None`` if not WAV or unknown to its writer.

    The other fields are false where they do not apply.
    """

    wav_seconds: float | None = None
    wav_is_cut: bool = False
    mp3_counts_frames: bool = False
    ogg_page_is_cut: bool = False


def read_header(file: BinaryIO) -> HeaderLength:
    """Look at ``file`` by its magic number and leave it where it was; a pipe tells nothing."""
    if not file.seekable():
        return HeaderLength()
    start = file.tell()
    try:
        magic = file.read(4)
        file.seek(start)
        if magic in (b"RIFF", b"RF64", b"BW64"):
            return _wav_length(file)
        if magic == b"OggS":
            return HeaderLength(ogg_page_is_cut=_ogg_page_is_cut(file))
        return HeaderLength(mp3_counts_frames=_mp3_counts_frames(file))
    except struct.error:  # the header itself is cut off: FFmpeg will say so
        return HeaderLength()
    finally:
        file.seek(start)


def _wav_length(file: BinaryIO) -> HeaderLength:
    total = os.fstat(file.fileno()).st_size
    _, _, kind = struct.unpack("<4sI4s", file.read(12))
    if kind != b"WAVE":
        return HeaderLength()
    bytes_per_second, long_size = 0, 0
    while True:
        name, size = struct.unpack("<4sI", file.read(8))
        body = file.tell()
        if name == b"fmt ":
            bytes_per_second = struct.unpack("<HHIIHH", file.read(16))[3]
        elif name == b"ds64":  # RF64: (RIFF size, data size, sample count)
            long_size = struct.unpack("<QQQ", file.read(24))[1]
        elif name == b"data":
            stated = long_size if any(size in span for span in _PLACEHOLDERS) else size
            if not stated or not bytes_per_second:
                return HeaderLength()
            missing = stated - (total - body)
            return HeaderLength(stated / bytes_per_second, missing > _WAV_MISCOUNT_BYTES)
        file.seek(body + size + size % 2)  # chunks are padded to even length


def _mp3_counts_frames(file: BinaryIO) -> bool:
    head = file.read(10)
    if len(head) == 10 and head.startswith(b"ID3"):
        # Four times seven bits (ID3v2.4, section 6.2).
        size = sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
        file.seek(10 + size)
    else:
        file.seek(0)
    first_frame = re.search(rb"\xff[\xe2-\xff]", file.read(_MP3_HEAD_BYTES), re.DOTALL)
    if first_frame is None:
        return False
    head = first_frame.string[first_frame.start() : first_frame.start() + 44]
    return b"Xing" in head or b"Info" in head


def _ogg_page_is_cut(file: BinaryIO) -> bool:
    total = os.fstat(file.fileno()).st_size
    tail_start = max(0, total - _OGG_PAGE_BYTES)
    file.seek(tail_start)
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return False  # other data behind the pages; FFmpeg skips it
    segments = tail[page + 26 : page + 27]
    lengths = tail[page + 27 : page + 27 + segments[0]] if segments else b""
    whole = bool(segments) and len(lengths) == segments[0]
    return not whole or page + 27 + len(lengths) + sum(lengths) > len(tail)
