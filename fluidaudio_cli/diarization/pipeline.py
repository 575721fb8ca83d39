"""The pipeline that every command drives: audio in, speaker turns out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from fluidaudio_cli.diarization.config import ModeConfig, load_mode
from fluidaudio_cli.diarization.crop_embedder import CropEmbedder
from fluidaudio_cli.diarization.frames import SAMPLE_RATE, WINDOW_SAMPLES
from fluidaudio_cli.diarization.recording import Recording
from fluidaudio_cli.diarization.result import Diarization, ModelRef, Timings
from fluidaudio_cli.diarization.schedule import Outcome, run_concurrently, run_serially
from fluidaudio_cli.diarization.tuning import tuning_unless_asked
from fluidaudio_cli.errors import AudioError, UsageError
from fluidaudio_cli.executors.base import CompiledModel, ExecutorOptions
from fluidaudio_cli.executors.machine import limit_malloc_arenas, processors
from fluidaudio_cli.executors.select import select_executor
from fluidaudio_cli.models.loading import load_model
from fluidaudio_cli.models.registry import MODEL_NAMES, bundled_models
from fluidaudio_cli.progress import ProgressCallback, no_progress

# Buffers beyond one per worker: one being filled, one ready.
_SPARE_BUFFERS = 2
# How the embedding network of the second look is named among the models of a result.
SECOND_LOOK = "second look"
# In which order models begin to load.
_LARGEST_FIRST = ("embedding", "segmentation", "fbank")


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


def load_pipeline(
    mode: str | Path | ModeConfig,
    *,
    executor: str = "auto",
    precision: str = "auto",
    compute_units: str = "all",
    threads: int | None = None,
    profile: bool = False,
    low_latency: bool = False,
    audio_seconds: float | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Pipeline:
    """Load the models of a mode.

    ``executor`` and ``precision`` of ``auto`` leave the choice to the mode file, and that to
    what ``fluidaudio tune`` found here or, untuned, to the executors' own defaults. Asking for
    an executor or a precision sets the tuning aside. ``threads``: processors to use, all of
    them by default. ``low_latency``: for :meth:`Pipeline.process_window`. ``audio_seconds``:
    length of all there will be to diarize, if that is known; short work gets fewer workers,
    because each takes time to load. ``meanwhile`` is called while the models load.

    Raises ``ExecutorUnavailableError`` for what this machine does not have, ``SelfTestError``
    when a model does not compute here what it should.
    """
    config = mode if isinstance(mode, ModeConfig) else load_mode(mode)
    tuning = tuning_unless_asked(executor, precision)
    if tuning is not None and (tuned := tuning.apply(config)) is not config:
        config = tuned
        compute_units = tuning.compute_units if compute_units == "all" else compute_units
    if low_latency:
        config = config.for_low_latency()
    rules = config.execution
    chosen = select_executor(rules.executor if executor == "auto" else executor)
    precisions = dict.fromkeys(MODEL_NAMES, rules.precision if precision == "auto" else precision)
    # The filter bank needs fp32's range: quiet speech drowns in half precision.
    precisions["fbank"] = "fp32"
    # Core ML runs a package in the precision it was built in, and in no other.
    if precision == "auto" and rules.embedding_precision in chosen.availability().precisions:
        precisions["embedding"] = rules.embedding_precision
    count = threads or processors()
    workers = min(rules.workers or count, count)
    if audio_seconds is not None:
        # Fewer workers have more threads each: what one would do with less than a whole block
        # saves less than its own copy of the networks takes to load.
        block_seconds = config.windows.batch * WINDOW_SAMPLES / SAMPLE_RATE
        workers = min(workers, max(1, math.ceil(audio_seconds / block_seconds)))
    # ONNX Runtime's sums depend on how many threads share one inference: one thread for each,
    # so that results do not depend on --threads. OpenVINO's are the same for any number.
    inference_threads = workers if chosen.name == "onnxruntime" else count
    batches = dict.fromkeys(MODEL_NAMES, config.embedding.batch)
    batches["segmentation"] = config.windows.batch
    limit_malloc_arenas()
    started = time.perf_counter()

    def load(name: str, exactly: str = "", streams: int = workers) -> CompiledModel:
        options = ExecutorOptions(
            precision=exactly or precisions[name],  # type: ignore[arg-type]
            threads=inference_threads,
            streams=streams,
            compute_units=compute_units,  # type: ignore[arg-type]
            batch=batches[name],
            profile=profile,
            lstm=rules.lstm,  # type: ignore[arg-type]
        )
        return load_model(bundled_models()[name], chosen, options)

    # Runtimes load outside Python's lock: side by side, all take as long as the largest. Not
    # tried with Core ML.
    together = 1 if chosen.name == "coreml" else min(count, len(MODEL_NAMES))
    with ThreadPoolExecutor(together, "load") as pool:
        loaded = pool.map(load, _LARGEST_FIRST)
        if meanwhile is not None:
            meanwhile()
        by_name = dict(zip(_LARGEST_FIRST, loaded, strict=True))
    models = {name: by_name[name] for name in MODEL_NAMES}
    exact = None
    wanted = config.second_look.precision if config.second_look.speaker_seconds > 0 else ""
    if (
        precision == "auto"
        and wanted in chosen.availability().precisions
        and wanted != models["embedding"].ran.precision
        and not low_latency
    ):
        # It runs when all else is done, and has every thread for itself.
        exact = load("embedding", wanted, streams=1)
    every = [*models.values(), exact] if exact is not None else list(models.values())
    loading = Loading(time.perf_counter() - started, all(model.cache_hit for model in every))
    return Pipeline(config, models, workers, loading, exact)
