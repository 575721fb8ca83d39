"""What segmentation networks are taught with (``tools/segmentation_mixtures.py``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from segmentation_mixtures import (
    FIRST_CENTRE,
    FRAMES,
    HOP_SAMPLES,
    UNTOLD,
    WINDOW_SAMPLES,
    Mixer,
    Mixtures,
    Sounds,
    gather,
    load,
)

from fluidaudio_cli.simulate.signals import Samples
from fluidaudio_cli.simulate.voices import Voice


def sounds(recordings: int = 0) -> Sounds:
    rng = np.random.default_rng(1)
    voices = [
        [
            Voice(
                str(n), rng.standard_normal(32_000).astype(np.float32), (0, 1000), (500, 1500, 2000)
            )
        ]
        * 5
        for n in range(4)
    ]
    meeting = [("a", 20.0 + 5 * n, 22.0 + 5 * n) for n in range(20)]
    noise = rng.standard_normal(32_000).astype(np.float32)
    rooms = [[np.ones(1, np.float32)] * 4]
    return Sounds(voices, [meeting], rooms, [noise], [noise], [noise] * recordings, {})


def test_people_are_said_to_speak_where_their_words_are() -> None:
    mixtures = Mixer(sounds()).batch(np.random.default_rng(2), 64)
    centres = FIRST_CENTRE + HOP_SAMPLES * np.arange(FRAMES)
    speaks = np.zeros((64 * 4, FRAMES), np.bool_)
    for row, first, place, length, *_ in mixtures.pieces.tolist():
        assert 0 <= place < place + length <= WINDOW_SAMPLES
        assert 0 <= first < first + length <= 4 * 5 * 32_000
        speaks[row] |= (centres >= place) & (centres < place + length)
    told = (mixtures.sets[:, None] >> np.arange(4)[:, None]) & 1
    assert 0.2 < speaks.mean() * 4 < 2
    assert np.array_equal(speaks, told.reshape(-1, FRAMES).astype(np.bool_))


def test_a_batch_is_the_windows_that_are_drawn_alone() -> None:
    mixer, rng = Mixer(sounds()), np.random.default_rng(3)
    alone = [mixer.draw(rng) for _ in range(5)]
    together = mixer.batch(np.random.default_rng(3), 5)
    assert np.array_equal(np.concatenate([window.sets for window in alone]), together.sets)
    rows = [4 * n + window.pieces[:, 0] for n, window in enumerate(alone)]
    assert np.array_equal(np.concatenate(rows), together.pieces[:, 0])


def test_of_real_conversations_nobody_knows_who_speaks() -> None:
    sets = Mixer(sounds(recordings=1)).batch(np.random.default_rng(4), 100).sets
    untold = (sets == UNTOLD).all(axis=1)
    assert 2 <= untold.sum() <= 25
    assert (sets[~untold] != UNTOLD).all()


def test_what_is_gathered_is_read_back(tmp_path: Path) -> None:
    sample = Path(__file__).parents[1] / "datasets" / "sample"
    (tmp_path / "noise").mkdir()
    gather([sample], sample, [], [sample], set(), "a talk", tmp_path / "sounds.npz")
    read = load(tmp_path / "sounds.npz", 0)
    assert read.about == {"voice": ["sample"], "recording": ["sample"], "told": "a talk"}
    (person,) = read.voices
    seconds = [voice.milliseconds / 1000 for voice in person]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] * 0.86 == pytest.approx(seconds[2], abs=0.02)
    assert len(read.meetings) == 1
    without = tmp_path / "without.npz"
    gather([sample], sample, [], [sample], {"sample"}, "", without)
    assert load(without, 0).about["voice"] == []


def frames_of(samples: Samples) -> Samples:
    """What the student hears (``tools/segmentation_student.py``)."""
    torch = pytest.importorskip("torch", reason="the extra [convert] is not installed")
    from segmentation_student import FrontEnd

    heard = FrontEnd()(torch.from_numpy(samples)[None, None])[0].T
    return np.asarray(heard.numpy(), np.float32)


def rendered(*batches: Mixtures) -> list[Samples]:
    """What comes of mixtures of ``sounds()`` (``tools/render_mixtures.py``)."""
    torch = pytest.importorskip("torch", reason="the extra [convert] is not installed")
    from render_mixtures import Renderer

    renderer = Renderer(sounds(), torch.device("cpu"))
    return [renderer(batch).numpy() for batch in batches]


def test_bands_of_white_noise_have_the_energy_of_its_variance() -> None:
    noise = np.random.default_rng(0).standard_normal(WINDOW_SAMPLES).astype(np.float32)
    frames = frames_of(noise)
    # One frame more at either end than the student answers.
    assert frames.shape == (FRAMES + 2, 64)
    assert np.exp(frames).mean(axis=0) == pytest.approx(np.ones(64), rel=0.15)
    # However loud it is.
    assert frames_of(noise * np.float32(1e-3)) == pytest.approx(frames, abs=0.02)


def test_a_tone_is_in_the_band_of_its_pitch() -> None:
    time = np.arange(WINDOW_SAMPLES) / 16_000
    loudest = [
        int(frames_of(np.sin(2 * np.pi * hertz * time).astype(np.float32))[300].argmax())
        for hertz in (200, 1000, 3000, 7000)
    ]
    assert loudest == sorted(set(loudest))


def test_a_mixture_is_loud_where_its_truth_says_that_somebody_speaks() -> None:
    mixtures = Mixer(sounds()).batch(np.random.default_rng(2), 16)
    drawn, again = rendered(mixtures, mixtures)
    assert np.array_equal(again, drawn)
    assert drawn.shape == (16, WINDOW_SAMPLES)
    assert np.abs(drawn).max() <= 1
    told = louder = 0
    for samples, sets in zip(drawn, mixtures.sets, strict=True):
        frames = samples[270 : 270 + FRAMES * HOP_SAMPLES].reshape(FRAMES, -1)
        level = np.square(frames).mean(axis=1)
        if 0 < (sets > 0).mean() < 1:
            told += 1
            louder += int(level[sets > 0].mean() > level[sets == 0].mean())
    assert told >= 8
    assert louder == told


def test_a_window_of_a_batch_sounds_as_it_does_alone() -> None:
    mixer, rng = Mixer(sounds()), np.random.default_rng(3)
    *alone, together = rendered(
        *(mixer.draw(rng) for _ in range(5)), mixer.batch(np.random.default_rng(3), 5)
    )
    for number, window in enumerate(alone):
        assert together[number] == pytest.approx(window[0], abs=1e-4)
