"""Powerset classes to local speakers, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fluidaudio_cli.diarization.powerset import MEMBERSHIP, decode

# nobody, 1, 2, 3, 1+2, 1+3, 2+3
MOSTLY_ONE_AND_THREE = [0.05, 0.1, 0.05, 0.1, 0.1, 0.5, 0.1]


def test_classes_are_nobody_each_speaker_and_each_pair() -> None:
    assert MEMBERSHIP.tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 1, 0],
        [1, 0, 1],
        [0, 1, 1],
    ]


def test_decision_and_presence_of_one_frame() -> None:
    activity = decode(np.log(np.array([[MOSTLY_ONE_AND_THREE]], np.float32)))
    assert activity.classes.tolist() == [[5]]
    assert activity.active(0).tolist() == [[True, False, True]]
    assert activity.alone(0).tolist() == [[False, False, False]]
    # Speaker 1 is in classes 1, 1+2 and 1+3: 0.7 of 255; 2: 0.25; 3: 0.7.
    assert activity.presence[0, 0] == pytest.approx([178.5, 63.75, 178.5], abs=0.51)


@pytest.mark.parametrize("number", range(7))
def test_certain_classes(number: int) -> None:
    scores = np.full((1, 2, 7), -np.inf, np.float32)
    scores[0, :, number] = 0.0
    activity = decode(scores)
    members = MEMBERSHIP[number] > 0
    assert activity.presence.tolist() == [[(members * 255).tolist()] * 2]
    assert activity.active(0).tolist() == [members.tolist()] * 2
    assert activity.alone(0).tolist() == [(members & (members.sum() == 1)).tolist()] * 2


def test_log_probabilities_slightly_above_zero_do_not_wrap_around() -> None:
    scores = np.full((1, 1, 7), -30.0, np.float32)
    scores[0, 0, 4] = 0.01  # as rounding in bf16 gives it
    assert decode(scores).presence.tolist() == [[[255, 255, 0]]]


def test_input_is_left_as_it_was() -> None:
    scores = np.log(np.array([[MOSTLY_ONE_AND_THREE]], np.float32))
    before = scores.copy()
    decode(scores)
    assert np.array_equal(scores, before)
