"""How voices compare, fitted to made ones, is how they were made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.benchmark.calibrating_voices import (
    CHANNELS,
    TELEPHONE,
    Fifths,
    Heard,
    fit_all,
    hear,
)
from fluidaudio_cli.benchmark.identify import Piece, VoiceFolder, VoiceItem
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.errors import InputError

START = load_mode("balanced").calibration
ALIKE, DIMENSIONS = 0.6, 256


def made(people: int) -> Heard:
    """Voices whose pieces have a cosine of ``ALIKE``; a telephone moves all in one direction."""
    random = np.random.default_rng(3)
    shift = np.eye(DIMENSIONS)[0]
    pieces, vectors = [], []
    for person in range(people):
        own = random.normal(size=DIMENSIONS) * (np.arange(DIMENSIONS) > 0)
        own /= np.linalg.norm(own)
        for at_end in (False, True):
            for seconds in (2.0, 5.0):
                for through in CHANNELS:
                    noise = random.normal(size=DIMENSIONS) * (np.arange(DIMENSIONS) > 0)
                    noise /= np.linalg.norm(noise)
                    vector = np.sqrt(ALIKE) * own + np.sqrt(1.0 - ALIKE) * noise
                    vector = vector + 2.0 * shift * (through == TELEPHONE)
                    pieces.append(Piece(person, seconds, at_end, through))
                    vectors.append(vector / np.linalg.norm(vector))
    seconds_heard = np.array([piece.seconds for piece in pieces])
    return Heard(pieces, np.array(vectors, np.float32), seconds_heard)


def test_fitted_values_are_those_of_the_voices() -> None:
    fitted = fit_all(made(12), START)
    assert fitted.across_reliability_of(np.array([2.0, 5.0])) == pytest.approx(
        [ALIKE] * 2, abs=0.03
    )
    assert fitted.stranger_cosine == pytest.approx(0.0, abs=0.03)
    assert fitted.stranger_spread == pytest.approx(1.0 / np.sqrt(DIMENSIONS), rel=0.4)
    # What a telephone does to every voice counts for nothing.
    assert abs(fitted.telephone[0]) > 0.8
    # The rest of a calibration is of other trials.
    assert fitted.reliability == START.reliability


def test_what_it_is_worth_is_told_of_voices_it_has_not_heard() -> None:
    lines = list(Fifths.of(made(15), START).worth())
    assert len(lines) == len(CHANNELS)
    assert lines[0].startswith("  plain and plain: EER 0.00 %, false accepts at 1 % ")
    assert float(lines[0].rsplit("Cllr ", 1)[1]) < 0.1


def test_a_test_in_which_nobody_is_heard_is_a_false_reject() -> None:
    heard = made(15)
    lost = heard.pieces.index(Piece(4, 2.0, True, ""))
    vectors = heard.vectors.copy()
    vectors[lost] = 0.0
    all_heard, one_lost = (
        Fifths.of(each, START).record("", "") for each in (heard, heard._replace(vectors=vectors))
    )
    # Against both enrolments of its voice.
    assert (all_heard.unheard, one_lost.unheard) == (0, 2)
    assert len(one_lost.same_odds) == len(all_heard.same_odds) - 2


def test_too_few_people_are_refused_before_they_are_heard() -> None:
    folder = VoiceFolder("mine", tuple(VoiceItem(str(number), ()) for number in range(9)), "")
    nobody: Any = None
    with pytest.raises(InputError, match="mine has 9 voices: too few to say how people compare: "):
        hear(folder, nobody)


def test_silence_says_nothing_of_people() -> None:
    silent = made(12)._replace(vectors=np.zeros((12 * 2 * 2 * len(CHANNELS), 8), np.float32))
    with pytest.raises(InputError, match="nobody speaks in the voices: "):
        fit_all(silent, START)
