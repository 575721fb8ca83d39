"""Masked windows to voices: for embedding networks that hear a window and pool what a mask says."""

from __future__ import annotations

from typing import cast

import numpy as np

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.crop_embedder import PendingVoice
from fluidaudio_cli.diarization.evidence import Vectors, unit_length
from fluidaudio_cli.diarization.frames import WINDOW_FRAMES, WINDOW_SAMPLES
from fluidaudio_cli.diarization.networks import MaskedVoiceNetwork
from fluidaudio_cli.diarization.windows import Window
from fluidaudio_cli.executors.buffers import aligned_empty


class MaskEmbedder:
    """Embeds voices ``batch`` at a time, each from its whole window; used by one thread."""

    def __init__(self, network: MaskedVoiceNetwork, batch: int) -> None:
        self._network = network
        self.size = network.size
        self._waiting: list[PendingVoice] = []
        self._audio = cast(Vectors, aligned_empty((batch, WINDOW_SAMPLES), np.float32))
        self._masks = cast(Vectors, aligned_empty((batch, WINDOW_FRAMES), np.float32))

    def add(self, window: Window, voice: PendingVoice, clock: StageClock) -> None:
        """Take ``voice`` with a copy of its window, as others may come before the batch is full."""
        if not voice.speaker.crops:
            return
        row = len(self._waiting)
        self._audio[row] = window.samples
        self._masks[row] = voice.speaker.mask
        voice.missing = 1
        voice.copied_bytes += self._audio[row].nbytes + self._masks[row].nbytes
        self._waiting.append(voice)
        if len(self._waiting) == len(self._audio):
            self.flush(clock)

    def flush(self, clock: StageClock) -> None:
        """Embed what waits, even where that is less than a batch."""
        count = len(self._waiting)
        if not count:
            return
        with clock.stage("embedding", count):
            vectors = unit_length(self._network.run(self._audio[:count], self._masks[:count]))
        for vector, voice in zip(vectors, self._waiting, strict=True):
            voice.add(vector)
        self._waiting.clear()

    def discard(self) -> None:
        """Forget what waits, after a run that was broken off."""
        self._waiting.clear()
