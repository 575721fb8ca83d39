"""The pipeline that every command drives: audio in, speaker turns out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fluidaudio_cli.diarization.block_worker import (
    BlockResult,
    BlockWorker,
    Requests,
)
from fluidaudio_cli.diarization.blocks import (
    Block,
    BlockReader,
    Ended,
    Failed,
    Opened,
    Piece,
    Samples,
    WindowPlan,
    new_buffer,
)
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.clustering import SpeakerBounds
from fluidaudio_cli.diarization.config import ModeConfig
from fluidaudio_cli.diarization.crop_embedder import CropEmbedder
from fluidaudio_cli.diarization.frames import SAMPLE_RATE, WINDOW_SAMPLES
from fluidaudio_cli.diarization.recording import Recording
from fluidaudio_cli.diarization.result import Diarization, ModelRef, Timings
from fluidaudio_cli.diarization.schedule import Outcome, run_concurrently, run_serially
from fluidaudio_cli.errors import AudioError, UsageError
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.progress import ProgressCallback, no_progress

# Buffers beyond one per worker: one being filled, one ready.
_SPARE_BUFFERS = 2
# How the embedding network of the second look is named among the models of a result.
SECOND_LOOK = "second look"


@dataclass(frozen=True)
class Loading:
    """What loading the models took, before any audio was seen.

    ``cached``: every model came compiled from the cache.
    """

    seconds: float
    cached: bool


class Pipeline:
    """Loaded models and the rules of one mode; use it for any number of recordings.

    Not for several threads at once: a run uses all workers itself.
    """

    def __init__(
        self,
        mode: ModeConfig,
        models: Mapping[str, CompiledModel],
        workers: int,
        loading: Loading,
        exact_embedding: CompiledModel | None = None,
    ) -> None:
        self.mode = mode
        self.workers = workers
        self.load_seconds = loading.seconds
        self.load_cached = loading.cached
        self._compiled = models
        self._exact_embedding = exact_embedding
        self._exact: CropEmbedder | None = None
        windows = mode.windows
        # Where windows run in batches of one size, a small block would be padded to it.
        small_first = models["segmentation"].ran.batch in (None, 1)
        self._plan = WindowPlan.of(
            windows.step_seconds, windows.batch, windows.share_batches, small_first
        )
        self._workers = [self._new_worker() for _ in range(workers)]
        self._buffers = [new_buffer(self._plan)]
        hashes = {name: model.sha256 for name, model in bundled_models().items()}
        self.models = tuple(
            ModelRef(name, hashes[name], asdict(model.asked), asdict(model.ran))
            for name, model in models.items()
        )
        if exact_embedding is not None:
            self._exact = CropEmbedder(
                models["fbank"].request(),
                exact_embedding.request(),
                mode.embedding.batch,
                mode.execution.zero_copy,
            )
            self.models += (
                ModelRef(
                    SECOND_LOOK,
                    hashes["embedding"],
                    asdict(exact_embedding.asked),
                    asdict(exact_embedding.ran),
                ),
            )

    @property
    def compiled(self) -> Mapping[str, CompiledModel]:
        """The loaded models by name."""
        return self._compiled

    def diarize(
        self,
        path: Path,
        *,
        uri: str | None = None,
        speakers: SpeakerBounds = SpeakerBounds(),  # noqa: B008 - immutable
        progress: ProgressCallback = no_progress,
        clock: StageClock | None = None,
    ) -> Diarization:
        """Diarize one recording.

        ``clock``, if given, keeps every call of every stage. Raises ``AudioError`` when the
        recording cannot be read to its end.
        """
        for result in self.diarize_many(
            [(path, uri)], speakers=speakers, progress=progress, clock=clock
        ):
            if isinstance(result, AudioError):
                raise result
            return result
        raise AssertionError("a run has one outcome for each recording")

    def diarize_many(
        self,
        recordings: Sequence[tuple[Path, str | None]],
        *,
        speakers: SpeakerBounds = SpeakerBounds(),  # noqa: B008 - immutable
        progress: ProgressCallback = no_progress,
        clock: StageClock | None = None,
    ) -> Iterator[Diarization | AudioError]:
        """Diarize recordings (path and uri, or None for one made of the path), in order.

        One result or error for each, as soon as it and those before it are done. Of several
        recordings, a processing time covers the wall time in which others were worked on too;
        the stages are a recording's own, but a block that recordings share counts for the one
        that begins it, and a batch of crops for the one that fills it. ``clock``, if given,
        keeps the calls of all.
        """
        clocks = [clock or StageClock() for _ in recordings]
        run_clock = clocks[0] if len(clocks) == 1 else clock or StageClock()
        open_recordings: dict[int, Recording] = {}
        ready: dict[int, Diarization | AudioError] = {}
        following = 0
        done_seconds = 0.0
        for outcome in self._outcomes(recordings, clocks, run_clock):
            if isinstance(outcome, Opened):
                open_recordings[outcome.recording] = Recording(
                    outcome.info, keep_crops=self._exact is not None
                )
            elif isinstance(outcome, Failed):
                open_recordings.pop(outcome.recording, None)
                ready[outcome.recording] = outcome.error
            elif isinstance(outcome, Ended):
                open_recordings[outcome.recording].ended(outcome.samples, outcome.windows)
            elif isinstance(outcome, BlockResult):
                for piece in outcome.pieces:
                    if piece.recording in open_recordings:
                        recording = open_recordings[piece.recording]
                        recording.add(piece.windows, outcome.copied_bytes, outcome.crops)
                        done_seconds += len(piece.windows) * self.mode.windows.step_seconds
                progress(done_seconds, _total_seconds(open_recordings.values(), len(recordings)))
            for number in [key for key, value in open_recordings.items() if value.complete]:
                recording = open_recordings.pop(number)
                try:
                    ready[number] = self._finish(
                        recording, speakers, clocks[number], len(recordings)
                    )
                except AudioError as error:  # it could be read once, and not again
                    ready[number] = error
            while following in ready:
                yield ready.pop(following)
                following += 1

    def process_window(self, samples: Samples, clock: StageClock | None = None) -> int:
        """Segment and embed one 10 s window, as a stream would; no clustering.

        Meant for a pipeline loaded for low latency: another one pads the window to its batches.
        ``samples``: (160000,) float32. Returns the number of local speakers found.
        """
        if samples.shape != (WINDOW_SAMPLES,):
            raise UsageError(f"a window has {WINDOW_SAMPLES} samples, not {samples.shape}")
        block = Block(0, self._buffers[0])
        block.buffer[:WINDOW_SAMPLES] = samples
        block.buffer[WINDOW_SAMPLES : WINDOW_SAMPLES + self._plan.lookahead_samples] = 0
        block.pieces.append(Piece(0, 0, 1, 0, WINDOW_SAMPLES, last=True))
        clock = clock or StageClock()
        worker = self._workers[0]
        (result,) = (*worker.process(block, clock), *worker.flush(clock))
        return len(result.pieces[0].windows[0].speakers)

    def close(self) -> None:
        """Free the models; the pipeline must not be used afterwards."""
        self._workers = []
        self._exact = None
        for model in self._compiled.values():
            model.close()
        if self._exact_embedding is not None:
            self._exact_embedding.close()

    def _new_worker(self) -> BlockWorker:
        requests = Requests(**{name: model.request() for name, model in self._compiled.items()})
        mode = self.mode
        return BlockWorker(
            requests,
            self._plan,
            mode.crops,
            mode.embedding.batch,
            mode.windows.silence_dbfs,
            mode.execution.zero_copy,
        )

    def _outcomes(
        self,
        recordings: Sequence[tuple[Path, str | None]],
        clocks: Sequence[StageClock],
        run_clock: StageClock,
    ) -> Iterator[Outcome]:
        def make_reader(take_buffer: Callable[[], Samples]) -> BlockReader:
            return BlockReader(
                recordings,
                self._plan,
                take_buffer,
                lambda recording, count: clocks[recording].stage("decode", count),
            )

        for worker in self._workers:
            worker.discard()
        workers = [_OnRecordingsClock(worker, clocks) for worker in self._workers]
        if self.workers == 1:
            return run_serially(make_reader, workers[0], self._buffers[0], run_clock)
        while len(self._buffers) < self.workers + _SPARE_BUFFERS:
            self._buffers.append(new_buffer(self._plan))
        return run_concurrently(make_reader, workers, self._buffers, run_clock)

    def _finish(
        self, recording: Recording, speakers: SpeakerBounds, clock: StageClock, of: int
    ) -> Diarization:
        outcome = recording.finish(self.mode, speakers, clock, self._exact)
        processing = time.perf_counter() - recording.started
        overlapped = self.workers > 1 or of > 1
        timings = Timings(
            processing_seconds=processing,
            cpu_seconds=time.process_time() - recording.cpu_started,
            stages=clock.timings(processing, overlapped),
            overlapped=overlapped,
            windows=recording.windows,
            crops=recording.crops,
            copied_bytes=recording.copied_bytes,
        )
        return Diarization(
            uri=recording.info.uri,
            audio=recording.info,
            duration_seconds=recording.samples / SAMPLE_RATE,
            turns=outcome.turns,
            exclusive_turns=outcome.exclusive_turns,
            speakers=outcome.speakers,
            timings=timings,
            notes=outcome.notes,
        )


class _OnRecordingsClock:
    """A worker whose calls count for the recording that begins the block at hand."""

    def __init__(self, worker: BlockWorker, clocks: Sequence[StageClock]) -> None:
        self._worker = worker
        self._clocks = clocks
        self._current = clocks[0] if clocks else StageClock()

    def process(self, block: Block, clock: StageClock) -> Sequence[BlockResult]:
        """Work on ``block``; ``clock``, that of the run, is not used."""
        self._current = self._clocks[block.pieces[0].recording]
        return self._worker.process(block, self._current)

    def flush(self, clock: StageClock) -> Sequence[BlockResult]:
        """What is left counts for the last recording."""
        return self._worker.flush(self._current)


def _total_seconds(open_recordings: Iterable[Recording], count: int) -> float | None:
    """Seconds of audio of a run of one recording, where its header states them."""
    durations = [recording.info.duration_seconds for recording in open_recordings]
    return durations[0] if count == 1 and durations else None
