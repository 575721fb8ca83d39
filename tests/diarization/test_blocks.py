"""Every window of every recording, in whatever block it lies, holds that recording's samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidaudio_cli.audio.source import AudioInfo
from fluidaudio_cli.diarization import blocks
from fluidaudio_cli.diarization.blocks import (
    Block,
    BlockReader,
    Ended,
    Event,
    Failed,
    Opened,
    WindowPlan,
    new_buffer,
    window_valid_frames,
)
from fluidaudio_cli.diarization.frames import (
    FBANK_TAIL_SAMPLES,
    FBANK_WINDOW_FRAMES,
    RECEPTIVE_FIELD_SAMPLES,
    WINDOW_SAMPLES,
)
from fluidaudio_cli.errors import AudioError

Samples = npt.NDArray[np.float32]


class FakeStream:
    """Samples from memory; ``fails_at`` samples on, the file is damaged."""

    def __init__(self, path: Path, samples: Samples, fails_at: int | None) -> None:
        self.info = AudioInfo(path, path.stem, "wav", "pcm_s16le", 16_000, 1, None)
        self._samples = samples
        self._fails_at = fails_at
        self._position = 0

    def read_into(self, buffer: Samples) -> int:
        part = self._samples[self._position : self._position + buffer.size]
        if self._fails_at is not None and self._position + part.size > self._fails_at:
            kept = max(0, self._fails_at - self._position)
            buffer[:kept] = part[:kept]
            raise AudioError(f"{self.info.path} is damaged")
        buffer[: part.size] = part
        self._position += part.size
        return part.size

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def recording(number: int, length: int) -> Samples:
    """Samples that tell recording and position."""
    samples = (np.arange(length) + 1) * (-1) ** number + number / 10
    return np.asarray(samples, np.float32)


@pytest.fixture(scope="module")
def read() -> Iterator[Any]:
    """Events of recordings of these lengths, blocks checked while they are valid."""
    patch = pytest.MonkeyPatch()

    def events(
        plan: WindowPlan, lengths: Sequence[int], damaged: dict[int, int]
    ) -> tuple[list[Event], dict[tuple[int, int], Samples]]:
        streams = {
            Path(f"{number}.wav"): FakeStream(
                Path(f"{number}.wav"), recording(number, length), damaged.get(number)
            )
            for number, length in enumerate(lengths)
        }
        patch.setattr(blocks, "open_audio", lambda path, uri: streams[path])
        buffer = new_buffer(plan)
        buffer[:] = np.nan  # whatever was there before must not show
        windows: dict[tuple[int, int], Samples] = {}
        found = []
        reader = BlockReader(
            [(path, None) for path in streams],
            plan,
            lambda: buffer,
            lambda recording, count: nullcontext(),
        )
        for event in reader:
            found.append(event)
            if isinstance(event, Block):
                _collect(plan, event, windows)
        return found, windows

    yield events
    patch.undo()


def _collect(plan: WindowPlan, block: Block, windows: dict[tuple[int, int], Samples]) -> None:
    for piece in block.pieces:
        for window in range(piece.windows):
            unit, phase = piece.unit + window // plan.phases, window % plan.phases
            view = block.window(plan, phase, unit)
            assert view.shape == (WINDOW_SAMPLES + FBANK_TAIL_SAMPLES,)
            assert np.shares_memory(view, block.buffer)
            batch = block.phase(plan, phase, unit, 1)
            assert batch.shape == (1, 1, WINDOW_SAMPLES)
            assert np.shares_memory(batch, block.buffer)
            assert np.array_equal(batch[0, 0], view[:WINDOW_SAMPLES])
            key = (piece.recording, piece.first_window + window)
            assert key not in windows
            windows[key] = view.copy()
            valid = window_valid_frames(plan, piece, window)
            # A frame sees 400 samples, 160 after the one before.
            start = (piece.first_window + window) * plan.step_samples
            length = start + piece.samples - window * plan.step_samples
            assert valid == min(FBANK_WINDOW_FRAMES, max(0, (length - start - 400) // 160 + 1))


def check(plan: WindowPlan, lengths: Sequence[int], read: Any) -> None:
    events, windows = read(plan, lengths, {})
    ended = {event.recording: event for event in events if isinstance(event, Ended)}
    assert [event.recording for event in events if isinstance(event, Opened)] == list(
        range(len(lengths))
    )
    assert not any(isinstance(event, Failed) for event in events)
    for number, length in enumerate(lengths):
        assert ended[number].samples == length
        assert ended[number].windows == plan.windows_of(length)
        whole = recording(number, length)
        for window in range(ended[number].windows):
            start = window * plan.step_samples
            expected = np.zeros(WINDOW_SAMPLES, np.float32)
            part = whole[start : start + WINDOW_SAMPLES]
            expected[: part.size] = part
            got = windows.pop((number, window))
            assert np.array_equal(got[:WINDOW_SAMPLES], expected), (number, window)
            # Beyond the window, the recording itself as far as it goes.
            tail = whole[start + WINDOW_SAMPLES : start + WINDOW_SAMPLES + FBANK_TAIL_SAMPLES]
            assert np.array_equal(got[WINDOW_SAMPLES : WINDOW_SAMPLES + tail.size], tail)
    assert windows == {}


@pytest.mark.parametrize("step", [10.0, 5.0, 2.5, 2.0, 1.0])
@pytest.mark.parametrize("share", [False, True])
def test_one_recording_of_every_awkward_length(step: float, share: bool, read: Any) -> None:
    plan = WindowPlan.of(step, 2, share)
    edges = {
        base + more
        for base in (0, WINDOW_SAMPLES, 2 * WINDOW_SAMPLES, 3 * WINDOW_SAMPLES, plan.buffer_samples)
        for more in (-1, 0, 1, 239, 240, 241, RECEPTIVE_FIELD_SAMPLES, RECEPTIVE_FIELD_SAMPLES + 1)
    }
    for length in sorted(edge for edge in edges if edge > 0):
        check(plan, [length], read)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.sampled_from([10.0, 5.0, 2.5, 2.0]),
    st.integers(1, 5),
    st.booleans(),
    st.lists(st.integers(1, 6 * WINDOW_SAMPLES), min_size=1, max_size=5),
)
def test_several_recordings(
    read: Any, step: float, units: int, share: bool, lengths: list[int]
) -> None:
    check(WindowPlan.of(step, units, share), lengths, read)


def test_windows_of() -> None:
    plan = WindowPlan.of(5.0, 4)
    second = 16_000
    assert [plan.windows_of(n * second) for n in (1, 10, 11, 15, 16, 20, 21)] == [
        1,
        1,
        2,
        2,
        3,
        3,
        4,
    ]
    # Less than one frame more than a window gets no window of its own.
    assert plan.windows_of(WINDOW_SAMPLES + RECEPTIVE_FIELD_SAMPLES) == 1
    assert plan.windows_of(WINDOW_SAMPLES + RECEPTIVE_FIELD_SAMPLES + 1) == 2


def test_sizes_of_blocks_grow_from_one() -> None:
    plan = WindowPlan.of(5.0, 8)
    assert [plan.units_of_block(index) for index in range(9)] == [1, 1, 2, 2, 4, 4, 8, 8, 8]
    assert plan.units_of_block(10**6) == 8


def test_short_recordings_share_a_block_only_where_that_is_asked(read: Any) -> None:
    lengths = [WINDOW_SAMPLES] * 4
    for share, counts in ((True, [4]), (False, [1, 1, 1, 1])):
        events, _ = read(WindowPlan.of(10.0, 4, share), lengths, {})
        assert [len(e.pieces) for e in events if isinstance(e, Block)] == counts


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("fails_at", [0, 1_000, WINDOW_SAMPLES + 5, 4 * WINDOW_SAMPLES])
def test_damaged_recording_leaves_its_neighbours_whole(
    share: bool, fails_at: int, read: Any
) -> None:
    plan = WindowPlan.of(5.0, 2, share)
    lengths = [25_000, 5 * WINDOW_SAMPLES, 3 * WINDOW_SAMPLES + 77]
    events, windows = read(plan, lengths, {1: fails_at})
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.recording == 1
    assert str(failed.error) == "1.wav is damaged"
    assert [e.recording for e in events if isinstance(e, Ended)] == [0, 2]
    for number in (0, 2):
        whole = recording(number, lengths[number])
        for window in range(plan.windows_of(lengths[number])):
            part = whole[window * plan.step_samples :][:WINDOW_SAMPLES]
            got = windows[number, window]
            assert np.array_equal(got[: part.size], part)
            assert not got[part.size : WINDOW_SAMPLES].any()
