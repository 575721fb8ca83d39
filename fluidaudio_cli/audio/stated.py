"""How long a recording says it is, and how it is laid out, where FFmpeg does not tell.

Of what FFmpeg states as a length, some is read, and some is a guess by the bit rate.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

ReadAt = Callable[[int, int], bytes]
"""(offset, count) to that many bytes of the recording, fewer where they cannot be had."""

_WTV = bytes.fromhex("b7d80020")
"""Of Windows Television: tables of its sectors are anywhere."""

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEAD_BYTES = 65_536

_EBML = bytes.fromhex("1a45dfa3")
_SEGMENT = bytes.fromhex("18538067")
_EBML_HEAD_BYTES = 4096

_MP4_INDEX_BYTES = 65_536
"""An index of fragments is short, as it lists no samples."""

_TS_BYTES = 188
"""Of an MPEG-TS packet, which begins with 0x47."""

_MP3_HEAD_BYTES = 512
"""From the first frame's beginning; its Xing or Info tag is within the first 40 bytes."""

OGG_PAGE_BYTES = 65_307
"""The longest Ogg page: a header of 27 bytes, 255 lengths, 255 segments of 255 bytes."""


MOST_CHUNKS = 1000
"""Before the samples: more are zeros or garbage, of which a file can hold millions."""

_UNKNOWN_BYTES = 0x7FFF_0000
"""Of an AVI: from here on, programs state that they do not know."""


@dataclass(frozen=True)
class Stated:
    """``file_bytes`` and ``play_seconds``: size and length of the whole, where it states them.

    ``packet_bytes``: all packets are that long. ``index_at_end``: it cannot be read forward, as an
    MP4 whose index is behind its samples. ``fragmented``: an MP4 whose parts say each where and
    how long they are.
    """

    file_bytes: int | None = None
    play_seconds: float | None = None
    packet_bytes: int | None = None
    index_at_end: bool = False
    fragmented: bool = False


def read_stated(magic: bytes, read_at: ReadAt) -> Stated:
    """Look at a recording by its first 16 bytes. Raises ``struct.error`` if its header is cut."""
    if magic[:4] == _WTV:
        return Stated(index_at_end=True)
    if magic[:4] == b"RIFF" and magic[8:12] == b"AVI ":  # of several, the first
        (size,) = struct.unpack("<I", magic[4:8])
        return Stated(file_bytes=size + 8 if size < _UNKNOWN_BYTES else None)
    if magic == _ASF:
        return _read_asf(read_at(0, _ASF_HEAD_BYTES))
    if magic[:4] == _EBML:
        return Stated(file_bytes=_matroska_bytes(read_at(0, _EBML_HEAD_BYTES)))
    if all(read_at(at * _TS_BYTES, 1) == b"G" for at in range(3)):
        return Stated(packet_bytes=_TS_BYTES)
    if magic[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _read_mp4(read_at)
    return Stated(play_seconds=_mp3_seconds(read_at))


def _read_mp4(read_at: ReadAt) -> Stated:
    """Whether an MP4's samples come before the index that tells where they are, or in fragments."""
    offset = 0
    for _ in range(MOST_CHUNKS):
        size, kind = struct.unpack(">I4s", read_at(offset, 8))
        if kind == b"mdat":
            return Stated(index_at_end=True)
        if kind == b"moov":
            return Stated(fragmented=b"mvex" in read_at(offset, min(size, _MP4_INDEX_BYTES)))
        if size == 1:
            (size,) = struct.unpack(">Q", read_at(offset + 8, 8))
        if size < 8:
            break
        offset += size
    return Stated()


def _read_asf(head: bytes) -> Stated:
    """Size and play duration less preroll, of an ASF's File Properties (specification, 3.2)."""
    at = head.find(_ASF_PROPERTIES)
    if at < 0:
        return Stated()
    size, _, _, play, _, preroll, flags = struct.unpack_from("<6QI", head, at + 40)
    if flags & 1:  # a broadcast: unknown
        return Stated()
    seconds = play / 1e7 - preroll / 1e3
    # A recorder that was stopped leaves zeros.
    return Stated(file_bytes=size or None, play_seconds=seconds if seconds > 0 else None)


def _matroska_bytes(head: bytes) -> int | None:
    """Size of the file by its only segment's; ``None`` if that is open (RFC 8794, 4 and 6)."""
    name, _, rest = head.partition(_SEGMENT)
    if not rest or not rest[0]:
        return None
    width = 9 - rest[0].bit_length()  # zeros before the first bit tell of further bytes
    unknown = (1 << 7 * width) - 1
    size = int.from_bytes(rest[:width], "big") & unknown
    return None if size == unknown else len(name) + len(_SEGMENT) + width + size


def _mp3_seconds(read_at: ReadAt) -> float | None:
    """Length by the frames that the Xing or Info tag in the first one counts, if it does."""
    start, head = 0, read_at(0, 10)
    if len(head) == 10 and head.startswith(b"ID3"):
        # Four times seven bits (ID3v2.4, section 6.2).
        start = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    head = read_at(start, _MP3_HEAD_BYTES)
    frame = re.search(rb"\xff[\xe2-\xff].{2,38}?(Xing|Info)...(.)(....)", head, re.DOTALL)
    if frame is None or not frame[2][0] & 1:
        return None
    # Of the frame's header (ISO 11172-3 and 13818-3, 2.4.2.3): two bits of version, of rate.
    _, version, third = frame[0][:3]
    divisor = {3: 1, 2: 2, 0: 4}.get(version >> 3 & 3)
    if divisor is None or third >> 2 & 3 == 3:
        return None
    rate = (44_100, 48_000, 32_000)[third >> 2 & 3] / divisor
    # None at all is unknown.
    return int.from_bytes(frame[3], "big") * (1152 if divisor == 1 else 576) / rate or None


def ogg_page_is_cut(tail: bytes) -> bool:
    """Whether the last Ogg page in ``tail``, the file's last bytes, is incomplete."""
    page = tail.rfind(b"OggS")
    if page < 0:
        return False  # other data behind the pages; FFmpeg skips it
    segments = tail[page + 26 : page + 27]
    lengths = tail[page + 27 : page + 27 + segments[0]] if segments else b""
    whole = bool(segments) and len(lengths) == segments[0]
    return not whole or page + 27 + len(lengths) + sum(lengths) > len(tail)
