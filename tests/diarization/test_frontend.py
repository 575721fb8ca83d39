"""Windows in, evidence out, with networks made of simple arithmetic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.crop_embedder import CropEmbedder
from fluidaudio_cli.diarization.evidence import WindowEvidence
from fluidaudio_cli.diarization.evidence_worker import EvidenceRules, EvidenceWorker
from fluidaudio_cli.diarization.frames import CROP_FRAMES, WINDOW_FRAMES, WINDOW_SAMPLES
from fluidaudio_cli.diarization.frontend import Frontend
from fluidaudio_cli.diarization.live_frontend import LiveFrontend
from fluidaudio_cli.diarization.local_speakers import CropRules
from fluidaudio_cli.diarization.mask_embedder import MaskEmbedder
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.networks import FilterBank, Segmenter, VoiceNetwork
from fluidaudio_cli.diarization.windows import Window, read_windows
from fluidaudio_cli.models.card import load_card

Floats = npt.NDArray[np.float32]
RULES = EvidenceRules(
    CropRules(per_speaker=1),
    silent_peak=1e-3,
    exact_below_seconds=0.0,
    calibration=load_mode("balanced").calibration,
)
CROP_BATCH = 4


class Network:
    """Applies ``compute``, and keeps the sizes of its batches and where they lay."""

    def __init__(self, output: str, compute: Callable[[Floats], Floats]) -> None:
        self.output, self.compute = output, compute
        self.batches: list[int] = []
        self.seconds = 0.0

    def run(
        self, feeds: Mapping[str, Floats], outputs: Mapping[str, Floats] | None = None
    ) -> dict[str, Floats]:
        (given,) = feeds.values()
        assert given.flags.c_contiguous
        assert given.ctypes.data % 64 == 0
        assert np.isfinite(given).all()
        self.batches.append(len(given))
        time.sleep(self.seconds * (len(self.batches) % 2))
        result = np.asarray(self.compute(given), np.float32)
        if outputs is not None:
            outputs[self.output][:] = result
            result = outputs[self.output]
        return {self.output: result}


def segment(audio: Floats) -> Floats:
    """The class that the sample at each frame's centre names: see ``speech``."""
    scores = np.full((len(audio), WINDOW_FRAMES, 7), -20.0, np.float32)
    frames = np.arange(WINDOW_FRAMES) * 270 + 495
    classes = np.round(np.abs(audio[:, 0, frames]) // 1000).astype(int)
    np.put_along_axis(scores, classes[..., None], 0.0, axis=-1)
    return scores


def filter_bank(audio: Floats) -> Floats:
    """(n, 200, 80): each frame's sample number in its hop's first sample, 80 times."""
    starts = np.arange(CROP_FRAMES) * 160
    return np.repeat(audio[:, 0, starts][:, :, None], 80, axis=2)


def embed(frames: Floats) -> Floats:
    """(n, 192): mean, least and greatest of the frames, then zeros."""
    vectors = np.zeros((len(frames), 192), np.float32)
    vectors[:, 0] = frames.mean(axis=(1, 2))
    vectors[:, 1] = frames.min(axis=(1, 2))
    vectors[:, 2] = frames.max(axis=(1, 2))
    return vectors


def speech(seconds: float, *stretches: tuple[float, float, int]) -> Floats:
    """1000 c + t/100 where class c speaks, t being the second."""
    found = np.zeros(round(seconds * 16_000), np.float32)
    for start, end, number in stretches:
        part = slice(round(start * 16_000), round(end * 16_000))
        found[part] = number * 1000 + np.arange(found.size)[part] / 16_000
    return found


class Array:
    """Samples as a source."""

    def __init__(self, samples: Floats) -> None:
        self.rest = samples

    def read_into(self, buffer: Floats) -> int:
        count = min(buffer.size, self.rest.size)
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count


class Bench:
    """A frontend of ``workers`` workers, with the networks of each to look at."""

    def __init__(
        self, workers: int = 1, batch: int = 4, rules: EvidenceRules = RULES, exact: bool = False
    ) -> None:
        self.networks = [
            SimpleNamespace(
                segmentation=Network("log_probabilities", segment),
                fbank=Network("frames", filter_bank),
                embedding=Network("embedding", embed),
                exact_embedding=Network("embedding", lambda frames: -embed(frames)),
            )
            for _ in range(workers)
        ]
        workers_made = [self._worker(own, rules, exact) for own in self.networks]
        self.frontend = Frontend(workers_made, batch)

    @staticmethod
    def _worker(own: Any, rules: EvidenceRules, exact: bool) -> EvidenceWorker:
        card = load_card()
        assert card.segmentation is not None
        assert card.front_end is not None
        assert card.embedding is not None
        bank = FilterBank(own.fbank, card.front_end)
        usual, exactly = (
            CropEmbedder(bank, VoiceNetwork(network, card.embedding), CROP_BATCH)
            for network in (own.embedding, own.exact_embedding)
        )
        segmenter = Segmenter(own.segmentation, card.segmentation)
        return EvidenceWorker(segmenter, usual, rules, exactly if exact else None)

    def batches(self, name: str) -> list[int]:
        return [size for own in self.networks for size in getattr(own, name).batches]

    def run(self, samples: Floats, step: float = 10.0) -> list[WindowEvidence]:
        clock = StageClock()
        windows = read_windows(Array(samples), round(step * 16_000), clock)
        return list(self.frontend.evidence(windows, clock))


def same(left: list[WindowEvidence], right: list[WindowEvidence]) -> bool:
    return [one.number for one in left] == [other.number for other in right] and all(
        one.packed == other.packed
        and [voice[:2] for voice in one.voices] == [voice[:2] for voice in other.voices]
        and all(
            np.array_equal(a.vector, b.vector)
            for a, b in zip(one.voices, other.voices, strict=True)
        )
        for one, other in zip(left, right, strict=True)
    )


# --- What is found in a window ---


def test_crops_are_the_frames_where_the_speaker_is_alone() -> None:
    # Speaker 1 from 2 s to 5 s, then both 1 and 2 until 6 s, then 2 until 9 s.
    (window,) = Bench().run(speech(10, (2, 5, 1), (5, 6, 4), (6, 9, 2)))
    assert [voice.slot for voice in window.voices] == [0, 1]
    for voice, number, centre in zip(window.voices, (1, 2), (3.5, 7.5), strict=True):
        mean, least, greatest = voice.vector[:3] / voice.vector[0]
        assert voice.clean_seconds == pytest.approx(3.0, abs=0.03)
        # 2 s around the centre of 3 s: the mean's ratios tell the range that was heard.
        middle = number * 1000 + centre
        assert mean == 1.0
        assert least == pytest.approx((middle - 1) / middle, abs=3e-5)
        assert greatest == pytest.approx((middle + 1) / middle, abs=3e-5)
    assert window.crops == 2


def test_short_speech_is_repeated_and_seams_are_left_out() -> None:
    """Two runs of 0.6 and 0.4 s: nothing but their samples is heard, each equally often."""
    seen: list[Floats] = []

    def spy(frames: Floats) -> Floats:
        seen.append(frames.copy())
        return embed(frames)

    bench = Bench()
    network: Any = bench.networks[0].embedding
    network.compute = spy
    bench.run(speech(10, (0, 10, 0), (2, 2.6, 1), (5, 5.4, 1)))
    heard = seen[0][0, :, 0]
    assert heard.shape == (CROP_FRAMES,)
    times = heard % 1000
    # A frame belongs to the segmentation frame nearest to its centre, and begins 12.5 ms before.
    assert (((times > 1.97) & (times < 2.62)) | ((times > 4.97) & (times < 5.42))).all()
    values, counts = np.unique(heard, return_counts=True)
    assert 98 <= len(values) <= 102
    assert counts.min() >= counts.max() - 1


def test_the_last_frames_of_a_window_see_what_follows_it() -> None:
    """Speech at the very end of a window, and beyond: the crop reaches into the tail."""
    first, _ = Bench().run(speech(20, (9.5, 10.5, 1)))
    (voice,) = first.voices
    assert voice.clean_seconds == pytest.approx(0.5, abs=0.02)
    greatest = voice.vector[2] / voice.vector[0]
    assert greatest == pytest.approx(1009.99 / 1009.75, abs=3e-5)


def test_presence_survives_its_compression() -> None:
    (window,) = Bench().run(speech(10, (3, 7, 2)))
    presence = window.presence()
    assert presence.shape == (WINDOW_FRAMES, 3)
    centres = (np.arange(WINDOW_FRAMES) * 270 + 495) / 16_000
    assert np.array_equal(presence[:, 1] == 255, (centres >= 3) & (centres < 7))
    assert not presence[:, [0, 2]].any()


def test_silence_runs_no_network() -> None:
    bench = Bench()
    found = bench.run(speech(20), step=5)
    assert [window.number for window in found] == [0, 1, 2]
    assert bench.batches("segmentation") == bench.batches("embedding") == []
    assert all(window.voices == () and not window.presence().any() for window in found)


def test_silence_between_speech_changes_nothing_else() -> None:
    """Windows 0 and 3 of five hold speech; 1, 2 and 4 are silent and have nobody."""
    bench = Bench(batch=5)
    found = bench.run(speech(50, (2, 8, 1), (31, 38, 2)))
    assert [[voice.slot for voice in window.voices] for window in found] == [[0], [], [], [1], []]
    assert bench.batches("segmentation") == [4]


def test_voices_of_little_speech_are_embedded_by_the_exact_network() -> None:
    rules = replace(RULES, exact_below_seconds=1.0)
    audio = speech(10, (1, 1.6, 1), (3, 8, 2))
    (window,) = Bench(rules=rules, exact=True).run(audio)
    (plain,) = Bench().run(audio)
    assert np.array_equal(window.voices[0].vector, -plain.voices[0].vector)
    assert np.array_equal(window.voices[1].vector, plain.voices[1].vector)
    # Utterances are as exact as the voice they are of needs it.
    apart = replace(rules, crops=CropRules(1, utterances=True), exact_below_seconds=2.5)
    bench = Bench(rules=apart, exact=True)
    bench.run(speech(10, (1, 2.5, 1), (4, 5.5, 1), (7, 9, 2)))
    assert bench.batches("embedding") == [2]
    assert bench.batches("exact_embedding") == [1]


class Masked:
    """A network that hears windows under masks: the first three samples where each is 1."""

    size = 192

    def run(self, audio: Floats, masks: Floats) -> Floats:
        vectors = np.zeros((len(audio), self.size), np.float32)
        for row, (samples, mask) in enumerate(zip(audio, masks, strict=True)):
            vectors[row, :3] = samples[np.flatnonzero(mask)[:3] * 270 + 495]
        return vectors


# --- A stream's windows, one at a time ---

APART = replace(RULES, crops=CropRules(per_speaker=1, utterances=True))
HALF = 8000
# From 10 s on: voice 0 says three things, of which the second is the longest, voice 1 one.
TALK = speech(30, (12, 13.2, 1), (14, 16.5, 1), (17, 18.2, 1), (18.3, 19.5, 2))


def live(pooling: str = "crop", step: int = HALF) -> LiveFrontend:
    worker = Bench._worker(Bench(rules=APART).networks[0], APART, exact=False)
    if pooling == "mask":
        embedder = MaskEmbedder(cast(Any, Masked()), 4)
        worker = EvidenceWorker(worker._segmentation, embedder, APART)
    return LiveFrontend(worker, step)


def window(samples: Floats, number: int, step: int = HALF) -> Window:
    heard = samples[number * step :][:160_240]
    return Window(number, heard[:160_000], heard[160_000:], 160_240, 0, StageClock())


def crops_by_step(frontend: LiveFrontend, samples: Floats, numbers: Iterable[int]) -> list[int]:
    found = []
    for number in numbers:
        found.append(frontend.evidence(window(samples, number, frontend._step), keep=False).crops)
        assert frontend.hear_more() is None
    assert frontend.crops == sum(found)
    return found


def test_what_grows_is_embedded_until_a_crop_is_full_and_then_now_and_then() -> None:
    talk = speech(30, (10, 18.9, 1))
    # 0.5, 1, 1.5 and 2 s of it; then every 1.5 s while it goes on, and never once it is over.
    assert crops_by_step(live(), talk, range(1, 30)) == [
        *(1, 1, 1, 1),
        *(0, 0, 1) * 4,
        *(0,) * 13,
    ]
    # With windows 1 s apart: after 1 and 2 s of it, then every second time.
    assert crops_by_step(live(step=16_000), talk, range(1, 14)) == [1, 1, *(0, 1) * 3, 0, *(0,) * 4]


def test_who_was_heard_before_sounds_the_same_in_another_slot() -> None:
    frontend = live()
    talk = speech(30, (5, 9, 1), (10, 14, 2))
    swapped = speech(30, (5, 9, 2), (10, 14, 1))
    before = frontend.evidence(window(talk, 9), keep=False)
    after = frontend.evidence(window(swapped, 10), keep=False)
    assert (before.crops, after.crops) == (2, 0)
    for voice, other in ((0, 1), (1, 0)):
        assert np.array_equal(before.voices[voice].vector, after.voices[other].vector)
    # Where nothing is shared any more, nothing is known.
    assert frontend.evidence(window(speech(60, (35, 39, 1)), 60), keep=False).crops == 1


def test_what_is_no_longer_the_same_utterance_is_embedded() -> None:
    frontend = live()
    assert frontend.evidence(window(speech(30, (2, 8, 1)), 0), keep=False).crops == 1
    # Three seconds of the six are somebody else's after all: no utterance agrees on four fifths.
    changed = speech(30, (2, 5, 1), (5, 8, 2))
    assert frontend.evidence(window(changed, 1), keep=False).crops == 2


def test_who_is_unknown_is_embedded_first_and_two_of_them_at_most() -> None:
    frontend = live()
    four = (2, 3.1, 1), (3.5, 4.6, 1), (5, 6.1, 1), (6.5, 7.6, 1)
    heard: list[tuple[int, list[bool]]] = []
    talk = speech(30, *four, (7.9, 12, 2))  # of voice 1 a crop is full in the first window
    for number in range(4):
        found = frontend.evidence(window(talk, number), keep=False)
        heard.append((found.crops, [bool(voice.vector.any()) for voice in found.voices]))
    # It comes after the four things that voice 0 said.
    assert heard == [
        (2, [True, False]),
        (2, [True, False]),
        (1, [True, True]),
        (0, [True, True]),
    ]


@pytest.mark.parametrize("pooling", ["crop", "mask"])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_what_is_kept_is_what_a_file_gives(pooling: str, steps: int) -> None:
    """Whatever was known from before, and however little is embedded at a time."""
    frontend = live(pooling)
    kept = window(TALK, 20)
    (whole,) = Frontend([frontend._worker], 1).evidence([kept], StageClock())
    assert whole.crops == 4
    for number in range(10, 20):
        frontend.evidence(window(TALK, number), keep=False)
        assert frontend.hear_more() is None
    before = frontend.crops
    answer = frontend.evidence(kept, keep=True)
    assert answer.crops == frontend.crops - before == 0
    assert [voice[:2] for voice in answer.voices] == [voice[:2] for voice in whole.voices]
    parts = 1
    while (found := frontend.hear_more(steps + 1 - parts)) is None:
        frontend.evidence(window(TALK, 20 + parts), keep=False)
        parts += 1
    assert same([found], [whole])
    assert frontend.hear_more() is None
    assert parts == {1: 1, 2: 2, 10: 4}[steps]
    assert frontend.crops == before + 4
    # Voices of which nothing is known are embedded once, for both.
    fresh = live(pooling)
    assert fresh.evidence(kept, keep=True).crops == 2
    found = fresh.hear_more()
    assert found is not None
    assert same([found], [whole])
    assert fresh.crops == 4


def test_more_is_heard_where_a_step_has_room_for_it() -> None:
    frontend = live()
    assert frontend.hear_more() is None
    silent = frontend.evidence(window(TALK, 0), keep=True)
    assert (silent.voices, silent.crops) == ((), 0)
    kept = frontend.hear_more(10)  # there is nothing to hear
    assert kept is not None
    assert kept.voices == ()
    for number in range(1, 20):
        frontend.evidence(window(TALK, number), keep=False)
        frontend.hear_more(10)
    before = frontend.crops
    frontend.evidence(window(TALK, 20), keep=True)
    # One where nobody is embedded, none beside others, but those that are due.
    assert frontend.hear_more(9) is None
    assert frontend.crops == before + 1
    busy = speech(60, (31, 33, 1), (34, 36, 2))
    frontend.evidence(window(busy, 61), keep=False)
    assert frontend.hear_more(8) is None
    assert frontend.crops == before + 1 + 2
    frontend.evidence(window(busy, 62), keep=False)
    assert frontend.hear_more(3) is None
    assert frontend.crops == before + 3 + 1
    # A step that is silent or left out has room, too.
    assert frontend.hear_more(5) is None
    assert frontend.crops == before + 5
    assert frontend.hear_more(1) is not None
    assert frontend.crops == before + 6


# --- Batches and order ---


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("step", [10.0, 2.0])
def test_batches_and_workers_change_nothing(workers: int, batch: int, step: float) -> None:
    turns = [(t, t + 1.7, 1 + t // 2 % 3) for t in range(0, 60, 2)]
    audio = speech(63.3, *turns, (60, 63, 2))
    alone = Bench(batch=1).run(audio, step)
    bench = Bench(workers, batch)
    network: Any = bench.networks[0].segmentation
    network.seconds = 0.01  # every other batch of the first worker: order is put to the test
    found = bench.run(audio, step)
    assert same(found, alone)
    assert sum(bench.batches("segmentation")) == len(alone)
    assert max(bench.batches("segmentation")) == min(batch, len(alone))


def test_crops_fill_batches_across_windows() -> None:
    bench = Bench(batch=1, rules=RULES)
    found = bench.run(speech(60, (0, 60, 1)))
    assert bench.batches("segmentation") == [1] * 6
    assert bench.batches("embedding") == bench.batches("fbank") == [4, 2]
    assert all(len(window.voices) == 1 for window in found)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_not_a_window_passes_through_in_its_place(workers: int) -> None:
    """Two recordings with marks around them: batches hold windows of both."""
    clock = StageClock()

    def items() -> Iterator[Window | str]:
        for name, number in (("one", 1), ("two", 2)):
            yield f"{name} begins"
            yield from read_windows(Array(speech(25, (0, 25, number))), 160_000, clock)
            yield f"{name} ends"

    bench = Bench(workers, batch=4)
    found = [
        item if isinstance(item, str) else (item.number, item.voices[0].slot)
        for item in bench.frontend.evidence(items(), clock)
    ]
    assert found == [
        "one begins", (0, 0), (1, 0), (2, 0), "one ends",
        "two begins", (0, 1), (1, 1), (2, 1), "two ends",
    ]  # fmt: skip
    assert sorted(bench.batches("segmentation")) == [2, 4]


# --- Threads ---


def endless(clock: StageClock, given: list[int]) -> Iterator[Window]:
    samples = speech(10, (0, 10, 1))
    while True:
        given.append(len(given))
        yield Window(given[-1], samples, samples[:240], WINDOW_SAMPLES, 0, clock)


def test_decoder_waits_for_a_free_batch() -> None:
    """While nobody works, four batches of two are all that is filled."""
    bench = Bench(workers=2, batch=2)
    gate = threading.Event()
    for own in bench.networks:
        network: Any = own.segmentation
        network.compute = lambda audio: gate.wait(20) and segment(audio)
    given: list[int] = []
    clock = StageClock()
    run = bench.frontend.evidence(endless(clock, given), clock)
    first = threading.Thread(target=lambda: next(run))
    first.start()
    deadline = time.monotonic() + 10
    while len(given) < 9 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    # Four batches of two, and one window that waits for a place.
    assert len(given) == 9
    gate.set()
    first.join()
    run.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [1, 2])
def test_first_error_ends_the_run_and_leaves_no_thread(workers: int) -> None:
    before = set(threading.enumerate())
    bench = Bench(workers, batch=1)

    def broken(audio: Floats) -> Floats:
        raise RuntimeError("the network broke")

    for own in bench.networks:
        network: Any = own.segmentation
        network.compute = broken
    given: list[int] = []
    clock = StageClock()
    with pytest.raises(RuntimeError, match="the network broke"):
        list(bench.frontend.evidence(endless(clock, given), clock))
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_source_is_closed_when_the_run_is_abandoned(workers: int) -> None:
    before = set(threading.enumerate())
    closed: list[str] = []
    clock = StageClock()

    def items() -> Iterator[Window]:
        try:
            yield from endless(clock, [])
        finally:
            closed.append(threading.current_thread().name)

    bench = Bench(workers, batch=1)
    run = bench.frontend.evidence(items(), clock)
    assert next(run).number == 0
    run.close()  # type: ignore[attr-defined]
    assert len(closed) == 1
    assert set(threading.enumerate()) == before
    # What the broken run left behind does not show in the next.
    assert same(bench.run(speech(25, (3, 20, 2))), Bench().run(speech(25, (3, 20, 2))))
