"""Decode the segmentation network's powerset classes (Plaquet and Bredin, Interspeech 2023)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LOCAL_SPEAKERS = 3
"""Speakers that one window can tell apart; at most two of them at once."""

# Nobody; each speaker alone; each pair. Rows: classes, columns: local speakers.
MEMBERSHIP: NDArray[np.float32] = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32
)

_FULL_SCALE = 255


class LocalActivity(NamedTuple):
    """Who speaks when in a batch of windows, speakers numbered within each window.

    ``classes``: (windows, frames) uint8, the most likely powerset class.
    ``presence``: (windows, frames, 3) uint8, probability that each local speaker is active, of
    full scale 255: a quarter of float32's size and finer than any threshold set on it.
    """

    classes: NDArray[np.uint8]
    presence: NDArray[np.uint8]

    def active(self, window: int) -> NDArray[np.bool_]:
        """(frames, 3): the speakers of the most likely class."""
        return np.asarray(MEMBERSHIP[self.classes[window]] > 0, np.bool_)

    def alone(self, window: int) -> NDArray[np.bool_]:
        """(frames, 3): the speaker of the most likely class, where it is one speaker only."""
        classes = self.classes[window]
        alone = classes[:, None] == np.arange(1, LOCAL_SPEAKERS + 1, dtype=np.uint8)
        return np.asarray(alone, np.bool_)


def decode(log_probabilities: NDArray[np.float32]) -> LocalActivity:
    """(windows, frames, 7) log-probabilities → decisions and per-speaker probabilities."""
    classes = log_probabilities.argmax(axis=-1).astype(np.uint8)
    probabilities = np.exp(log_probabilities)
    presence = probabilities @ MEMBERSHIP
    presence *= _FULL_SCALE
    np.rint(presence, out=presence)
    np.clip(presence, 0, _FULL_SCALE, out=presence)
    return LocalActivity(classes, presence.astype(np.uint8))
