"""Decode tracks block by block, and stop at the first sign that one is not whole.

With salvage nothing stops: what does not decode is silence on the time line, and told.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import av.error

from fluidaudio_cli.audio.batch import FrameBatcher
from fluidaudio_cli.audio.container import (
    DAMAGED_REMEDY,
    NOT_AUDIO_REMEDY,
    OpenedContainer,
)
from fluidaudio_cli.audio.declared import declared_length
from fluidaudio_cli.audio.pcm import PEAK_LIMIT, Mix, PcmFrame, Silence
from fluidaudio_cli.audio.timeline import (
    JITTER_SECONDS,
    MAX_PAUSE_SECONDS,
    Doubts,
    PauseTooLongError,
    Timeline,
)
from fluidaudio_cli.errors import AudioError, reason_of
from fluidaudio_cli.wording import counted

Block = PcmFrame | Silence

_BARE_FRAMES = frozenset({"mp3", "aac", "ac3", "eac3"})
"""Bare sequences of frames without a header: a cut recording may begin or end with junk."""

_FRAMED_CODECS = frozenset({"mp3float", "mp2float", "mp1float", "ac3", "eac3", "dca"})
"""Whose frames follow each other in a WAV as in a bare recording."""

_TAG_MAGICS = (b"ID3", b"TAG", b"APETAGEX")
"""Tags found between the frames of such recordings where several were joined to one file."""

_TIMED = frozenset(
    {"mov", "mp4", "matroska", "webm", "ogg", "mpegts", "mpeg", "flv", "asf", "avi", "nut", "mxf"}
    | {"wtv", "rm"}
)
"""Containers that stamp packets with times of their own; others count samples."""

_LARGEST_FRAME_BYTES = 8191
"""Of MP3 and ADTS. A packet with more holds junk behind a broken frame, decode as it may."""

_WAVES = frozenset({"wav", "w64"})

_UNMARKED_CODECS = frozenset({"amrnb", "amrwb"})
"""Bare frames without a mark where they begin: after damage, rubbish is read as frames."""

_HOLE_SECONDS = 5.0
"""A gap in time so soon after a hole is its doing; in Ogg it shows a page later."""

_MOST_LOST_SECONDS = 3600.0
"""Of a container that counts samples: more is a damaged count of them."""


class TrackDecoder:
    """One track: its packets in, ``blocks`` of samples and silence out, in order on the time line.

    ``done``: no more will come, because of ``error`` if there is one: a packet that does not
    decode, samples that are not finite, a file cut before the length its header states, a track
    without any sample; the message tells how much came before. With ``salvage`` such a stretch is
    silence instead, and in ``lost`` (start and end in seconds on the time line). ``timeline``
    places its frames by their time stamps.
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
        codec: str = stream.codec_context.name
        self._timed = bool(opened.formats & _TIMED)
        wave = bool(opened.formats & _WAVES)
        self._bare = bool(opened.formats & _BARE_FRAMES) or (wave and codec in _FRAMED_CODECS)
        self._many_a_packet = wave and codec.startswith("adpcm_")
        # FFmpeg guesses the length of TTA's last frame, by which it is decoded.
        self._end_fails = codec == "tta" and "matroska" in opened.formats
        self._unmarked = not self._timed and codec in _UNMARKED_CODECS
        self._declared = declared_length(opened, stream)
        self._batcher = FrameBatcher()
        self.timeline = Timeline(zero, MAX_PAUSE_SECONDS if self._timed else _MOST_LOST_SECONDS)
        self._doubts = Doubts(zero)
        self._mix = Mix()
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
        self._frame_seconds = self._failed_seconds = 0.0
        self._disbelieved = 0
        self._unread = False
        self._stamped, self._is_ogg = True, "ogg" in opened.formats
        if not self._bare:
            # Lossless codecs carry checksums; without this a damaged frame would pass as noise.
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        if codec == "alac" and "caf" in opened.formats:
            # Its last frame is short by itself; FFmpeg takes the padding off once more.
            stream.codec_context.options = {"flags2": "+skip_manual"}

    @property
    def duration_seconds(self) -> float | None:
        """The end of the time line as far as the header tells it, once the first block is there."""
        seconds, zero = self._declared.seconds, self.timeline.zero or 0.0
        if seconds is None:
            return None
        begin = self.timeline.started_at or 0.0
        if self._declared.from_zero and seconds > begin:
            begin = 0.0
        return max(0.0, seconds + begin - zero)

    @property
    def notes(self) -> list[str]:
        """What the user should know of the track so far."""
        timeline, notes = self.timeline, []
        lost_seconds = sum(end - start for start, end in self.lost)
        if self._timed and timeline.paused_seconds - lost_seconds > JITTER_SECONDS:
            notes.append(
                f"{timeline.paused_seconds:.2f} s of its time line hold no audio and count as "
                f"silence (pauses or lost packets at "
                f"{counted(timeline.pauses, 'place')}, or a late start)"
            )
        if self._excess and not self._file.notes:
            notes.append(f"it is {self._excess:.2f} s longer than its header states")
        if timeline.restarts:
            notes.append(
                f"its time stamps begin anew {counted(timeline.restarts, 'time')}: read end to end"
            )
        if disbelieved := self._disbelieved + self._doubts.refuted:
            stamps = counted(disbelieved, "impossible time stamp")
            notes.append(f"not believed: {stamps}")
        notes += self._mix.notes
        if self.lost:
            notes.append(
                f"{lost_seconds:.2f} s could not be decoded at "
                f"{counted(len(self.lost), 'place')}, and count as silence"
            )
            if self._unmarked:
                notes.append("times behind the first of them may be wrong: AMR cannot tell them")
        if self._unread:
            notes.append(
                f"what follows {self.timeline.position:.2f} s could not be read; how long that "
                "is, is not known"
            )
        return notes

    def push(self, packet: Any, hole: bool = False) -> None:
        """Decode a packet. ``hole``: bytes before it belong to no packet."""
        if self.done:
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if not (self._bare or self._salvage or self._end_fails):
                self._settle()
                self._drain()
                self._fail(error)
            elif not bytes(packet).startswith(_TAG_MAGICS):
                self._damage = error
                self._failed += 1
                self._failed_seconds = (packet.duration or 0) * self._tick_seconds
                if self._salvage:  # or its rests would sound in the next frame
                    packet.stream.codec_context.flush_buffers()
            return
        if frames and self._bare and self._salvage and packet.size > _LARGEST_FRAME_BYTES:
            self._damage = ValueError("bytes in between are no frame")
            packet.stream.codec_context.flush_buffers()
            self._failed += 1
            return
        if hole:
            self._hole_at = self.timeline.position
        if frames and self._bare and self._salvage:
            self._count_bytes(packet)
        for frame in frames:
            self._take(frame)
            if self.done:
                return
        if frames and self._many_a_packet:
            self._check_whole(packet, sum(frame.samples for frame in frames))

    def finish(self, broken: Exception | None) -> None:
        """No more packets, because of ``broken`` if reading them failed."""
        if self.done:
            return
        self._settle()
        self._drain()
        self.done = True
        if self.error is not None:
            return
        end = self.timeline.position
        stamps = self.timeline.started_at or 0.0, end + (self.timeline.zero or 0.0)
        # Junk behind the last frame is no damage; a track of nothing but junk is.
        if self._heard and self._declared.all_there(*stamps):
            broken = None
        damage = broken or (None if self._heard else self._damage)
        if not self._heard and damage is None:
            self.error = AudioError(f"{self._label} has no audio samples", NOT_AUDIO_REMEDY)
            return
        if damage is not None and not (self._salvage and self._heard):
            self._fail(damage)
            return
        missing, self._excess = self._declared.missing(*stamps), self._declared.excess(*stamps)
        if self._disbelieved:
            return
        if self._end_fails and self._damage is not None:
            self._lose(end, end + self._failed_seconds)
        elif (self._salvage or self._declared.tolerance is None) and not missing:
            self._unread = broken is not None or self._damage is not None
        elif missing and self._salvage:
            self._lose(end, end + missing)
        elif missing:
            self.cut(end + missing)

    def cut(self, stated_seconds: float | None) -> None:
        """The file is known to be shorter than its header says."""
        end = self.timeline.position
        if self._salvage:
            if stated_seconds is not None and stated_seconds > end:
                self._lose(end, stated_seconds)
            # A length that binds has told already what is missing; Ogg's is that of its last page.
            binds = self._declared.tolerance is not None and not self._is_ogg
            self._unread = self._unread or (stated_seconds is None and not binds)
            return
        stated = "" if stated_seconds is None else f"its header states {stated_seconds:.2f} s, "
        self.error = AudioError(
            f"{self._label} is cut off or damaged: {stated}only {end:.2f} s can be decoded",
            DAMAGED_REMEDY,
        )

    def wait_until(self, seconds: float) -> None:
        """Fill up with silence to ``seconds``, since no packet of this track comes before."""
        if not self.done and seconds > self.timeline.position:
            self._settle()
        if not self.done and seconds > self.timeline.position:
            self._drain()
            self._silence(seconds - self.timeline.position)

    def _take(self, frame: Any) -> None:
        if not self._heard:
            self.sample_rate, self.channels = frame.sample_rate, frame.layout.nb_channels
            self._tick_seconds = float(frame.time_base or 0)  # a Fraction: slow in each frame
        # Ogg counts samples; a chained recording of another rate is stamped as of the first.
        self._stamped = self._stamped and not (
            self._is_ogg and frame.sample_rate != self.sample_rate
        )
        pts = frame.pts if self._stamped else None
        seconds = None if pts is None else pts * self._tick_seconds
        if not self._timed or self._doubts.goes_on(seconds, frame.samples / frame.sample_rate):
            self._lay(frame, seconds)
            return
        for settled in self._doubts.push(frame, seconds, frame.samples / frame.sample_rate):
            self._lay(*settled)

    def _settle(self) -> None:
        """Believe what is in doubt: nothing more comes to prove it wrong."""
        for settled in self._doubts.drain():
            self._lay(*settled)

    def _lay(self, frame: Any, seconds: float | None) -> None:
        """Put a frame on the time line, at its time stamp."""
        if self.done:
            return
        samples, rate, repeated = frame.samples, frame.sample_rate, 0.0
        if self._timed or self._salvage:
            try:
                gap, repeated = self.timeline.place(seconds)
            except PauseTooLongError as error:
                gap = 0.0
                self._refuse_pause(*error.args)
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
            self.timeline.advance((samples - count) / rate)
            if count < samples:
                self._add(PcmFrame(frame).without(count))
            return
        self._frame_seconds = samples / rate
        self.timeline.advance(self._frame_seconds)
        for block in self._batcher.push(frame):
            self._add(PcmFrame(block))

    def _check_whole(self, packet: Any, samples: int) -> None:
        """A packet of several frames, of which one does not decode, gives those before it.

        PyAV hands those out and keeps the error.
        """
        missing = (packet.duration or 0) * self._tick_seconds - samples / self.sample_rate
        if missing < max(self._frame_seconds, JITTER_SECONDS) or self._salvage:
            return
        self._drain()
        self._fail(ValueError("a frame does not decode"))

    def _count_bytes(self, packet: Any) -> None:
        """Move the time line on by what bytes that gave no frame would have lasted.

        A bare stream's time stamps only count frames. At the average rate so far, constant in
        most such recordings.
        """
        begin = packet.pos
        if begin is None or begin < 0:
            return
        if self._damage is not None and self._heard and self.timeline.position > 0:
            skipped = begin - self._bytes_end
            seconds = skipped * self.timeline.position / max(1, self._bytes)
            # The packets that failed are counted already.
            uncounted = seconds - self._failed * self._frame_seconds
            if uncounted > JITTER_SECONDS:
                self.timeline.delay(uncounted)
        self._failed = 0
        self._bytes += packet.size
        self._bytes_end = begin + packet.size

    def _gap(self, seconds: float) -> None:
        """Silence up to the next frame: a pause, or what was lost."""
        self._drain()
        begin = self.timeline.position
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
            f"{self._label} states a pause of {seconds:.0f} s at {self.timeline.position:.2f} s, "
            f"more than {MAX_PAUSE_SECONDS / 3600:.0f} h: its time stamps are damaged",
            "write it anew with another program, or diarize it with --salvage, without the pause",
        )

    def _silence(self, seconds: float) -> None:
        self.timeline.advance(seconds)
        self._put(Silence(round(seconds * self.sample_rate), self.sample_rate))

    def _drain(self) -> None:
        for block in self._batcher.drain():
            self._add(PcmFrame(block))

    def _add(self, pcm: PcmFrame) -> None:
        index = pcm.first_unusable()
        if index is None:
            pcm.mixed_by(self._mix)
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
        reason, seconds = reason_of(error), self.timeline.position
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
