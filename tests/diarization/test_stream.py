"""Windows of a stream: those that are kept are a file's; others are left out to keep up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fluidaudio_cli.audio.source import AudioInfo
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.evidence import WindowEvidence
from fluidaudio_cli.diarization.frames import SAMPLE_RATE, WINDOW_FRAMES
from fluidaudio_cli.diarization.ledger import Revision
from fluidaudio_cli.diarization.live_turns import Change
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.stream import LiveDiarizer, StreamFigures, step_for
from fluidaudio_cli.diarization.windows import Samples, Window, read_windows
from fluidaudio_cli.errors import UsageError


class Recorder:
    """A pipeline without networks: nobody speaks in any window.

    ``answer``: crops that each window takes at once; one that is kept takes six more.
    """

    mode = load_mode("balanced")
    plan = SimpleNamespace(models="bundled")
    follows_speakers = False

    def __init__(self, answer: int = 0) -> None:
        self.windows: list[tuple[int, Samples, int, float]] = []
        self.kept: list[int] = []
        self.frontend = Answers(self, answer)

    def live_frontend(self, step_samples: int) -> Answers:
        assert step_samples == SAMPLE_RATE // 2
        return self.frontend

    def window_evidence(self, window: Window, clock: StageClock) -> WindowEvidence:
        self.kept.append(window.number)
        return self.found(window, 8)

    def found(self, window: Window, crops: int) -> WindowEvidence:
        heard = np.concatenate([window.samples, window.tail])
        heard[window.valid_samples :] = 0.0
        self.windows.append((window.number, heard, window.valid_samples, window.gain))
        nobody = np.zeros((WINDOW_FRAMES, 3), np.uint8)
        return WindowEvidence.of(window.number, (), nobody, crops, copied_bytes=10)


class Answers:
    """The frontend of a :class:`Recorder`; ``asked``: windows, and steps to hear the rest in."""

    def __init__(self, pipeline: Recorder, answer: int) -> None:
        self.pipeline, self.answer = pipeline, answer
        self.windows = self.crops = self.copied_bytes = self.unheard = 0
        self.later: WindowEvidence | None = None
        self.asked: list[tuple[int, int]] = []

    def count(self, evidence: WindowEvidence) -> None:
        self.windows += 1
        self.crops += evidence.crops
        self.copied_bytes += evidence.copied_bytes

    def evidence(self, window: Window, *, keep: bool) -> WindowEvidence:
        found = self.pipeline.found(window, self.answer)
        self.count(found)
        if keep:
            assert self.later is None
            self.pipeline.kept.append(window.number)
            self.later, self.unheard = found, 6
        return found

    def hear_more(self, steps: int = 1) -> WindowEvidence | None:
        self.asked += [(number, steps) for number, *_ in self.pipeline.windows[-1:]]
        heard = self.unheard if steps == 1 else min(2, self.unheard)
        self.unheard -= heard
        self.crops += heard
        if self.unheard:
            return None
        found, self.later = self.later, None
        return found


class Source:
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def read_into(self, buffer: Samples) -> int:
        count = min(len(buffer), len(self.samples))
        buffer[:count], self.samples = self.samples[:count], self.samples[count:]
        return count


def stream(samples: Samples, waiting: float = 0.0) -> tuple[Recorder, LiveDiarizer]:
    pipeline = Recorder()
    live = LiveDiarizer(cast(Any, pipeline), 0.5)
    while len(samples) >= live.wanted:
        part, samples = samples[: live.wanted], samples[live.wanted :]
        live.push(part, waiting)
    live.finish(samples)
    return pipeline, live


@pytest.mark.parametrize("seconds", [0.3, 7.3, 10.0, 10.01, 10.05, 15.0, 15.07, 33.21])
@pytest.mark.parametrize("level", [0.2, 0.004])
def test_what_is_kept_are_the_windows_of_a_file(seconds: float, level: float) -> None:
    draw = np.random.default_rng(1)
    samples = (level * draw.uniform(-1, 1, round(seconds * SAMPLE_RATE))).astype(np.float32)
    pipeline, live = stream(samples)
    expected = [
        (window.number, np.concatenate([window.samples, window.tail]), window.valid_samples)
        for window in read_windows(Source(samples), 5 * SAMPLE_RATE, StageClock())
    ]
    kept: dict[int, tuple[Samples, int]] = {}
    for number, heard, valid, _ in pipeline.windows:
        if number >= 0 and number % 10 == 0:
            kept.setdefault(number // 10, (heard, valid))
    assert live.turns.online.evidence.windows == len(expected)
    assert sorted(kept) == [number for number, _, _ in expected]
    assert pipeline.kept == [10 * number for number in sorted(kept)]
    for number, heard, valid in expected:
        assert kept[number][1] == valid
        assert np.array_equal(kept[number][0], heard)


def test_windows_end_at_the_newest_sound() -> None:
    samples = np.arange(1, 12 * SAMPLE_RATE + 1, dtype=np.float32) / 1e6
    pipeline, _ = stream(samples)
    first, second = pipeline.windows[0], pipeline.windows[1]
    assert (first[0], second[0]) == (-19, -18)
    assert first[1][-1] == samples[8240 - 1]
    assert not first[1][: 160_000 - 8000].any()
    assert second[1][-1] == samples[16_240 - 1]


def test_behind_it_keeps_what_the_end_needs() -> None:
    samples = np.full(30 * SAMPLE_RATE, 0.1, np.float32)
    pipeline, live = stream(samples, waiting=10.0)
    calm, _ = stream(samples)
    assert live.behind
    assert live.figures.longest_wait == 10.0
    assert live.figures.left_out > 40
    assert len(pipeline.windows) < len(calm.windows) / 3
    kept = {number for number, *_ in pipeline.windows if number >= 0 and number % 10 == 0}
    assert kept == {0, 10, 20, 30, 40}
    live.push(np.zeros(live.wanted, np.float32), 0.2)
    assert not live.behind


def test_silence_needs_no_network() -> None:
    samples = np.zeros(12 * SAMPLE_RATE, np.float32)
    samples[: 2 * SAMPLE_RATE] = 0.1
    pipeline, live = stream(samples)
    assert live.figures.silent == 18
    assert [number for number, *_ in pipeline.windows] == [-19, -18, -17, -16, 0, 10, 4]


def test_what_is_quiet_everywhere_is_no_silence() -> None:
    """Lifted as it is for the networks: -70 dB is speech in a recording that peaks at -46."""
    samples = np.full(20 * SAMPLE_RATE, 0.0003, np.float32)
    samples[0] = 0.005
    pipeline, live = stream(samples)
    assert pipeline.windows[-1][3] == pytest.approx(20.0)
    assert live.figures.silent == 0
    loud = samples.copy()
    loud[0] = 0.5
    assert stream(loud)[1].figures.silent > 20


def test_figures_add_up_over_all_steps() -> None:
    figures = StreamFigures()
    first, second = Revision(1.0, 3.5, "A", "B"), Revision(4.0, 4.5, None, "A")
    figures.count(Change(5.0, revisions=(first, second), created=("A", "B")))
    figures.count(Change(9.0, revisions=(first,), created=("C",), withdrawn=("B",)))
    assert (figures.revisions, figures.revised_seconds) == (3, 5.5)
    assert (figures.created, figures.withdrawn) == (3, 1)


def test_work_is_that_of_all_windows_not_only_of_those_kept() -> None:
    pipeline = Recorder(answer=1)
    live = LiveDiarizer(cast(Any, pipeline), 0.5)
    sound, silence = (np.full(200_000, level, np.float32) for level in (0.1, 0.0))
    samples = np.concatenate([sound, silence])
    while len(samples) >= live.wanted:
        part, samples = samples[: live.wanted], samples[live.wanted :]
        live.push(part)
    last, conclusion = live.finish(samples)
    assert last.seconds == 25.0
    info = AudioInfo(Path("a.wav"), "a", "wav", "pcm_s16le", 16_000, 1, 25.0)
    timings = live.result(info, conclusion).timings
    assert live.figures.silent > 20
    assert timings.windows == len(pipeline.windows)
    assert timings.windows > live.turns.online.evidence.windows + 20
    # Three windows were kept, in steps; a fourth, at the end, takes 8 crops at once.
    assert pipeline.kept == [0, 10, 20, 30]
    assert timings.crops == (timings.windows - 1) + 3 * 6 + 8
    assert timings.copied_bytes == 10 * timings.windows


def test_what_is_kept_is_heard_by_and_by() -> None:
    pipeline = Recorder()
    live = LiveDiarizer(cast(Any, pipeline), 0.5)
    samples = np.full(16 * SAMPLE_RATE, 0.1, np.float32)
    there: list[int] = []
    while len(samples) >= live.wanted:
        part, samples = samples[: live.wanted], samples[live.wanted :]
        live.push(part)
        there.append(live.turns.online.evidence.windows)
    # All is there before the next window that is kept.
    asked = [steps for number, steps in pipeline.frontend.asked if 0 <= number < 10]
    assert asked == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    # Of window 0, after 20 steps, six crops are to be heard.
    assert there.index(1) == 19 + 2
    live.finish(samples)
    assert live.turns.online.evidence.windows == 3


def test_nothing_is_no_silence() -> None:
    assert stream(np.zeros(0, np.float32))[1].notes == ("no sound came from the source",)
    assert stream(np.zeros(1, np.float32))[1].notes == (
        "there is no sound in it: every sample is zero",
    )


@pytest.mark.parametrize(
    ("latency", "step"),
    [(0.5, 0.5), (2.0, 0.5), (3.9, 0.5), (4.0, 1.0), (9.9, 1.0), (10.0, 2.5), (30.0, 2.5)],
)
def test_steps_by_latency(latency: float, step: float) -> None:
    assert step_for(latency, load_mode("balanced")) == step


@pytest.mark.parametrize("latency", [0.4, 31.0])
def test_latencies_that_cannot_be(latency: float) -> None:
    with pytest.raises(UsageError, match=r"give 0\.5 to 30 s"):
        step_for(latency, load_mode("balanced"))
