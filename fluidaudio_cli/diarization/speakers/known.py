"""Voices that are known beforehand, by name, and who of a recording's speakers has one of them.

A voice heard in one recording is compared with those of other recordings: rooms, microphones and
days differ, so that this has values of its own in the calibration (``across_...``). How strangers
compare decides what is accepted (``stranger_...``): the rate at which one would be as alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.speakers.calibration import Calibration, log_likelihood_ratio
from fluidaudio_cli.errors import UsageError

# SciPy is imported where it is used: it takes a while, and who knows no voices needs none of it.
Floats = NDArray[np.float64]

DEFAULT_FALSE_ACCEPT = 0.01
"""Rate at which somebody whose voice is not known may be given a name."""

# What known voices can say for or against two groups being one person, log-odds: no more than
# other evidence of that weight, as strangers can be alike, too.
_MOST_AGREEMENT = 10.0
_MOST_ODDS = 30.0
_MOST_WEIGHT = 12.0
_TINY = 1e-12
# Names told of a speaker, the likeliest first.
_CANDIDATES = 3
# However many recordings a person is heard in: they share rooms and microphones. With 0.65 some
# readers of the fit were linked wrongly, with 0.8 a fourth of those heard for 2 s was not linked.
_MOST_RELIABLE = 0.7


@dataclass(frozen=True, eq=False)
class KnownVoice:
    """Somebody who was heard before.

    ``vectors`` (k, d) float32: unit length, one for each recording; ``seconds`` (k,): clean
    speech in each. ``name`` is what turns carry.
    """

    name: str
    vectors: NDArray[np.float32]
    seconds: NDArray[np.float64]


class Identity(NamedTuple):
    """Who a speaker is: ``name``, empty where that is not sure enough.

    ``probability``: of the name, or that it is nobody known. ``candidates``: the likeliest names
    with their probabilities. ``false_accept``: how often a stranger would be as like the likeliest.
    """

    name: str
    probability: float
    candidates: tuple[tuple[str, float], ...]
    false_accept: float


class Anchors(NamedTuple):
    """What is known of speakers besides: totals (k, d) and precisions (k,), as of their voices.

    ``spoken``: for how long, (k,), as a mixture counts it.
    """

    totals: Floats
    precisions: Floats
    spoken: Floats | float = 0.0


@dataclass(frozen=True, eq=False)
class Directions:
    """Unit ``vectors`` (k, d), zeros for none, and how ``reliable`` (k,) each is elsewhere.

    ``length`` (k,): of the mean of the unit vectors that each was joined from, without their part
    along ``Calibration.telephone``: what of a voice is common to all telephones tells nobody apart
    (nuisance attribute projection, Solomonoff et al., 2005).
    """

    vectors: NDArray[np.floating[Any]]
    reliable: Floats
    length: Floats

    @classmethod
    def of(
        cls, vectors: NDArray[np.floating[Any]], seconds: Floats, calibration: Calibration
    ) -> Directions:
        """Of voices (k, d) that were each heard in one recording, for ``seconds`` (k,).

        ``UsageError`` for a calibration that says nothing of that.
        """
        calibration.check_across()
        heard = vectors.any(axis=1)
        reliable = np.where(heard, calibration.across_reliability_of(seconds), 0.0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.asarray(vectors / np.where(lengths > 0.0, lengths, 1.0), np.float64)
        if calibration.telephone:
            telephone = np.array(calibration.telephone)
            unit -= np.outer(unit @ telephone, telephone)
        length = np.linalg.norm(unit, axis=1)
        return cls(unit / np.maximum(length, _TINY)[:, None], np.asarray(reliable), length)

    @classmethod
    def joined(cls, parts: Sequence[Directions]) -> Directions:
        """One direction of each of ``parts``, which is one person's."""
        totals = np.stack([part.totals.sum(axis=0) for part in parts])
        precisions = np.array([part.precisions.sum() for part in parts])
        joined = cls.summed(totals, precisions)
        weights = np.array([np.linalg.norm(part.totals, axis=1).sum() for part in parts])
        means = np.stack([part.length @ part.totals for part in parts])
        length = np.linalg.norm(means, axis=1) / np.maximum(weights, _TINY)
        return replace(joined, length=np.asarray(length))

    @classmethod
    def summed(cls, totals: Floats, precisions: Floats) -> Directions:
        """Of sums over recordings of ``totals`` (k, d) and ``precisions`` (k,)."""
        sizes = np.maximum(np.linalg.norm(totals, axis=1), _TINY)
        reliable = np.minimum(precisions / (1.0 + precisions), _MOST_RELIABLE)
        return cls(totals / sizes[:, None], np.asarray(reliable), np.ones(len(totals)))

    @property
    def totals(self) -> Floats:
        """(k, d): vectors weighted by what they are worth."""
        return np.asarray(self.vectors * (np.sqrt(self.reliable) / (1.0 - self.reliable))[:, None])

    @property
    def precisions(self) -> Floats:
        """(k,): of the directions."""
        return np.asarray(self.reliable / (1.0 - self.reliable))

    def compared(self, others: Directions, calibration: Calibration) -> Comparison:
        """Each with each of ``others``."""
        cosine = self.vectors @ others.vectors.T
        both = np.sqrt(self.reliable[:, None] * others.reliable[None])
        return Comparison(cosine, both, self, others, calibration)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Of k voices with n others: ``cosine`` (k, n), ``likeness`` (k, n) that one person has."""

    cosine: Floats
    likeness: Floats
    first: Directions
    second: Directions
    calibration: Calibration

    @cached_property
    def log_odds(self) -> Floats:
        """(k, n) that two are one person, at even odds beforehand."""
        one = np.maximum(self.first.reliable, 1e-3)[:, None]
        other = np.maximum(self.second.reliable, 1e-3)[None]
        ratio = log_likelihood_ratio(self.cosine, one, other, self.calibration.across_unlike)
        odds = self.calibration.across_slope * ratio + self.calibration.across_offset
        return np.asarray(
            np.clip(np.where(self.likeness > 0.0, odds, 0.0), -_MOST_ODDS, _MOST_ODDS)
        )

    @cached_property
    def false_accept(self) -> Floats:
        """(k, n) how often two people would be as alike: 1 where nothing was heard."""
        from scipy.special import gammaincc

        calibration = self.calibration
        # The mean of cosines with single recordings varies no more than one of them.
        mean = self.cosine * self.first.length[:, None] * self.second.length[None]
        above = (mean - calibration.stranger_cosine) / calibration.stranger_spread
        # Pearson's third kind: strangers of one sex are more alike than the rest.
        shape = 4.0 / calibration.stranger_skew**2
        rate = gammaincc(shape, np.maximum(shape + above * np.sqrt(shape), 0.0))
        return np.asarray(np.where(self.likeness > 0.0, rate, 1.0))


class KnownPeople:
    """Known voices, ready to be found among the speakers of a recording.

    ``false_accept``: rate at which a speaker who is none of them may be given a name, whatever
    their number. Raises ``UsageError`` for a rate that is none, or two voices of one name.
    """

    def __init__(
        self,
        voices: Sequence[KnownVoice],
        calibration: Calibration,
        false_accept: float = DEFAULT_FALSE_ACCEPT,
    ) -> None:
        if not 0.0 < false_accept < 1.0:
            raise UsageError(
                f"a rate of false accepts of {100 * false_accept:g} %",
                "give more than 0, under 100",
            )
        self.names = tuple(voice.name for voice in voices)
        self._calibration = calibration
        self._false_accept = false_accept
        self.known = Directions.joined(
            [Directions.of(voice.vectors, voice.seconds, calibration) for voice in voices]
        )

    def compared(self, vectors: NDArray[np.floating[Any]], seconds: Floats) -> Comparison:
        """Speakers (k, d), each heard for ``seconds`` (k,), with the n known voices."""
        found = Directions.of(vectors, seconds, self._calibration)
        return found.compared(self.known, self._calibration)

    def agreement(self, vectors: NDArray[np.floating[Any]], seconds: Floats) -> Floats:
        """(k, k) log-odds, by the known voices alone, that two groups of voices are one person.

        Positive for two that are alike to the same known voice, negative for two that are alike to
        different ones, next to nothing for those that are alike to none.
        """
        odds = self.compared(vectors, seconds).log_odds
        weights = np.exp(np.minimum(odds, _MOST_WEIGHT)) / len(self.names)
        known = 1.0 + weights.sum(axis=1)
        both = weights @ weights.T
        same = 1.0 + both * len(self.names)
        # Two people are not both the same known one.
        different = known[:, None] * known[None] - both
        agreement = np.log(same) - np.log(different)
        return np.asarray(np.clip(agreement, -_MOST_AGREEMENT, _MOST_AGREEMENT))

    def anchors(self, vectors: NDArray[np.floating[Any]], seconds: Floats) -> Anchors:
        """What the known voices say of how speakers sound, as far as these are likely them."""
        from scipy.optimize import linear_sum_assignment
        from scipy.special import expit

        odds = self.compared(vectors, seconds).log_odds - np.log(len(self.names))
        weights = np.zeros(odds.shape)
        rows, columns = linear_sum_assignment(-np.maximum(odds, 0.0))
        weights[rows, columns] = expit(odds[rows, columns])
        return Anchors(weights @ self.known.totals, weights @ self.known.precisions)

    def recognised(
        self, vectors: NDArray[np.floating[Any]], seconds: Floats
    ) -> tuple[Identity, ...]:
        """Who each speaker (k, d) is; no two have one name."""
        from scipy.optimize import linear_sum_assignment
        from scipy.special import logsumexp

        compared = self.compared(vectors, seconds)
        weights = compared.log_odds - np.log(len(self.names))
        # A stranger has as many chances as there are voices.
        rate = 1.0 - (1.0 - compared.false_accept) ** len(self.names)
        allowed = rate <= self._false_accept
        worth = np.where(allowed, weights + 3.0 * _MOST_ODDS, 0.0)
        rows, columns = linear_sum_assignment(-worth)
        given = {
            int(row): int(column)
            for row, column in zip(rows, columns, strict=True)
            if allowed[row, column]
        }
        shares = np.exp(weights - logsumexp(np.pad(weights, ((0, 0), (0, 1))), axis=1)[:, None])
        found = []
        for row, own in enumerate(shares):
            order = np.argsort(-own, kind="stable")[:_CANDIDATES]
            candidates = tuple((self.names[column], float(own[column])) for column in order)
            column = given.get(row)
            probability = 1.0 - float(own.sum()) if column is None else float(own[column])
            name = "" if column is None else self.names[column]
            least = float(rate[row].min() if column is None else rate[row, column])
            found.append(Identity(name, max(probability, 0.0), candidates, least))
        return tuple(found)
