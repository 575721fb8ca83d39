"""Decoded frames as mono float32, without an intermediate copy.

FFmpeg hands out samples in a dozen layouts (8 to 64 bit, float or integer, packed or one
plane per channel). Integers are divided by their full scale, so that the most negative value
is -1; channels are averaged, so that no downmix can clip and no channel is favoured. A channel
that is the first one turned over is turned back before (``Mix``): the average would be
silence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

PEAK_LIMIT = 1e6
"""Largest amplitude accepted (full scale is 1). Float files may exceed 1, but power spectra of
samples far beyond this overflow float32, and no recording holds them."""


class _Format(NamedTuple):
    dtype: np.dtype[Any]
    offset: float  # added before scaling
    full_scale: float
    planar: bool  # one plane per channel


def _formats() -> dict[str, _Format]:
    """FFmpeg's sample formats by name; a planar one has the name of its packed twin and a p."""
    packed = {
        "u8": ("u1", -128.0, 2.0**7),
        "s16": ("i2", 0.0, 2.0**15),
        "s32": ("i4", 0.0, 2.0**31),
        "s64": ("i8", 0.0, 2.0**63),
        "flt": ("f4", 0.0, 1.0),
        "dbl": ("f8", 0.0, 1.0),
    }
    return {
        name + suffix: _Format(np.dtype(dtype), offset, full_scale, bool(suffix))
        for name, (dtype, offset, full_scale) in packed.items()
        for suffix in ("", "p")
    }


_FORMATS = _formats()


class PcmFrame:
    """One decoded frame, read in place.

    ``channels`` are views of shape (samples,), one for each channel, possibly strided.
    """

    __slots__ = ("_format", "_scale", "_signs", "channels", "sample_rate", "samples")

    def __init__(self, frame: Any) -> None:
        self._format = _FORMATS[frame.format.name]
        self.samples: int = frame.samples
        self.sample_rate: int = frame.sample_rate
        dtype, samples = self._format.dtype, self.samples
        count: int = frame.layout.nb_channels
        self.channels: list[npt.NDArray[Any]]
        if self._format.planar:
            self.channels = [np.frombuffer(plane, dtype, samples) for plane in frame.planes]
        elif count == 1:
            self.channels = [np.frombuffer(frame.planes[0], dtype, samples)]
        else:
            packed = np.frombuffer(frame.planes[0], dtype, samples * count)
            self.channels = list(packed.reshape(samples, count).T)
        self._scale = np.float32(1.0 / (self._format.full_scale * count))
        self._signs: list[bool] = []

    def mixed_by(self, mix: Mix) -> None:
        """Be mixed as ``mix`` says, which hears it."""
        mix.hear(self.channels, self._format.offset)
        self._signs = list(mix.inverted)

    def without(self, count: int) -> PcmFrame:
        """Itself, without its first ``count`` samples."""
        self.channels = [channel[count:] for channel in self.channels]
        self.samples -= count
        return self

    def write_mono(self, start: int, out: Samples) -> None:
        """Write the samples from ``start`` on as mono into ``out``, whose length says how many."""
        window = slice(start, start + out.size)
        first, *others = self.channels
        if not others and not self._format.offset:
            np.multiply(first[window], self._scale, out=out, dtype=np.float32, casting="unsafe")
            return
        # Summed in float32: the sum of int16 channels is exact and cannot wrap.
        offset = np.float32(self._format.offset)
        if not any(self._signs):
            total = offset * len(self.channels)
            np.add(first[window], total, out=out, dtype=np.float32, casting="unsafe")
            for channel in others:
                np.add(out, channel[window], out=out, dtype=np.float32, casting="unsafe")
        else:
            out[:] = 0
            for channel, inverted in zip(self.channels, self._signs, strict=True):
                add = np.subtract if inverted else np.add
                add(out, channel[window], out=out, dtype=np.float32, casting="unsafe")
                add(out, offset, out=out)
        out *= self._scale

    def first_unusable(self) -> int | None:
        """Index of the first sample that is NaN, infinite or beyond ``PEAK_LIMIT``, if any."""
        if self._format.dtype.kind != "f":
            return None
        bad = [
            int(np.argmin(np.abs(channel) <= PEAK_LIMIT))
            for channel in self.channels
            if not _surely_usable(channel) and not bool(np.all(np.abs(channel) <= PEAK_LIMIT))
        ]
        return min(bad, default=None)


class Silence(NamedTuple):
    """As a frame of zeros of any length, which takes no memory."""

    samples: int
    sample_rate: int

    def write_mono(self, start: int, out: Samples) -> None:
        """Zeros into ``out``."""
        out[:] = 0


_COARSE_STEPS = 32
"""Below so many steps of loudness (six bits with the sign), rounding hides who speaks: two voices
that are told apart at 33 steps are one at 26."""


class Mix:
    """How the channels of a track become one, followed from block to block.

    A channel counts as inverted from where its correlation with the first falls below
    ``_INVERTED`` until it is positive again: two microphones apart, or the sides of a stereo
    recording, come nowhere near, and a block's decision is that block's own, but for a short one,
    such as the last.
    """

    _INVERTED = -0.7
    _EVERY = 16  # one sample in so many shows at little cost where to look closer
    _LEAST_SAMPLES = 1024  # of fewer, chance would decide

    def __init__(self) -> None:
        self.inverted: list[bool] = []
        """For each channel of the last block whether it is to be turned over."""
        self._found = False
        self._loudest: tuple[int, int] | None = (0, 0)  # in steps, of bits; None: not coarse

    @property
    def notes(self) -> list[str]:
        """What the user should know of the channels so far."""
        notes = []
        if self._found:
            notes.append("a channel is the first one inverted; it was turned back for the mix")
        steps, bits = self._loudest or (0, 0)
        if steps > 1 or (steps and bits == 8):  # one step of 16 bits: silence with dither
            notes.append(
                f"its loudest sample is {steps} of {2 ** (bits - 1)} steps: too coarse to tell "
                "voices apart with certainty; record louder"
            )
        return notes

    def hear(self, channels: list[npt.NDArray[Any]], offset: float) -> None:
        """Take in the next block, at least one sample; ``offset`` makes its middle zero."""
        if len(self.inverted) != len(channels):
            self.inverted = [False] * len(channels)
        decides = len(channels[0]) >= self._LEAST_SAMPLES
        for number in range(1, len(channels) if decides else 0):
            pair = channels[0], channels[number]
            correlation = _correlation(pair, offset, self._EVERY)
            if correlation < self._INVERTED or self.inverted[number]:
                correlation = _correlation(pair, offset, 1)
            if correlation < self._INVERTED:
                self.inverted[number] = self._found = True
            elif correlation > 0:
                self.inverted[number] = False
        if self._loudest is not None:
            dtype = channels[0].dtype
            middle, bits = int(offset), 8 * dtype.itemsize
            steps = _COARSE_STEPS + 1
            if dtype.kind != "f" and bits <= 16:
                steps = max(max(int(c.max()) + middle, -int(c.min()) - middle) for c in channels)
            self._loudest = max(self._loudest, (steps, bits)) if steps <= _COARSE_STEPS else None


def _correlation(
    pair: tuple[npt.NDArray[Any], npt.NDArray[Any]], offset: float, every: int
) -> float:
    """Of two channels, from one sample in ``every``; 0 where one is silent."""
    first, other = (channel[::every].astype(np.float32) + np.float32(offset) for channel in pair)
    with np.errstate(over="ignore"):
        scale = (float(np.dot(first, first)) * float(np.dot(other, other))) ** 0.5
    return float(np.dot(first, other)) / scale if 0 < scale < np.inf else 0.0


def _surely_usable(channel: npt.NDArray[Any]) -> bool:
    # One cheap pass: the energy is NaN or infinite if any sample is, and bounds the peak.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.dot(channel, channel) <= PEAK_LIMIT**2)
