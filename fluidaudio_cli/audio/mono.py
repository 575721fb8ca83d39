"""One track as mono float32 at 16 kHz: blocks of any rate in, samples out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fluidaudio_cli.audio.pcm import Samples
from fluidaudio_cli.audio.resample import Resampler

if TYPE_CHECKING:
    from fluidaudio_cli.audio.decode import Block, TrackDecoder
    from fluidaudio_cli.audio.demux import Demuxer

SAMPLE_RATE = 16_000
"""Samples per second of everything that leaves this package."""

_PIECE_SAMPLES = 1 << 16
"""Resampled at a time: hours of silence are one block."""

_NONE = np.zeros(0, np.float32)


class MonoTrack:
    """Reads the blocks of one track, as ``decoder`` has them. The first is decoded at once."""

    def __init__(self, demuxer: Demuxer, decoder: TrackDecoder) -> None:
        self._demuxer = demuxer
        self.decoder = decoder
        self._resampler: Resampler | None = None
        self._rate = SAMPLE_RATE
        self._scratch = _NONE
        self._ready = _NONE
        self._block: Block | None = None
        self._position = 0
        self._flushed = False
        self._next_block()

    def read_into(self, buffer: Samples) -> int:
        """Fill ``buffer``; fewer samples only at the end of the track."""
        filled = 0
        while filled < buffer.size:
            written = self._write_some(buffer[filled:])
            if not written:
                break
            filled += written
        return filled

    def _write_some(self, out: Samples) -> int:
        """Write at least one sample to ``out`` unless the track has ended; say how many."""
        while True:
            if self._ready.size:
                count = min(self._ready.size, out.size)
                out[:count] = self._ready[:count]
                self._ready = self._ready[count:]
                return count
            block = self._next_block()
            if block is None:
                if self._flushed:
                    return 0
                self._flushed = True
                self._switch_rate(SAMPLE_RATE)
            elif block.sample_rate != self._rate:
                self._switch_rate(block.sample_rate)
            elif self._resampler is None:
                count = min(block.samples - self._position, out.size)
                block.write_mono(self._position, out[:count])
                self._position += count
                return count
            else:
                self._ready = self._resampler.push(self._piece(block))

    def _next_block(self) -> Block | None:
        """The block being read, or the next one when it is used up."""
        if self._block is None or self._position >= self._block.samples:
            self._block = self._demuxer.next_block(self.decoder)
            self._position = 0
        return self._block

    def _switch_rate(self, rate: int) -> None:
        """Empty the resampler into ``_ready`` and read on at ``rate``."""
        if self._resampler is not None:
            self._ready = self._resampler.flush()
        self._rate = rate
        self._resampler = None if rate == SAMPLE_RATE else Resampler(rate, SAMPLE_RATE)

    def _piece(self, block: Block) -> Samples:
        count = min(block.samples - self._position, _PIECE_SAMPLES)
        if self._scratch.size < count:
            self._scratch = np.empty(count, np.float32)
        mono = self._scratch[:count]
        block.write_mono(self._position, mono)
        self._position += count
        return mono
