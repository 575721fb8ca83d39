"""Each fault that a model card can have is told in one line."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.diarization.card_check import (
    evidence_faults,
    likeness_faults,
    score_faults,
    shape_faults,
)
from fluidaudio_cli.diarization.evidence import LocalVoice, WindowEvidence
from fluidaudio_cli.executors.base import TensorSpec
from fluidaudio_cli.models.card import SegmentationCard, load_card
from fluidaudio_cli.turns import Turn

REFERENCE = (Turn(0.0, 4.0, "a"), Turn(6.0, 10.0, "b"))
HALF = np.array([[[0.5, 0.5, 0, 0, 0, 0, 0]]], np.float32)


def segmentation(**changes: Any) -> SegmentationCard:
    card = load_card().segmentation
    assert card is not None
    return replace(card, **changes)


@pytest.mark.parametrize(
    ("stated", "scores", "found"),
    [
        ("log-probabilities", HALF, "probabilities (from 0.00 to 0.50)"),
        ("probabilities", np.log(HALF + 1e-9), "log-probabilities (from -20.72 to -0.69)"),
        ("probabilities", HALF * 9, "logits (from 0.00 to 4.50)"),
    ],
)
def test_scores_of_another_kind(stated: str, scores: Any, found: str) -> None:
    assert list(score_faults(scores, segmentation(scores=stated))) == [
        f"segmentation: scores are {found}, not {stated} as the card says"
    ]


def test_right_scores_have_no_fault() -> None:
    assert not list(score_faults(HALF, segmentation(scores="probabilities")))
    assert not list(score_faults(np.log(HALF + 1e-9), segmentation(scores="logits")))
    assert list(score_faults(HALF * np.nan, segmentation())) == [
        "segmentation: some scores are no finite numbers"
    ]


def test_other_tensors() -> None:
    spec = TensorSpec("segments", (None, 589, 7), "float32")
    inputs = (TensorSpec("audio", (None, 1, 80_000), "float32"),)
    model: Any = SimpleNamespace(inputs=inputs, outputs=(spec,))
    assert list(shape_faults("segmentation", segmentation(), model)) == [
        "segmentation: input audio is [*, 1, 80000] in the package, ['batch', 1, 160000] in the "
        "card",
        "segmentation: the package has no output log_probabilities, but segments",
    ]


def windows(lag_frames: int, vectors: list[list[float]]) -> list[WindowEvidence]:
    """The same 10 s twice: slot 0 speaks as "a" does, slot 1 as "b", both ``lag_frames`` late."""
    presence = np.zeros((589, 3), np.uint8)
    # Centres of frames 0 and 235 lie at 0.03 and 4 s, of 354 at 6 s.
    presence[:235, 0], presence[354:, 1] = 255, 255
    presence = np.roll(presence, lag_frames, axis=0)
    made = []
    for first, second in (vectors[:2], vectors[2:]):
        voices = (
            LocalVoice(0, 4.0, np.array(first, np.float32)),
            LocalVoice(1, 4.0, np.array(second, np.float32)),
        )
        made.append(WindowEvidence.of(0, voices, presence))
    return made


APART = [[1.0, 0.0], [0.0, 1.0]] * 2


def test_good_evidence_has_no_fault() -> None:
    assert not list(evidence_faults(windows(0, APART), 10.0, REFERENCE))


def test_a_grid_that_is_off_is_said_with_its_lag() -> None:
    assert list(evidence_faults(windows(30, APART), 10.0, REFERENCE)) == [
        "segmentation: its speech fits the sample best +0.49 s off: the frame grid does not fit"
    ]


def test_vectors_all_alike_are_said_with_their_cosines() -> None:
    alike = [[1.0, 0.0], [0.8, 0.6]] * 2
    alike[2] = [0.8, 0.6]
    (fault,) = evidence_faults(windows(0, alike), 10.0, REFERENCE)
    assert fault == (
        "embedding: vectors do not tell two voices apart: mean cosine 0.90 of one person, "
        "0.90 of two"
    )


def test_a_narrow_network_of_other_vectors_is_said() -> None:
    usual = windows(0, APART)
    assert not list(likeness_faults(usual, windows(0, [[0.96, 0.28], [0.28, 0.96]] * 2)))
    assert list(likeness_faults(usual, windows(0, [[0.6, 0.8], [0.0, 1.0]] * 2))) == [
        "narrow embedding: its vectors have a mean cosine of 0.80 with those of the usual network, "
        "where 0.95 is the least"
    ]


def test_silence_is_said() -> None:
    silent = [WindowEvidence.of(0, (), np.zeros((589, 3), np.uint8))]
    assert list(evidence_faults(silent, 10.0, REFERENCE)) == [
        "segmentation: nobody is heard in the sample, where two people speak"
    ]


def test_tracks_that_do_not_follow_people_are_said() -> None:
    good = [replace(window, placed=True) for window in windows(0, APART)]
    assert not list(evidence_faults(good, 10.0, REFERENCE))
    presence = good[0].presence().copy()
    presence[:, 0] |= presence[:, 1]
    presence[:, 1] = 0
    both = WindowEvidence.of(0, good[0].voices, presence, placed=True)
    assert list(evidence_faults([both], 10.0, REFERENCE)) == [
        "diarizer: one track speaks for several people of the sample"
    ]
