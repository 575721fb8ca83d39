"""A worker with networks made of simple arithmetic, so that what they are given shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.block_worker import BlockResult, BlockWorker
from fluidaudio_cli.diarization.blocks import Block, Piece, WindowPlan, new_buffer
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.frames import CROP_FRAMES, WINDOW_FRAMES, WINDOW_SAMPLES
from fluidaudio_cli.diarization.local_speakers import CropRules

Floats = npt.NDArray[np.float32]
ONE_CROP = CropRules(per_speaker=1, min_clean_seconds=0.2)


class Network:
    """Applies ``compute`` and keeps the sizes of its batches."""

    def __init__(self, output: str, compute: Callable[[Floats], Floats]) -> None:
        self.output, self.compute = output, compute
        self.batches: list[int] = []

    def run(
        self, feeds: Mapping[str, Floats], outputs: Mapping[str, Floats] | None = None
    ) -> dict[str, Floats]:
        (given,) = feeds.values()
        assert given.flags.c_contiguous
        assert np.isfinite(given).all()
        self.batches.append(len(given))
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


def speech(samples: int, *stretches: tuple[float, float, int]) -> Floats:
    """1000 c + t/100 where class c speaks, t being the second."""
    found = np.zeros(samples, np.float32)
    for start, end, number in stretches:
        part = slice(round(start * 16_000), round(end * 16_000))
        found[part] = number * 1000 + np.arange(samples)[part] / 16_000
    return found


@dataclass(frozen=True)
class Networks:
    """The three networks of a worker, as the tests see them."""

    segmentation: Network
    fbank: Network
    embedding: Network


def worker(
    plan: WindowPlan, rules: CropRules = ONE_CROP, batch: int = 4
) -> tuple[BlockWorker, Networks]:
    networks = Networks(
        Network("log_probabilities", segment),
        Network("frames", filter_bank),
        Network("embedding", embed),
    )
    requests: Any = networks
    return BlockWorker(requests, plan, rules, batch, silence_dbfs=-70.0), networks


def run(
    plan: WindowPlan, samples: Floats, rules: CropRules = ONE_CROP, batch: int = 4
) -> tuple[BlockResult, Networks]:
    block = Block(0, new_buffer(plan))
    block.buffer[: samples.size] = samples
    windows = plan.windows_of(samples.size)
    block.pieces.append(Piece(0, 0, windows, 0, samples.size, last=True))
    machine, requests = worker(plan, rules, batch)
    return finish(machine, block), requests


def finish(machine: BlockWorker, block: Block) -> BlockResult:
    clock = StageClock()
    (result,) = (*machine.process(block, clock), *machine.flush(clock))
    return result


def test_crops_are_the_frames_where_the_speaker_is_alone() -> None:
    # Speaker 1 from 2 s to 5 s, then both 1 and 2 until 6 s, then 2 until 9 s.
    audio = speech(WINDOW_SAMPLES, (2, 5, 1), (5, 6, 4), (6, 9, 2))
    result, _ = run(WindowPlan.of(10.0, 1), audio)
    (window,) = result.pieces[0].windows
    assert [speaker.slot for speaker in window.speakers] == [0, 1]
    for speaker, number, centre in zip(window.speakers, (1, 2), (3.5, 7.5), strict=True):
        mean, least, greatest = speaker.vector[:3] / speaker.vector[0]
        assert speaker.clean_seconds == pytest.approx(3.0, abs=0.03)
        # 2 s around the centre of 3 s: the mean's ratios tell the range that was heard.
        middle = number * 1000 + centre
        assert mean == 1.0
        assert least == pytest.approx((middle - 1) / middle, abs=3e-5)
        assert greatest == pytest.approx((middle + 1) / middle, abs=3e-5)
    assert result.crops == 2


def test_short_speech_is_repeated_and_seams_are_left_out() -> None:
    """Two runs of 0.6 and 0.4 s: nothing but their samples is heard, each equally often."""
    audio = speech(WINDOW_SAMPLES, (0, 10, 0), (2, 2.6, 1), (5, 5.4, 1))
    seen: list[Floats] = []

    def spy(frames: Floats) -> Floats:
        seen.append(frames.copy())
        return embed(frames)

    plan = WindowPlan.of(10.0, 1)
    block = Block(0, new_buffer(plan))
    block.buffer[: audio.size] = audio
    block.pieces.append(Piece(0, 0, 1, 0, audio.size, last=True))
    machine, requests = worker(plan)
    requests.embedding.compute = spy
    finish(machine, block)
    heard = seen[0][0, :, 0]
    assert heard.shape == (CROP_FRAMES,)
    times = heard % 1000
    # A frame belongs to the segmentation frame nearest to its centre, and begins 12.5 ms before.
    assert (((times > 1.97) & (times < 2.62)) | ((times > 4.97) & (times < 5.42))).all()
    values, counts = np.unique(heard, return_counts=True)
    assert 98 <= len(values) <= 102
    assert counts.min() >= counts.max() - 1


@pytest.mark.parametrize("step", [10.0, 5.0, 2.0])
def test_windows_are_numbered_and_batches_are_whole(step: float) -> None:
    plan = WindowPlan.of(step, 4)
    audio = speech(4 * WINDOW_SAMPLES, (0, 40, 1))
    result, requests = run(plan, audio, batch=8)
    windows = result.pieces[0].windows
    assert [window.number for window in windows] == list(range(plan.windows_of(audio.size)))
    assert all(len(window.speakers) == 1 for window in windows)
    # One batch for each phase; embeddings in batches of 8 and a rest.
    assert len(requests.segmentation.batches) == plan.phases
    sizes = requests.embedding.batches
    assert sum(sizes) == result.crops == len(windows)
    assert all(size == 8 for size in sizes[:-1])
    assert sizes[-1] <= 8


def test_presence_survives_its_compression() -> None:
    audio = speech(WINDOW_SAMPLES, (3, 7, 2))
    result, _ = run(WindowPlan.of(10.0, 1), audio)
    (window,) = result.pieces[0].windows
    presence = window.presence()
    assert presence.shape == (WINDOW_FRAMES, 3)
    centres = (np.arange(WINDOW_FRAMES) * 270 + 495) / 16_000
    assert np.array_equal(presence[:, 1] == 255, (centres >= 3) & (centres < 7))
    assert not presence[:, [0, 2]].any()


def test_silence_runs_no_network() -> None:
    result, requests = run(WindowPlan.of(5.0, 2), speech(2 * WINDOW_SAMPLES))
    assert result.crops == 0
    assert len(result.pieces[0].windows) == 3
    assert requests.segmentation.batches == []
    assert requests.embedding.batches == []
    assert all(window.speakers == () for window in result.pieces[0].windows)
    assert not result.pieces[0].windows[0].presence().any()


def test_silence_between_speech_changes_nothing_else() -> None:
    """Windows 0 and 3 of five hold speech; 1, 2 and 4 are silent and have nobody."""
    audio = speech(5 * WINDOW_SAMPLES, (2, 8, 1), (31, 38, 2))
    result, requests = run(WindowPlan.of(10.0, 5), audio)
    found = [[speaker.slot for speaker in w.speakers] for w in result.pieces[0].windows]
    assert found == [[0], [], [], [1], []]
    assert [window.number for window in result.pieces[0].windows] == [0, 1, 2, 3, 4]
    assert requests.segmentation.batches == [4]


def test_two_recordings_in_a_block_are_kept_apart() -> None:
    plan = WindowPlan.of(10.0, 2, share_blocks=True)
    block = Block(0, new_buffer(plan))
    block.buffer[:80_000] = speech(80_000, (1, 4, 1))
    block.buffer[WINDOW_SAMPLES : WINDOW_SAMPLES + 96_000] = speech(96_000, (0, 6, 3))
    block.pieces.append(Piece(5, 0, 1, 0, 80_000, last=True))
    block.pieces.append(Piece(6, 0, 1, 1, 96_000, last=True))
    machine, _ = worker(plan)
    result = finish(machine, block)
    assert [piece.recording for piece in result.pieces] == [5, 6]
    slots = [[s.slot for w in piece.windows for s in w.speakers] for piece in result.pieces]
    assert slots == [[0], [2]]


def block_of(plan: WindowPlan, index: int, samples: Floats) -> Block:
    block = Block(index, new_buffer(plan))
    block.buffer[: samples.size] = samples
    windows = plan.windows_of(samples.size)
    block.pieces.append(Piece(index, 0, windows, 0, samples.size, last=True))
    return block


def test_batches_fill_across_blocks_and_a_block_waits_for_its_last_crop() -> None:
    """Three crops, then none, then two: the first batch of four ends within the third block."""
    plan = WindowPlan.of(10.0, 3)
    machine, requests = worker(plan, batch=4)
    clock = StageClock()
    blocks = [
        block_of(plan, 0, speech(3 * WINDOW_SAMPLES, (0, 30, 1))),
        block_of(plan, 1, speech(WINDOW_SAMPLES)),
        block_of(plan, 2, speech(2 * WINDOW_SAMPLES, (0, 20, 2))),
    ]
    assert machine.process(blocks[0], clock) == []
    assert machine.process(blocks[1], clock) == []
    done = machine.process(blocks[2], clock)
    assert [result.index for result in done] == [0, 1]
    rest = machine.flush(clock)
    assert [result.index for result in rest] == [2]
    assert [result.crops for result in (*done, *rest)] == [3, 0, 2]
    assert requests.embedding.batches == [4, 1]
    alone, _ = worker(plan, batch=1)
    whole = [result for block in blocks for result in alone.process(block, clock)]
    for result, expected in zip((*done, *rest), whole, strict=True):
        for window, same in zip(result.pieces[0].windows, expected.pieces[0].windows, strict=True):
            for speaker, its in zip(window.speakers, same.speakers, strict=True):
                assert np.array_equal(speaker.vector, its.vector)


def test_what_a_broken_run_left_is_forgotten() -> None:
    plan = WindowPlan.of(10.0, 1)
    machine, requests = worker(plan, batch=4)
    clock = StageClock()
    assert machine.process(block_of(plan, 0, speech(WINDOW_SAMPLES, (0, 9, 1))), clock) == []
    machine.discard()
    assert machine.flush(clock) == []
    assert requests.embedding.batches == []
