"""Sound as it comes: blocks of mono float32 at 16 kHz from a file, a pipe, a URL, a microphone.

A thread of its own reads; who listens takes what is there, and sees when nothing comes.
"""

from __future__ import annotations

import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Literal

import numpy as np

from fluidaudio_cli.audio.mono import SAMPLE_RATE
from fluidaudio_cli.audio.pcm import PEAK_LIMIT, Mix, Samples
from fluidaudio_cli.audio.resample import Resampler
from fluidaudio_cli.audio.source import AudioStream
from fluidaudio_cli.errors import AudioError, HostError, os_errors, reason_of
from fluidaudio_cli.wording import counted

PcmFormat = Literal["s16le", "f32le"]

BLOCK_SAMPLES = SAMPLE_RATE // 20
"""50 ms: what is read at a time, and so how late a sample may be seen."""

# Of a source that waits (a file, a pipe), at most so much is read ahead of who listens.
_AHEAD_SECONDS = 30
# Sound of the present cannot come sooner than this before its time.
_AHEAD_OF_TIME_SECONDS = 1.0
# How much of the newest sound decides how channels are mixed: of less, chance does.
_MIXED_BY_SECONDS = 1.0
_DTYPES = {"s16le": "<i2", "f32le": "<f4"}
_LIVE_URL = re.compile(r"(https?|rtsps?|rtmps?|rtp|udp|tcp|srt|alsa|pulse|avfoundation|dshow):")
_DEVICES = ("alsa", "pulse", "avfoundation", "dshow")
_DATAGRAMS = ("udp", "rtp", "srt")

Blocks = Generator[Samples, None, None]


class Feed:
    """Takes blocks from a source in a thread.

    ``waits``: the source can be held back; a microphone or a device cannot, and nothing of it is
    dropped.
    """

    def __init__(self, blocks: Blocks, *, waits: bool = True) -> None:
        self._blocks = blocks
        self._most = _AHEAD_SECONDS * SAMPLE_RATE if waits else sys.maxsize
        self._ready: list[Samples] = []
        self._have = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._started = time.monotonic()
        self._came = 0.0  # when something did
        self._read = 0
        self._taken = 0
        self.ended = False
        self.error: AudioError | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)
        self._thread.start()

    @property
    def late_seconds(self) -> float:
        """Sound that was spoken and not taken yet: none of a source that is ahead of its time.

        A pipe may come from a microphone, or from a file as fast as that can be read.
        """
        read = self._read / SAMPLE_RATE
        if read > time.monotonic() - self._started + _AHEAD_OF_TIME_SECONDS:
            return 0.0
        return read - self._taken / SAMPLE_RATE

    def wait(self, count: int, timeout: float) -> bool:
        """Wait for ``count`` samples, or the end; false once nothing came for ``timeout`` seconds.

        A source may be slow without having stalled.
        """
        since = time.monotonic()
        with self._changed:
            while (left := max(since, self._came) + timeout - time.monotonic()) > 0.0:
                if self._changed.wait_for(lambda: self._have >= count or self.ended, left):
                    return True
        return False

    def take(self, count: int) -> Samples:
        """The next ``count`` samples, waited for before; fewer where it has ended.

        An ``AudioError`` of the source ends it, and is in ``error``.
        """
        with self._changed:
            if self._have < count and self._failure is not None:
                raise self._failure
            joined = np.concatenate([np.zeros(0, np.float32), *self._ready])
            self._ready, self._have = [joined[count:]], max(0, len(joined) - count)
            self._taken += min(count, len(joined))
            self._changed.notify_all()
        return joined[:count]

    def stop(self) -> None:
        """Read no further; what was read can still be taken."""
        with self._changed:
            self._stopping = self.ended = True
            self._failure = None
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            for block in self._blocks:
                with self._changed:
                    # First kept, then held back: nothing that was read is lost.
                    self._ready.append(block)
                    self._have += len(block)
                    self._read += len(block)
                    self._came = time.monotonic()
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._stopping or self._have < self._most)
                    if self._stopping:
                        return
        except AudioError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001 - handed to who listens
            self._failure = error
        finally:
            # Here: what is open is closed by the thread that uses it.
            self._blocks.close()
            with self._changed:
                self.ended = True
                self._changed.notify_all()


def file_blocks(stream: AudioStream) -> Blocks:
    """An open recording, closed at its end."""
    with stream:
        yield from stream.blocks(BLOCK_SAMPLES)


def paced(blocks: Blocks) -> Blocks:
    """``blocks``, no sooner than they would be spoken."""
    started = time.monotonic()
    read = 0
    with closing(blocks):
        for block in blocks:
            read += len(block)
            time.sleep(max(0.0, started + read / SAMPLE_RATE - time.monotonic()))
            yield block


class LiveMono:
    """Samples of one rate as mono at 16 kHz, mixed as those of a file are.

    What is no usable number is silence.
    """

    def __init__(self) -> None:
        self._resampler = Resampler(SAMPLE_RATE, SAMPLE_RATE)
        self._mix = Mix()
        self._recent: np.ndarray[Any, Any] | None = None
        self._unusable = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the samples so far."""
        notes = self._mix.notes
        if self._unusable:
            what = counted(self._unusable, "sample")
            notes.append(f"silenced: {what} that no recording holds (not a number, or too large)")
        return tuple(notes)

    def push(self, frames: np.ndarray[Any, Any], rate: int) -> Samples:
        """Take in (n, channels), int16 or float32; what of it is ready."""
        if not len(frames):
            return np.zeros(0, np.float32)
        if frames.dtype.kind == "f":
            usable = np.abs(frames) <= PEAK_LIMIT
            self._unusable += int(np.count_nonzero(~usable))
            frames = np.where(usable, frames, np.float32(0.0))
        if self._recent is None:
            self._recent = frames[:0]
            self._resampler = Resampler(rate, SAMPLE_RATE)
        recent = np.concatenate([self._recent, frames])
        self._recent = recent[-round(_MIXED_BY_SECONDS * rate) :]
        self._mix.hear(list(self._recent.T), 0.0)
        signs = np.where(self._mix.inverted, np.float32(-1.0), np.float32(1.0))
        scale = signs / np.float32(32768.0 if frames.dtype.kind == "i" else 1.0)
        mono = (frames * scale).mean(axis=1, dtype=np.float32)
        return self._resampler.push(mono)

    def flush(self) -> Samples:
        """What is left at the end."""
        return self._resampler.flush()


def pcm_blocks(mono: LiveMono, rate: int, channels: int, sample_format: PcmFormat) -> Blocks:
    """Raw samples from standard input, interleaved; what is there is given at once.

    Raises ``AudioError`` where it cannot be read.
    """
    dtype = np.dtype(_DTYPES[sample_format])
    frame = dtype.itemsize * channels
    rest = b""
    with os_errors("cannot read standard input", "check where it comes from", AudioError):
        while data := os.read(sys.stdin.fileno(), max(1, rate // 20) * frame):
            data = rest + data
            whole = len(data) // frame * frame
            rest = data[whole:]
            yield mono.push(np.frombuffer(data[:whole], dtype).reshape(-1, channels), rate)
    yield mono.flush()


def is_live_address(text: str) -> bool:
    """Whether FFmpeg opens it as a live source: ``rtsp://…``, ``alsa:default``."""
    return _LIVE_URL.match(text) is not None


def can_wait(address: str) -> bool:
    """Whether sound is kept for who reads it late: not by a device, nor by datagrams."""
    return address.partition(":")[0] not in (*_DEVICES, *_DATAGRAMS)


def address_blocks(mono: LiveMono, address: str) -> Blocks:
    """A URL or a device (``alsa:NAME``) that FFmpeg reads; raises ``AudioError``."""
    import av
    import av.error

    scheme, _, name = address.partition(":")
    is_device = scheme in _DEVICES
    try:
        with av.open(
            name if is_device else address, format=scheme if is_device else None
        ) as opened:
            if not opened.streams.audio:
                raise AudioError(f"{address} has no audio", "give another address")
            packed = av.AudioResampler(format="flt")
            for frame in opened.decode(audio=0):
                for each in packed.resample(frame):
                    frames = each.to_ndarray().reshape(-1, each.layout.nb_channels)
                    yield mono.push(frames, each.sample_rate)
            yield mono.flush()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(
            f"{address} cannot be read ({reason_of(error)})", "check that it is live"
        ) from error


def microphone_blocks(device: str, say: Callable[[str], None]) -> Blocks:
    """The microphone ``device`` (empty: the usual one); ``say`` is told of what was lost.

    Raises ``HostError`` where there is none.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise HostError(
            f"a microphone needs the library sounddevice ({error})",
            "pip install 'fluidaudio[mic]' (and PortAudio), or pipe raw samples: stream - --rate",
        ) from error
    came: queue.Queue[Samples] = queue.Queue()

    def hear(data: np.ndarray[Any, Any], _count: int, _time: object, status: object) -> None:
        if status:
            say(f"the microphone reports: {status}")
        came.put(data[:, 0].copy())

    chosen: int | str | None = int(device) if device.isdigit() else device or None
    try:
        stream = sounddevice.InputStream(
            samplerate=SAMPLE_RATE, channels=1, dtype="float32", device=chosen, callback=hear
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise HostError(
            f"no microphone can be opened: {error}", "python -m sounddevice lists devices"
        ) from error

    def blocks() -> Blocks:
        with stream:
            while True:
                yield came.get()

    return blocks()
