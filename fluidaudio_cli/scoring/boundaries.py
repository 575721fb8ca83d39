"""How precisely turns begin and end, whoever speaks.

Onsets are matched with onsets and offsets with offsets, one to one, nearest pair first (as
``pyannote.metrics.segmentation`` does), up to a tolerance. Speakers' names play no part:
giving a turn to the wrong speaker is confusion, not imprecision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.scoring.extents import Extents
from fluidaudio_cli.scoring.records import BoundaryScore
from fluidaudio_cli.turns import Turn, merge_self_overlap

DEFAULT_TOLERANCE = 0.5
"""Seconds up to which boundaries match: pyannote.metrics' tolerance for segmentation."""

_ROUNDING = 1e-9  # 10.3 - 10.0 is a little more than 0.3


def boundary_score(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
) -> BoundaryScore:
    """Match the onsets and offsets of both sides within ``uem`` (seconds), edges included.

    Where ``uem`` cuts a turn is no boundary. A speaker's self-overlap is merged first.
    """
    if not 0 < tolerance < float("inf"):
        raise UsageError(f"a boundary tolerance of {tolerance} s", "give a time above 0 s")
    sides = (merge_self_overlap(reference), merge_self_overlap(hypothesis))
    onsets = [_within([turn.start for turn in side], uem) for side in sides]
    offsets = [_within([turn.end for turn in side], uem) for side in sides]
    return BoundaryScore(
        offsets=match(onsets[0], onsets[1], tolerance) + match(offsets[0], offsets[1], tolerance),
        reference=len(onsets[0]) + len(offsets[0]),
        hypothesis=len(onsets[1]) + len(offsets[1]),
    )


def match(
    reference: NDArray[np.float64], hypothesis: NDArray[np.float64], tolerance: float
) -> tuple[float, ...]:
    """Signed offsets (hypothesis - reference) of pairs of two sorted (N,), (M,) time lists."""
    first = np.searchsorted(hypothesis, reference - tolerance - _ROUNDING, side="left")
    last = np.searchsorted(hypothesis, reference + tolerance + _ROUNDING, side="right")
    candidates = sorted(
        (abs(float(hypothesis[j] - reference[i])), i, j)
        for i in range(len(reference))
        for j in range(int(first[i]), int(last[i]))
    )
    free_reference, free_hypothesis = set(range(len(reference))), set(range(len(hypothesis)))
    pairs: list[tuple[int, int]] = []
    for _distance, i, j in candidates:
        if i in free_reference and j in free_hypothesis:
            free_reference.remove(i)
            free_hypothesis.remove(j)
            pairs.append((i, j))
    return tuple(float(hypothesis[j] - reference[i]) for i, j in sorted(pairs))


def _within(unsorted: list[float], uem: Extents) -> NDArray[np.float64]:
    """Times within ``uem``, sorted: float64 (N,)."""
    times = np.sort(np.array(unsorted, dtype=np.float64))
    inside = np.zeros(times.shape, dtype=np.bool_)
    for start, end in uem:
        inside |= (times >= start) & (times <= end)
    return times[inside]
