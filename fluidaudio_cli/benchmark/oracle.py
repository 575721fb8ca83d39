"""Who is who as the reference has it: what the same evidence gives when clustering errs nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fluidaudio_cli.diarization.evidence import FULL_SCALE, EvidenceLog, WindowEvidence
from fluidaudio_cli.diarization.frames import GRID, SAMPLE_RATE
from fluidaudio_cli.diarization.turn_builder import ReconstructionRules, build_turns
from fluidaudio_cli.turns import Turn

Labels = NDArray[np.intp]


def oracle_labels(
    evidence: Iterable[WindowEvidence], reference: Sequence[Turn], step_seconds: float
) -> Iterator[tuple[WindowEvidence, Labels]]:
    """Each window with the reference speaker of each of its voices, -1 for one like nobody's.

    Within a window the assignment maximises the time in common, weighted by presence; a
    reference speaker is at most one voice there (Hungarian algorithm). Numbers are those of the
    reference's speakers in order of their names.
    """
    names = sorted({turn.speaker for turn in reference})
    for window in evidence:
        labels = np.full(len(window.voices), -1, np.intp)
        if window.voices and names:
            presence = window.presence()[:, [voice.slot for voice in window.voices]]
            truth = _activity(reference, names, window.number * step_seconds, len(presence))
            common = (presence / FULL_SCALE).T @ truth  # (voices, speakers) frames
            for voice, speaker in zip(*linear_sum_assignment(-common), strict=True):
                if common[voice, speaker] > 0.0:
                    labels[voice] = speaker
        yield window, labels


def oracle_speakers(
    evidence: Iterable[WindowEvidence], reference: Sequence[Turn], step_seconds: float
) -> Labels:
    """(n,) :func:`oracle_labels` of all voices, in order of the windows."""
    labelled = oracle_labels(evidence, reference, step_seconds)
    return np.concatenate([np.zeros(0, np.intp), *(labels for _, labels in labelled)])


def oracle_turns(
    evidence: EvidenceLog,
    step_seconds: float,
    rules: ReconstructionRules,
    reference: Sequence[Turn],
) -> tuple[Turn, ...]:
    """Turns that the product builds from ``evidence`` with oracle labels.

    ``step_seconds`` between windows and ``rules`` of reconstruction: those of the mode that ran.
    """
    labelled = (
        (window, labels.tolist())
        for window, labels in oracle_labels(evidence, reference, step_seconds)
    )
    step_samples = round(step_seconds * SAMPLE_RATE)
    return build_turns(labelled, rules, step_samples, evidence.samples).turns


def _activity(
    reference: Sequence[Turn], names: Sequence[str], start: float, frames: int
) -> NDArray[np.float64]:
    """(frames, speakers): 1 where the middle of a frame lies in a turn of the speaker."""
    centres = start + GRID.centre_seconds + GRID.hop_seconds * np.arange(frames)
    found = np.zeros((frames, len(names)))
    for turn in reference:
        found[(centres >= turn.start) & (centres < turn.end), names.index(turn.speaker)] = 1.0
    return found
