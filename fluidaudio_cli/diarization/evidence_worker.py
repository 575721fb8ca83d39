"""A batch of windows through the networks: segmentation, then embedding.

A worker owns its requests and buffers and is used by one thread. What it finds in a window
depends neither on the worker nor on the windows beside it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import numpy as np

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.crop_embedder import PendingVoice
from fluidaudio_cli.diarization.evidence import Presence, WindowEvidence
from fluidaudio_cli.diarization.frames import FBANK_TAIL_SAMPLES, WINDOW_SAMPLES
from fluidaudio_cli.diarization.level import peak
from fluidaudio_cli.diarization.local_speakers import (
    CropRules,
    LocalSpeaker,
    find_local_speakers,
)
from fluidaudio_cli.diarization.networks import Segmenter
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.utterances import voices_of
from fluidaudio_cli.diarization.windows import Samples, Window
from fluidaudio_cli.executors.buffers import aligned_empty


class WindowBatch:
    """Windows side by side, each contiguous and aligned, where segmentation reads them.

    ``audio``: (size, 1, 160000). ``places``: where each window's evidence belongs.
    """

    def __init__(self, size: int) -> None:
        self.audio = cast(Samples, aligned_empty((size, 1, WINDOW_SAMPLES), np.float32))
        self._tails = np.zeros((size, FBANK_TAIL_SAMPLES), np.float32)
        self.windows: list[Window] = []
        self.places: list[int] = []

    @property
    def full(self) -> bool:
        """Whether no further window has room."""
        return len(self.windows) == len(self.audio)

    def add(self, window: Window, place: int) -> None:
        """Copy ``window`` into the next row: the one copy on its way."""
        row = len(self.windows)
        samples, tail = self.audio[row, 0], self._tails[row]
        if window.gain == 1.0:
            samples[:], tail[:] = window.samples, window.tail
        else:
            np.multiply(window.samples, np.float32(window.gain), out=samples)
            np.multiply(window.tail, np.float32(window.gain), out=tail)
        copied = window.copied_bytes + samples.nbytes + tail.nbytes
        self.windows.append(window._replace(samples=samples, tail=tail, copied_bytes=copied))
        self.places.append(place)

    def clear(self) -> None:
        """Make room for other windows."""
        self.windows.clear()
        self.places.clear()


class VoiceEmbedder(Protocol):
    """Voices in, vectors of ``size`` out, in batches of its own: ``CropEmbedder`` and others."""

    size: int

    def add(self, window: Window, voice: PendingVoice, clock: StageClock) -> None:
        """Take what is to be heard of ``voice``; its window is not kept."""

    def flush(self, clock: StageClock) -> None:
        """Embed what waits."""

    def discard(self) -> None:
        """Forget what waits."""


@dataclass(frozen=True)
class EvidenceRules:
    """``silent_peak``: a window whose samples stay below this holds nobody and is not segmented.

    ``exact_below_seconds``: voices with less clean speech, all utterances together, are embedded
    by the exact network, where there is one: rounding tells most where there is little to hear.
    ``calibration``: what voices being alike says of whether two utterances are one person's.
    """

    crops: CropRules
    silent_peak: float
    exact_below_seconds: float
    calibration: Calibration


class OpenWindow(NamedTuple):
    """A window whose voices are not all there yet.

    ``presence`` (frames, slots); ``voices`` in order of their slots, utterances the surest first.
    """

    window: Window
    presence: Presence
    voices: tuple[PendingVoice, ...] = ()


Found = tuple[int, WindowEvidence]
"""Evidence, and the place it belongs to."""


class EvidenceWorker:
    """Runs the networks over batches of windows; ``exact``: the same embedding, more exactly.

    Voices fill batches of their own, across windows; so the evidence of a window comes once its
    last voice is embedded, which may be while later windows are worked on.
    """

    def __init__(
        self,
        segmentation: Segmenter,
        embedder: VoiceEmbedder,
        rules: EvidenceRules,
        exact: VoiceEmbedder | None = None,
    ) -> None:
        self._segmentation = segmentation
        self._embedder = embedder
        self._exact = exact or embedder
        self._rules = rules
        self._open: deque[tuple[int, OpenWindow]] = deque()

    def process(self, batch: WindowBatch) -> list[Found]:
        """Work on ``batch``, which is not looked at afterwards; what is ready by now."""
        clock = batch.windows[0].clock
        for place, opened in zip(batch.places, self.segment(batch), strict=True):
            self._open.append((place, opened))
            for voice in opened.voices:
                self.embed(opened.window, voice)
        return list(self._ready(clock))

    def flush(self, clock: StageClock) -> list[Found]:
        """What is not out yet: no window follows."""
        self._embedder.flush(clock)
        self._exact.flush(clock)
        return list(self._ready(clock))

    def discard(self) -> None:
        """Forget windows whose evidence was not asked for, after a run that was broken off."""
        self._embedder.discard()
        self._exact.discard()
        self._open.clear()

    def segment(self, batch: WindowBatch) -> list[OpenWindow]:
        """Who is in each window, of all of them at once; of no voice is anything heard yet."""
        clock = batch.windows[0].clock
        peaks = [peak(window.samples) for window in batch.windows]
        heard = [row for row, loudest in enumerate(peaks) if loudest >= self._rules.silent_peak]
        nobody = np.zeros(self._segmentation.shape, np.uint8)
        opened = [OpenWindow(window, nobody) for window in batch.windows]
        if heard:
            # A silent window between others is cheaper to segment than to cut out.
            first, last = heard[0], heard[-1] + 1
            with clock.stage("segmentation", last - first):
                scores = self._segmentation.scores(batch.audio[first:last])
            with clock.stage("local speakers", len(heard)):
                activity = self._segmentation.decode(scores)
                for row in heard:
                    window, presence = batch.windows[row], activity.presence[row - first]
                    speakers = find_local_speakers(
                        activity, row - first, window.valid_frames, self._rules.crops
                    )
                    opened[row] = OpenWindow(window, presence, self._pending(speakers))
        return opened

    def embed(self, window: Window, voice: PendingVoice) -> None:
        """Take the crops of ``voice`` from its ``window``: it waits for a batch to be full."""
        embedder = self._exact if voice.exact else self._embedder
        embedder.add(window, voice, window.clock)

    def collect(self, opened: OpenWindow) -> WindowEvidence:
        """The evidence of a window whose voices are all there."""
        voices, presence = voices_of(
            opened.voices,
            opened.presence,
            self._embedder.size,
            self._rules.crops.per_speaker,
            self._rules.calibration,
        )
        crops = sum(len(voice.vectors) for voice in opened.voices)
        copied = opened.window.copied_bytes + sum(voice.copied_bytes for voice in opened.voices)
        return WindowEvidence.of(opened.window.number, voices, presence, crops, copied)

    def _ready(self, clock: StageClock) -> Iterator[Found]:
        done = 0
        for _, opened in self._open:
            if any(voice.missing for voice in opened.voices):
                break
            done += 1
        if not done:
            return
        with clock.stage("collect", done):
            waited = [self._open.popleft() for _ in range(done)]
            found = [(place, self.collect(opened)) for place, opened in waited]
        yield from found

    def _pending(self, speakers: list[LocalSpeaker]) -> tuple[PendingVoice, ...]:
        """Voices of ``speakers``, of which all utterances are as exact as one voice needs it."""
        seconds: defaultdict[int, float] = defaultdict(float)
        for speaker in speakers:
            seconds[speaker.slot] += speaker.clean_seconds
        least = self._rules.exact_below_seconds
        return tuple(PendingVoice(each, exact=seconds[each.slot] < least) for each in speakers)
