"""Who is nobody, fitted to made conversations in which two people at once sound like a third."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fluidaudio_cli.benchmark.calibrating_groups import Known
from fluidaudio_cli.benchmark.calibrating_surplus import fit_surplus
from fluidaudio_cli.benchmark.regression import logistic
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog, LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.modes import ModeConfig, load_mode
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.turns import Turn

BALANCED = load_mode("balanced")
# Merges too little, and does not know who is nobody.
MODE = replace(
    BALANCED,
    calibration=replace(
        BALANCED.calibration,
        same_offset=BALANCED.calibration.same_offset - 4.0,
        surplus_offset=0.0,
    ),
)
STEP = MODE.windows.step_seconds


def conversation(seed: int, people: int, chimeras: bool = True, windows: int = 100) -> Known:
    """One voice a window, heard 2 s; now and then it is of two people, who both speak there."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.normal(size=(64, people + 1)))[0].T
    log, turns = EvidenceLog(), []
    presence = np.zeros((589, 3), np.uint8)
    presence[:, 0] = 255
    for number in range(windows):
        speaking = [int(random.integers(people))]
        vector = centres[speaking[0]] + 0.6 * random.normal(size=64) / 8
        if chimeras and number % 12 == 5:
            speaking = [0, 1]
            vector = 0.7 * (centres[0] + centres[1]) + 0.8 * centres[people]
            vector += 0.6 * random.normal(size=64) / 8
        vector /= np.linalg.norm(vector)
        heard = 1.2 if len(speaking) > 1 else 2.0
        voice = LocalVoice(0, heard, vector.astype(np.float32))
        log.append(WindowEvidence.of(number, (voice,), presence))
        turns += [Turn(number * STEP, (number + 1) * STEP, str(who)) for who in speaking]
    log.samples = round(windows * STEP * 16_000)
    return Known(log, turns)


def speakers_of(known: Known, mode: ModeConfig) -> int:
    return len(
        conclude(speaker_model(mode, known.log), mode, SpeakerBounds(), StageClock()).speakers
    )


def test_after_the_fit_two_at_once_are_no_third() -> None:
    known = [conversation(seed, people=3 + seed % 3) for seed in range(6)]
    fitted = replace(MODE, calibration=fit_surplus(known, MODE))
    assert fitted.calibration.tells_surplus
    others = [conversation(10 + people, people) for people in (3, 4, 5)]
    assert [speakers_of(each, MODE) for each in others] == [4, 5, 6]
    assert [speakers_of(each, fitted) for each in others] == [3, 4, 5]
    # Who speaks for as long, and is a blend of nobody, stays.
    plain = conversation(20, people=5, chimeras=False)
    assert speakers_of(plain, fitted) == speakers_of(plain, MODE) == 5


def test_where_nobody_is_surplus_it_stays_as_it_is() -> None:
    clear = [conversation(seed, people=3, chimeras=False) for seed in (1, 2)]
    assert fit_surplus(clear, MODE) == MODE.calibration
    alone = [conversation(1, people=1, chimeras=False)]
    assert fit_surplus(alone, MODE) == MODE.calibration
    assert fit_surplus([], MODE) == MODE.calibration


def test_beginnings_are_examples_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[float, float, int]] = []

    def noted(mode: ModeConfig, log: EvidenceLog) -> object:
        lengths.append((log.samples / 16_000, max(log.voice_windows.tolist()), log.windows))
        return speaker_model(mode, log)

    monkeypatch.setattr("fluidaudio_cli.benchmark.calibrating_surplus.speaker_model", noted)
    fit_surplus([conversation(1, people=3, windows=50)], MODE)
    whole = 50 * STEP
    assert [seconds for seconds, _, _ in lengths] == [
        whole,
        *(seconds for seconds in (30.0, 60.0, 120.0) if 1.2 * seconds <= whole),
    ]
    for seconds, last, windows in lengths[1:]:
        # The last window sees the beginning's end, and no window starts beyond it.
        assert last == windows - 1
        assert last * STEP < seconds <= last * STEP + 10.0


def test_logistic_regression_finds_the_odds_that_made_its_examples() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(20_000, 2)) * [1.0, 10.0] + [0.0, 5.0]
    odds = 1.5 * values[:, 0] - 0.2 * values[:, 1] + 0.7
    true = random.random(len(odds)) < 1.0 / (1.0 + np.exp(-odds))
    slopes, offset = logistic(values, true, np.ones(len(odds)), 1e-3)
    assert slopes == pytest.approx([1.5, -0.2], rel=0.06)
    assert offset == pytest.approx(0.7, abs=0.07)
    # What costs nothing is not learnt from; a ridge draws slopes to nothing.
    assert logistic(values, true, np.zeros(len(odds)), 1.0)[0] == pytest.approx([0, 0])
    smaller, _ = logistic(values, true, np.ones(len(odds)), 1e5)
    assert np.abs(smaller).max() < 0.1
    # A feature that never varies says nothing.
    constant = np.column_stack([values[:, 0], np.ones(len(odds))])
    assert logistic(constant, true, np.ones(len(odds)), 1e-3)[0][1] == 0.0
