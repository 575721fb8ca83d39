"""A mixture of speakers that explains all voices of a recording.

A voice is its speaker's direction plus noise (see :mod:`calibration`); who it is also depends
on the voices it is linked to and on those of its window. Solved by mean-field passes: speakers
from shares of voices, shares from speakers and from the shares of linked voices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.local_speakers import MIN_CLEAN_SECONDS
from fluidaudio_cli.diarization.speakers.calibration import SHORTEST, Calibration
from fluidaudio_cli.diarization.speakers.known import Anchors
from fluidaudio_cli.diarization.speakers.links import Links
from fluidaudio_cli.diarization.speakers.windows import Windows

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]

# Beyond this many seconds in one window, two voices are two as surely as they will ever be.
_SURELY_TWO_SECONDS = 1.0
# Below it the recording's own unlike cosine is not taken from a pair of voices.
_PAIR_SECONDS = 0.8
_MOST_UNLIKE = 0.6
# Log-odds by which links between two groups can speak for or against their being one.
_MOST_GROUP_LINK = 5.0
# Seconds that every speaker is taken to speak beforehand, and beside the logarithm's pole.
_TALK_SECONDS = 0.3
_LOG_SECONDS = 0.1
_TINY = 1e-6
# Voices whose links are worked on as a matrix, which is quicker while it is small.
_FEW_VOICES = 256
# Rows worked on at a time: copies of ten hours' vectors would be the largest arrays there are.
PIECE = 1024


@dataclass(frozen=True)
class Voices:
    """All local speakers of a recording, in order of their windows.

    ``windows`` (n,): window of each, ascending. ``vectors`` (n, d) float32: unit length, zeros
    where there is none. ``clean_seconds`` (n,): how long each speaks alone in its window;
    ``heard_seconds`` (n,): how much of that its vector can be of.
    ``windows_per_moment``: how many windows see each moment; ``inside``: of all the recording,
    as a share of that, since its first and last moments are seen less often.
    """

    windows: NDArray[np.intp]
    vectors: NDArray[np.float32]
    clean_seconds: Floats
    heard_seconds: Floats
    windows_per_moment: float = 1.0
    inside: float = 1.0

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """Which voices have a vector."""
        return np.asarray(self.vectors.any(axis=1))


@dataclass(frozen=True)
class Groups:
    """Groups of voices taken for one speaker each; all sums over their voices.

    Several such at once have another axis before each of these.

    ``totals`` (k, d): vectors, weighted. ``precisions`` (k,): of their means. ``seconds`` (k,):
    clean, at most once each moment. ``split`` (k, k): seconds in which one window hears both as
    two voices; ``linked`` (k, k): log-odds of links between them.
    """

    totals: Floats
    precisions: Floats
    seconds: Floats
    split: Floats
    linked: Floats

    def __len__(self) -> int:
        """How many there are."""
        return len(self.precisions)

    @property
    def directions(self) -> Floats:
        """(k, d): means, of unit length; zeros where nothing was heard."""
        lengths = np.linalg.norm(self.totals, axis=-1, keepdims=True)
        return np.asarray(self.totals / np.maximum(lengths, _TINY))

    @property
    def coherence(self) -> Floats:
        """(k,): lengths of the means; less than one's voices have, where they are of several."""
        lengths = np.linalg.norm(self.totals, axis=-1)
        return np.asarray(lengths / np.maximum(self.precisions, _TINY))

    @property
    def reliable(self) -> Floats:
        """(k,): cosine of each mean to its person's direction that noise leaves."""
        precisions = np.maximum(self.precisions, _TINY)
        return np.asarray(np.sqrt(precisions / (1.0 + precisions)))

    def merged(self, kept: int, folded: int) -> Groups:
        """With ``folded`` made part of ``kept``; those after it move up."""
        rest = np.delete(np.arange(len(self)), folded)

        def one(values: Floats) -> Floats:
            values = values.copy()
            values[kept] += values[folded]
            return values[rest]

        def both(values: Floats) -> Floats:
            values = values.copy()
            values[kept] += values[folded]
            values[:, kept] += values[:, folded]
            return values[np.ix_(rest, rest)]

        return Groups(
            one(self.totals),
            one(self.precisions),
            one(self.seconds),
            both(self.split),
            both(self.linked),
        )

    def features(self, unlike: float) -> dict[str, Floats]:
        """(k, k) each: what speaks for two groups being one person, by field of calibration."""
        directions, reliable, length = self.directions, self.reliable, self.coherence
        cosine = directions @ directions.swapaxes(-1, -2)
        expected = reliable[..., None] * reliable[..., None, :]
        spoken = np.log(self.seconds + _LOG_SECONDS)
        less = np.minimum(spoken[..., None], spoken[..., None, :])
        return {
            "same_cosine": cosine,
            "same_cosine_expected": cosine * expected,
            "same_cosine_less": cosine * less,
            "same_expected": expected,
            "same_less": less,
            "same_more": np.maximum(spoken[..., None], spoken[..., None, :]),
            "same_window": np.sqrt(self.split),
            "same_linked": np.clip(self.linked, -_MOST_GROUP_LINK, _MOST_GROUP_LINK),
            "same_unlike": np.full_like(cosine, unlike),
            "same_coherent": np.minimum(length[..., None], length[..., None, :]),
        }

    def same_person(self, calibration: Calibration, unlike: float) -> Floats:
        """(k, k) log-odds that two groups are one person; -inf on the diagonal."""
        odds: Floats = np.full(self.split.shape, calibration.same_offset)
        for name, values in self.features(unlike).items():
            odds += getattr(calibration, name) * values
        diagonal = np.arange(odds.shape[-1])
        odds[..., diagonal, diagonal] = -np.inf
        return odds


class Mixture:
    """The voices of a recording, ready to be shared out among speakers."""

    def __init__(self, voices: Voices, links: Links, calibration: Calibration) -> None:
        self.voices = voices
        self.calibration = calibration
        self.windows = Windows(voices.windows, calibration.two_odds(links.at_once))
        heard = np.maximum(voices.heard_seconds, SHORTEST)
        clean = voices.embedded & (voices.clean_seconds >= MIN_CLEAN_SECONDS)
        overlapped = voices.embedded & ~clean
        reliable = np.where(clean, calibration.reliability_of(heard, links.purity), 0.0)
        reliable[overlapped] = calibration.overlapped_reliability_of(
            links.active_seconds[overlapped]
        )
        self.clean = clean
        self.present_seconds = links.active_seconds
        self._embedded = voices.embedded
        self.reliable = reliable
        self._scale = np.sqrt(reliable)
        noise = 1.0 - reliable
        self._looks = voices.windows_per_moment
        # Windows that see the same speech are not as many witnesses. Voices that never speak
        # alone are given to speakers, and say nothing of how these sound.
        weight = np.where(clean, self._looks**-calibration.repetition, 0.0)
        self._vector_weight = (self._scale * weight / noise).astype(np.float32)
        self._precision = reliable * weight / noise
        self._link_pairs = links.pairs
        odds = calibration.link_odds(links.together, links.apart)
        odds += calibration.adjoining * links.adjoining
        # Each window that sees a moment is linked to each other one that does.
        others = max(self._looks - 1.0, 1.0)
        self._link_odds = odds / others
        self._repeated_links = self._looks * others
        few = len(voices.windows) <= _FEW_VOICES
        self._link_matrix = self._linked_to_each(len(voices.windows)) if few else None
        self._link_groups = [] if few else _without_repeats(links.pairs, voices.windows)
        self.unlike = self._unlike_cosine()

    def groups(self, shares: Floats) -> Groups:
        """Groups of ``shares`` (n, k)."""
        totals = self._weighted(shares).T @ self.voices.vectors
        return Groups(
            np.asarray(totals, np.float64),
            self._precision @ shares,
            (self.voices.clean_seconds @ shares) / self._looks,
            *self._crossed(partial(_between, shares)),
        )

    def groups_of(self, labels: Labels, least: int = 0) -> Groups:
        """Groups, ``least`` at least, of voices with the same of ``labels`` (n,); -1 for none."""
        count = max(least, int(labels.max()) + 1)

        def between(pairs: NDArray[np.intp], values: Floats) -> Floats:
            both = (labels[pairs] >= 0).all(axis=1)
            first, second = labels[pairs[both]].T
            cells = first * count + second
            crossed = np.bincount(cells, values[both], count * count).reshape(count, count)
            return np.asarray(crossed + crossed.T)

        return Groups(*self._sums(labels, least), *self._crossed(between))

    def beside_rest(self, parts: Labels, labels: Labels) -> Groups:
        """Of each part its group and that of the rest of its speaker: m times two groups.

        ``parts`` (n,): part of each voice, -1 for none, m in all; ``labels`` (n,): speakers.
        """
        speaker = np.zeros(int(parts.max()) + 1, np.intp)
        speaker[parts[parts >= 0]] = labels[parts >= 0]

        def between(pairs: NDArray[np.intp], values: Floats) -> Floats:
            first, second = parts[pairs].T
            one = (first >= 0) & (first != second) & (labels[pairs[:, 0]] == labels[pairs[:, 1]])
            ends = np.concatenate([first[one], second[one]])
            summed = np.bincount(ends, np.tile(values[one], 2), len(speaker))
            return np.asarray(summed[:, None, None] * (1.0 - np.eye(2)))

        totals, precisions, seconds = (
            np.stack([of_parts, of_speakers[speaker] - of_parts], axis=1)
            for of_parts, of_speakers in zip(self._sums(parts), self._sums(labels), strict=True)
        )
        return Groups(totals, precisions, seconds, *self._crossed(between))

    def _sums(self, labels: Labels, least: int = 0) -> tuple[Floats, Floats, Floats]:
        """Totals, precisions and seconds of voices with the same of ``labels`` (n,)."""
        count = max(least, int(labels.max()) + 1)
        given = np.argsort(labels, kind="stable")[np.count_nonzero(labels < 0) :]
        totals = np.zeros((count, self.voices.vectors.shape[1]))
        for begin in range(0, len(given), PIECE):
            rows = given[begin : begin + PIECE]
            groups, starts = np.unique(labels[rows], return_index=True)
            weights = self._vector_weight[rows, None].astype(np.float64)
            totals[groups] += np.add.reduceat(weights * self.voices.vectors[rows], starts)

        def summed(values: Floats) -> Floats:
            return np.bincount(labels[given], values[given], count).astype(np.float64)

        return totals, summed(self._precision), summed(self.voices.clean_seconds) / self._looks

    def _crossed(
        self, between: Callable[[NDArray[np.intp], Floats], Floats]
    ) -> tuple[Floats, Floats]:
        """Split and linked, by what sums values (m,) of pairs (m, 2) of voices."""
        pairs = self.windows.pairs()
        seconds = self.voices.clean_seconds[pairs].min(axis=1, initial=_SURELY_TWO_SECONDS)
        return (
            between(pairs, seconds) / self._looks,
            between(self._link_pairs, self._link_odds) / self._repeated_links,
        )

    def settle(self, shares: Floats, passes: int, anchors: Anchors | None = None) -> Floats:
        """Shares (n, k) after some passes."""
        for _ in range(passes):
            shares = self.windows.shares(self.scores(shares, anchors))
        return shares

    def scores(self, shares: Floats, anchors: Anchors | None = None) -> Floats:
        """(n, k) log-probability of each voice being each speaker, but for those of its window.

        ``anchors``: what is known of the speakers besides.
        """
        calibration = self.calibration
        totals = np.asarray(self._weighted(shares).T @ self.voices.vectors, np.float64)
        precisions = 1.0 + self._precision @ shares
        spoken = shares.sum(axis=0) / self._looks + _TALK_SECONDS
        if anchors is not None:
            totals = totals + anchors.totals
            precisions = precisions + anchors.precisions
            spoken = spoken + anchors.spoken
        means = totals / precisions[:, None]
        uncertain = 1.0 / precisions + calibration.spread
        products = self.voices.vectors @ means.T.astype(np.float32)
        squares = (means * means).sum(axis=1)
        scores = calibration.likelihoods(products, squares, self.reliable, uncertain)
        scores[~self._embedded] = 0.0
        scores += calibration.talk_weight * np.log(spoken / spoken.sum())
        if self._link_matrix is not None:
            scores += self._link_matrix @ shares
        for rows in self._link_groups:
            for begin in range(0, len(rows), PIECE):
                some = rows[begin : begin + PIECE]
                first, second = self._link_pairs[some].T
                odds = self._link_odds[some, None]
                scores[first] += odds * shares[second]
                scores[second] += odds * shares[first]
        return np.asarray(scores)

    def _linked_to_each(self, count: int) -> Floats:
        """(n, n) log-odds of links between all voices."""
        odds = np.zeros((count, count))
        first, second = self._link_pairs.T
        odds[first, second] = odds[second, first] = self._link_odds
        return odds

    def _weighted(self, shares: Floats) -> NDArray[np.float32]:
        return np.asarray(shares.astype(np.float32) * self._vector_weight[:, None])

    def _unlike_cosine(self) -> float:
        """Between two people of this recording: voices of one window are known to be two."""
        weight = self.calibration.unlike_weight
        total = weight * self.calibration.unlike_cosine
        pairs = self.windows.pairs()
        long = self.clean & (self.voices.clean_seconds >= _PAIR_SECONDS)
        pairs = pairs[long[pairs].all(axis=1)]
        if len(pairs):
            left, right = pairs.T
            vectors = self.voices.vectors
            cosine = np.concatenate(
                [
                    np.einsum("nd,nd->n", vectors[left[part]], vectors[right[part]])
                    for part in np.array_split(np.arange(len(pairs)), len(pairs) // 1024 + 1)
                ]
            )
            expected = self._scale[left] * self._scale[right]
            total += float((cosine * expected).sum()) / self._looks
            weight += float((expected * expected).sum()) / self._looks
        return float(np.clip(total / weight, 0.0, _MOST_UNLIKE))


def shares_of(labels: Labels, speakers: int) -> Floats:
    """(n, k): one where a voice has a label, zeros where it has none (-1)."""
    shares = np.zeros((len(labels), speakers))
    given = np.flatnonzero(labels >= 0)
    shares[given, labels[given]] = 1.0
    return shares


def through(labels: Labels, numbers: NDArray[np.intp]) -> Labels:
    """``labels`` (n,) by new ``numbers`` of theirs; -1 stays."""
    return np.asarray(np.append(numbers, -1)[labels])


def folded(shares: Floats, numbers: NDArray[np.intp]) -> Floats:
    """Columns of ``shares`` (n, k) added up by their new ``numbers``."""
    summed = np.zeros((len(shares), int(numbers.max()) + 1))
    for old, new in enumerate(numbers):
        summed[:, new] += shares[:, old]
    return summed


def _between(shares: Floats, pairs: NDArray[np.intp], values: Floats) -> Floats:
    """(k, k) symmetric: ``values`` (m,) of ``pairs`` (m, 2) by the groups of their voices."""
    crossed = np.zeros((shares.shape[1], shares.shape[1]))
    for begin in range(0, len(pairs), PIECE):
        first, second = pairs[begin : begin + PIECE].T
        crossed += (shares[first] * values[begin : begin + PIECE, None]).T @ shares[second]
    return np.asarray(crossed + crossed.T)


def _without_repeats(pairs: NDArray[np.intp], windows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Rows of ``pairs`` in parts in which no voice is first, or second, more than once.

    Such parts can be added with plain indexing, which is many times faster than ``add.at``.
    """
    if not len(pairs):
        return []
    starts = np.flatnonzero(np.diff(windows, prepend=-1))
    rank = np.arange(len(windows)) - np.repeat(starts, np.diff(starts, append=len(windows)))
    first, second = pairs.T
    most = int(rank.max()) + 1
    key = ((windows[second] - windows[first]) * most + rank[first]) * most + rank[second]
    order = np.argsort(key, kind="stable")
    ends = np.flatnonzero(np.diff(key[order])) + 1
    return [np.asarray(part) for part in np.split(order, ends)]
