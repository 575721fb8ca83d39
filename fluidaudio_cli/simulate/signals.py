"""Levels, decibels and random streams: what the parts of the simulation share."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import SAMPLE_RATE

Samples = NDArray[np.float32]

GRID = SAMPLE_RATE // 1000
"""Samples of a millisecond. Turns start and end on this grid, so that a reference written to the
millisecond is exact to a sample."""


def rms(samples: Samples) -> float:
    """Root mean square; 0 for nothing."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0


def to_db(amplitude: float) -> float:
    """Decibels of an amplitude; -200 for silence."""
    return 20 * float(np.log10(max(amplitude, 1e-10)))


def from_db(decibels: float) -> float:
    """The amplitude of some decibels."""
    return float(10 ** (decibels / 20))


def random_stream(seed: int, conversation: int, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose of one conversation, independent of all other purposes.

    So changing the noise leaves turns and voices as they were, and any number of processes
    makes the same bytes.
    """
    return np.random.default_rng([seed, conversation, zlib.crc32(purpose.encode())])
