"""Decode tracks block by block, and stop at the first sign that one is not whole.

With salvage nothing stops: what does not decode is silence on the time line, and told.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import av.error
from av.stream import Disposition

from fluidaudio_cli.audio.batch import FrameBatcher
from fluidaudio_cli.audio.container import (
    DAMAGED_REMEDY,
    NOT_AUDIO_REMEDY,
    OpenedContainer,
    reason_of,
)
from fluidaudio_cli.audio.declared import declared_length
from fluidaudio_cli.audio.pcm import PEAK_LIMIT, PcmFrame, Polarity, Silence
from fluidaudio_cli.audio.timeline import (
    JITTER_SECONDS,
    MAX_PAUSE_SECONDS,
    PauseTooLongError,
    Timeline,
)
from fluidaudio_cli.errors import AudioError

Block = PcmFrame | Silence

_BARE_FRAMES = frozenset({"mp3", "aac", "ac3", "eac3"})
"""Bare sequences of frames without a header: a cut recording may begin or end with junk."""

_TAG_MAGICS = (b"ID3", b"TAG", b"APETAGEX")
"""Tags found between the frames of such recordings where several were joined to one file."""

_TIMED = frozenset(
    {"mov", "mp4", "matroska", "webm", "ogg", "mpegts", "mpeg", "flv", "asf", "avi", "nut", "mxf"}
    | {"wtv", "rm"}
)
"""Containers that stamp packets with times of their own; others count samples."""

_SKIPS_DAMAGE = frozenset({"ogg", "matroska"})
"""Where FFmpeg drops what is damaged without a word and reads on at the next page or cluster."""

_HOLE_BYTES = 512
"""Bytes between two packets, beyond headers of pages and clusters, that no packet accounts for."""

_COARSE_STEPS = 32
"""Below so many steps of loudness (six bits with the sign), rounding hides who speaks: two voices
that are told apart at 33 steps are one at 26."""

_LARGEST_FRAME_BYTES = 8191
"""Of MP3 and ADTS. A packet with more holds junk behind a broken frame, decode as it may."""

_HOLE_SECONDS = 5.0
"""A gap in time so soon after a hole is its doing; in Ogg it shows a page later."""

_MOST_LOST_SECONDS = 3600.0
"""Of a container that counts samples: more is a damaged count of them."""

_MIX_SECONDS = 10.0
"""A track is waited for while others run ahead by so much; containers interleave by far less."""

_DecodeError = (av.error.FFmpegError, OSError, ValueError)
"""What a damaged file can raise: FFmpeg's errors, and those of reading where it points."""


class TrackDecoder:
    """One track: its packets in, ``blocks`` of samples and silence out, in order on the time line.

    ``done``: no more will come, because of ``error`` if there is one: a packet that does not
    decode, samples that are not finite, a file cut before the length its header states, a track
    without any sample; the message tells how much came before. With ``salvage`` such a stretch is
    silence instead, and in ``lost`` (start and end in seconds on the time line).
    """

    def __init__(
        self, opened: OpenedContainer, stream: Any, zero: float | None, salvage: bool
    ) -> None:
        self.blocks: deque[Block] = deque()
        self.done = False
        self.error: AudioError | None = None
        self.lost: list[tuple[float, float]] = []
        self._file = opened.file
        self._label = opened.file.label
        self._salvage = salvage
        self._bare = bool(opened.formats & _BARE_FRAMES)
        self._timed = bool(opened.formats & _TIMED)
        self._declared = declared_length(opened, stream)
        self._batcher = FrameBatcher()
        self._timeline = Timeline(zero, MAX_PAUSE_SECONDS if self._timed else _MOST_LOST_SECONDS)
        self._polarity = Polarity()
        self._loudest: tuple[int, int] | None = (0, 0)  # in steps, of bits; None: not coarse
        self.handed_seconds = 0.0  # of all blocks so far
        self.sample_rate: int = stream.codec_context.sample_rate
        self.channels: int = stream.codec_context.channels
        self._heard = False
        self._damage: Exception | None = None
        self._hole_at = -math.inf
        self._excess = 0.0
        self._tick_seconds = 0.0
        # Of a bare stream: bytes that gave frames, where they end, packets that failed since.
        self._bytes = self._bytes_end = self._failed = 0
        self._frame_seconds = 0.0
        self._disbelieved = 0
        if not self._bare:
            # Lossless codecs carry checksums; without this a damaged frame would pass as noise.
            stream.codec_context.options = {"err_detect": "crccheck+explode"}

    @property
    def duration_seconds(self) -> float | None:
        """The end of the time line as far as the header tells it, once the first block is there."""
        seconds, zero = self._declared.seconds, self._timeline.zero or 0.0
        if seconds is None:
            return None
        begin = 0.0 if self._declared.from_zero else self._timeline.started_at or 0.0
        return max(0.0, seconds + begin - zero)

    @property
    def notes(self) -> list[str]:
        """What the user should know of the track so far."""
        timeline, notes = self._timeline, []
        lost_seconds = sum(end - start for start, end in self.lost)
        if self._timed and timeline.paused_seconds - lost_seconds > JITTER_SECONDS:
            notes.append(
                f"{timeline.paused_seconds:.2f} s of its time line hold no audio and count as "
                f"silence (pauses or lost packets at "
                f"{_counted(timeline.pauses, 'place')}, or a late start)"
            )
        if self._excess and not self._file.notes:
            notes.append(f"it is {self._excess:.2f} s longer than its header states")
        if timeline.restarts:
            notes.append(
                f"its time stamps begin anew {_counted(timeline.restarts, 'time')}: read end to end"
            )
        if self._disbelieved:
            stamps = _counted(self._disbelieved, "impossible time stamp")
            notes.append(f"not believed: {stamps}")
        if self._polarity.found:
            notes.append("a channel is the first one inverted; it was turned back for the mix")
        steps, bits = self._loudest or (0, 0)
        if steps > 1 or (steps and bits == 8):  # one step of 16 bits: silence with dither
            notes.append(
                f"its loudest sample is {steps} of {2 ** (bits - 1)} steps: too coarse to tell "
                "voices apart with certainty; record louder"
            )
        if self.lost:
            notes.append(
                f"{lost_seconds:.2f} s could not be decoded at "
                f"{_counted(len(self.lost), 'place')}, and count as silence"
            )
        return notes

    def push(self, packet: Any, hole: bool = False) -> None:
        """Decode a packet. ``hole``: bytes before it belong to no packet."""
        if self.done:
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if not (self._bare or self._salvage):
                self._drain()
                self._fail(error)
            elif not bytes(packet).startswith(_TAG_MAGICS):
                self._damage = error
                self._failed += 1
                if self._salvage:  # or its rests would sound in the next frame
                    packet.stream.codec_context.flush_buffers()
            return
        if frames and self._bare and self._salvage and packet.size > _LARGEST_FRAME_BYTES:
            self._damage = ValueError("bytes in between are no frame")
            packet.stream.codec_context.flush_buffers()
            self._failed += 1
            return
        if hole:
            self._hole_at = self._timeline.position
        if frames and self._bare and self._salvage:
            self._count_bytes(packet)
        for frame in frames:
            self._take(frame)
            if self.done:
                return

    def finish(self, broken: Exception | None = None) -> None:
        """No more packets, because of ``broken`` if reading them failed."""
        if self.done:
            return
        self._drain()
        self.done = True
        if self.error is not None:
            return
        # Junk behind the last frame is no damage; a track of nothing but junk is.
        damage = broken or (None if self._heard else self._damage)
        if not self._heard and damage is None:
            self.error = AudioError(f"{self._label} has no audio samples", NOT_AUDIO_REMEDY)
            return
        if damage is not None and not (self._salvage and self._heard):
            self._fail(damage)
            return
        end = self._timeline.position
        stamps = self._timeline.started_at or 0.0, end + (self._timeline.zero or 0.0)
        missing, self._excess = self._declared.missing(*stamps), self._declared.excess(*stamps)
        if self._disbelieved:
            return
        if missing and self._salvage:
            self._lose(end, end + missing)
        elif missing:
            self.cut(end + missing)

    def cut(self, stated_seconds: float | None) -> None:
        """The file is known to be shorter than its header says."""
        end = self._timeline.position
        if self._salvage:
            if stated_seconds is not None and stated_seconds > end:
                self._lose(end, stated_seconds)
            return
        stated = "" if stated_seconds is None else f"its header states {stated_seconds:.2f} s, "
        self.error = AudioError(
            f"{self._label} is cut off or damaged: {stated}only {end:.2f} s can be decoded",
            DAMAGED_REMEDY,
        )

    def wait_until(self, seconds: float) -> None:
        """Fill up with silence to ``seconds``, since no packet of this track comes before."""
        if not self.done and seconds > self._timeline.position:
            self._drain()
            self._silence(seconds - self._timeline.position)

    def _take(self, frame: Any) -> None:
        samples, rate = frame.samples, frame.sample_rate
        if not self._heard:
            self.sample_rate, self.channels = rate, frame.layout.nb_channels
            self._tick_seconds = float(frame.time_base or 0)  # a Fraction: slow in each frame
        repeated = 0.0
        if self._timed or self._salvage:
            pts = frame.pts
            try:
                gap, repeated = self._timeline.place(
                    None if pts is None else pts * self._tick_seconds
                )
            except PauseTooLongError as error:
                gap = 0.0
                self._refuse_pause(error.seconds)
            if gap:
                self._gap(gap)
        elif self._damage is not None and self._heard:
            self._drain()
            self._fail(self._damage)
        if self.done:
            return
        self._damage = None
        self._heard = True
        if repeated:
            self._drain()
            count = min(samples, round(repeated * rate))
            self._timeline.advance((samples - count) / rate)
            if count < samples:
                self._add(PcmFrame(frame).without(count))
            return
        self._frame_seconds = samples / rate
        self._timeline.advance(self._frame_seconds)
        for block in self._batcher.push(frame):
            self._add(PcmFrame(block))

    def _count_bytes(self, packet: Any) -> None:
        """Move the time line on by what bytes that gave no frame would have lasted.

        A bare stream's time stamps only count frames. At the average rate so far, constant in
        most such recordings.
        """
        begin = packet.pos
        if begin is None or begin < 0:
            return
        if self._damage is not None and self._heard and self._timeline.position > 0:
            skipped = begin - self._bytes_end
            seconds = skipped * self._timeline.position / max(1, self._bytes)
            # The packets that failed are counted already.
            uncounted = seconds - self._failed * self._frame_seconds
            if uncounted > JITTER_SECONDS:
                self._timeline.delay(uncounted)
        self._failed = 0
        self._bytes += packet.size
        self._bytes_end = begin + packet.size

    def _gap(self, seconds: float) -> None:
        """Silence up to the next frame: a pause, or what was lost."""
        self._drain()
        begin = self._timeline.position
        damage = self._damage
        if damage is None and begin - self._hole_at < _HOLE_SECONDS:
            damage = ValueError("bytes in between belong to no packet")
        if damage is not None and self._heard and not self._salvage:
            self._fail(damage)
            return
        if self._heard and (damage is not None or not self._timed):
            self._lose(begin, begin + seconds)
        self._silence(seconds)

    def _refuse_pause(self, seconds: float) -> None:
        if self._salvage:
            self._disbelieved += 1
            return
        self._drain()
        self.done = True
        self.error = AudioError(
            f"{self._label} states a pause of {seconds:.0f} s at {self._timeline.position:.2f} s, "
            f"more than {MAX_PAUSE_SECONDS / 3600:.0f} h: its time stamps are damaged",
            "write it anew with another program, or add --salvage to read on without the pause",
        )

    def _silence(self, seconds: float) -> None:
        self._timeline.advance(seconds)
        self._put(Silence(round(seconds * self.sample_rate), self.sample_rate))

    def _drain(self) -> None:
        for block in self._batcher.drain():
            self._add(PcmFrame(block))

    def _add(self, pcm: PcmFrame) -> None:
        index = pcm.first_unusable()
        if index is None:
            pcm.orient(self._polarity)
            self._loudest = self._loudest and _louder(self._loudest, pcm.loudest_step())
            self._put(pcm)
            return
        start = self.handed_seconds
        if self._salvage:
            self._lose(start, start + pcm.samples / pcm.sample_rate)
            self._put(Silence(pcm.samples, pcm.sample_rate))
            return
        value = next(float(c[index]) for c in pcm.channels if not abs(c[index]) <= PEAK_LIMIT)
        if not self.done:
            self.done = True
            self.error = AudioError(
                f"{self._label} has a sample that is not a usable number ({value:g}) "
                f"at {start + index / pcm.sample_rate:.3f} s",
                "repair the program that wrote it, or convert the file to 16-bit",
            )

    def _put(self, block: Block) -> None:
        if self.done and self.error is not None:
            return
        self.blocks.append(block)
        self.handed_seconds += block.samples / block.sample_rate

    def _lose(self, start: float, end: float) -> None:
        if self.lost and start - self.lost[-1][1] < JITTER_SECONDS:
            start, _ = self.lost.pop()
        self.lost.append((start, end))

    def _fail(self, error: Exception) -> None:
        if self.error is not None:  # what came before was bad already
            return
        reason, seconds = reason_of(error), self._timeline.position
        self.done = True
        if self._heard:
            self.error = AudioError(
                f"{self._label} is damaged after {seconds:.2f} s ({reason}); "
                "only what is before can be decoded",
                DAMAGED_REMEDY,
            )
        else:
            self.error = AudioError(
                f"{self._label} has no audio that decodes ({reason})", NOT_AUDIO_REMEDY
            )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _louder(loudest: tuple[int, int], other: tuple[int, int] | None) -> tuple[int, int] | None:
    return max(loudest, other) if other is not None and other[0] <= _COARSE_STEPS else None


class Demuxer:
    """Packets of one container dealt out to the decoders of its chosen tracks."""

    def __init__(self, opened: OpenedContainer, salvage: bool) -> None:
        self._opened = opened
        self._holes = _HoleFinder() if opened.formats & _SKIPS_DAMAGE else None
        zero = _beginning(opened)
        self.tracks = [TrackDecoder(opened, stream, zero, salvage) for stream in opened.chosen]
        self._by_index = {
            stream.index: track for stream, track in zip(opened.chosen, self.tracks, strict=True)
        }
        # To see holes, every packet must be seen.
        streams = opened.chosen if self._holes is None else ()
        self._packets: Iterator[Any] = opened.container.demux(*streams)

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
            self._finish(error)
            return
        if packet is None:
            self._finish(None)
            return
        hole = self._holes is not None and self._holes.before(packet)
        track = self._by_index.get(packet.stream_index)
        if track is not None:
            track.push(packet, hole)

    def _finish(self, broken: Exception | None) -> None:
        file = self._opened.file
        for track in self.tracks:
            track.finish(broken)
            if file.is_cut and track.error is None:
                track.cut(file.header.seconds)


class _HoleFinder:
    """Notices bytes that belong to no packet: what FFmpeg dropped as damaged.

    ``packet.pos`` is that of its page or block, so that sizes add up from one to the next.
    """

    def __init__(self) -> None:
        self._accounted = -1
        self._holes = 0
        self._told: dict[int, int] = {}  # holes so far when a stream's last packet came

    def before(self, packet: Any) -> bool:
        """Whether there is a hole between this packet of its stream and the one before."""
        position, size, stream = packet.pos, packet.size, packet.stream_index
        if position is None or position < 0:
            return False
        if 0 <= self._accounted < position - _HOLE_BYTES:
            self._holes += 1
        self._accounted = max(self._accounted, position) + size
        told = self._told.get(stream, self._holes)
        self._told[stream] = self._holes
        return told != self._holes


def _beginning(opened: OpenedContainer) -> float | None:
    """Time stamp of the container's beginning; ``None``: that of the only track's first sample."""
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in opened.container.streams
        if stream.type in ("audio", "video")
        and stream.start_time is not None
        and not stream.disposition & Disposition.attached_pic
    ]
    return min(starts) if len(starts) > 1 else None
