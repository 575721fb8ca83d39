"""Decode what a segmentation network says: powerset classes or speakers one by one.

Powerset: Plaquet and Bredin, Interspeech 2023. Speakers one by one become the same classes, so
that what follows knows one kind only.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.evidence import FULL_SCALE

LOCAL_SPEAKERS = 3
"""Speakers that one window can tell apart; at most two of them at once."""


@lru_cache(maxsize=8)
def subsets(speakers: int, at_once: int) -> NDArray[np.float32]:
    """(classes, speakers): nobody, each speaker, each pair and so on up to ``at_once``."""
    rows = [
        [float(speaker in chosen) for speaker in range(speakers)]
        for size in range(at_once + 1)
        for chosen in combinations(range(speakers), size)
    ]
    return np.array(rows, np.float32)


MEMBERSHIP = subsets(LOCAL_SPEAKERS, 2)


class LocalActivity(NamedTuple):
    """Who speaks when in a batch of windows, speakers numbered within each window.

    ``classes``: (windows, frames) uint8, the most likely powerset class.
    ``presence``: (windows, frames, 3) uint8, probability that each local speaker is active, of
    full scale 255: a quarter of float32's size and finer than any threshold set on it.
    ``membership``: (classes, speakers), 1 where a class holds a speaker.
    """

    classes: NDArray[np.uint8]
    presence: NDArray[np.uint8]
    membership: NDArray[np.float32] = MEMBERSHIP

    def active(self, window: int) -> NDArray[np.bool_]:
        """(frames, 3): the speakers of the most likely class."""
        return np.asarray(self.membership[self.classes[window]] > 0, np.bool_)

    def alone(self, window: int) -> NDArray[np.bool_]:
        """(frames, 3): the speaker of the most likely class, where it is one speaker only."""
        classes = self.classes[window]
        alone = classes[:, None] == np.arange(1, self.membership.shape[1] + 1, dtype=np.uint8)
        return np.asarray(alone, np.bool_)


def decode(
    log_probabilities: NDArray[np.float32], membership: NDArray[np.float32] = MEMBERSHIP
) -> LocalActivity:
    """(windows, frames, 7) log-probabilities → decisions and per-speaker probabilities."""
    classes = log_probabilities.argmax(axis=-1).astype(np.uint8)
    presence = np.exp(log_probabilities) @ membership
    return LocalActivity(classes, _full_scale(presence), membership)


def decode_speakers(probabilities: NDArray[np.float32]) -> LocalActivity:
    """(windows, frames, speakers) probabilities of each speaker, who is active from 0.5 on."""
    speakers = probabilities.shape[-1]
    membership = subsets(speakers, speakers)
    active = probabilities >= ACTIVE
    bits = active @ (1 << np.arange(speakers))
    numbers = np.empty(1 << speakers, np.uint8)
    numbers[(membership > 0) @ (1 << np.arange(speakers))] = np.arange(len(membership))
    return LocalActivity(numbers[bits], _full_scale(probabilities), membership)


# Even odds that a speaker told apart by a network of one output a speaker is active.
ACTIVE = 0.5


def _full_scale(presence: NDArray[np.float32]) -> NDArray[np.uint8]:
    scaled = np.asarray(presence * FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, FULL_SCALE, out=scaled)
    return scaled.astype(np.uint8)
