"""Sharing out the voices of a window: two of them are seldom the same speaker.

How seldom is evidence: the longer both speak at once, the more surely they are two people. Where
there are fewer speakers than voices, two are one at no charge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Speakers considered for each voice: of the best assignment of three voices, no voice is given
# to one beyond its third choice; two more leave room for probabilities.
_CHOICES = 5
# Combinations of windows' voices with speakers worked on at a time, which bounds memory.
_COMBINATIONS = 1 << 17
# Windows with more voices than this are shared out among the first choices only.
_FEW_VOICES = 3


class Windows:
    """Which voices share a window.

    ``windows`` (n,): window of each voice, ascending. ``two_odds`` (m,): log-odds that each of
    :meth:`pairs` are two people; without, all are beyond doubt.
    """

    def __init__(self, windows: NDArray[np.intp], two_odds: Floats | None = None) -> None:
        self._size = len(windows)
        starts = np.flatnonzero(np.diff(windows, prepend=-1))
        counts = np.diff(starts, append=len(windows))
        self.groups = [
            starts[counts == count][:, None] + np.arange(count)
            for count in range(1, int(counts.max(initial=0)) + 1)
            if (counts == count).any()
        ]
        """For each number of voices: (windows, voices), the rows of those windows."""
        pairs = np.concatenate(
            [
                np.zeros((0, 2), np.intp),
                *(
                    group[:, [first, second]]
                    for group in self.groups
                    for first, second in combinations(range(group.shape[1]), 2)
                ),
            ]
        )
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        self._pairs = pairs[order]
        odds = np.full(len(order), np.inf)
        if two_odds is not None:
            odds[order] = two_odds
        # For each number of voices: (windows, pairs), the pairs in order of ``combinations``.
        self._two_odds = []
        for group in self.groups:
            size = len(group) * math.comb(group.shape[1], 2)
            self._two_odds.append(odds[:size].reshape(-1, len(group)).T)
            odds = odds[size:]

    def pairs(self) -> NDArray[np.intp]:
        """(m, 2) rows of all voices that share a window, in order of the first."""
        return self._pairs

    def shares(self, scores: Floats) -> Floats:
        """(n, k) probabilities of each speaker for each voice from log ``scores`` (n, k)."""
        shares = np.zeros(scores.shape)
        for rows, top, joint in self._pieces(scores):
            joint = np.exp(joint - joint.max(axis=tuple(range(1, joint.ndim)), keepdims=True))
            joint /= joint.sum(axis=tuple(range(1, joint.ndim)), keepdims=True)
            for voice in range(rows.shape[1]):
                others = tuple(axis for axis in range(1, joint.ndim) if axis != voice + 1)
                own = joint.sum(axis=others)
                for choice in range(own.shape[1]):
                    shares[rows[:, voice], top[:, voice, choice]] += own[:, choice]
        return shares

    def best(self, scores: Floats) -> NDArray[np.intp]:
        """(n,) speaker of each voice in the likeliest sharing out."""
        labels = np.full(self._size, -1, np.intp)
        for rows, top, joint in self._pieces(scores):
            flat = joint.reshape(len(rows), -1).argmax(axis=1)
            chosen = np.unravel_index(flat, joint.shape[1:])
            for voice, choice in enumerate(chosen):
                labels[rows[:, voice]] = top[np.arange(len(rows)), voice, choice]
        return labels

    def _pieces(self, scores: Floats) -> Iterator[tuple[Rows, Rows, Floats]]:
        """Some windows' rows (windows, voices) at a time, with what :func:`_joint` says of them."""
        for group, odds in zip(self.groups, self._two_odds, strict=True):
            voices = group.shape[1]
            piece = max(1, _COMBINATIONS // _choices(voices, scores.shape[1]) ** voices)
            for first in range(0, len(group), piece):
                rows = group[first : first + piece]
                yield rows, *_joint(scores[rows], odds[first : first + piece])


def _choices(voices: int, speakers: int) -> int:
    """How many speakers are considered for each of a window's voices."""
    return min(speakers, max(_CHOICES, voices) if voices <= _FEW_VOICES else voices)


def _joint(scores: Floats, two_odds: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Choices of each voice and the joint score of each combination of them.

    ``scores`` (windows, voices, speakers), ``two_odds`` (windows, pairs) → speakers (windows,
    voices, choices) and scores with one axis for the windows and one of choices for each voice.
    Where two voices have the same speaker they lack the odds against it, unless there are fewer
    speakers than voices.
    """
    count, voices, speakers = scores.shape
    kept = _choices(voices, speakers)
    top = np.argsort(-scores, axis=2, kind="stable")[:, :, :kept]
    value = np.take_along_axis(scores, top, axis=2)

    def along(voice: int) -> tuple[int, ...]:
        return (count, *(-1 if axis == voice else 1 for axis in range(voices)))

    joint: Floats = np.zeros((count,) + (1,) * voices)
    for voice in range(voices):
        joint = joint + value[:, voice].reshape(along(voice))
    if speakers >= voices:
        for pair, (first, second) in enumerate(combinations(range(voices), 2)):
            one, other = top[:, first].reshape(along(first)), top[:, second].reshape(along(second))
            against = two_odds[:, pair].reshape(count, *(1,) * voices)
            joint = np.where(one == other, joint - against, joint)
    return top, joint
