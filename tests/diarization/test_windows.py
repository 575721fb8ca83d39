"""Windows of a source that counts: every sample where it belongs, zeros after the end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.windows import read_windows, window_count

Floats = npt.NDArray[np.float32]
SECOND = 16_000


class Counting:
    """Samples 1, 2, 3 … up to ``samples``, at most ``most`` at a time."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.given = 0

    def read_into(self, buffer: Floats) -> int:
        count = min(buffer.size, self.samples - self.given)
        buffer[:count] = np.arange(self.given + 1, self.given + count + 1)
        self.given += count
        return count


def heard(number: int, step: int, samples: int) -> Floats:
    """What window ``number`` and its tail should hold."""
    start = number * step
    whole = np.zeros(160_240, np.float32)
    count = max(0, min(samples - start, whole.size))
    whole[:count] = np.arange(start + 1, start + count + 1)
    return whole


@pytest.mark.parametrize("step_seconds", [0.5, 2, 5, 10])
@pytest.mark.parametrize(
    "samples", [0, 1, 990, 159_999, 160_000, 160_991, 160_992, 240_001, 73 * SECOND + 7]
)
def test_windows_hold_the_recording(step_seconds: float, samples: int) -> None:
    step = round(step_seconds * SECOND)
    count = 0
    for window in read_windows(Counting(samples), step, StageClock()):
        assert window.number == count
        expected = heard(count, step, samples)
        assert np.array_equal(np.concatenate([window.samples, window.tail]), expected)
        assert window.valid_samples == np.count_nonzero(expected)
        assert window.samples.flags.c_contiguous
        count += 1
    assert count == window_count(samples, step)


def test_what_is_left_over_and_shorter_than_a_frame_gets_no_window() -> None:
    step = 5 * SECOND
    assert [window_count(size, step) for size in (0, 160_000, 160_991, 160_992)] == [1, 1, 1, 2]
    assert window_count(60 * SECOND, step) == 11
    assert window_count(60 * SECOND, 10 * SECOND) == 6


def test_valid_frames_are_those_that_see_only_audio() -> None:
    (window,) = read_windows(Counting(400 + 160 * 7 + 159), 160_000, StageClock())
    assert window.valid_frames == 8
    (window,) = read_windows(Counting(399), 160_000, StageClock())
    assert window.valid_frames == 0
    first, *_ = read_windows(Counting(60 * SECOND), 160_000, StageClock())
    assert first.valid_frames == 1000


def test_overlap_is_copied_once_in_a_while() -> None:
    """At a step of 5 s less than a fifth of the audio is moved, at 10 s next to nothing."""
    for step_seconds, share in ((5, 0.2), (10, 0.002)):
        windows = read_windows(Counting(600 * SECOND), step_seconds * SECOND, StageClock())
        copied = sum(window.copied_bytes for window in windows)
        assert 0 < copied < share * 4 * 600 * SECOND


def test_reading_is_counted_as_decoding() -> None:
    clock = StageClock()
    list(read_windows(Counting(25 * SECOND), 5 * SECOND, clock))
    (stage,) = (row for row in clock.timings(1.0, overlapped=True) if row.name == "decode")
    assert stage.calls == 4
