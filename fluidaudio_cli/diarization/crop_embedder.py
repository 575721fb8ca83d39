"""Crops to voices: filter bank and embedding, in batches filled across blocks.

The networks run at one batch size, at which a crop's voice depends on no other crop. So crops
wait here until a batch is full, from whichever block or recording they come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.frames import (
    CROP_FRAMES,
    CROP_SAMPLES,
    FBANK_HOP_SAMPLES,
    FBANK_TAIL_SAMPLES,
)
from fluidaudio_cli.diarization.local_speakers import SEAM_FRAMES, Crop
from fluidaudio_cli.executors.base import InferRequest
from fluidaudio_cli.executors.buffers import aligned_empty

MEL_BINS = 80
EMBEDDING_SIZE = 192

Vectors = NDArray[np.float32]


class Embeddings:
    """Embeddings (crops, 192) of unit length that are still being filled in.

    ``missing``: crops whose embedding is not there yet. ``copied_bytes``: copied for them.
    """

    def __init__(self, crops: int) -> None:
        self.vectors = np.empty((crops, EMBEDDING_SIZE), np.float32)
        self.missing = crops
        self.copied_bytes = 0


@dataclass(frozen=True)
class _Waiting:
    embeddings: Embeddings
    row: int
    crop: Crop


class CropEmbedder:
    """Embeds crops ``batch`` at a time; used by one thread."""

    def __init__(
        self, fbank: InferRequest, embedding: InferRequest, batch: int, zero_copy: bool
    ) -> None:
        self._fbank = fbank
        self._embedding = embedding
        self._zero_copy = zero_copy
        self._waiting: list[_Waiting] = []
        self._audio = cast(Vectors, aligned_empty((batch, 1, CROP_SAMPLES), np.float32))
        # The filter bank writes here, and the embedding reads here.
        self._frames = cast(Vectors, aligned_empty((batch, CROP_FRAMES, MEL_BINS), np.float32))

    def add(
        self, window: Vectors, crop: Crop, embeddings: Embeddings, row: int, clock: StageClock
    ) -> None:
        """Take a crop of ``window`` (a copy of its audio); its voice becomes row ``row``."""
        place = self._audio[len(self._waiting), 0]
        embeddings.copied_bytes += _lay_end_to_end(window, crop, place)
        self._waiting.append(_Waiting(embeddings, row, crop))
        if len(self._waiting) == len(self._audio):
            self.flush(clock)

    def flush(self, clock: StageClock) -> None:
        """Embed what waits, even where that is less than a batch."""
        count = len(self._waiting)
        if not count:
            return
        audio, frames = self._audio[:count], self._frames[:count]
        with clock.stage("fbank", count):
            if self._zero_copy:
                self._fbank.run({"audio": audio}, {"frames": frames})
            else:
                np.copyto(frames, self._fbank.run({"audio": audio})["frames"])
                self._waiting[0].embeddings.copied_bytes += frames.nbytes
        with clock.stage("crops", count):
            for row, item in enumerate(self._waiting):
                item.embeddings.copied_bytes += _fill_by_repetition(frames[row], item.crop)
        with clock.stage("embedding", count):
            vectors = unit_length(
                np.asarray(self._embedding.run({"frames": frames})["embedding"], np.float32)
            )
        for vector, item in zip(vectors, self._waiting, strict=True):
            item.embeddings.vectors[item.row] = vector
            item.embeddings.missing -= 1
        self._waiting.clear()

    def discard(self) -> None:
        """Forget what waits, after a run that was broken off."""
        self._waiting.clear()


def unit_length(vectors: Vectors) -> Vectors:
    """Rows scaled to length one; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def mean_direction(vectors: Vectors) -> Vectors:
    """Unit-length mean of unit vectors; zeros of none."""
    if not len(vectors):
        return np.zeros(EMBEDDING_SIZE, np.float32)
    if len(vectors) == 1:
        return np.array(vectors[0])
    return np.asarray(unit_length(vectors.mean(axis=0, keepdims=True))[0])


def _lay_end_to_end(window: Vectors, crop: Crop, out: Vectors) -> int:
    """Write the audio of a crop's runs to ``out`` (32240,), zeros after it; bytes copied.

    Run k begins where the frames of the run before, and the seam, end.
    """
    position = 0
    for first, last in crop:
        samples = (last - first) * FBANK_HOP_SAMPLES + FBANK_TAIL_SAMPLES
        start = first * FBANK_HOP_SAMPLES
        out[position : position + samples] = window[start : start + samples]
        end = position + samples
        position += (last - first + SEAM_FRAMES) * FBANK_HOP_SAMPLES
        # The seam's frames are dropped, but stale samples could make them infinite.
        out[end:position] = 0
    out[end:] = 0
    return int(out.nbytes)


def _fill_by_repetition(frames: Vectors, crop: Crop) -> int:
    """Leave out the seams of ``frames`` (200, 80) and repeat the rest to the end; bytes copied.

    Repetition leaves the mean and the statistics of a short crop as they are.
    """
    rows: list[int] = []
    position = 0
    for first, last in crop:
        rows.extend(range(position, position + last - first))
        position += last - first + SEAM_FRAMES
    if len(rows) == CROP_FRAMES:
        return 0
    frames[:] = frames[np.resize(rows, CROP_FRAMES)]
    return int(frames.nbytes)
