"""What the segmentation student learns from (``tools/segmentation_mixtures.py``)."""

from __future__ import annotations

import numpy as np
import pytest
from segmentation_mixtures import (
    FRAMES,
    HOP_SAMPLES,
    MELS,
    WINDOW_SAMPLES,
    FrontEnd,
    Mixer,
    Sounds,
    spectrum,
)

from fluidaudio_cli.simulate.voices import Voice


@pytest.fixture(scope="module")
def noise() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(WINDOW_SAMPLES).astype(np.float32)


def test_bands_of_white_noise_have_the_energy_of_its_variance(
    noise: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> None:
    frames = FrontEnd()(noise).astype(np.float64)
    # One frame more at either end than the student answers.
    assert frames.shape == (FRAMES + 2, MELS)
    assert np.exp(frames).mean(axis=0) == pytest.approx(np.ones(MELS), rel=0.15)
    # However loud it is.
    assert FrontEnd()(noise * np.float32(1e-3)).astype(np.float64) == pytest.approx(
        frames, abs=0.02
    )


def test_a_tone_is_in_the_band_of_its_pitch() -> None:
    time = np.arange(WINDOW_SAMPLES) / 16_000
    waves, _ = spectrum()
    loudest = [
        int(FrontEnd()(np.sin(2 * np.pi * hertz * time).astype(np.float32))[300].argmax())
        for hertz in (200, 1000, 3000, 7000)
    ]
    assert loudest == sorted(set(loudest))
    assert waves.shape == (440, 278)


def test_a_mixture_is_loud_where_its_truth_says_that_somebody_speaks() -> None:
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
    quiet = [rng.standard_normal(32_000).astype(np.float32)]
    mixer = Mixer(Sounds(voices, [meeting], [[np.ones(1, np.float32)] * 4], quiet))
    drawn = [mixer.draw(np.random.default_rng(seed)) for seed in range(12)]
    again, _ = mixer.draw(np.random.default_rng(3))
    assert np.array_equal(again, drawn[3][0])
    louder = 0
    for samples, sets in drawn:
        assert samples.shape == (WINDOW_SAMPLES,)
        assert np.abs(samples).max() <= 1
        level = (
            np.square(samples[270 : 270 + FRAMES * HOP_SAMPLES]).reshape(FRAMES, -1).mean(axis=1)
        )
        if 0 < (sets > 0).mean() < 1:
            louder += int(level[sets > 0].mean() > level[sets == 0].mean())
    assert louder >= 7
