"""Crops to voices: filter bank and embedding, in batches filled across windows.

The networks run at one batch size, at which a crop's voice depends on no other crop. So crops
wait here until a batch is full, from whichever window or recording they come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.evidence import Vectors, unit_length
from fluidaudio_cli.diarization.frames import (
    FBANK_HOP_SAMPLES,
    FBANK_TAIL_SAMPLES,
)
from fluidaudio_cli.diarization.local_speakers import SEAM_FRAMES, Crop, LocalSpeaker
from fluidaudio_cli.diarization.networks import FilterBank, VoiceNetwork
from fluidaudio_cli.diarization.windows import Window
from fluidaudio_cli.executors.buffers import aligned_empty


@dataclass(slots=True, eq=False)
class PendingVoice:
    """A local speaker that is still being embedded.

    ``exact``: by the network that is more exactly so, where there is one. ``missing``: vectors to
    come; ``vectors``: those there are, of unit length; ``frames``: how many each heard.
    """

    speaker: LocalSpeaker
    exact: bool = False
    missing: int = 0
    vectors: list[Vectors] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    copied_bytes: int = 0

    def add(self, vector: Vectors, frames: int = 1) -> None:
        """One of those that are missing; ``frames``: what it weighs beside the voice's others."""
        self.vectors.append(vector)
        self.frames.append(frames)
        self.missing -= 1

    def voice(self, size: int) -> Vectors:
        """(size,) mean direction, of unit length; zeros where nothing was embedded."""
        if not self.vectors:
            return np.zeros(size, np.float32)
        if len(self.vectors) == 1:
            return np.array(self.vectors[0])
        weighted = np.stack(self.vectors) * np.array(self.frames, np.float32)[:, None]
        return np.asarray(unit_length(weighted.mean(axis=0, keepdims=True))[0])


class CropEmbedder:
    """Embeds crops ``batch`` at a time; used by one thread.

    The network may hear fewer frames than the filter bank gives: then those in the middle.
    """

    def __init__(self, bank: FilterBank, network: VoiceNetwork, batch: int) -> None:
        self._bank = bank
        self._network = network
        self.size = network.size
        self._waiting: list[tuple[PendingVoice, Crop]] = []
        self._audio = cast(Vectors, aligned_empty((batch, 1, bank.samples), np.float32))
        # The filter bank writes here, and the embedding reads here.
        shape = (batch, bank.frames, bank.bands)
        self._frames = cast(Vectors, aligned_empty(shape, np.float32))
        self._heard = self._frames
        if network.frames != bank.frames:
            shape = (batch, network.frames, bank.bands)
            self._heard = cast(Vectors, aligned_empty(shape, np.float32))

    def add(self, window: Window, voice: PendingVoice, clock: StageClock) -> None:
        """Take the crops of ``voice`` from its window, copying what they hear."""
        voice.missing = len(voice.speaker.crops)
        for crop in voice.speaker.crops:
            place = self._audio[len(self._waiting), 0]
            voice.copied_bytes += _lay_end_to_end(window, crop, place)
            self._waiting.append((voice, crop))
            if len(self._waiting) == len(self._audio):
                self.flush(clock)

    def flush(self, clock: StageClock) -> None:
        """Embed what waits, even where that is less than a batch."""
        count = len(self._waiting)
        if not count:
            return
        audio, frames, heard = self._audio[:count], self._frames[:count], self._heard[:count]
        with clock.stage("fbank", count):
            self._bank.run(audio, frames)
        with clock.stage("crops", count):
            for row, (voice, crop) in enumerate(self._waiting):
                voice.copied_bytes += _fill_by_repetition(frames[row], crop, heard[row])
        with clock.stage("embedding", count):
            vectors = unit_length(self._network.run(heard))
        for vector, (voice, crop) in zip(vectors, self._waiting, strict=True):
            voice.add(vector, sum(last - first for first, last in crop))
        self._waiting.clear()

    def discard(self) -> None:
        """Forget what waits, after a run that was broken off."""
        self._waiting.clear()


def _lay_end_to_end(window: Window, crop: Crop, out: Vectors) -> int:
    """Write the audio of a crop's runs to ``out`` (32240,), zeros after it; bytes copied.

    Run k begins where the frames of the run before, and the seam, end.
    """
    position = 0
    for first, last in crop:
        start = first * FBANK_HOP_SAMPLES
        stop = last * FBANK_HOP_SAMPLES + FBANK_TAIL_SAMPLES
        inside = window.samples[start:stop]
        beyond = window.tail[: stop - start - inside.size]
        middle = position + inside.size
        end = middle + beyond.size
        out[position:middle] = inside
        out[middle:end] = beyond
        position += (last - first + SEAM_FRAMES) * FBANK_HOP_SAMPLES
        # The seam's frames are dropped, but stale samples could make them infinite.
        out[end:position] = 0
    out[end:] = 0
    return int(out.nbytes)


def _fill_by_repetition(frames: Vectors, crop: Crop, out: Vectors) -> int:
    """Leave out the seams of ``frames`` (200, 80), fill ``out`` with the rest; bytes copied.

    Too many leave out both ends. Too few are repeated, which leaves the mean and the statistics
    of a short crop as they are.
    """
    rows: list[int] = []
    position = 0
    for first, last in crop:
        rows.extend(range(position, position + last - first))
        position += last - first + SEAM_FRAMES
    if len(rows) == len(out) == len(frames):
        return 0
    surplus = max(0, len(rows) - len(out)) // 2
    out[:] = frames[np.resize(rows[surplus : surplus + len(out)], len(out))]
    return int(out.nbytes)
