"""Fit which speakers are nobody: regression on speakers that were found, whose answer is known.

Of whole recordings and of their beginnings: the longer a recording, the more speech there is to
find nobody in, while its people are as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fluidaudio_cli.benchmark.calibrating_groups import Known
from fluidaudio_cli.benchmark.oracle import oracle_speakers
from fluidaudio_cli.benchmark.regression import fitted, slopes_of
from fluidaudio_cli.diarization.conclusion import speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog
from fluidaudio_cli.diarization.frames import SAMPLE_RATE, WINDOW_SECONDS
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.mixture import Mixture
from fluidaudio_cli.diarization.speakers.offline import Decision, starting_groups
from fluidaudio_cli.diarization.speakers.surplus import features

Floats = NDArray[np.float64]

_WEIGHTS = slopes_of("surplus")
_BEGINNINGS_SECONDS = (30.0, 60.0, 120.0)
# A recording hardly longer than its beginning is the same example twice.
_LONGER = 1.2
# What a weight of one standard deviation of its feature costs, in speakers.
_RIDGE = 1.0


def fit_surplus(known: Iterable[Known], mode: ModeConfig) -> Calibration:
    """The calibration of ``mode``, its log-odds of nobody (``surplus_...``) fitted to ``known``.

    As it is where nobody is found to be a speaker, or nobody else.
    """
    step = mode.windows.step_seconds
    parts = [
        _examples(each, mode) for whole in known for each in (whole, *_beginnings(whole, step))
    ]
    values = np.concatenate([part for part, _ in parts] or [np.zeros((0, len(_WEIGHTS)))])
    surplus = np.concatenate([part for _, part in parts] or [np.zeros(0, bool)])
    return fitted(mode.calibration, "surplus", values, surplus, np.ones(len(surplus)), _RIDGE)


def _beginnings(known: Known, step_seconds: float) -> Iterator[Known]:
    log, reference = known
    for seconds in _BEGINNINGS_SECONDS:
        if log.samples < _LONGER * seconds * SAMPLE_RATE:
            continue
        part = EvidenceLog(log.facts)
        part.samples = round(seconds * SAMPLE_RATE)
        for evidence in log:
            if (evidence.number - 1) * step_seconds + WINDOW_SECONDS <= seconds:
                part.append(evidence)
        turns = [
            turn._replace(end=min(turn.end, seconds)) for turn in reference if turn.start < seconds
        ]
        yield Known(part, turns)


def _examples(known: Known, mode: ModeConfig) -> tuple[Floats, NDArray[np.bool_]]:
    """(m, f) what speaks for each speaker of a recording being nobody, and (m,) whether it is."""
    none = np.zeros((0, len(_WEIGHTS))), np.zeros(0, bool)
    log, reference = known
    if log.placed or not len(log.vectors):
        return none
    voices, links = speaker_model(mode, log).heard()
    mixture = Mixture(voices, links, mode.calibration)
    start = starting_groups(mixture, links)
    decision = Decision(mixture, mode.calibration, None, finds_surplus=True)
    if start.max(initial=-1) < 1 or (labels := decision.settled(start)).max() < 1:
        return none
    truth = oracle_speakers(log, reference, mode.windows.step_seconds)
    both = (labels >= 0) & (truth >= 0)
    spoken = np.zeros((int(labels.max()) + 1, int(truth.max(initial=0)) + 1))
    np.add.at(spoken, (labels[both], truth[both]), mixture.present_seconds[both])
    surplus = np.ones(len(spoken), bool)
    found, people = linear_sum_assignment(-spoken)
    surplus[found] = spoken[found, people] == 0.0
    groups, present = decision.speakers(labels)
    speaks = features(groups, present, decision.odds(groups).argmax(axis=1))
    return np.stack([speaks[name] for name in _WEIGHTS], axis=1), surplus
