"""Speech through a codec and back, in a stream, with the codec's delay taken out.

The encoders and decoders are FFmpeg's (PyAV). How long a codec takes differs by codec, rate and
version, and containers state it differently or not at all; so it is measured: a burst of noise
goes through, and the lag at which it correlates best is the delay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Protocol

import av
import av.error
import numpy as np

from fluidaudio_cli.audio.resample import Resampler
from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.simulate.signals import Samples

_PROBE_SECONDS = 2.0
_LONGEST_DELAY_SECONDS = 0.5


class Stage(Protocol):
    """Part of a channel: samples go in, the same number comes out, some of them later."""

    def push(self, samples: Samples) -> Samples:
        """What is ready after ``samples``."""

    def flush(self) -> Samples:
        """The rest, once, at the end."""


@dataclass(frozen=True)
class Codec:
    """FFmpeg's ``encoder`` at ``rate`` (Hz) with ``bit_rate`` (bit/s; 0: it has one only)."""

    encoder: str
    rate: int
    bit_rate: int = 0


CODECS = {
    "g711-mulaw": Codec("pcm_mulaw", 8000),
    "g711-alaw": Codec("pcm_alaw", 8000),
    "g722": Codec("g722", 16000),
    "amr-nb": Codec("libopencore_amrnb", 8000, 12_200),
}
"""Those of one bit rate."""

_VARIABLE = {"opus": ("libopus", 6, 256), "mp3": ("libmp3lame", 8, 160), "aac": ("aac", 12, 192)}
"""Encoders, with their least and greatest kbit/s: ``opus-16k``."""


def check_codec(name: str) -> str:
    """``name`` if it is "none" or a codec; raises ``ValueError`` naming those there are."""
    if name != "none":
        find_codec(name)
    return name


def find_codec(name: str) -> Codec:
    """The codec called ``name``; raises ``ValueError`` naming those there are."""
    if name in CODECS:
        return CODECS[name]
    match = re.fullmatch(r"(opus|mp3|aac)-(\d{1,3})k", name)
    if match:
        encoder, low, high = _VARIABLE[match[1]]
        if low <= int(match[2]) <= high:
            return Codec(encoder, 16000, int(match[2]) * 1000)
    rates = (f"{kind}-{low}k to {kind}-{high}k" for kind, (_, low, high) in _VARIABLE.items())
    raise ValueError(f"no codec {name}; there are none, {', '.join([*CODECS, *rates])}")


class Aligned:
    """What goes through ``stage``, as long as what went in and without its first ``late``."""

    def __init__(self, stage: Stage, late: int = 0) -> None:
        self._stage = stage
        self._late = late
        self._given = self._taken = 0

    def push(self, samples: Samples) -> Samples:
        """What is ready after ``samples``."""
        self._taken += samples.size
        return self._aligned(self._stage.push(samples))

    def flush(self) -> Samples:
        """The rest, as long as what went in."""
        rest = self._aligned(self._stage.flush())
        return np.concatenate([rest, np.zeros(self._taken - self._given, np.float32)])

    def _aligned(self, samples: Samples) -> Samples:
        dropped = min(self._late, samples.size)
        self._late -= dropped
        kept = samples[dropped : dropped + self._taken - self._given]
        self._given += kept.size
        return kept


class Chain:
    """Stages one after another."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)

    def push(self, samples: Samples) -> Samples:
        """What is ready after ``samples``."""
        for stage in self._stages:
            samples = stage.push(samples)
        return samples

    def flush(self) -> Samples:
        """The rest, once, at the end."""
        samples = np.zeros(0, np.float32)
        for stage in self._stages:
            samples = np.concatenate([stage.push(samples), stage.flush()])
        return samples


def coded(codec: Codec) -> Stage:
    """Through ``codec`` and back, without its delay."""
    return Aligned(_Coded(codec), delay_samples(codec))


def narrowed(hertz: float) -> Stage:
    """Nothing above ``hertz``: down to twice that rate and back, both without delay."""
    return Aligned(Chain([Resampler(SAMPLE_RATE, 2 * hertz), Resampler(2 * hertz, SAMPLE_RATE)]))


@cache
def delay_samples(codec: Codec) -> int:
    """By how many samples at 16 kHz what comes out of ``codec`` is late, measured here."""
    rng = np.random.default_rng(0)
    size = round(_PROBE_SECONDS * SAMPLE_RATE)
    # Between 0.3 and 3 kHz every codec here keeps the wave form, or nearly.
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum[(frequency < 300) | (frequency > 3000)] = 0
    # Loud and soft by turns, as speech: speech codecs take steady noise for background.
    swing = 1 + np.sin(2 * np.pi * 4 * np.arange(size) / SAMPLE_RATE)
    probe = np.fft.irfft(spectrum, size) * swing
    probe = (0.1 * probe / probe.std()).astype(np.float32)
    stage = _Coded(codec)
    heard = np.concatenate([stage.push(probe), stage.flush()])
    length = size + max(heard.size, size)
    product = np.fft.rfft(heard, length) * np.conj(np.fft.rfft(probe, length))
    lags = np.fft.irfft(product, length)[: round(_LONGEST_DELAY_SECONDS * SAMPLE_RATE)]
    return int(np.argmax(lags))


class _Coded:
    """Encode and decode, delayed as the codec delays; more samples may come out than went in."""

    def __init__(self, codec: Codec) -> None:
        try:
            self._encoder: Any = av.CodecContext.create(codec.encoder, "w")
            names = [form.name for form in self._encoder.codec.audio_formats or ()]
            self._format = "fltp" if "fltp" in names else "s16"
            self._encoder.sample_rate = codec.rate
            self._encoder.format = self._format
            self._encoder.layout = "mono"
            self._encoder.time_base = Fraction(1, codec.rate)
            self._encoder.thread_count = 1
            if codec.bit_rate:
                self._encoder.bit_rate = codec.bit_rate
            self._encoder.open()
            self._decoder: Any = av.CodecContext.create(_decoder_of(self._encoder), "r")
            if self._encoder.extradata:
                self._decoder.extradata = self._encoder.extradata
            self._decoder.sample_rate = codec.rate
            self._decoder.layout = "mono"
            self._decoder.thread_count = 1
        except (av.error.FFmpegError, ValueError) as error:
            raise HostError(
                f"this build of FFmpeg cannot encode {codec.encoder}: {error}", "use another codec"
            ) from error
        self._rate = codec.rate
        self._frame = int(self._encoder.frame_size) or codec.rate // 50
        self._in = Resampler(SAMPLE_RATE, codec.rate)
        self._out: Resampler | None = None
        self._waiting = np.zeros(0, np.float32)
        self._sent = 0

    def push(self, samples: Samples) -> Samples:
        return self._code(self._in.push(samples))

    def flush(self) -> Samples:
        rest = self._code(self._in.flush(), last=True)
        decoded = [rest, *(self._decode(packet) for packet in self._encoder.encode(None))]
        decoded.append(self._decode(None))
        if self._out is not None:
            decoded.append(self._out.flush())
        return np.concatenate(decoded)

    def _code(self, samples: Samples, last: bool = False) -> Samples:
        waiting = np.concatenate([self._waiting, samples])
        if last:  # whole frames, and enough of them to push out what the codec holds back
            padding = round(_LONGEST_DELAY_SECONDS * self._rate)
            padding += -(waiting.size + padding) % self._frame
            waiting = np.concatenate([waiting, np.zeros(padding, np.float32)])
        whole = waiting.size // self._frame * self._frame
        self._waiting = waiting[whole:]
        decoded = [np.zeros(0, np.float32)]
        for start in range(0, whole, self._frame):
            frame = self._av_frame(waiting[start : start + self._frame])
            decoded += [self._decode(packet) for packet in self._encoder.encode(frame)]
        return np.concatenate(decoded)

    def _av_frame(self, samples: Samples) -> Any:
        if self._format == "s16":
            samples = np.round(np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None, :], format=self._format, layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._sent
        frame.time_base = Fraction(1, self._rate)
        self._sent += samples.size
        return frame

    def _decode(self, packet: Any) -> Samples:
        pieces = [np.zeros(0, np.float32)]
        for frame in self._decoder.decode(packet):
            samples = frame.to_ndarray()[0]
            if samples.dtype == np.int16:
                samples = samples.astype(np.float32) / 32768
            if self._out is None:
                self._out = Resampler(frame.sample_rate, SAMPLE_RATE)
            pieces.append(self._out.push(np.ascontiguousarray(samples, np.float32)))
        return np.concatenate(pieces)


def _decoder_of(encoder: Any) -> str:
    # By the codec's own name: FFmpeg's own decoders, whatever encoded.
    name = str(encoder.codec.name)
    own = {"libopus": "libopus", "libmp3lame": "mp3float", "libopencore_amrnb": "amrnb"}
    return own.get(name, name)
