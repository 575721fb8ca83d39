"""How many speakers there are: groups become one while the evidence says so.

Nothing here looks at voices: only at groups of them and the log-odds that two are one person.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.speakers.mixture import Groups

Floats = NDArray[np.float64]
Odds = Callable[[Groups], Floats]

READINESS = 0.9
"""Log-odds of a merge more than even, where the likeliest pair of many must be it or none.

With it before a "no", numbers of speakers are right most often, on simulated conversations and real
ones (docs/evidence.md). In ``same_offset`` of every calibration; where that says as well who is
surplus (:mod:`surplus`), a file's groups are merged without it.
"""

# Of how many people the pairs mostly were that log-odds are fitted to.
_USUAL_PEOPLE = 4
# Counts this unlikely are not worth telling.
_LEAST_PROBABILITY = 0.005


def merge_likely(groups: Groups, odds: Odds) -> tuple[Groups, NDArray[np.intp]]:
    """Make groups one, the likeliest pair first, while it is likelier than not.

    Returns the groups that are left, and (k,) the new number of each old one.
    """
    numbers = np.arange(len(groups))
    while len(groups) > 1:
        one, other, likely = likeliest(odds(groups))
        if likely <= 0.0:
            break
        groups = groups.merged(one, other)
        numbers = renumbered(numbers, one, other)
    return groups, numbers


def likeliest(odds: Floats) -> tuple[int, int, float]:
    """The pair of greatest log-odds (k, k), the first group first, and these."""
    one, other = sorted(int(row) for row in np.unravel_index(odds.argmax(), odds.shape))
    return one, other, float(odds[one, other])


def crowding(people: int) -> float:
    """What log-odds that two groups are one person lose where there are so many ``people``.

    One group in so many is the other's. In nine conversations of 7 to 12 people that nothing was
    chosen on, this makes 25.7 of 28.0 % of error and finds the right number within one in 89
    instead of 56 %.
    """
    return math.log(max(people, _USUAL_PEOPLE) / _USUAL_PEOPLE)


def merge_to(groups: Groups, odds: Odds, most: int) -> NDArray[np.intp]:
    """(k,) new number of each group once there are only ``most``, at the least expected harm.

    Told that there are fewer, some two must be one. If the likeliest pair is not clearly it,
    the harm of being wrong is the speech of the lesser group.
    """
    numbers = np.arange(len(groups))
    while len(groups) > most:
        likely = odds(groups)
        pairs = np.triu_indices(len(groups), 1)
        lesser = np.minimum(groups.seconds[pairs[0]], groups.seconds[pairs[1]])
        harm = lesser * (1.0 - 2.0 * _one_of(likely[pairs]))
        chosen = int(harm.argmin())
        one, other = int(pairs[0][chosen]), int(pairs[1][chosen])
        groups = groups.merged(one, other)
        numbers = renumbered(numbers, one, other)
    return numbers


def least_harmful_split(odds: Floats, seconds: Floats, most_harm: float) -> int | None:
    """Which of some parts (m,) to make a speaker of its own, told that there is one more.

    ``odds``: log-odds that each belongs where it is; ``seconds``: of its speech, which is given
    to the wrong speaker if it does. The one more may also be somebody whose voice is in none of
    the parts: ``None`` where each would cost more than ``most_harm`` seconds.
    """
    if not len(odds):
        return None
    unheard = 0.0
    likely = _one_of(np.append(-odds, unheard))[:-1]
    harm = seconds * (1.0 - 2.0 * likely)
    chosen = int(harm.argmin())
    return chosen if harm[chosen] <= most_harm else None


def count_probabilities(
    found: int, fewer: list[float], more: list[float], temper: float, margin: float
) -> dict[int, float]:
    """Probability of each number of speakers, ascending.

    ``fewer``: log-odds of each further merge after ``found`` are left; ``more``: log-odds
    against each further split, the likeliest first. ``temper``: how far sums of them are
    believed; ``margin``: log-odds of the number found over each of its neighbours.
    """
    weights = {found: 0.0}
    for sign, steps in ((-1, [-odds for odds in fewer]), (1, more)):
        against = margin
        for step, odds in enumerate(steps, 1):
            # What was found was weighed as a whole; no neighbour is likelier for one part of it.
            against += temper * max(odds, 0.0)
            weights[found + sign * step] = -against
    shares = {count: float(np.exp(weight)) for count, weight in weights.items()}
    whole = sum(shares.values())
    return {
        count: share / whole
        for count, share in sorted(shares.items())
        if share / whole >= _LEAST_PROBABILITY
    }


def _one_of(log_odds: Floats) -> Floats:
    """Probability of each event, given that one of them happened."""
    weights = np.exp(np.minimum(log_odds - log_odds.max(), 0.0))
    return np.asarray(weights / weights.sum())


def renumbered(numbers: NDArray[np.intp], kept: int, folded: int) -> NDArray[np.intp]:
    """``numbers`` of groups once ``folded`` is part of ``kept``, and those after it move up."""
    numbers = np.where(numbers == folded, kept, numbers)
    return np.asarray(np.where(numbers > folded, numbers - 1, numbers), np.intp)
