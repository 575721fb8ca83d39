"""The pipeline that every command drives: audio in, speaker turns out.

A window's way: ``AudioStream`` → ``read_windows`` → ``Frontend`` (``Worker``) →
``WindowEvidence`` → ``SpeakerModel`` → ``TurnBuilder`` → ``Diarization``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from fluidaudio_cli.audio.source import AudioInfo, AudioSource, AudioStream
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import WindowEvidence
from fluidaudio_cli.diarization.evidence_worker import EvidenceWorker
from fluidaudio_cli.diarization.frames import FBANK_TAIL_SAMPLES, WINDOW_SAMPLES
from fluidaudio_cli.diarization.frontend import Frontend
from fluidaudio_cli.diarization.level import Level
from fluidaudio_cli.diarization.live_frontend import LiveFrontend
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.diarization.result import Diarization, ModelRef
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.known import KnownPeople
from fluidaudio_cli.diarization.windows import Samples, Window, read_windows
from fluidaudio_cli.diarization.workers import new_worker
from fluidaudio_cli.errors import AudioError, UsageError
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.models.card import NARROW, ModelCard
from fluidaudio_cli.models.registry import Model
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.recordings import Place, Url


@dataclass(frozen=True)
class Loading:
    """What loading the models took, before any audio was seen.

    ``cached``: every model came compiled from the cache. ``packages``: by role; by
    :func:`usual` those in whose place another runs.
    """

    seconds: float
    cached: bool
    packages: Mapping[str, Model]


def usual(role: str) -> str:
    """What the package is called in whose place another runs."""
    return f"usual {role}"


@dataclass(frozen=True)
class _Opened:
    """A recording was opened, at these readings of the wall clock and of processor time."""

    info: AudioInfo
    clock: StageClock
    wall: float
    cpu: float


@dataclass(frozen=True)
class _Ended:
    """The recording opened last was read to its end: ``samples`` at 16 kHz.

    ``info`` is complete by then: what was mended, what was lost.
    """

    samples: int
    info: AudioInfo


_Event = _Opened | _Ended | AudioError
"""The last: a recording could not be read (any further)."""

Recording = tuple[Place | AudioSource | AudioStream, str | None]
"""Path and uri (None for one made of the path), or a recording that knows its own uri."""


class Pipeline:
    """Loaded models of ``card`` by role, as ``plan`` has them; use it for any number of recordings.

    Not for several threads at once: a run uses all workers itself.
    """

    def __init__(
        self,
        plan: Plan,
        card: ModelCard,
        models: Mapping[str, CompiledModel],
        loading: Loading,
    ) -> None:
        self.plan = plan
        self.mode = mode = plan.mode
        self.workers = plan.workers
        self.load_seconds = loading.seconds
        self.load_cached = loading.cached
        self.packages = loading.packages
        self._card = card
        self.compiled = models
        self._step = mode.windows.step_samples
        workers = [new_worker(plan, card, models) for _ in range(self.workers)]
        self._frontend = Frontend(workers, mode.windows.batch)
        self._first = workers[0]
        self.models = tuple(
            ModelRef(
                name,
                self.packages[name].sha256,
                asdict(model.asked),
                asdict(model.ran),
                self.packages[usual(name)].sha256 if plan.networks[name].variant == NARROW else "",
            )
            for name, model in self.compiled.items()
        )

    @property
    def follows_speakers(self) -> bool:
        """Whether its network says itself who is who."""
        return self._card.diarizer is not None

    @property
    def embedding_size(self) -> int:
        """Numbers of a voice's vector."""
        assert self._card.embedding is not None
        return self._card.embedding.size

    def diarize(
        self,
        source: Place | AudioSource | AudioStream,
        *,
        uri: str | None = None,
        speakers: SpeakerBounds = SpeakerBounds(),  # noqa: B008 - immutable
        known: KnownPeople | None = None,
        progress: ProgressCallback = no_progress,
        clock: StageClock | None = None,
    ) -> Diarization:
        """Diarize one recording.

        ``known``: people to be recognised. ``clock``, if given, keeps every call of every stage.
        Raises ``AudioError`` when the recording cannot be read to its end.
        """
        for result in self.diarize_many(
            [(source, uri)], speakers=speakers, known=known, progress=progress, clock=clock
        ):
            if isinstance(result, AudioError):
                raise result
            return result
        raise AssertionError("a run has one outcome for each recording")

    def diarize_many(
        self,
        recordings: Sequence[Recording],
        *,
        speakers: SpeakerBounds = SpeakerBounds(),  # noqa: B008 - immutable
        known: KnownPeople | None = None,
        progress: ProgressCallback = no_progress,
        clock: StageClock | None = None,
    ) -> Iterator[Diarization | AudioError]:
        """Diarize recordings in order; a result or an error for each as soon as it is there.

        A recording's processing time runs from its opening to its turns. Of several recordings
        it covers work on others too, because the next is decoded while one is worked on; the
        stages are a recording's own, but a batch that recordings share counts for the one that
        begins it, and a batch of crops for the one that fills it. ``clock``, if given, keeps the
        calls of all.
        """
        if self._card.diarizer is not None and speakers != SpeakerBounds():
            raise UsageError(
                f"{self.plan.models} follows speakers itself, and cannot be told their number",
                "leave out --num-speakers, --min-speakers and --max-speakers",
            )
        of = len(recordings)
        # Of several, waiting is no recording's own, and a folder may hold thousands.
        run_clock = clock or StageClock(kept=of == 1)
        opened: _Opened | None = None
        model = speaker_model(self.mode, known=known)
        items: Iterator[Window | _Event] = self._read(recordings, clock, run_clock)
        found: Iterator[WindowEvidence | _Event] = self._frontend.evidence(items, run_clock)
        for item in found:
            if isinstance(item, WindowEvidence):
                model.update(item)
                total = opened.info.duration_seconds if opened and of == 1 else None
                progress((item.number + 1) * self.mode.windows.step_seconds, total)
            elif isinstance(item, _Opened):
                opened, model = item, speaker_model(self.mode, known=known)
            elif isinstance(item, AudioError):
                yield item
            else:
                assert opened is not None
                model.evidence.samples = item.samples
                conclusion = conclude(model, self.mode, speakers, opened.clock)
                yield conclusion.result(
                    item.info,
                    model.evidence,
                    opened.clock,
                    time.perf_counter() - opened.wall,
                    opened.cpu,
                    overlapped=self.workers > 1 or of > 1,
                )

    def evidence(self, stream: AudioStream, clock: StageClock) -> Iterator[WindowEvidence]:
        """The evidence of each window of ``stream``, which the caller opened and closes.

        For who feeds a speaker model himself. Raises ``AudioError`` where the stream breaks off.
        """
        return self._frontend.evidence(read_windows(stream, self._step, clock), clock)

    def window_evidence(self, window: Window, clock: StageClock) -> WindowEvidence:
        """The evidence of one window, at once: for a pipeline loaded for low latency."""
        (found,) = self._frontend.evidence([window], clock)
        return found

    def live_frontend(self, step_samples: int) -> LiveFrontend:
        """For a stream's windows, ``step_samples`` apart; of a pipeline loaded for low latency."""
        assert isinstance(self._first, EvidenceWorker)
        return LiveFrontend(self._first, step_samples)

    def process_window(self, samples: Samples) -> WindowEvidence:
        """Segment and embed one 10 s window, as a stream would; no clustering.

        Meant for a pipeline loaded for low latency: another one pads the window to its batches.
        ``samples``: (160000,) float32. Returns what was found in it.
        """
        if samples.shape != (WINDOW_SAMPLES,):
            raise UsageError(f"a window has {WINDOW_SAMPLES} samples, not {samples.shape}")
        clock = StageClock()
        tail = np.zeros(FBANK_TAIL_SAMPLES, np.float32)
        window = Window(0, samples, tail, WINDOW_SAMPLES, 0, clock)
        return self.window_evidence(window, clock)

    def close(self) -> None:
        """Free the models; the pipeline must not be used afterwards."""
        self._frontend = Frontend([], 1)
        for model in self.compiled.values():
            model.close()

    def _read(
        self, recordings: Sequence[Recording], given: StageClock | None, run_clock: StageClock
    ) -> Iterator[Window | _Event]:
        for source, uri in recordings:
            clock = run_clock if given or len(recordings) == 1 else StageClock()
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                if isinstance(source, Path | Url):
                    source = AudioSource(source, uri)
                with source if isinstance(source, AudioStream) else source.open() as stream:
                    yield _Opened(stream.info, clock, wall, cpu)
                    level = Level()
                    yield from read_windows(stream, self._step, clock, level)
                    notes = (*stream.info.notes, *level.notes)
                    yield _Ended(stream.samples_read, replace(stream.info, notes=notes))
            except AudioError as error:
                yield error
