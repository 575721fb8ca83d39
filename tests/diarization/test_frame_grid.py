"""Frames to seconds: worked out by hand from a hop of 270 and a receptive field of 991 samples."""

from __future__ import annotations

import numpy as np
import pytest

from fluidaudio_cli.diarization.frames import (
    GRID,
    SAMPLE_RATE,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    segmentation_frame_of_fbank,
)


def test_centre_of_first_and_last_frame_of_a_window() -> None:
    # Frame 0 sees samples 0 … 990, whose middle is 495; frame 588 sees 158760 … 159750.
    centres = GRID.window_centres()
    assert centres.shape == (WINDOW_FRAMES,)
    assert centres[0] == pytest.approx(495 / 16_000)
    assert centres[-1] == pytest.approx((588 * 270 + 495) / 16_000)
    assert centres[-1] < WINDOW_SAMPLES / SAMPLE_RATE


def test_boundaries_lie_half_way_between_centres() -> None:
    assert GRID.boundary(0) == 0.0
    assert GRID.boundary(1) == pytest.approx((495 + 135) / 16_000)
    assert GRID.boundary(10) == pytest.approx(GRID.window_centres()[9:11].mean())


def test_windows_lie_on_the_frame_nearest_to_their_start() -> None:
    # 160000 samples are 592.59 hops, 80000 are 296.30.
    assert GRID.window_offset(0) == 0
    assert GRID.window_offset(160_000) == 593
    assert GRID.window_offset(80_000) == 296


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (0, 0),
        (1, 1),  # too short for any centre, and yet a recording
        (495, 1),
        (495 + 269, 1),
        (495 + 270, 2),
        (495 + 100 * 270, 101),
    ],
)
def test_frames_within_a_recording(samples: int, frames: int) -> None:
    assert GRID.frames_within(samples) == frames


def test_nearest_segmentation_frame_of_each_filter_bank_frame() -> None:
    nearest = segmentation_frame_of_fbank()
    assert nearest.shape == (1000,)
    # Centres of filter-bank frames are at 200 + 160 k samples, of segmentation at 495 + 270 n.
    by_hand = [
        min(range(WINDOW_FRAMES), key=lambda n: abs(495 + 270 * n - (200 + 160 * k)))
        for k in (0, 1, 2, 3, 4, 100, 500, 998, 999)
    ]
    assert nearest[[0, 1, 2, 3, 4, 100, 500, 998, 999]].tolist() == by_hand
    assert (np.diff(nearest) >= 0).all()
