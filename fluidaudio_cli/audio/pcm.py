"""Decoded frames as mono float32, without an intermediate copy.

FFmpeg hands out samples in a dozen layouts (8 to 64 bit, float or integer, packed or one
plane per channel). Integers are divided by their full scale, so that the most negative value
is -1; channels are averaged, so that no downmix can clip and no channel is favoured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

PEAK_LIMIT = 1e6
"""Largest amplitude accepted (full scale is 1). Float files may exceed 1, but power spectra of
samples far beyond this overflow float32, and no recording holds them."""

# FFmpeg's sample format without the trailing "p" of its planar twin: (dtype, offset, full scale)
_FORMATS: dict[str, tuple[str, float, float]] = {
    "u8": ("u1", -128.0, 2.0**7),
    "s16": ("i2", 0.0, 2.0**15),
    "s32": ("i4", 0.0, 2.0**31),
    "s64": ("i8", 0.0, 2.0**63),
    "flt": ("f4", 0.0, 1.0),
    "dbl": ("f8", 0.0, 1.0),
}


class PcmFrame:
    """One decoded frame, read in place.

    ``channels`` are views of shape (samples,), one for each channel, possibly strided.
    """

    def __init__(self, frame: Any) -> None:
        name: str = frame.format.name
        planar = bool(frame.format.is_planar)
        dtype, self._offset, full_scale = _FORMATS[name[:-1] if planar else name]
        self.samples = int(frame.samples)
        self.sample_rate = int(frame.sample_rate)
        self.is_float = dtype.startswith("f")
        count = len(frame.layout.channels)
        if planar:
            self.channels = [np.frombuffer(p, dtype, self.samples) for p in frame.planes]
        elif count == 1:
            self.channels = [np.frombuffer(frame.planes[0], dtype, self.samples)]
        else:
            packed = np.frombuffer(frame.planes[0], dtype, self.samples * count)
            self.channels = list(packed.reshape(self.samples, count).T)
        self._scale = np.float32(1.0 / (full_scale * len(self.channels)))

    def write_mono(self, start: int, out: Samples) -> None:
        """Write the samples from ``start`` on as mono into ``out``, whose length says how many."""
        window = slice(start, start + out.size)
        first, *others = self.channels
        if not others and self._offset == 0.0:
            np.multiply(first[window], self._scale, out=out, dtype=np.float32, casting="unsafe")
            return
        # Summed in float32: the mean of two int16 channels is exact, and nothing can wrap.
        np.add(first[window], np.float32(self._offset), out=out, dtype=np.float32, casting="unsafe")
        for channel in others:
            np.add(out, channel[window], out=out, dtype=np.float32, casting="unsafe")
            if self._offset:
                out += np.float32(self._offset)
        out *= self._scale

    def first_unusable(self) -> int | None:
        """Index of the first sample that is NaN, infinite or beyond ``PEAK_LIMIT``, if any."""
        if not self.is_float or not self.samples:
            return None
        # min and max propagate NaN, and a comparison with NaN is false.
        bad = [
            int(np.argmin(np.abs(channel) <= PEAK_LIMIT))
            for channel in self.channels
            if not (channel.max() <= PEAK_LIMIT and channel.min() >= -PEAK_LIMIT)
        ]
        return min(bad, default=None)
