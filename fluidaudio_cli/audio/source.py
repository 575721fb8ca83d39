"""Any recording as a stream of mono float32 samples at 16 kHz, in bounded memory.

``read_into`` fills a buffer of the caller's: at 16 kHz mono, samples go from the decoder's
frame to that buffer in one pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from fluidaudio_cli.audio.container import OpenedStream, open_stream
from fluidaudio_cli.audio.decode import decode_frames
from fluidaudio_cli.audio.pcm import PcmFrame, Samples
from fluidaudio_cli.audio.resample import Resampler
from fluidaudio_cli.errors import AudioError

SAMPLE_RATE = 16_000
"""Samples per second of everything that leaves this package."""

_NONE = np.zeros(0, np.float32)


@dataclass(frozen=True)
class AudioInfo:
    """What is known of a recording before it is decoded.

    ``container`` and ``codec`` are FFmpeg's names, ``sample_rate`` (Hz) and ``channels`` those of
    the file. ``duration_seconds`` is what the header states or FFmpeg estimates: good for a
    progress bar; ``None`` where it is unknown (a stream of WAV written to a pipe).
    """

    path: Path
    uri: str
    container: str
    codec: str
    sample_rate: int
    channels: int
    duration_seconds: float | None


class AudioStream:
    """One open recording; use it as a context manager."""

    def __init__(self, path: Path, opened: OpenedStream, uri: str) -> None:
        self._opened = opened
        self._frames: Iterator[PcmFrame] = decode_frames(opened, path)
        self._resampler: Resampler | None = None
        self._rate = SAMPLE_RATE
        self._scratch = _NONE
        self._ready = _NONE
        self._frame: PcmFrame | None = None
        self._position = 0
        self._flushed = False
        self.samples_read = 0
        # Decoding the first frame now makes a file without audio fail where it is opened.
        first = self._next_frame()
        if first is None:
            raise AudioError(f"{path} has no audio samples", "give a recording")
        self.info = AudioInfo(
            path=path,
            uri=uri,
            container=opened.container.format.name,
            codec=opened.stream.codec_context.name,
            sample_rate=first.sample_rate,
            channels=len(first.channels),
            duration_seconds=opened.declared.seconds,
        )

    @property
    def seconds_read(self) -> float:
        """Seconds of audio handed out so far."""
        return self.samples_read / SAMPLE_RATE

    def read_into(self, buffer: Samples) -> int:
        """Fill ``buffer`` (float32, shape (n,), contiguous) with the next samples.

        Returns how many were written: fewer than n only at the end of the recording, then 0.
        Raises ``AudioError`` where the file turns out to be damaged, cut off, or not finite.
        """
        if buffer.dtype != np.float32 or buffer.ndim != 1 or not buffer.flags.c_contiguous:
            raise TypeError("buffer must be one-dimensional, contiguous float32")
        filled = 0
        while filled < buffer.size:
            written = self._write_some(buffer[filled:])
            if not written:
                break
            filled += written
        self.samples_read += filled
        return filled

    def close(self) -> None:
        """Release the decoder and the file."""
        self._frame = None
        self._opened.close()

    def __enter__(self) -> AudioStream:
        """Return itself: the recording is open already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the recording."""
        self.close()

    def _write_some(self, out: Samples) -> int:
        """Write at least one sample to ``out`` unless the recording has ended; say how many."""
        while True:
            if self._ready.size:
                count = min(self._ready.size, out.size)
                out[:count] = self._ready[:count]
                self._ready = self._ready[count:]
                return count
            frame = self._next_frame()
            if frame is None:
                if self._flushed:
                    return 0
                self._flushed = True
                self._switch_rate(SAMPLE_RATE)
            elif frame.sample_rate != self._rate:
                self._switch_rate(frame.sample_rate)
            elif self._resampler is None:
                count = min(frame.samples - self._position, out.size)
                frame.write_mono(self._position, out[:count])
                self._position += count
                return count
            else:
                self._ready = self._resampler.push(self._whole_frame(frame))

    def _next_frame(self) -> PcmFrame | None:
        """The frame being read, or the next one when it is used up."""
        if self._frame is None or self._position >= self._frame.samples:
            self._frame = next(self._frames, None)
            self._position = 0
        return self._frame

    def _switch_rate(self, rate: int) -> None:
        """Empty the resampler into ``_ready`` and read on at ``rate``."""
        if self._resampler is not None:
            self._ready = self._resampler.flush()
        self._rate = rate
        self._resampler = None if rate == SAMPLE_RATE else Resampler(rate, SAMPLE_RATE)

    def _whole_frame(self, frame: PcmFrame) -> Samples:
        if self._scratch.size < frame.samples:
            self._scratch = np.empty(frame.samples, np.float32)
        mono = self._scratch[: frame.samples]
        frame.write_mono(0, mono)
        self._position = frame.samples
        return mono


def open_audio(path: Path, uri: str | None = None) -> AudioStream:
    """Open a recording of any kind FFmpeg decodes, at its beginning.

    Of several audio streams FFmpeg's best is read (the default one, then the one with most
    channels). Channels are averaged. ``uri`` names the recording in results; by default it is
    ``uri_of(path)``. Raises ``AudioError`` when there is nothing to decode.
    """
    opened = open_stream(path)
    try:
        return AudioStream(path, opened, uri or uri_of(path))
    except BaseException:
        opened.close()
        raise


def uri_of(path: Path) -> str:
    """The file's name without its extension, white space as ``_`` (RTTM splits at spaces)."""
    return re.sub(r"\s+", "_", path.stem.strip()) or "audio"
