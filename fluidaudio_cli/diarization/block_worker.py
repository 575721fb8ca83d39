"""From one block of audio to its local speakers: segmentation, filter bank, embedding.

A worker owns its requests and buffers and is used by one thread. What it computes does not
depend on which worker computes it, nor on how many there are.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.blocks import Block, Piece, WindowPlan, window_valid_frames
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.frames import (
    CROP_FRAMES,
    CROP_SAMPLES,
    FBANK_HOP_SAMPLES,
    FBANK_TAIL_SAMPLES,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
)
from fluidaudio_cli.diarization.local_speakers import (
    SEAM_FRAMES,
    Crop,
    CropRules,
    LocalSpeaker,
    find_local_speakers,
)
from fluidaudio_cli.diarization.powerset import LOCAL_SPEAKERS, LocalActivity, decode
from fluidaudio_cli.executors.base import InferRequest
from fluidaudio_cli.executors.buffers import aligned_empty

MEL_BINS = 80
EMBEDDING_SIZE = 192

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Requests:
    """One request for each network."""

    segmentation: InferRequest
    fbank: InferRequest
    embedding: InferRequest


@dataclass(frozen=True)
class EmbeddedSpeaker:
    """A local speaker and its voice: unit-length (192,) float32, zeros when not embedded."""

    slot: int
    clean_seconds: float
    vector: Vectors


@dataclass(frozen=True)
class WindowResult:
    """One window: its number in the recording, who is in it, and when.

    ``presence``: compressed (589, 3) uint8, empty when nobody speaks. Kept small because all
    windows of a recording wait for clustering.
    """

    number: int
    speakers: tuple[EmbeddedSpeaker, ...]
    packed_presence: bytes

    def presence(self) -> NDArray[np.uint8]:
        """(589, 3) probability of each local speaker, full scale 255."""
        if not self.packed_presence:
            return np.zeros((WINDOW_FRAMES, LOCAL_SPEAKERS), np.uint8)
        raw = np.frombuffer(zlib.decompress(self.packed_presence), np.uint8)
        return raw.reshape(WINDOW_FRAMES, LOCAL_SPEAKERS)


@dataclass(frozen=True)
class PieceResult:
    """The windows of one recording that start in one block."""

    recording: int
    windows: tuple[WindowResult, ...]


@dataclass(frozen=True)
class BlockResult:
    """What a block held, and what was copied on the way (bytes)."""

    index: int
    pieces: tuple[PieceResult, ...]
    crops: int
    copied_bytes: int


@dataclass(frozen=True)
class _Job:
    """A window of a piece, with the block's phase and unit where it lies."""

    piece: Piece
    window: int
    phase: int
    unit: int


@dataclass(frozen=True)
class _Found:
    """What segmentation found in one window."""

    job: _Job
    presence: NDArray[np.uint8]
    speakers: list[LocalSpeaker]


_NOBODY = np.zeros((WINDOW_FRAMES, LOCAL_SPEAKERS), np.uint8)


class BlockWorker:
    """Runs the networks over blocks, one block at a time."""

    def __init__(
        self,
        requests: Requests,
        plan: WindowPlan,
        crops: CropRules,
        embedding_batch: int,
        silence_dbfs: float,
    ) -> None:
        self._requests = requests
        self._plan = plan
        self._rules = crops
        self._batch = embedding_batch
        self._silent_peak = 10.0 ** (silence_dbfs / 20.0)
        self._audio = cast(Vectors, aligned_empty((embedding_batch, 1, CROP_SAMPLES), np.float32))
        # The filter bank writes here, and the embedding reads here.
        self._frames = cast(
            Vectors, aligned_empty((embedding_batch, CROP_FRAMES, MEL_BINS), np.float32)
        )

    def process(self, block: Block, clock: StageClock) -> BlockResult:
        """All windows that start in ``block``."""
        found = self._segment(block, clock)
        vectors, copied = self._embed(block, found, clock)
        with clock.stage("collect", len(found)):
            pieces = self._collect(block, found, vectors)
        return BlockResult(block.index, pieces, len(vectors), block.copied_bytes + copied)

    def _segment(self, block: Block, clock: StageClock) -> list[_Found]:
        """Run segmentation phase by phase over the block's own memory."""
        plan = self._plan
        found: list[_Found] = []
        for phase in range(plan.phases):
            jobs = [job for piece in block.pieces for job in _jobs(piece, phase, plan)]
            silent = [job for job in jobs if self._is_silent(block, job)]
            found.extend(_Found(job, _NOBODY, []) for job in silent)
            jobs = [job for job in jobs if job not in silent]
            if not jobs:
                continue
            # A silent window between others is cheaper to segment than to cut out.
            first, last = jobs[0].unit, jobs[-1].unit + 1
            with clock.stage("segmentation", last - first):
                audio = block.phase(plan, phase, first, last - first)
                scores = self._requests.segmentation.run({"audio": audio})["log_probabilities"]
            with clock.stage("local speakers", len(jobs)):
                activity = decode(np.asarray(scores, np.float32))
                found.extend(self._local_speakers(activity, job, job.unit - first) for job in jobs)
        found.sort(key=lambda item: (item.job.piece.unit, item.job.window))
        return found

    def _is_silent(self, block: Block, job: _Job) -> bool:
        window = block.window(self._plan, job.phase, job.unit)[:WINDOW_SAMPLES]
        return bool(max(window.max(), -window.min()) < self._silent_peak)

    def _local_speakers(self, activity: LocalActivity, job: _Job, row: int) -> _Found:
        valid = window_valid_frames(self._plan, job.piece, job.window)
        speakers = find_local_speakers(activity, row, valid, self._rules)
        # A copy, so that the batch it is part of is freed.
        return _Found(job, activity.presence[row].copy(), speakers)

    def _embed(
        self, block: Block, found: Sequence[_Found], clock: StageClock
    ) -> tuple[Vectors, int]:
        """Unit-length embeddings (crops, 192) in the order of ``found``, and bytes copied."""
        crops = [
            (item.job, crop)
            for item in found
            for speaker in item.speakers
            for crop in speaker.crops
        ]
        vectors = np.empty((len(crops), EMBEDDING_SIZE), np.float32)
        copied = 0
        for first, last in even_batches(len(crops), self._batch):
            count = last - first
            audio, frames = self._audio[:count], self._frames[:count]
            with clock.stage("crops", count):
                for row, (job, crop) in enumerate(crops[first:last]):
                    window = block.window(self._plan, job.phase, job.unit)
                    copied += _lay_end_to_end(window, crop, audio[row, 0])
            with clock.stage("fbank", count):
                self._requests.fbank.run({"audio": audio}, {"frames": frames})
            with clock.stage("crops", 0):
                for row, (_, crop) in enumerate(crops[first:last]):
                    copied += _fill_by_repetition(frames[row], crop)
            with clock.stage("embedding", count):
                vectors[first:last] = self._requests.embedding.run({"frames": frames})["embedding"]
        return _unit_length(vectors), copied

    def _collect(
        self, block: Block, found: Sequence[_Found], vectors: Vectors
    ) -> tuple[PieceResult, ...]:
        by_piece: dict[int, list[WindowResult]] = {piece.unit: [] for piece in block.pieces}
        used = 0
        for item in found:
            speakers = []
            for speaker in item.speakers:
                count = len(speaker.crops)
                voice = _mean_direction(vectors[used : used + count])
                speakers.append(EmbeddedSpeaker(speaker.slot, speaker.clean_seconds, voice))
                used += count
            packed = zlib.compress(item.presence.tobytes(), 1) if speakers else b""
            number = item.job.piece.first_window + item.job.window
            by_piece[item.job.piece.unit].append(WindowResult(number, tuple(speakers), packed))
        return tuple(
            PieceResult(piece.recording, tuple(by_piece[piece.unit])) for piece in block.pieces
        )


def even_batches(count: int, limit: int) -> list[tuple[int, int]]:
    """Split ``count`` items into the fewest batches of at most ``limit``, as even as can be."""
    batches = -(-count // limit)
    edges = [count * number // batches for number in range(batches + 1)] if batches else []
    return list(itertools.pairwise(edges))


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


def _jobs(piece: Piece, phase: int, plan: WindowPlan) -> list[_Job]:
    """The windows of a piece that belong to one phase, in order."""
    return [
        _Job(piece, window, phase, piece.unit + window // plan.phases)
        for window in range(phase, piece.windows, plan.phases)
    ]


def _unit_length(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def _mean_direction(vectors: Vectors) -> Vectors:
    """Unit-length mean of unit vectors; zeros of none."""
    if not len(vectors):
        return np.zeros(EMBEDDING_SIZE, np.float32)
    if len(vectors) == 1:
        return np.array(vectors[0])
    return np.asarray(_unit_length(vectors.mean(axis=0, keepdims=True))[0])
