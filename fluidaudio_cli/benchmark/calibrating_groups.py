"""Fit when two groups of voices are one person: regression on merges whose answer is known.

Voices of a recording start in small groups, which become speakers by merging. Every pair of groups
on that way is an example: on the way that the reference has, and on the way that the calibration
takes. Errors cost what the lesser group speaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.benchmark.oracle import oracle_speakers
from fluidaudio_cli.benchmark.regression import fitted, slopes_of
from fluidaudio_cli.diarization.conclusion import speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.counting import READINESS, likeliest
from fluidaudio_cli.diarization.speakers.mixture import Groups, Mixture
from fluidaudio_cli.diarization.speakers.offline import starting_groups
from fluidaudio_cli.turns import Turn

Floats = NDArray[np.float64]

# What is fitted, beside the offset.
_WEIGHTS = slopes_of("same")
# A group whose voices are of several people is no example.
_LEAST_PURITY = 0.6
# Beyond this a group's speech makes no error dearer: one recording would outweigh many.
_MOST_SECONDS = 10.0
# The way of the calibration is followed beyond its own decision, to this, for near misses.
_LEAST_ODDS = -3.0
# What a weight of one standard deviation of its feature costs, per recording.
_RIDGE = 0.01


class Known(NamedTuple):
    """Evidence of one recording and who speaks in it."""

    log: EvidenceLog
    reference: Sequence[Turn]


class _Examples(NamedTuple):
    """Of pairs of groups: features (m, f), whether one person (m,), weight (m,)."""

    features: Floats
    same: NDArray[np.bool_]
    weights: Floats


def fit_groups(known: Iterable[Known], mode: ModeConfig) -> Calibration:
    """The calibration of ``mode`` with its log-odds of groups (``same_...``) fitted to ``known``.

    As it is where the recordings have too few groups of one person or of two.
    """
    parts = [part for each in known for part in _examples(each, mode)]
    if not parts:
        return mode.calibration
    features, same, weights = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    weights, ridge = weights / len(parts), _RIDGE / len(parts)
    return fitted(mode.calibration, "same", features, same, weights, ridge, READINESS)


def _examples(known: Known, mode: ModeConfig) -> Iterator[_Examples]:
    """Those of one recording, their weights adding up to one a root of their number."""
    log, reference = known
    if log.placed or not len(log.vectors):
        return
    labels = oracle_speakers(log, reference, mode.windows.step_seconds)
    voices, links = speaker_model(mode, log).heard()
    mixture = Mixture(voices, links, mode.calibration)
    start = starting_groups(mixture, links)
    if start.max(initial=-1) < 1 or labels.max(initial=-1) < 0:
        return
    given = np.flatnonzero(start >= 0)
    # Last column: speech of nobody in the reference.
    spoken = np.zeros((int(start.max()) + 1, int(labels.max()) + 2))
    np.add.at(spoken, (start[given], labels[given]), voices.clean_seconds[given])
    ways = [
        _way(mixture, mixture.groups_of(start), spoken, by_reference=by_reference)
        for by_reference in (True, False)
    ]
    features, same, weights = (np.concatenate(kind) for kind in zip(*ways, strict=True))
    if len(same) and weights.sum() > 0.0:
        yield _Examples(features, same, weights / np.sqrt(weights.sum()))


def _way(mixture: Mixture, groups: Groups, spoken: Floats, *, by_reference: bool) -> _Examples:
    """All pairs of groups on the way from many to few."""
    parts = []
    while len(groups) > 1:
        who = spoken[:, :-1].argmax(axis=1)
        pure = spoken[:, :-1].max(axis=1) / np.maximum(spoken.sum(axis=1), 1e-9)
        pairs = np.triu_indices(len(groups), 1)
        purity = pure[np.array(pairs)].min(axis=0)
        lesser = groups.seconds[np.array(pairs)].min(axis=0)
        weights = np.where(purity > _LEAST_PURITY, purity * np.minimum(lesser, _MOST_SECONDS), 0.0)
        speaks = groups.features(mixture.unlike)
        features = np.stack([speaks[name][pairs] for name in _WEIGHTS], axis=1)
        same = who[:, None] == who[None]
        parts.append((features, same[pairs], weights))
        odds = groups.same_person(mixture.calibration, mixture.unlike)
        if by_reference:
            odds = np.where(same, odds, -np.inf)
        one, other, most = likeliest(odds)
        if not most > (-np.inf if by_reference else _LEAST_ODDS):
            break
        groups = groups.merged(one, other)
        spoken[one] += spoken[other]
        spoken = np.delete(spoken, other, axis=0)
    return _Examples(*(np.concatenate(kind) for kind in zip(*parts, strict=True)))
