"""From one block of audio to its local speakers: segmentation, filter bank, embedding.

A worker owns its requests and buffers and is used by one thread. What it computes does not
depend on which worker computes it, nor on how many there are.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.blocks import Block, Piece, WindowPlan, window_valid_frames
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.crop_embedder import (
    CropEmbedder,
    Embeddings,
    Vectors,
    mean_direction,
)
from fluidaudio_cli.diarization.frames import WINDOW_FRAMES, WINDOW_SAMPLES
from fluidaudio_cli.diarization.local_speakers import (
    Crop,
    CropRules,
    LocalSpeaker,
    find_local_speakers,
)
from fluidaudio_cli.diarization.powerset import LOCAL_SPEAKERS, LocalActivity, decode
from fluidaudio_cli.executors.base import InferRequest


@dataclass(frozen=True)
class Requests:
    """One request for each network."""

    segmentation: InferRequest
    fbank: InferRequest
    embedding: InferRequest


@dataclass(frozen=True, slots=True)
class EmbeddedSpeaker:
    """A local speaker and its voice: unit-length (192,) float32, zeros when not embedded.

    ``crops``: what was heard of it.
    """

    slot: int
    clean_seconds: float
    vector: Vectors
    crops: tuple[Crop, ...] = ()


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True)
class _OpenBlock:
    """A block whose voices are not all there yet; its audio is no longer needed."""

    block: Block
    found: list[_Found]
    embeddings: Embeddings


_NOBODY = np.zeros((WINDOW_FRAMES, LOCAL_SPEAKERS), np.uint8)


class BlockWorker:
    """Runs the networks over blocks, one block after the other.

    A block's result comes once its last crop is embedded, which may be while a later block is
    worked on.
    """

    def __init__(
        self,
        requests: Requests,
        plan: WindowPlan,
        crops: CropRules,
        embedding_batch: int,
        silence_dbfs: float,
        zero_copy: bool = True,
    ) -> None:
        self._segmentation = requests.segmentation
        self._embedder = CropEmbedder(
            requests.fbank, requests.embedding, embedding_batch, zero_copy
        )
        self._zero_copy = zero_copy
        self._plan = plan
        self._rules = crops
        self._silent_peak = 10.0 ** (silence_dbfs / 20.0)
        self._open: deque[_OpenBlock] = deque()

    def process(self, block: Block, clock: StageClock) -> list[BlockResult]:
        """Work on all windows that start in ``block``; the results that are ready now."""
        found = self._segment(block, clock)
        crops = [
            (item.job, crop)
            for item in found
            for speaker in item.speakers
            for crop in speaker.crops
        ]
        embeddings = Embeddings(len(crops))
        self._open.append(_OpenBlock(block, found, embeddings))
        for row, (job, crop) in enumerate(crops):
            window = block.window(self._plan, job.phase, job.unit)
            self._embedder.add(window, crop, embeddings, row, clock)
        return list(self._ready(clock))

    def flush(self, clock: StageClock) -> list[BlockResult]:
        """The results of all blocks so far: no more blocks will come."""
        self._embedder.flush(clock)
        return list(self._ready(clock))

    def discard(self) -> None:
        """Forget blocks whose results were not asked for, after a run that was broken off."""
        self._embedder.discard()
        self._open.clear()

    def _ready(self, clock: StageClock) -> Iterator[BlockResult]:
        while self._open and not self._open[0].embeddings.missing:
            done = self._open.popleft()
            with clock.stage("collect", len(done.found)):
                pieces = _collect(done)
            copied = done.block.copied_bytes + done.embeddings.copied_bytes
            yield BlockResult(done.block.index, pieces, len(done.embeddings.vectors), copied)

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
                if not self._zero_copy:
                    audio = audio.copy()
                    block.copied_bytes += audio.nbytes
                scores = self._segmentation.run({"audio": audio})["log_probabilities"]
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


def _collect(done: _OpenBlock) -> tuple[PieceResult, ...]:
    by_piece: dict[int, list[WindowResult]] = {piece.unit: [] for piece in done.block.pieces}
    used = 0
    for item in done.found:
        speakers = []
        for speaker in item.speakers:
            count = len(speaker.crops)
            voice = mean_direction(done.embeddings.vectors[used : used + count])
            speakers.append(
                EmbeddedSpeaker(speaker.slot, speaker.clean_seconds, voice, speaker.crops)
            )
            used += count
        packed = zlib.compress(item.presence.tobytes(), 4) if speakers else b""
        number = item.job.piece.first_window + item.job.window
        by_piece[item.job.piece.unit].append(WindowResult(number, tuple(speakers), packed))
    return tuple(
        PieceResult(piece.recording, tuple(by_piece[piece.unit])) for piece in done.block.pieces
    )


def _jobs(piece: Piece, phase: int, plan: WindowPlan) -> list[_Job]:
    """The windows of a piece that belong to one phase, in order."""
    return [
        _Job(piece, window, phase, piece.unit + window // plan.phases)
        for window in range(phase, piece.windows, plan.phases)
    ]
