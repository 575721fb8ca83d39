"""Speakers who were found and are nobody: overlap and noise sound like a person of their own.

Groups of voices become one while they are rather one person than two (:mod:`counting`). But who
merges the likeliest pair of many decides on an extreme, and a group that two people made by
speaking at once is nobody's voice. So groups are merged with less readiness where a calibration
says of whom it then finds too many, and of each speaker that is left it is asked by log-odds
whether it is surplus. Nothing here looks at voices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.counting import renumbered
from fluidaudio_cli.diarization.speakers.mixture import Groups

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

_TINY = 1e-6


class Removal(NamedTuple):
    """The speaker most likely surplus, and what becomes of it.

    ``log_odds`` that it is; ``numbers`` (k,): new number of each speaker at the start once this
    and all that were removed before are part of the one most like them.
    """

    log_odds: float
    numbers: Numbers


def features(groups: Groups, present: Floats, nearest: Numbers) -> dict[str, Floats]:
    """(k,) each: what speaks for each speaker being surplus, by field of calibration.

    ``present`` (k,): seconds in which each speaks, alone or not; ``nearest`` (k,): who else
    each is most likely to be.
    """
    count = len(groups)
    rows = np.arange(count)
    cosine = groups.directions @ groups.directions.T
    alike = cosine[rows, nearest]
    return {
        "surplus_cosine": alike,
        "surplus_expected": groups.reliable * groups.reliable[nearest],
        "surplus_coherent": groups.coherence[nearest],
        "surplus_alone": groups.seconds / np.maximum(present, _TINY),
        "surplus_blend": _blended(cosine, nearest) - alike,
        "surplus_people": np.full(count, np.log(count)),
        "surplus_rank": np.log1p(np.sum(groups.seconds > groups.seconds[:, None], axis=1)),
    }


def _blended(cosine: Floats, nearest: Numbers) -> Floats:
    """(k,) how alike each is to the best blend of its ``nearest`` and one other.

    ``cosine`` (k, k). In a plane of two unit vectors, the cosine to what is nearest in it.
    """
    rows = np.arange(len(cosine))
    one = cosine[rows, nearest][:, None]
    between = cosine[nearest]
    # Weights of both in the projection; where one would be negative it is no blend.
    whole = np.maximum(1.0 - between**2, _TINY)
    weight = (one - between * cosine) / whole
    other = (cosine - between * one) / whole
    blend = np.sqrt(np.maximum(weight * one + other * cosine, 0.0))
    blend = np.where((weight >= 0.0) & (other >= 0.0), blend, np.maximum(one, cosine))
    blend[rows, rows] = blend[rows, nearest] = one[:, 0]
    return np.asarray(blend.max(axis=1))


def removals_of(
    groups: Groups,
    present: Floats,
    odds: Callable[[Groups], Floats],
    agreed: Callable[[Groups], Floats],
    calibration: Calibration,
    beyond: int,
) -> list[Removal]:
    """Whom to remove, the likeliest to be surplus first, and so on until one is left.

    ``odds`` (k, k) of two groups being one person say whose a speaker's voices are if it is
    nobody; ``agreed`` (k, k): what known voices say of that. Ends ``beyond`` removals after
    the first that is less likely than not.
    """
    found: list[Removal] = []
    numbers = np.arange(len(groups))
    spared = 0
    while len(groups) > 1 and spared < beyond:
        nearest = odds(groups).argmax(axis=1)
        rows = np.arange(len(groups))
        likely = calibration.surplus_offset + agreed(groups)[rows, nearest]
        for name, values in features(groups, present, nearest).items():
            likely += getattr(calibration, name) * values
        out = int(likely.argmax())
        kept = int(nearest[out])
        numbers = renumbered(numbers, kept, out)
        present = np.bincount(renumbered(rows, kept, out), present).astype(np.float64)
        groups = groups.merged(kept, out)
        found.append(Removal(float(likely[out]), numbers))
        spared += spared > 0 or likely[out] <= 0.0
    return found


def surplus_among(removals: Sequence[Removal]) -> int:
    """How many from the start are rather surplus than not."""
    return next((n for n, each in enumerate(removals) if each.log_odds <= 0.0), len(removals))
