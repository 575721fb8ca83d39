"""Voices that are known beforehand, by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class KnownVoice:
    """Somebody who was heard before.

    ``vectors`` (k, d) float32: unit length, one for each stretch of speech heard; ``seconds``
    (k,): clean speech in each. ``name`` is what turns carry.
    """

    name: str
    vectors: NDArray[np.float32]
    seconds: NDArray[np.float64]
