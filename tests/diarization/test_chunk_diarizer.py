"""One network for everything, made of simple arithmetic: evidence as soon as it can be."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.chunk_diarizer import DiarizerWorker
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.evidence_worker import Found, WindowBatch
from fluidaudio_cli.diarization.frames import SAMPLE_RATE, WINDOW_SAMPLES
from fluidaudio_cli.diarization.windows import Window

Floats = npt.NDArray[np.float32]
HOP = 1600


class Network:
    """Chunks of 2 s after 0.5 s of context: who speaks is what each frame's first sample says."""

    hop_samples, context_samples = HOP, 8000
    samples, advance_samples, speakers = 40_000, 32_000, 2

    def start(self) -> None:
        self.chunks = 0

    def run(self, chunk: Floats, hearing: bool = True) -> Floats:
        assert chunk.shape == (self.samples,)
        self.chunks += 1
        said = chunk[self.context_samples :: HOP]
        return np.stack([said == 1, said == 2], axis=1).astype(np.float32)


def windows(samples: Floats, step: int) -> list[Window]:
    found, clock, tail = [], StageClock(), np.zeros(240, np.float32)
    for number, begin in enumerate(range(0, max(1, len(samples) - WINDOW_SAMPLES + step), step)):
        part = samples[begin : begin + WINDOW_SAMPLES]
        whole = np.pad(part, (0, WINDOW_SAMPLES - len(part)))
        found.append(Window(number, whole, tail, len(part), 0, clock))
    return found


@pytest.mark.parametrize("seconds", [30.0, 33.1])
def test_a_window_is_answered_once_its_end_is_heard(seconds: float) -> None:
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    samples[: 12 * SAMPLE_RATE] = 1
    samples[14 * SAMPLE_RATE :] = 2
    network = Network()
    worker = DiarizerWorker(cast(Any, network), 5 * SAMPLE_RATE)
    batch, given = WindowBatch(1), windows(samples, 5 * SAMPLE_RATE)
    ready: list[list[int]] = []
    found: list[Found] = []
    for window in given:
        batch.add(window, window.number)
        found += (now := worker.process(batch))
        batch.clear()
        ready.append([place for place, _ in now])
        # What was heard and is not needed is not kept.
        assert len(worker._waiting) < network.samples
        assert len(worker._activity) <= 2 * WINDOW_SAMPLES // HOP
    # Of the second window's 15 s the network has heard 14, of the fourth's 25 s 24.
    assert ready[:5] == [[0], [], [1, 2], [], [3, 4]]
    found += worker.flush(given[-1].clock)
    assert [(place, one.number) for place, one in found] == [(n, n) for n in range(len(given))]
    assert network.chunks == int(-(-(given[-1].number * 5 + 10) // 2))
    clean = [[round(v.clean_seconds, 1) for v in one.voices] for _, one in found]
    assert clean[:4] == [[9.9], [7.0, 1.0], [2.0, 6.0], [9.9]]
    assert [v.slot for v in found[3][1].voices] == [1]
