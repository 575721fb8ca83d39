"""A recording as overlapping windows: what the frontend takes in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.frames import (
    FBANK_FRAME_SAMPLES,
    FBANK_HOP_SAMPLES,
    FBANK_TAIL_SAMPLES,
    FBANK_WINDOW_FRAMES,
    RECEPTIVE_FIELD_SAMPLES,
    WINDOW_SAMPLES,
)
from fluidaudio_cli.diarization.level import Level
from fluidaudio_cli.executors.buffers import aligned_empty

Samples = NDArray[np.float32]

_HEARD_SAMPLES = WINDOW_SAMPLES + FBANK_TAIL_SAMPLES

# Windows' worth of audio in the buffer that windows are views of: where it ends, the part that
# the next window shares is copied to its beginning, once in so many windows.
_BUFFER_WINDOWS = 4


class Source(Protocol):
    """Where samples come from, as :class:`~fluidaudio_cli.audio.source.AudioStream`."""

    def read_into(self, buffer: Samples) -> int:
        """Fill ``buffer``; fewer samples only at the end."""


class Window(NamedTuple):
    """10 s of a recording.

    ``number``: window k starts at k steps. ``samples`` (160000,) float32 at 16 kHz, contiguous;
    ``tail`` (240,): what its last filter-bank frame sees beyond it. Both are zeros past the end
    of the recording, and valid until the next window is asked for. ``valid_samples``: how many
    of both are the recording's. ``copied_bytes``: copied to get here. ``clock``: what the work on
    this window is counted by. ``gain``: what samples and tail are to be multiplied with.
    """

    number: int
    samples: Samples
    tail: Samples
    valid_samples: int
    copied_bytes: int
    clock: StageClock
    gain: float = 1.0

    @property
    def valid_frames(self) -> int:
        """Filter-bank frames that see only audio of the recording."""
        frames = (self.valid_samples - FBANK_FRAME_SAMPLES) // FBANK_HOP_SAMPLES + 1
        return max(0, min(FBANK_WINDOW_FRAMES, frames))


def window_count(samples: int, step_samples: int) -> int:
    """How many windows cover a recording of ``samples`` samples, the last one padded.

    What is left over and shorter than one segmentation frame sees gets no window of its own.
    """
    beyond = max(0, samples - WINDOW_SAMPLES - RECEPTIVE_FIELD_SAMPLES)
    return 1 + -(-beyond // step_samples)


def read_windows(
    source: Source, step_samples: int, clock: StageClock, level: Level | None = None
) -> Iterator[Window]:
    """The windows of ``source`` in order, ``step_samples`` apart; the last is padded with zeros.

    ``level`` hears all of it. Memory is that of a few windows. Raises what the source raises.
    """
    buffer = cast(Samples, aligned_empty((_BUFFER_WINDOWS * WINDOW_SAMPLES,), np.float32))
    begin = filled = 0  # in the buffer: the window at hand, and where what was read ends
    total = copied = number = 0
    ended = False
    level = level or Level()
    while True:
        if begin + _HEARD_SAMPLES > buffer.size:
            kept = max(0, filled - begin)
            buffer[:kept] = buffer[begin : begin + kept].copy()
            copied += 4 * kept
            begin, filled = 0, kept
        end = begin + _HEARD_SAMPLES
        if not ended:
            with clock.stage("decode", end - filled):
                read = source.read_into(buffer[filled:end])
            level.heard(buffer[filled : filled + read])
            filled += read
            total += read
            ended = filled < end
        if ended and number >= window_count(total, step_samples):
            return
        valid = max(0, min(filled - begin, _HEARD_SAMPLES))
        buffer[begin + valid : end] = 0
        middle = begin + WINDOW_SAMPLES
        samples, tail = buffer[begin:middle], buffer[middle:end]
        yield Window(number, samples, tail, valid, copied, clock, level.gain)
        copied = 0
        begin += step_samples
        number += 1
