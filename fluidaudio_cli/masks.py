"""Arrays of true and false along time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def runs(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(n, 2) first and one-past-last index of every run of true values."""
    padded = np.zeros(mask.size + 2, np.int8)
    padded[1:-1] = mask
    steps = np.diff(padded)
    return np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1)
