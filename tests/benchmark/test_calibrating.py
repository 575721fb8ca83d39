"""The calibration fitted to made voices finds what they were made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from fluidaudio_cli.benchmark import calibrating
from fluidaudio_cli.benchmark.calibrating import fit, fit_utterances, pairs_of, worth
from fluidaudio_cli.benchmark.calibrating_groups import Known, fit_groups
from fluidaudio_cli.cli import models_check
from fluidaudio_cli.diarization import loading
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog, LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.result import ModelRef
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.progress import no_progress
from fluidaudio_cli.turns import Turn

MODE = load_mode("balanced")
STEP = MODE.windows.step_seconds


def conversation(
    seed: int, people: int, cosine: float, windows: int = 120, alike: float = 0.7
) -> Known:
    """One voice a window, heard 2 s; voices of one person have ``alike``, of two ``cosine``."""
    random = np.random.default_rng(seed)
    shared = np.zeros(64)
    shared[0] = np.sqrt(cosine)
    own = np.eye(64)[1 : people + 1] * np.sqrt(alike - cosine)
    log, turns = EvidenceLog(), []
    presence = np.zeros((589, 3), np.uint8)
    presence[:, 0] = 255
    for number in range(windows):
        who = int(random.integers(people))
        noise = np.zeros(64)
        noise[people + 1 :] = random.normal(size=63 - people)
        vector = shared + own[who] + np.sqrt(1.0 - alike) * noise / np.linalg.norm(noise)
        voice = LocalVoice(0, 2.0, vector.astype(np.float32))
        log.append(WindowEvidence.of(number, (voice,), presence))
        turns.append(Turn(number * STEP, (number + 1) * STEP, str(who)))
    log.samples = round(windows * STEP * 16_000)
    return Known(log, turns)


def test_fitted_values_are_those_of_the_voices() -> None:
    known = [conversation(seed, people=4, cosine=0.35) for seed in (1, 2)]
    fitted = fit(known, MODE, search_seconds=0.0, seed=0)
    # Of the likeness that two crops of one person have at best.
    assert fitted.unlike_cosine == pytest.approx(0.35 / 0.7, abs=0.05)
    reliability = fitted.reliability_of(np.array([2.0]))
    assert reliability == pytest.approx([0.7], abs=0.03)
    pairs = pairs_of(known, MODE)
    # Even odds of two utterances are between the likeness of one person's and of two people's.
    odds = fitted.one_voice(np.array([0.35, 0.7]), np.array([2.0, 2.0]))
    assert odds[0] < 0.0 < odds[1]
    told = [next(worth(pairs, each)).split(" Cllr ")[1][:5] for each in (fitted, MODE.calibration)]
    assert float(told[0]) < min(0.1, float(told[1]))


def test_pairs_that_nothing_confuses_make_nothing_certain() -> None:
    """However few the conversations; others may be less clear."""
    clear = [conversation(seed, people=2, cosine=0.1) for seed in (1, 2)]
    fitted = fit(clear, MODE, search_seconds=0.0, seed=0)
    pairs = pairs_of(clear, MODE)
    odds = fitted.same_person(pairs.cosine, *pairs.reliable(fitted))
    assert 3.0 < np.median(np.abs(odds)) < 12.0
    other = pairs_of([conversation(3, people=3, cosine=0.45)], MODE)
    cost = float(next(worth(other, fitted)).split(" Cllr ")[1].split()[0])
    assert cost < 2.0


def test_utterances_too_short_leave_their_calibration_as_it_is() -> None:
    pairs = pairs_of([conversation(1, people=4, cosine=0.35)], MODE)
    start = replace(MODE.calibration, utterance_cosine=0.0)
    assert fit_utterances(pairs._replace(seconds=pairs.seconds / 4), start) == start
    # That segmentation is mostly right counts for one person.
    fitted = fit_utterances(pairs, start)
    assert fitted.tells_utterances
    even = fitted.one_voice(np.array([0.525]), np.array([2.0]))
    assert even == pytest.approx([np.log(4.0)], abs=2.0)


def test_groups_are_told_apart_after_the_fit() -> None:
    careless = replace(MODE, calibration=replace(MODE.calibration, same_offset=40.0))
    known = [conversation(seed, people=4, cosine=0.1, alike=0.45) for seed in (1, 2)]
    fitted = replace(MODE, calibration=fit_groups(known, careless))
    found = [
        conclude(
            speaker_model(mode, conversation(3, people=3, cosine=0.1, alike=0.45).log),
            mode,
            SpeakerBounds(),
            StageClock(),
        )
        for mode in (careless, fitted)
    ]
    assert [len(each.speakers) for each in found] == [1, 3]


def test_one_person_alone_says_nothing_of_two() -> None:
    with pytest.raises(InputError, match="no two voices of one person and of two"):
        fit([conversation(1, people=1, cosine=0.35)], MODE, 0.0, 0)
    with pytest.raises(InputError, match="no two voices far enough apart"):
        fit([conversation(1, people=2, cosine=0.35, windows=1)], MODE, 0.0, 0)


def test_what_says_nothing_of_a_fit_is_refused_before_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search may have taken hours."""
    sets = {
        Path("talks"): [conversation(1, people=4, cosine=0.35)],
        Path("held"): [conversation(2, people=1, cosine=0.35)],
        Path("others"): [conversation(3, people=3, cosine=0.35)],
    }
    pipeline = SimpleNamespace(mode=MODE, close=lambda: None)
    monkeypatch.setattr(loading, "load_pipeline", lambda *_, **__: pipeline)
    monkeypatch.setattr(calibrating, "known_of", lambda folder, *_: sets[folder])
    card: Any = SimpleNamespace(path=Path("card.yaml"))
    models_check._calibrate(card, Path("talks"), Path("others"), None, "balanced", 0.0, 0)
    out, err = capsys.readouterr()
    fitted = fit(sets[Path("talks")], MODE, search_seconds=0.0, seed=0)
    assert yaml.safe_load(out)["calibration"]["pair_slope"] == round(fitted.pair_slope, 4)
    held_out = worth(pairs_of(sets[Path("others")], MODE), fitted)
    assert "\n".join(("held out: 1 recordings", *held_out)) in err
    monkeypatch.setattr(calibrating, "fit", lambda *_: pytest.fail("it was fitted"))
    with pytest.raises(InputError, match="no two voices of one person and of two"):
        models_check._calibrate(card, Path("talks"), Path("held"), None, "balanced", 0.0, 0)


def test_evidence_of_other_networks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.npz").touch()
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 0 1 <NA> <NA> x <NA> <NA>\n", encoding="utf-8")
    network = ModelRef("embedding", "1", {}, {})
    saved = SimpleNamespace(models=[network], plan=SimpleNamespace(mode=MODE), log=EvidenceLog())
    monkeypatch.setattr(calibrating, "read_evidence", lambda path: saved)
    pipeline: Any = SimpleNamespace(models=[network], mode=MODE)
    ((log, _),) = calibrating.known_of(tmp_path, pipeline, no_progress)
    assert log is saved.log
    # The same network in 8-bit integers.
    pipeline.models = [ModelRef("embedding", "3", {}, {}, stands_for="1")]
    assert len(calibrating.known_of(tmp_path, pipeline, no_progress)) == 1
    pipeline.models = [ModelRef("embedding", "2", {}, {})]
    with pytest.raises(InputError, match=r"a\.npz is of other networks than the card"):
        calibrating.known_of(tmp_path, pipeline, no_progress)
    other = SimpleNamespace(models=[network], mode=load_mode("fast"))
    with pytest.raises(InputError, match=r"was made in mode balanced: make it in fast"):
        calibrating.known_of(tmp_path, other, no_progress)  # type: ignore[arg-type]
