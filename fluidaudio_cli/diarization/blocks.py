"""Recordings cut into blocks of whole windows, decoded straight into reusable buffers.

A block holds some units of 10 s; window k of phase p starts p steps into unit k. The windows
of one phase thus lie end to end in the buffer, and are handed to the network as one array
without a copy, whatever the step. Short recordings share a block, so that batches stay full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import AudioInfo, open_audio
from fluidaudio_cli.diarization.frames import (
    FBANK_FRAME_SAMPLES,
    FBANK_HOP_SAMPLES,
    FBANK_TAIL_SAMPLES,
    FBANK_WINDOW_FRAMES,
    RECEPTIVE_FIELD_SAMPLES,
    SAMPLE_RATE,
    WINDOW_SAMPLES,
)
from fluidaudio_cli.errors import AudioError
from fluidaudio_cli.executors.buffers import aligned_empty

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class WindowPlan:
    """Where windows lie: ``step_samples`` apart, at most ``units`` of 10 s to a block.

    ``share_blocks``: short recordings share blocks, instead of each beginning one.
    ``small_first``: a recording begins with small blocks.
    """

    step_samples: int
    units: int
    share_blocks: bool = False
    small_first: bool = True

    @classmethod
    def of(
        cls, step_seconds: float, units: int, share_blocks: bool = False, small_first: bool = True
    ) -> WindowPlan:
        """Plan for a step given in seconds, a divisor of 10."""
        return cls(round(step_seconds * SAMPLE_RATE), units, share_blocks, small_first)

    def units_of_block(self, index: int) -> int:
        """Size of a recording's block number ``index``: 1, 1, 2, 2, 4, 4 … up to ``units``.

        Small first blocks give every worker something to do at once, and short recordings more
        than one block.
        """
        return int(min(self.units, 2 ** min(index // 2, 30))) if self.small_first else self.units

    @property
    def phases(self) -> int:
        """Windows that start within one unit."""
        return WINDOW_SAMPLES // self.step_samples

    @property
    def overlap_samples(self) -> int:
        """How far the last window of a unit reaches into the next."""
        return WINDOW_SAMPLES - self.step_samples

    @property
    def lookahead_samples(self) -> int:
        """What must be decoded beyond a block's units for its windows and their frames."""
        return self.overlap_samples + FBANK_TAIL_SAMPLES

    @property
    def buffer_samples(self) -> int:
        """Size of a block's buffer."""
        return self.units * WINDOW_SAMPLES + self.lookahead_samples

    def windows_of(self, samples: int) -> int:
        """How many windows cover a recording of ``samples`` samples, the last one padded.

        What is left over and shorter than one frame sees gets no window of its own.
        """
        beyond = max(0, samples - WINDOW_SAMPLES - RECEPTIVE_FIELD_SAMPLES)
        return 1 + -(-beyond // self.step_samples)


@dataclass(frozen=True)
class Piece:
    """A stretch of one recording within a block.

    ``first_window``: number of its first window in the recording; ``windows``: how many start
    here. ``unit``: where in the block it begins. ``samples``: samples of the recording that lie
    in the buffer from there on. ``last``: the recording ends here.
    """

    recording: int
    first_window: int
    windows: int
    unit: int
    samples: int
    last: bool


@dataclass
class Block:
    """A buffer of decoded audio and what it holds; zeros where no recording is."""

    index: int
    buffer: Samples
    pieces: list[Piece] = field(default_factory=list)
    copied_bytes: int = 0

    def phase(self, plan: WindowPlan, phase: int, first_unit: int, units: int) -> Samples:
        """(units, 1, 160000) view of consecutive windows; no copy."""
        start = phase * plan.step_samples + first_unit * WINDOW_SAMPLES
        return self.buffer[start : start + units * WINDOW_SAMPLES].reshape(units, 1, WINDOW_SAMPLES)

    def window(self, plan: WindowPlan, phase: int, unit: int) -> Samples:
        """View of one window and what its last filter-bank frame reaches beyond; no copy."""
        start = phase * plan.step_samples + unit * WINDOW_SAMPLES
        return self.buffer[start : start + WINDOW_SAMPLES + FBANK_TAIL_SAMPLES]


def window_valid_frames(plan: WindowPlan, piece: Piece, window: int) -> int:
    """Filter-bank frames of ``window`` (counted within the piece) that hold only audio."""
    samples = piece.samples - window * plan.step_samples
    frames = (samples - FBANK_FRAME_SAMPLES) // FBANK_HOP_SAMPLES + 1
    return max(0, min(FBANK_WINDOW_FRAMES, frames))


@dataclass(frozen=True)
class Opened:
    """A recording was opened."""

    recording: int
    info: AudioInfo


@dataclass(frozen=True)
class Ended:
    """A recording was read to its end: ``samples`` at 16 kHz in ``windows`` windows."""

    recording: int
    samples: int
    windows: int


@dataclass(frozen=True)
class Failed:
    """A recording could not be read (any further)."""

    recording: int
    error: AudioError


Event = Opened | Ended | Failed | Block


class BlockReader:
    """Decodes recordings one after the other and deals them out in blocks.

    ``take_buffer`` gives a buffer of ``plan.buffer_samples`` (waiting for one, where there is a
    limit); ``stage`` times the decoding of some samples of a recording.
    """

    def __init__(
        self,
        recordings: Sequence[tuple[Path, str | None]],
        plan: WindowPlan,
        take_buffer: Callable[[], Samples],
        stage: Callable[[int, int], AbstractContextManager[None]],
    ) -> None:
        self._recordings = recordings
        self._plan = plan
        self._take_buffer = take_buffer
        self._stage = stage
        self._block: Block | None = None
        self._used_units = 0
        self._block_units = 0
        self._blocks = 0
        self._blocks_of_recording = 0

    def __iter__(self) -> Iterator[Event]:
        """Events in order; a block is given out when it is full or nothing is left."""
        for recording, (path, uri) in enumerate(self._recordings):
            try:
                with open_audio(path, uri) as stream:
                    yield Opened(recording, stream.info)
                    self._blocks_of_recording = 0
                    yield from self._read(recording, stream.read_into)
            except AudioError as error:
                yield Failed(recording, error)
            if not self._plan.share_blocks:
                yield from self._flush()
        yield from self._flush()

    def _read(self, recording: int, read_into: Callable[[Samples], int]) -> Iterator[Event]:
        plan = self._plan
        carry = np.zeros(0, np.float32)
        first_window = 0
        while True:
            block = self._open_block()
            begin = self._used_units * WINDOW_SAMPLES
            room = (self._block_units - self._used_units) * WINDOW_SAMPLES + plan.lookahead_samples
            target = block.buffer[begin : begin + room]
            target[: carry.size] = carry
            block.copied_bytes += carry.nbytes
            with self._stage(recording, room - carry.size):
                read = read_into(target[carry.size :])
            filled = carry.size + read
            start = first_window * plan.step_samples
            if filled < room:
                total = plan.windows_of(start + filled)
                windows = total - first_window
                # The window before may already reach the end: then nothing is left to do here.
                if windows > 0:
                    target[filled:] = 0
                    reach = (windows - 1) * plan.step_samples + WINDOW_SAMPLES
                    block.pieces.append(
                        Piece(recording, first_window, windows, self._used_units, filled, True)
                    )
                    self._used_units += -(-reach // WINDOW_SAMPLES)
                yield from self._flush_if_full()
                yield Ended(recording, start + filled, total)
                return
            units = self._block_units - self._used_units
            windows = units * plan.phases
            block.pieces.append(
                Piece(recording, first_window, windows, self._used_units, filled, False)
            )
            first_window += windows
            carry = target[units * WINDOW_SAMPLES :].copy()
            block.copied_bytes += carry.nbytes
            yield from self._flush()

    def _open_block(self) -> Block:
        if self._block is None:
            self._block = Block(self._blocks, self._take_buffer())
            self._blocks += 1
            self._used_units = 0
            if self._plan.share_blocks:
                self._block_units = self._plan.units
            else:
                self._block_units = self._plan.units_of_block(self._blocks_of_recording)
            self._blocks_of_recording += 1
        return self._block

    def _flush_if_full(self) -> Iterator[Event]:
        if self._used_units >= self._block_units:
            yield from self._flush()

    def _flush(self) -> Iterator[Event]:
        if self._block is not None and self._block.pieces:
            block, self._block = self._block, None
            yield block


def new_buffer(plan: WindowPlan) -> Samples:
    """A 64-byte-aligned buffer of zeros for one block."""
    buffer = cast(Samples, aligned_empty((plan.buffer_samples,), np.float32))
    buffer[:] = 0
    return buffer
