"""What a file's own header says about its samples, where FFmpeg does not tell or gets it wrong.

Chunked formats (WAV, RF64, W64, AIFF, CAF) state how long their data chunk is; recorders that
were stopped hard, or wrote more than 32 bits can count, state too little, and FFmpeg believes it.
Samples may have fewer valid bits than their container; FFmpeg then reads them at the wrong width.
Both are mended by giving FFmpeg a few other bytes (``Header.patches``).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fluidaudio_cli.audio.stated import MOST_CHUNKS, ReadAt, Stated, read_stated

_UNKNOWN_32 = (range(1), range(0x7FFF_0000, 0x8000_1000), range(0xFFFF_0000, 0x1_0000_0000))
"""Data sizes written by programs that stream and cannot know it (FFmpeg, SoX, arecord write the
largest number they can; some write 0)."""
_UNKNOWN_64 = 1 << 60
"""No file is that long: such a size, or a negative one, is unknown."""

_MISCOUNT_BYTES = 64
"""Some writers count the header as sound; and so few bytes behind it are none."""

_TAGS = (b"ID3", b"TAG", b"APETAGEX")
_CHUNKS = frozenset(
    b"LIST,id3 ,ID3 ,bext,fact,cue ,smpl,iXML,JUNK,PAD ,PEAK,DISP,axml,chna,umid,acid,inst,strc,"
    b"_PMX,minf,elm1,regn,afsp,FLLR,levl,plst,COMT,MARK,INST,ANNO,NAME,AUTH,(c) ,APPL,info,uuid,"
    b"strg,free,pakt,kuki,chan,mark,midi,ovvw,edct,bits".split(b",")
)
"""Chunks known to follow samples; others count if their sizes lead exactly to the end."""


@dataclass(frozen=True)
class Header(Stated):
    """``data_start`` and ``data_bytes`` of a chunked format; ``None``: not one, or unknown.

    ``bytes_per_second`` of its samples. ``patches``: bytes to be read instead, by offset.
    ``size_field``: where that length is stated, and how; ``layout``: how chunks are written.
    ``endless``: chunks without end before any samples, which FFmpeg would walk through.
    """

    data_start: int | None = None
    data_bytes: int | None = None
    bytes_per_second: float | None = None
    patches: Mapping[int, bytes] = field(default_factory=dict)
    size_field: _SizeField | None = None
    layout: _Layout | None = None
    endless: bool = False

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
        return Header(**vars(read_stated(magic, read_at)))
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
    for _ in range(MOST_CHUNKS):
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
            return Header(
                # A CAF whose packets differ in size lists them, mostly at its end.
                index_at_end=layout is _CAF and not rate,
                data_start=body + layout.data_skip,
                data_bytes=size if known else None,
                bytes_per_second=rate,
                patches=patches,
                size_field=size_field,
                layout=layout,
            )
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
