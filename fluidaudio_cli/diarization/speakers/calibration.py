"""How far two voices being alike says that they are one person.

A unit vector heard for some seconds is modelled as its speaker's direction plus noise: two
voices of one person, each of reliability ``r``, have a cosine of ``r`` on average, two people
one of ``unlike_cosine``. This is the two-covariance model of speaker verification (Brummer and
de Villiers, 2010) with one variance for all directions, which unit vectors of a few thousand
crops could not be told from a richer one. Everything is fitted by
``benchmark/calibrating.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Facts about an embedding network and the segmentation before it.

    Voices: ``reliability`` of endless speech, of which half is reached after ``half_seconds``,
    the more abruptly the greater ``steepness``, times how purely it was heard to the power
    ``purity`` (see :func:`links.purity`). ``overlapped_reliability``: likewise of voices that never
    speak alone. ``spread``: variance between two parts of a recording of one person, however long.
    ``unlike_cosine``: between two people; ``unlike_weight``: how many pairs of one window outweigh
    it by the recording's own.

    Giving voices to speakers: ``sharpness``: effective dimensions. ``repetition``: windows that
    see the same moment are worth (their number) to this power, together, less than apart.
    ``talk_weight``: of how much each speaker speaks. ``together``, ``apart`` per second and
    ``adjoining``: log-odds of links, never beyond ``most_link``.

    Two voices of one window being two people, log-odds: ``two_voices``, and ``two_at_once`` a
    second in which both speak. Segmentation takes one person for two now and then. Two utterances
    of one local speaker being one person, log-odds: ``utterance_cosine`` times their
    cosine, ``utterance_seconds`` times the logarithm of the lesser's seconds (of a crop at most)
    and ``utterance_offset``; all 0 where it is not known.

    Two groups of voices being one person, log-odds, a sum of what :meth:`mixture.Groups.features`
    gives: ``same_cosine`` times that of their means, once more times the cosine expected of one
    person (``same_cosine_expected``) and times the logarithm of the lesser's seconds
    (``same_cosine_less``); ``same_expected``, ``same_less`` and ``same_more`` times the expected
    cosine and the logarithms of the lesser's and the greater's seconds; ``same_window`` times the
    square root of the seconds in which one window hears both as two voices; ``same_linked`` times
    their links; ``same_unlike`` times the recording's unlike cosine; ``same_coherent`` times the
    lesser length of their means; ``same_offset``.

    A speaker who was found being nobody, log-odds, a sum of what :func:`surplus.features` gives:
    ``surplus_cosine`` times the cosine to the one most like it; ``surplus_expected`` times that
    expected of one person; ``surplus_coherent`` times the length of the other's mean;
    ``surplus_alone`` times the share of its time in which it speaks alone; ``surplus_blend`` times
    how much more alike it is to a blend of that one and a third; ``surplus_people`` times the
    logarithm of the number of speakers; ``surplus_rank`` times that of one plus how many speak
    more; ``surplus_offset``. All 0 where it is not known.

    Two single voices: log-odds ``pair_slope`` times the log-likelihood ratio plus
    ``pair_offset``.

    Two speakers of different recordings, each by all that was heard of it there: ``across_...``
    likewise, 0 where it is not known. Two people have a cosine of ``stranger_cosine`` with a
    standard deviation of ``stranger_spread`` and a skewness of ``stranger_skew``, however long they
    are heard.
    ``telephone`` (d,): unit direction in which a telephone's bandwidth moves every voice; across
    recordings that part of a voice counts for nothing. Empty where it is not known.

    ``count_temper`` and ``count_margin``: see
    :func:`counting.count_probabilities`.
    """

    reliability: float
    half_seconds: float
    steepness: float
    overlapped_reliability: float
    spread: float
    unlike_cosine: float
    unlike_weight: float
    sharpness: float
    repetition: float
    talk_weight: float
    together: float
    apart: float
    adjoining: float
    most_link: float
    same_cosine: float
    same_cosine_expected: float
    same_cosine_less: float
    same_expected: float
    same_less: float
    same_more: float
    same_window: float
    same_linked: float
    same_unlike: float
    same_coherent: float
    same_offset: float
    pair_slope: float
    pair_offset: float
    count_temper: float
    count_margin: float
    purity: float = 0.0
    two_voices: float = 20.0
    two_at_once: float = 0.0
    utterance_cosine: float = 0.0
    utterance_seconds: float = 0.0
    utterance_offset: float = 0.0
    surplus_cosine: float = 0.0
    surplus_expected: float = 0.0
    surplus_coherent: float = 0.0
    surplus_alone: float = 0.0
    surplus_blend: float = 0.0
    surplus_people: float = 0.0
    surplus_rank: float = 0.0
    surplus_offset: float = 0.0
    across_reliability: float = 0.0
    across_half_seconds: float = 0.0
    across_steepness: float = 0.0
    across_unlike: float = 0.0
    across_slope: float = 0.0
    across_offset: float = 0.0
    stranger_cosine: float = 0.0
    stranger_spread: float = 0.0
    stranger_skew: float = 0.0
    telephone: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> Calibration:
        """From a mapping of all fields; ``UsageError`` names ``where`` if one is off."""
        names = {field.name for field in fields(cls)}
        given = set(values) if isinstance(values, Mapping) else set()
        optional = _OPTIONAL - given
        if not given & ACROSS:
            optional |= ACROSS
        if wrong := ", ".join(sorted((names ^ given) - optional)):
            raise UsageError(
                f"the calibration in {where} lacks or does not know: {wrong}",
                "write it with fluidaudio models check CARD --calibrate FOLDER",
            )
        try:
            telephone = tuple(float(value) for value in values.get("telephone", ()))
            numbers = {name: float(values[name]) for name in names & given - {"telephone"}}
            return cls(**numbers, telephone=telephone)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the calibration in {where} has a value that is no number: {error}",
                "write it with fluidaudio models check CARD --calibrate FOLDER",
            ) from error

    def rounded(self, digits: int) -> dict[str, Any]:
        """All fields that are known, as a card states them."""
        return {
            name: np.round(value, digits).tolist()
            for name, value in asdict(self).items()
            if name not in ACROSS or self.across_reliability > 0.0
        }

    def within_recordings(self) -> Calibration:
        """Without what is known of people across recordings."""
        return replace(self, telephone=(), **dict.fromkeys(ACROSS, 0.0))

    def without_surplus(self) -> Calibration:
        """Without what is known of speakers who are nobody."""
        return replace(self, surplus_offset=0.0)

    def check_across(self) -> None:
        """``UsageError`` where it does not say how people compare across recordings."""
        if self.across_reliability <= 0.0:
            raise UsageError(
                "the model card does not say how voices compare across recordings: strangers "
                "would be taken for people who are known",
                "fit it: fluidaudio models check CARD --calibrate FOLDER --voices DIR",
            )

    def reliability_of(self, seconds: Floats, purity: Floats | float = 1.0) -> Floats:
        """Mean cosine of voices of one person, each heard alone for ``seconds``.

        ``purity``: how surely alone, as :class:`links.Links` has it.
        """
        grown = _grown(seconds, self.half_seconds, self.steepness)
        return np.asarray(self.reliability * grown * purity**self.purity)

    def across_reliability_of(self, seconds: Floats) -> Floats:
        """Mean cosine of one person's voices in two recordings, each heard for ``seconds``."""
        heard = np.maximum(np.asarray(seconds, np.float64), SHORTEST)
        grown = _grown(heard, self.across_half_seconds, self.across_steepness)
        return np.asarray(self.across_reliability * grown)

    def overlapped_reliability_of(self, seconds: Floats) -> Floats:
        """The same of voices heard only while others speak."""
        return self.overlapped_reliability * _grown(seconds, self.half_seconds, self.steepness)

    def link_odds(self, together: Floats, apart: Floats) -> Floats:
        """Log-odds of two voices being one, by seconds in which both, and in which one, speak."""
        strength = self.together * together - self.apart * apart
        return np.asarray(np.clip(strength, -self.most_link, self.most_link))

    def two_odds(self, at_once: Floats) -> Floats:
        """Log-odds of two voices of one window being two people, by seconds in which both speak."""
        return np.asarray(self.two_voices + self.two_at_once * at_once)

    @property
    def tells_utterances(self) -> bool:
        """Whether it says when two utterances of one local speaker are two people's."""
        return self.utterance_cosine > 0.0

    @property
    def tells_surplus(self) -> bool:
        """Whether it says which speakers that were found are nobody."""
        return self.surplus_offset != 0.0

    def one_voice(self, cosine: Floats, seconds: Floats) -> Floats:
        """Log-odds of two utterances of one local speaker being one person.

        ``seconds``: how long the shorter was heard alone.
        """
        odds = self.utterance_cosine * cosine + self.utterance_seconds * np.log(seconds)
        return np.asarray(odds + self.utterance_offset)

    def likelihoods(
        self, products: Floats, squares: Floats, reliable: Floats, uncertain: Floats
    ) -> Floats:
        """(n, k) log-likelihood of each voice being each speaker's.

        ``products`` (n, k): of voices with means (k, d) that estimate the speakers' directions,
        each with variance ``uncertain`` (k,); ``squares`` (k,): of the means; ``reliable`` (n,):
        the voices. Voices without a vector have none: leave out their rows.
        """
        variance = (1.0 - reliable)[:, None] + reliable[:, None] * uncertain
        along = np.sqrt(reliable)[:, None] * products
        distance = 1.0 - 2.0 * along + reliable[:, None] * squares
        return np.asarray(-self.sharpness / 2.0 * (np.log(variance) + distance / variance))

    def same_person(
        self, cosine: Floats | float, reliable: Floats | float, other: Floats | float
    ) -> Floats:
        """Log-odds that two voices are one person, at even odds beforehand.

        ``cosine`` between unit vectors of the reliabilities ``reliable`` and ``other``; arrays
        broadcast.
        """
        ratio = log_likelihood_ratio(cosine, reliable, other, self.unlike_cosine)
        return np.asarray(self.pair_slope * ratio + self.pair_offset)


def _grown(seconds: Floats, half: float, steepness: float) -> Floats:
    """Share of the reliability of endless speech, of which ``half`` seconds have a half."""
    powered = (seconds / half) ** steepness
    return np.asarray(powered / (powered + 1.0))


_OPTIONAL = {"purity", "two_voices", "two_at_once", "telephone"} | {
    field.name for field in fields(Calibration) if field.name.startswith(("utterance_", "surplus_"))
}
"""Fields that cards may leave out: what they stand for is then left out of account."""

ACROSS = frozenset(
    field.name for field in fields(Calibration) if field.name.startswith(("across_", "stranger_"))
)
"""Fields about two people of different recordings: all of them, or none."""

SHORTEST = 0.05
"""Seconds; a voice counts as heard for at least this."""

RATIO_DIMENSIONS = 10.0
"""Effective dimensions of log-likelihood ratios, whose scale the fitted slopes settle."""


def log_likelihood_ratio(
    cosine: Floats | float, reliable: Floats | float, other: Floats | float, unlike: float
) -> Floats:
    """Of two voices being one person's rather than two people's.

    A unit vector of reliability ``r``, over the root of that, estimates its person's direction
    with noise of variance (1 - r) / r. Two people's directions have a product of ``unlike`` on
    average. Arrays broadcast.
    """
    # With its noise, an estimate has a variance of 1 / r; so has its square.
    first, second = 1.0 / np.asarray(reliable), 1.0 / np.asarray(other)
    product = cosine * np.sqrt(first * second)
    crossed = 2.0 * first * second
    same, different = first * second - 1.0, first * second - unlike * unlike
    distance = (crossed - 2.0 * product) / same - (crossed - 2.0 * unlike * product) / different
    return np.asarray(RATIO_DIMENSIONS / 2.0 * (np.log(different / same) - distance))
