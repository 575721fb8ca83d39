"""Read the packets of a container, deal them out to its tracks, and notice what is not there."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any

import av.error

from fluidaudio_cli.audio.byte_source import READ_BYTES
from fluidaudio_cli.audio.container import OpenedContainer
from fluidaudio_cli.audio.decode import Block, TrackDecoder

_SKIPS_DAMAGE = frozenset({"ogg", "matroska", "avi"})
"""Where FFmpeg drops what is damaged without a word and reads on at the next page, cluster or
chunk."""

_HOLE_BYTES = 512
"""Bytes between two packets, beyond headers of pages and clusters, that no packet accounts for."""

_AVI_HOLE_BYTES = 64
"""Less than the smallest chunk of sound with its header; its index then tells what is missing."""

_NO_TRAILER = frozenset({"asf", "flv", "nut", "rm", "swf", "voc"})
"""Where FFmpeg takes a damaged place for the end, without a word, though nothing long may follow
the last packet: an index at most."""

_TRAILER_SHARE = 0.1  # of the file
_TRAILER_BYTES = 16_384
"""More than both together behind the last packet is no index (an ASF pads its last packet)."""

_MIX_SECONDS = 10.0
"""A track is waited for while others run ahead by so much; containers interleave by far less."""

_AVI_CHUNK_HEADER_BYTES = 8
"""An AVI's index tells where a chunk begins, a packet where its content does."""

_NO_PACKET = "what follows is no packet"

_DecodeError = (av.error.FFmpegError, OSError, ValueError)
"""What a damaged file can raise: FFmpeg's errors, and those of reading where it points."""


class Demuxer:
    """Packets of one container dealt out to the decoders of its chosen tracks."""

    def __init__(self, opened: OpenedContainer, salvage: bool) -> None:
        self._opened = opened
        least = _AVI_HOLE_BYTES if "avi" in opened.formats else _HOLE_BYTES
        self._holes = _HoleFinder(least) if opened.formats & _SKIPS_DAMAGE else None
        zero = _beginning(opened)
        self.tracks = [TrackDecoder(opened, stream, zero, salvage) for stream in opened.chosen]
        # FFmpeg counts the first page of FLAC in Ogg from 0, whatever its stamp.
        self._first_page = (
            len(opened.streams) == 1
            and "ogg" in opened.formats
            and opened.chosen[0].codec_context.name == "flac"
        )
        self._by_index = {
            stream.index: track for stream, track in zip(opened.chosen, self.tracks, strict=True)
        }
        self._last: dict[int, Any] = dict.fromkeys(stream.index for stream in opened.streams)
        self._watched = self._first_page or bool(opened.formats & (_NO_TRAILER | {"avi"}))
        # Of an AVI's streams: time stamps in its index, by the positions of what the chunks hold.
        self._chunks: dict[int, dict[int, int]] = {}
        # Of the last two packets, as a parser may split what FFmpeg read: fewer bytes than stated.
        self._short: deque[bool] = deque(maxlen=2)
        # To see holes and the end, every packet must be seen.
        all_streams = opened.formats & (_SKIPS_DAMAGE | _NO_TRAILER)
        self._packets: Iterator[Any] = opened.container.demux(*() if all_streams else opened.chosen)

    def next_block(self, track: TrackDecoder) -> Block | None:
        """The next block of ``track``; ``None`` at its end. Raises its ``AudioError``."""
        while not track.blocks and not track.done:
            self._read_packet()
            if not track.blocks:
                ahead = max(other.handed_seconds for other in self.tracks)
                track.wait_until(ahead - _MIX_SECONDS)
        if track.blocks:
            return track.blocks.popleft()
        if track.error is not None:
            raise track.error
        return None

    def _read_packet(self) -> None:
        try:
            packet = next(self._packets, None)
        except _DecodeError as error:
            # FFmpeg's "try again" when it gives up finding the next packet.
            gave_up = isinstance(error, BlockingIOError)
            self._finish(ValueError(_NO_PACKET) if gave_up else error)
            return
        except IndexError:  # PyAV, at the end: of a stream that only appeared on the way
            packet = None
        if packet is None:
            self._finish(None)
            return
        if packet.size:
            index = packet.stream_index
            self._short.append(packet.is_corrupt)
        elif packet.pts is None:  # the last one of a stream, which flushes its decoder
            index = packet.stream.index
        else:
            return
        hole = self._holes is not None and self._holes.before(packet)
        track = self._by_index.get(index)
        if self._watched and packet.size:
            self._watch(index, packet, track if hole else None)
        if track is not None:
            track.push(packet, hole)

    def _watch(self, index: int, packet: Any, broken: TrackDecoder | None) -> None:
        """Follow the packets of a stream; ``broken``: the track that has a hole before this one."""
        if index not in self._last:
            return
        before, self._last[index] = self._last[index], packet
        if before is None or before.pts is None or packet.pts is None:
            return
        if broken is not None and "avi" in self._opened.formats:
            if index not in self._chunks:
                self._chunks[index] = {
                    entry.pos + _AVI_CHUNK_HEADER_BYTES: entry.timestamp
                    for entry in packet.stream.index_entries
                }
            broken.timeline.delay(_unseen_seconds(self._chunks[index], before, packet))
        if self._first_page and packet.pos != before.pos:
            self._first_page = False
            late = packet.pts - before.pts - (before.duration or 0)
            self.tracks[0].timeline.begin_later(max(0.0, float(late * packet.time_base)))

    def _finish(self, broken: Exception | None) -> None:
        file = self._opened.file
        if self._stopped_early():
            broken = broken or ValueError(_NO_PACKET)
        # Samples in chunks may be read as if they had no end; what misses there is known.
        if any(self._short) and file.header.data_start is None:
            file.note_cut_packet()
        file.check_end()
        for track in self.tracks:
            track.finish(broken)
            if file.is_cut and track.error is None:
                track.cut(file.header.seconds)

    def _stopped_early(self) -> bool:
        file = self._opened.file
        if not self._opened.formats & _NO_TRAILER:
            return False
        end = max((p.pos or 0) + p.size if p is not None else 0 for p in self._last.values())
        if file.seekable():
            total = file.seek(0, os.SEEK_END)
        else:
            total = file.tell() + len(file.read(READ_BYTES))
        return total - end > _TRAILER_BYTES + _TRAILER_SHARE * total


class _HoleFinder:
    """Notices bytes that belong to no packet: what FFmpeg dropped as damaged.

    ``packet.pos`` is that of its page or block, so that sizes add up from one to the next.
    ``least``: fewer bytes are headers.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._accounted = -1
        self._holes = 0
        self._told: dict[int, int] = {}  # holes so far when a stream's last packet came

    def before(self, packet: Any) -> bool:
        """Whether there is a hole between this packet of its stream and the one before."""
        position, size, stream = packet.pos, packet.size, packet.stream_index
        if position is None or position < 0:
            return False
        if 0 <= self._accounted < position - self._least:
            self._holes += 1
        self._accounted = max(self._accounted, position) + size
        told = self._told.get(stream, self._holes)
        self._told[stream] = self._holes
        return told != self._holes


def _beginning(opened: OpenedContainer) -> float | None:
    """Time stamp of the container's beginning; ``None``: that of the only track's first sample."""
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in opened.streams
        if stream.type in ("audio", "video") and stream.start_time is not None
    ]
    return min(starts) if len(starts) > 1 else None


def _unseen_seconds(stamps: dict[int, int], before: Any, packet: Any) -> float:
    """How long the chunks lasted that an AVI's index has between two packets of a stream.

    FFmpeg numbers the chunks that it finds; those in a hole are missing from its time stamps.
    """
    first, second = stamps.get(before.pos), stamps.get(packet.pos)
    if not first or second is None:  # without its index nobody knows
        return 0.0
    # The index counts chunks or bytes, as the stream does; packets are stamped in ticks.
    ticks = (second - first) * before.pts / first - (packet.pts - before.pts)
    return max(0.0, float(ticks * packet.time_base))
