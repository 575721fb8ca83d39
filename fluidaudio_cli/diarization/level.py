"""Lift very quiet recordings to where the networks hear.

Segmentation normalises its window, with a constant below which nothing is heard, and silence is
told by an absolute level: a recording 60 dB too quiet would hold nobody.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

QUIET_PEAK = 0.01
"""-40 dB of full scale. A recording that never got louder is lifted; others are left alone."""

LIFTED_PEAK = 0.1
"""What its loudest sample so far becomes: a usual level of speech."""

FAINTEST_PEAK = 1.1 * 2.0**-15
"""A peak of one step of 16 bits is dither, and lifted it would be noise."""


def peak(samples: NDArray[np.float32]) -> float:
    """The loudest of some samples, shape (n,), whatever its sign."""
    return max(float(samples.max()), -float(samples.min()))


class Level:
    """The peak of a recording so far, and the gain that follows from it.

    One gain for all that was heard: what is quiet in a loud recording stays quiet.
    """

    def __init__(self) -> None:
        self._peak = 0.0

    def heard(self, samples: NDArray[np.float32]) -> None:
        """Take in the next samples, shape (n,)."""
        if samples.size:
            self._peak = max(self._peak, peak(samples))

    @property
    def notes(self) -> tuple[str, ...]:
        """Why nobody can be heard, where that is so."""
        if self._peak > FAINTEST_PEAK:
            return ()
        if not self._peak:
            return ("there is no sound in it: every sample is zero",)
        decibels = 20 * math.log10(self._peak)
        return (
            f"its loudest sample is at {decibels:.0f} dB of full scale: too quiet to tell voices "
            "from rounding",
        )

    @property
    def gain(self) -> float:
        """What samples are to be multiplied with; 1 for all but very quiet recordings."""
        if not FAINTEST_PEAK < self._peak < QUIET_PEAK:
            return 1.0
        return LIFTED_PEAK / self._peak
