"""What a file's own header says about its samples, where FFmpeg does not tell or gets it wrong.

Chunked formats (WAV, RF64, W64, AIFF, CAF) state how long their data chunk is; recorders that
were stopped hard, or wrote more than 32 bits can count, state too little, and FFmpeg believes it.
Samples may have fewer valid bits than their container; FFmpeg then reads them at the wrong width.
Both are mended by giving FFmpeg a few other bytes (``Header.patches``).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

ReadAt = Callable[[int, int], bytes]
"""(offset, count) to that many bytes of the recording, fewer where they cannot be had."""

_UNKNOWN_32 = (range(1), range(0x7FFF_0000, 0x8000_1000), range(0xFFFF_0000, 0x1_0000_0000))
"""Data sizes written by programs that stream and cannot know it (FFmpeg, SoX, arecord write the
largest number they can; some write 0)."""
_UNKNOWN_64 = 1 << 60
"""No file is that long: such a size, or a negative one, is unknown."""

_MISCOUNT_BYTES = 64
"""Some writers count the header as sound; and so few bytes behind it are none."""

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

_TAGS = (b"ID3", b"TAG", b"APETAGEX")
_CHUNKS = frozenset(
    b"LIST,id3 ,ID3 ,bext,fact,cue ,smpl,iXML,JUNK,PAD ,PEAK,DISP,axml,chna,umid,acid,inst,strc,"
    b"_PMX,minf,elm1,regn,afsp,FLLR,levl,plst,COMT,MARK,INST,ANNO,NAME,AUTH,(c) ,APPL,info,uuid,"
    b"strg,free,pakt,kuki,chan,mark,midi,ovvw,edct,bits".split(b",")
)
"""Chunks known to follow samples; others count if their sizes lead exactly to the end."""

_MOST_CHUNKS = 1000
"""Before the samples: more are zeros or garbage, of which a file can hold millions."""

_MP3_HEAD_BYTES = 512
"""From the first frame's beginning; its Xing or Info tag is within the first 40 bytes."""

OGG_PAGE_BYTES = 65_307
"""The longest Ogg page: a header of 27 bytes, 255 lengths, 255 segments of 255 bytes."""


@dataclass(frozen=True)
class Header:
    """``data_start`` and ``data_bytes`` of a chunked format; ``None``: not one, or unknown.

    ``bytes_per_second`` of its samples. ``patches``: bytes to be read instead, by offset.
    ``size_field``: where that length is stated, and how; ``layout``: how chunks are written.
    ``index_at_end``: it cannot be read forward, as an MP4 whose index is behind its samples.
    ``fragmented``: an MP4 whose parts say each where and how long they are. ``endless``: chunks
    without end before any samples, which FFmpeg would walk through. ``packet_bytes``: all are that
    long.
    ``file_bytes`` and ``play_seconds``: size and length of the whole, where it states them.
    """

    data_start: int | None = None
    data_bytes: int | None = None
    bytes_per_second: float | None = None
    patches: Mapping[int, bytes] = field(default_factory=dict)
    size_field: _SizeField | None = None
    layout: _Layout | None = None
    index_at_end: bool = False
    fragmented: bool = False
    endless: bool = False
    packet_bytes: int | None = None
    file_bytes: int | None = None
    play_seconds: float | None = None

    @property
    def data_end(self) -> int | None:
        """Offset behind the samples, as stated."""
        if self.data_start is None or self.data_bytes is None:
            return None
        return self.data_start + self.data_bytes

    @property
    def seconds(self) -> float | None:
        """Length as stated."""
        if self.play_seconds is not None:
            return self.play_seconds
        if self.data_bytes is None or not self.bytes_per_second:
            return None
        return self.data_bytes / self.bytes_per_second

    def open_end(self, total_bytes: int | None) -> dict[int, bytes]:
        """Patches that make FFmpeg read on to the end, of a file of that size or of a pipe."""
        if self.size_field is None or self.data_start is None:
            return {}
        at, form, extra, unknown = self.size_field
        size = unknown if total_bytes is None else total_bytes - self.data_start + extra
        try:
            return {at: struct.pack(form, size)}
        except struct.error:  # more than the field can count
            return {at: struct.pack(form, unknown)}

    def is_trailer(self, tail: bytes, whole: bool) -> bool:
        """Whether ``tail``, which follows the samples, is no sound: tags, or well-formed chunks.

        ``whole``: it reaches to the end of the file, so that sizes can be checked.
        """
        if (whole and len(tail) <= _MISCOUNT_BYTES) or tail.startswith(_TAGS):
            return True
        layout = self.layout or _RIFF
        # Some writers forget the padding, so both are tried.
        pads = (0, -((self.data_end or 0) - layout.first) % layout.alignment)
        return any(_are_chunks(layout, tail[pad:], whole) for pad in pads)


class _SizeField(NamedTuple):
    """``extra``: what the size counts besides; ``unknown``: FFmpeg then reads to the end."""

    offset: int
    form: str
    extra: int
    unknown: int


@dataclass(frozen=True)
class _Layout:
    """How a chunked format writes a chunk: its identifier, its size, what the size counts."""

    first: int
    id_bytes: int
    size: str
    counts_header: bool
    alignment: int
    format_id: bytes
    data_id: bytes
    data_skip: int  # fields between the data chunk's header and its samples
    open_size: int  # what FFmpeg takes for "to the end of the file"


_RIFF = _Layout(12, 4, "<I", False, 2, b"fmt ", b"data", 0, 0xFFFF_FFFF)
_AIFF = _Layout(12, 4, ">I", False, 2, b"COMM", b"SSND", 8, 0x7FFF_FFFF)
_CAF = _Layout(8, 4, ">q", False, 1, b"desc", b"data", 4, -1)
_W64 = _Layout(40, 16, "<q", True, 8, b"fmt ", b"data", 0, 1 << 62)


def read_header(read_at: ReadAt) -> Header:
    """Look at a recording by its magic number."""
    magic = read_at(0, 16)
    layout = _layout(magic)
    try:
        if layout is not None:
            return _read_chunks(layout, read_at)
        if magic[:4] == b".snd" and not any(magic[8:12]):  # written to a pipe; FFmpeg refuses it
            return Header(patches={8: b"\xff" * 4})
        if magic[:4] == _WTV:
            return Header(index_at_end=True)
        if magic[:4] == b"RIFF" and magic[8:12] == b"AVI ":  # of several, the first
            (size,) = struct.unpack("<I", magic[4:8])
            return Header(file_bytes=size + 8 if size < _UNKNOWN_32[1][0] else None)
        if magic == _ASF:
            return _read_asf(read_at(0, _ASF_HEAD_BYTES))
        if magic[:4] == _EBML:
            return Header(file_bytes=_matroska_bytes(read_at(0, _EBML_HEAD_BYTES)))
        if all(read_at(at * _TS_BYTES, 1) == b"G" for at in range(3)):
            return Header(packet_bytes=_TS_BYTES)
        if magic[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _read_mp4(read_at)
        return Header(play_seconds=_mp3_seconds(read_at))
    except struct.error:  # the header itself is cut off: FFmpeg will say so
        return Header()


def _layout(magic: bytes) -> _Layout | None:
    if magic[:4] in (b"RIFF", b"RF64", b"BW64") and magic[8:12] == b"WAVE":
        return _RIFF
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _AIFF
    if magic[:4] == b"caff":
        return _CAF
    return _W64 if magic[:4] == b"riff" else None


def _read_chunks(layout: _Layout, read_at: ReadAt) -> Header:
    offset, rate, long_size_at = layout.first, 0.0, None
    patches: dict[int, bytes] = {}
    size_bytes = struct.calcsize(layout.size)
    for _ in range(_MOST_CHUNKS):
        name = read_at(offset, layout.id_bytes)[:4]
        (size,) = struct.unpack(layout.size, read_at(offset + layout.id_bytes, size_bytes))
        size_at = offset + layout.id_bytes
        body = size_at + size_bytes
        if layout.counts_header:
            size -= body - offset
        if name == layout.format_id:
            patches, rate = _read_format(layout, body, read_at(body, min(40, max(0, size))))
        elif name == b"ds64":  # RF64: (RIFF size, data size, sample count)
            long_size_at = body + 8
        elif name == layout.data_id:
            counted = layout.data_skip + (body - offset if layout.counts_header else 0)
            size_field = _SizeField(size_at, layout.size, counted, layout.open_size)
            if long_size_at is not None:
                (size,) = struct.unpack("<q", read_at(long_size_at, 8))
                size_field = _SizeField(long_size_at, "<q", 0, 1 << 62)
            elif size_bytes == 4 and any(size in span for span in _UNKNOWN_32):
                size = -1
            size -= layout.data_skip
            known = 0 < size < _UNKNOWN_64
            start = body + layout.data_skip
            # A CAF whose packets differ in size lists them, mostly at its end.
            listed = layout is _CAF and not rate
            stated = size if known else None
            return Header(start, stated, rate, patches, size_field, layout, index_at_end=listed)
        if size < 0:
            return Header()
        offset = body + size + -(body + size - layout.first) % layout.alignment
    return Header(endless=True)


def _read_format(layout: _Layout, body: int, fields: bytes) -> tuple[dict[int, bytes], float]:
    """Patches that state the container's width for the valid bits; bytes per second."""
    if layout is _AIFF:
        channels, _, bits = struct.unpack(">hIh", fields[:8])
        exponent, mantissa = struct.unpack(">HQ", fields[8:18])  # 80-bit extended float
        compressed = fields[18:22] not in (b"", b"NONE", b"sowt", b"twos")
        power = (exponent & 0x7FFF) - 16383
        # A damaged one may be beyond all floats; no rate has more than 32 bits.
        rate = float(mantissa) * 2.0 ** (power - 63) if power < 32 else 0.0
        return {}, 0.0 if compressed else rate * channels * -(-bits // 8)
    if layout is _CAF:
        rate, kind, _, packet, frames, channels, bits = struct.unpack(">d4sIIIII", fields[:32])
        width = 8 * packet // channels if channels and kind == b"lpcm" else 0
        patches = {body + 28: struct.pack(">I", width)} if bits < width <= 64 else {}
        return patches, rate * packet / frames if frames else 0.0
    tag, channels, sample_rate, average, align, bits = struct.unpack("<HHIIHH", fields[:16])
    guid_tag = struct.unpack("<H", fields[24:26])[0] if tag == 0xFFFE and len(fields) >= 26 else tag
    if guid_tag not in (1, 3) or not channels or align % channels or align // channels > 8:
        return {}, float(average)
    width = 8 * (align // channels)
    # Both ways of stating it: the plain field, and the valid bits of the extensible form.
    places = (14, 18) if tag == 0xFFFE else (14,)
    patches = {
        body + place: struct.pack("<H", width)
        for place in places
        if struct.unpack_from("<H", fields, place)[0] < width
    }
    return patches, float(sample_rate * align)


def _are_chunks(layout: _Layout, tail: bytes, whole: bool) -> bool:
    if tail[:4] in _CHUNKS:
        return True
    offset, head_bytes = 0, layout.id_bytes + struct.calcsize(layout.size)
    while whole and len(tail) - offset >= head_bytes:
        (size,) = struct.unpack_from(layout.size, tail, offset + layout.id_bytes)
        size -= head_bytes if layout.counts_header else 0
        offset += head_bytes
        name = tail[offset - head_bytes :][:4]
        if not re.fullmatch(rb"[\x20-\x7e]{4}", name) or not 0 <= size <= len(tail) - offset:
            return False
        offset += size + -size % layout.alignment
    return whole and not any(tail[offset:])


def exceeds_file(header: Header, total_bytes: int) -> bool:
    """Whether the header states more than the file of ``total_bytes`` holds."""
    end = header.data_end if header.file_bytes is None else header.file_bytes
    return end is not None and end - total_bytes > _MISCOUNT_BYTES


def _read_mp4(read_at: ReadAt) -> Header:
    """Whether an MP4's samples come before the index that tells where they are, or in fragments."""
    offset = 0
    for _ in range(_MOST_CHUNKS):
        size, kind = struct.unpack(">I4s", read_at(offset, 8))
        if kind == b"mdat":
            return Header(index_at_end=True)
        if kind == b"moov":
            return Header(fragmented=b"mvex" in read_at(offset, min(size, _MP4_INDEX_BYTES)))
        if size == 1:
            (size,) = struct.unpack(">Q", read_at(offset + 8, 8))
        if size < 8:
            break
        offset += size
    return Header()


def _read_asf(head: bytes) -> Header:
    """Size and play duration less preroll, of an ASF's File Properties (specification, 3.2)."""
    at = head.find(_ASF_PROPERTIES)
    if at < 0:
        return Header()
    size, _, _, play, _, preroll, flags = struct.unpack_from("<6QI", head, at + 40)
    if flags & 1:  # a broadcast: unknown
        return Header()
    return Header(file_bytes=size or None, play_seconds=max(0.0, play / 1e7 - preroll / 1e3))


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
    return int.from_bytes(frame[3], "big") * (1152 if divisor == 1 else 576) / rate


def ogg_page_is_cut(tail: bytes) -> bool:
    """Whether the last Ogg page in ``tail``, the file's last bytes, is incomplete."""
    page = tail.rfind(b"OggS")
    if page < 0:
        return False  # other data behind the pages; FFmpeg skips it
    segments = tail[page + 26 : page + 27]
    lengths = tail[page + 27 : page + 27 + segments[0]] if segments else b""
    whole = bool(segments) and len(lengths) == segments[0]
    return not whole or page + 27 + len(lengths) + sum(lengths) > len(tail)
