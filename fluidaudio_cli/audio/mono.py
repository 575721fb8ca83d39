"""One track as mono float32 at 16 kHz: blocks of any rate in, samples out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fluidaudio_cli.audio.pcm import Samples
from fluidaudio_cli.audio.resample import Resampler

if TYPE_CHECKING:
    from fluidaudio_cli.audio.decode import TrackDecoder
    from fluidaudio_cli.audio.demux import Demuxer

SAMPLE_RATE = 16_000
"""Samples per second of everything that leaves this package."""

_PIECE_SAMPLES = 1 << 16
"""Mixed and resampled at a time: hours of silence are one block."""


class MonoTrack:
    """Reads the blocks of one track, as ``decoder`` has them. The first is decoded at once."""

    def __init__(self, demuxer: Demuxer, decoder: TrackDecoder) -> None:
        self._demuxer = demuxer
        self.decoder = decoder
        self._pieces = self._mono()
        self._ready = next(self._pieces, np.zeros(0, np.float32))

    def read_into(self, buffer: Samples) -> int:
        """Fill ``buffer``; fewer samples only at the end of the track."""
        filled = 0
        while True:
            count = min(self._ready.size, buffer.size - filled)
            buffer[filled : filled + count] = self._ready[:count]
            self._ready = self._ready[count:]
            filled += count
            piece = next(self._pieces, None) if filled < buffer.size else None
            if piece is None:
                return filled
            self._ready = piece

    def _mono(self) -> Iterator[Samples]:
        """What follows, in pieces of any length."""
        rate, resampler = SAMPLE_RATE, Resampler(SAMPLE_RATE, SAMPLE_RATE)
        while (block := self._demuxer.next_block(self.decoder)) is not None:
            if block.sample_rate != rate:
                yield resampler.flush()
                rate = block.sample_rate
                resampler = Resampler(rate, SAMPLE_RATE)
            for start in range(0, block.samples, _PIECE_SAMPLES):
                mono = np.empty(min(_PIECE_SAMPLES, block.samples - start), np.float32)
                block.write_mono(start, mono)
                yield resampler.push(mono)
        yield resampler.flush()
