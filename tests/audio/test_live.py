"""Sound as it comes: what was read is given, however a stream ends."""

from __future__ import annotations

import errno
import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.audio.live import Blocks, Feed, LiveMono, address_blocks, can_wait, pcm_blocks
from fluidaudio_cli.audio.mono import SAMPLE_RATE
from fluidaudio_cli.errors import AudioError
from tests.audio.reading import read_all


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
    assert feed.wait(SAMPLE_RATE, 10.0)
    first = feed.take(SAMPLE_RATE)
    feed.stop()
    feed._thread.join(10.0)
    assert len(given) <= 32  # 30 s ahead at most
    rest = feed.take(100 * SAMPLE_RATE)
    heard = np.concatenate([first, rest])[::SAMPLE_RATE]
    assert heard.tolist() == given


def test_an_error_comes_after_all_sound_before_it() -> None:
    given: list[int] = []
    feed = Feed(_counted(given, 2, AudioError("broken", "mend it")))
    assert feed.wait(3 * SAMPLE_RATE, 10.0)
    assert len(feed.take(3 * SAMPLE_RATE)) == 2 * SAMPLE_RATE
    assert str(feed.error).startswith("broken")


def test_other_errors_are_raised_where_they_are_heard() -> None:
    feed = Feed(_counted([], 1, ZeroDivisionError("no")))
    assert feed.wait(SAMPLE_RATE, 10.0)
    feed.take(SAMPLE_RATE)
    assert feed.wait(1, 10.0)
    with pytest.raises(ZeroDivisionError, match="no"):
        feed.take(1)


def test_nothing_comes_in_time() -> None:
    wait = threading.Event()

    def stalled() -> Blocks:
        wait.wait(10.0)
        yield np.zeros(1, np.float32)

    feed = Feed(stalled())
    assert not feed.wait(1, 0.01)
    wait.set()
    assert feed.wait(1, 10.0)


def test_a_slow_source_has_not_stalled() -> None:
    goes_on = threading.Event()

    def slow() -> Blocks:
        for _ in range(15):
            goes_on.wait(0.04)
            yield np.zeros(1, np.float32)
        goes_on.wait(10.0)

    feed = Feed(slow())
    assert feed.wait(15, 0.3)
    assert not feed.wait(16, 0.05)
    goes_on.set()
    assert feed.wait(16, 10.0)


INVERTED = "a channel is the first one inverted; it was turned back for the mix"


def _pieces(samples: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """As a pipe gives them: 50 ms, and now and then less."""
    return np.split(samples, sorted([*range(800, len(samples), 800), 1, 2, 1_000]))


@pytest.mark.parametrize("inverse", [1.0, -1.0, -0.3])
def test_channels_are_mixed_as_those_of_a_file(inverse: float) -> None:
    left = np.random.default_rng(4).normal(0.0, 0.1, 16_000).astype(np.float32)
    both = np.stack([left, np.float32(inverse) * left], axis=1)
    mono = LiveMono()
    heard = np.concatenate([mono.push(piece, SAMPLE_RATE) for piece in _pieces(both)])
    begin = 2_000  # by then it is known
    np.testing.assert_allclose(heard[begin:], left[begin:] * (1 + abs(inverse)) / 2, atol=1e-6)
    assert mono.notes == ((INVERTED,) if inverse < 0 else ())


def test_what_no_recording_holds_is_silence_and_told() -> None:
    samples = np.full((4, 2), 0.5, np.float32)
    samples[1] = np.nan, -np.inf
    samples[2, 0] = 3e38
    mono = LiveMono()
    assert mono.push(samples, SAMPLE_RATE).tolist() == [0.5, 0.0, 0.25, 0.5]
    assert mono.notes == (
        "silenced: 3 samples that no recording holds (not a number, or too large)",
    )


def test_raw_samples_of_few_steps_are_told() -> None:
    mono = LiveMono()
    mono.push(np.full((800, 1), 7, np.int16), SAMPLE_RATE)
    assert [note[:44] for note in mono.notes] == ["its loudest sample is 7 of 32768 steps: too "]


def test_a_pipe_that_breaks_is_an_error_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [bytes(1_600)]

    def read(_descriptor: int, _count: int) -> bytes:
        if given:
            return given.pop()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(sys, "stdin", sys.__stdin__)
    blocks = pcm_blocks(LiveMono(), SAMPLE_RATE, 1, "s16le")
    assert len(next(blocks)) == 800
    with pytest.raises(AudioError, match="cannot read standard input: Input/output error"):
        next(blocks)


def test_an_address_is_heard_as_its_file(
    write_wav: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    left = np.random.default_rng(4).normal(0.0, 0.1, 44_100).astype(np.float32)
    path = write_wav(np.stack([left, -left], axis=1), rate=44_100)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    mono = LiveMono()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{path.name}"
        heard = np.concatenate(list(address_blocks(mono, address)))
        server.shutdown()
    np.testing.assert_allclose(heard[4_000:-4_000], read_all(path)[4_000:-4_000], atol=1e-5)
    assert mono.notes == (INVERTED,)


def test_devices_and_datagrams_are_not_held_back() -> None:
    assert not any(map(can_wait, ("alsa:default", "udp://:9000", "srt://host:9000")))
    assert all(map(can_wait, ("http://host/talk.mp3", "rtsp://camera/1")))
