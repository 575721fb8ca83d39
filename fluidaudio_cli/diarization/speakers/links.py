"""What windows say of each other's voices, and of their own.

Two windows that see the same moment hear the same people. Their presence in the time they share
says which of their voices are one: speech in both together speaks for it, speech in one alone
against it. Windows that only touch say it of speech that goes on across the boundary. Two voices
of one window that speak at once are two people.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.evidence import FULL_SCALE, Presence
from fluidaudio_cli.diarization.frames import GRID, WINDOW_FRAMES, WINDOW_SAMPLES

Floats = NDArray[np.float64]

# Frames on either side of a boundary in which speech counts as going on across it: 0.3 s, less
# than most pauses between people.
_BOUNDARY_FRAMES = 18


class Links(NamedTuple):
    """Pairs of voices of different windows that are near enough to say something.

    ``pairs`` (m, 2): rows of two voices, the earlier window's first. ``together`` (m,): seconds
    in which both speak, ``apart`` (m,): seconds in which one does, of the time that both windows
    see. ``adjoining`` (m,): 0 to 1, how surely both speak at the boundary of windows that touch.
    ``active_seconds`` (n,): for how long each voice is present in its window; ``windows`` (n,):
    number of that. ``purity`` (n,): how surely each is alone while it is, see :func:`purity`.
    ``at_once`` (p,): seconds in which both speak, of each two voices of one window, see
    :func:`at_once`.
    """

    pairs: NDArray[np.intp]
    together: Floats
    apart: Floats
    adjoining: Floats
    active_seconds: Floats
    windows: NDArray[np.intp]
    purity: Floats
    at_once: Floats


class LinkCollector:
    """Windows in, in order; links out. Keeps only the windows that the next one can overlap.

    ``step_samples``: from one window to the next.
    """

    def __init__(self, step_samples: int) -> None:
        self._step = step_samples
        self._recent: deque[tuple[int, int, NDArray[np.float32]]] = deque()
        self._voices = 0
        none = np.zeros(0)
        self._found = [(np.zeros((0, 2), np.intp), none, none, none)]
        self._active, self._purity, self._at_once = [none], [none], [none]
        self._windows: list[int] = []

    def add(self, number: int, presence: Presence, slots: list[int]) -> None:
        """Take in window ``number``; ``presence`` (frames, slots), ``slots`` of its voices."""
        begin = number * self._step
        while self._recent and begin - self._recent[0][0] > WINDOW_SAMPLES:
            self._recent.popleft()
        if not slots:
            return
        active = present(presence, slots)
        for before, first_row, earlier in self._recent:
            offset = GRID.window_offset(begin) - GRID.window_offset(before)
            self._found.append(linked(earlier, active, offset, first_row, self._voices))
        self._active.append(active.sum(axis=0, dtype=np.float64) * GRID.hop_seconds)
        self._purity.append(purity(active))
        self._at_once.append(at_once(active))
        self._recent.append((begin, self._voices, active))
        self._voices += len(slots)
        self._windows.extend([number] * len(slots))

    def links(self) -> Links:
        """All links so far."""
        pairs, together, apart, adjoining = (
            np.concatenate(part) for part in zip(*self._found, strict=True)
        )
        return Links(
            pairs,
            together,
            apart,
            adjoining,
            np.concatenate(self._active),
            np.array(self._windows, np.intp),
            np.concatenate(self._purity),
            np.concatenate(self._at_once),
        )


def present(presence: Presence, slots: list[int]) -> NDArray[np.float32]:
    """(frames, n) probability that each voice of ``slots`` speaks, of a window's ``presence``."""
    return np.asarray(presence[:, slots].astype(np.float32) / np.float32(FULL_SCALE))


def purity(active: NDArray[np.float32]) -> Floats:
    """(n,) how surely each voice is alone where it seems so, of the presence (frames, n) of all.

    Segmentation is unsure where there is noise, or somebody else: what it says of a moment,
    speaking and nobody else, is averaged over moments in proportion to itself.
    """
    alone = active.astype(np.float64)
    for voice in range(active.shape[1]):
        others = np.delete(active, voice, axis=1).max(axis=1, initial=0.0)
        alone[:, voice] *= 1.0 - others
    return np.asarray((alone * alone).sum(axis=0) / np.maximum(alone.sum(axis=0), _TINY))


def at_once(active: NDArray[np.float32]) -> Floats:
    """(n (n - 1) / 2,) seconds in which each two of the voices (frames, n) speak at once.

    In order of :meth:`windows.Windows.pairs`: (0, 1), (0, 2) … (1, 2) ….
    """
    speaks = (active > _SPEAKS).astype(np.float64)
    frames = (speaks.T @ speaks)[np.triu_indices(active.shape[1], 1)]
    return np.asarray(frames * GRID.hop_seconds)


_TINY = 1e-6
# More likely than not: uncertain moments of two voices are not both.
_SPEAKS = 0.5


def linked(
    earlier: NDArray[np.float32],
    later: NDArray[np.float32],
    offset: int,
    first_row: int,
    second_row: int,
) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
    """Links of two windows' voices, (frames, r) and (frames, s), ``offset`` frames apart."""
    shape = earlier.shape[1], later.shape[1]
    rows = np.indices(shape, np.intp).reshape(2, -1).T + np.array([first_row, second_row])
    nothing = np.zeros(rows.shape[0])
    if offset >= WINDOW_FRAMES:
        ends, begins = (
            earlier[-_BOUNDARY_FRAMES:].mean(axis=0),
            later[:_BOUNDARY_FRAMES].mean(axis=0),
        )
        adjoining = np.outer(ends, begins).astype(np.float64)
        return rows, nothing, nothing, adjoining.ravel()
    left, right = earlier[offset:], later[: WINDOW_FRAMES - offset]
    together = (left.T @ right).astype(np.float64) * GRID.hop_seconds
    heard = left.sum(axis=0)[:, None] + right.sum(axis=0)[None, :]
    apart = heard.astype(np.float64) * GRID.hop_seconds - 2.0 * together
    return rows, together.ravel(), apart.ravel(), nothing
