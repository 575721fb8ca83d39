"""Sound as it comes: what was read is given, however a stream ends."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fluidaudio_cli.audio.live import Blocks, Feed
from fluidaudio_cli.audio.mono import SAMPLE_RATE
from fluidaudio_cli.errors import AudioError


def _counted(given: list[int], most: int, error: Exception | None = None) -> Blocks:
    """Seconds of sound, each of its number."""
    for number in range(most):
        given.append(number)
        yield np.full(SAMPLE_RATE, number, np.float32)
    if error is not None:
        raise error


def test_a_source_is_held_back_and_loses_nothing_when_stopped() -> None:
    given: list[int] = []
    feed = Feed(_counted(given, 100))
    first = feed.take(SAMPLE_RATE, 10.0)
    feed.stop()
    feed._thread.join(10.0)
    assert len(given) <= 32  # 30 s ahead at most
    rest = feed.take(100 * SAMPLE_RATE, 0.0)
    assert first is not None
    assert rest is not None
    heard = np.concatenate([first, rest])[::SAMPLE_RATE]
    assert heard.tolist() == given


def test_an_error_comes_after_all_sound_before_it() -> None:
    given: list[int] = []
    feed = Feed(_counted(given, 2, AudioError("broken", "mend it")))
    samples = feed.take(3 * SAMPLE_RATE, 10.0)
    assert samples is not None
    assert len(samples) == 2 * SAMPLE_RATE
    assert str(feed.error).startswith("broken")


def test_other_errors_are_raised_where_they_are_heard() -> None:
    feed = Feed(_counted([], 1, ZeroDivisionError("no")))
    assert feed.take(SAMPLE_RATE, 10.0) is not None
    with pytest.raises(ZeroDivisionError, match="no"):
        feed.take(1, 10.0)


def test_nothing_comes_in_time() -> None:
    wait = threading.Event()

    def stalled() -> Blocks:
        wait.wait(10.0)
        yield np.zeros(1, np.float32)

    feed = Feed(stalled())
    assert feed.take(1, 0.01) is None
    wait.set()
    assert feed.take(1, 10.0) is not None
