"""Join the small frames of a codec into blocks worth a Python call.

An Opus frame is 20 ms, an MP3 frame 36 ms: converting, checking and resampling each by itself
costs more than decoding it.
"""

from __future__ import annotations

from typing import Any

import av

BLOCK_SAMPLES = 16_384
"""Samples per channel of a block: conversion and resampling gain little beyond, and it still
fits the second-level cache."""


class FrameBatcher:
    """Queue of decoded samples of one kind (format, rate, channel count) at a time."""

    def __init__(self) -> None:
        self._queue = av.AudioFifo()
        self._kind: tuple[str, int, int] | None = None

    def push(self, frame: Any) -> list[Any]:
        """Take one frame; return the blocks it completes, in order."""
        samples: int = frame.samples
        # The queue itself does not notice a change of the channel count.
        kind = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
        blocks = self.drain() if kind != self._kind else []
        self._kind = kind
        if samples * 2 > BLOCK_SAMPLES:
            return [*blocks, *self.drain(), frame]
        frame.pts = None  # the queue refuses gaps in time stamps; samples just follow each other
        self._queue.write(frame)
        if self._queue.samples >= BLOCK_SAMPLES:
            blocks += self.drain()
        return blocks

    def drain(self) -> list[Any]:
        """What is queued, as one block; nothing if the queue is empty."""
        if not self._queue.samples:
            return []
        block, self._queue = self._queue.read(), av.AudioFifo()
        return [block]
