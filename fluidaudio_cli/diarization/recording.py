"""One recording on its way through the pipeline: windows in, turns out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import AudioInfo
from fluidaudio_cli.diarization.block_worker import WindowResult
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.clustering import Clusters, SpeakerBounds, Voices, cluster
from fluidaudio_cli.diarization.config import ModeConfig
from fluidaudio_cli.diarization.crop_embedder import EMBEDDING_SIZE, CropEmbedder, Vectors
from fluidaudio_cli.diarization.frames import GRID, SAMPLE_RATE, WINDOW_SECONDS
from fluidaudio_cli.diarization.reconstruction import LabelledWindow, Reconstruction, reconstruct
from fluidaudio_cli.diarization.result import Speaker
from fluidaudio_cli.diarization.second_look import Glimpse, look_again, uncertain_voices
from fluidaudio_cli.turns import Turn, speaking_seconds


@dataclass(frozen=True)
class Outcome:
    """What was found in a recording."""

    turns: tuple[Turn, ...]
    exclusive_turns: tuple[Turn, ...]
    speakers: tuple[Speaker, ...]
    notes: tuple[str, ...]


class Recording:
    """Collects the windows of one recording, then clusters and reconstructs.

    ``keep_crops``: there will be a second look, for which it must be known what was heard.
    """

    def __init__(self, info: AudioInfo, keep_crops: bool = True) -> None:
        self.info = info
        self.started = time.perf_counter()
        self.cpu_started = time.process_time()
        self.samples = 0
        self.crops = 0
        self.copied_bytes = 0
        self._keep_crops = keep_crops
        self._expected: int | None = None
        # Without their vectors, which lie together in one store; rows beyond ``_voices_kept``
        # are not used yet.
        self._windows: list[WindowResult] = []
        self._vectors: Vectors = np.zeros((0, EMBEDDING_SIZE), np.float32)
        self._voices_kept = 0

    @property
    def windows(self) -> int:
        """Windows so far."""
        return len(self._windows)

    @property
    def complete(self) -> bool:
        """Whether the recording was read to its end and all its windows are here."""
        return self._expected is not None and len(self._windows) >= self._expected

    def add(self, windows: Sequence[WindowResult], copied_bytes: int, crops: int) -> None:
        """Take in the windows of one block, which come in order."""
        for window in windows:
            for voice in window.speakers:
                self._keep(voice.vector)
            speakers = tuple(
                replace(voice, vector=_IN_THE_STORE, crops=voice.crops if self._keep_crops else ())
                for voice in window.speakers
            )
            self._windows.append(replace(window, speakers=speakers))
        self.copied_bytes += copied_bytes
        self.crops += crops

    def ended(self, samples: int, windows: int) -> None:
        """The recording has ``samples`` samples, so that ``windows`` windows cover it."""
        self.samples = samples
        self._expected = windows

    def finish(
        self,
        mode: ModeConfig,
        bounds: SpeakerBounds,
        clock: StageClock,
        exact: CropEmbedder | None = None,
    ) -> Outcome:
        """Cluster the voices and rebuild the turns.

        ``exact``: embeds uncertain voices again. Raises ``AudioError`` where the recording
        cannot be read for it.
        """
        with clock.stage("clustering", self.windows):
            voices = self._voices(looks=WINDOW_SECONDS / mode.windows.step_seconds)
            clusters = cluster(voices, mode.clustering, bounds)
        if exact is not None:
            rows = uncertain_voices(voices, clusters, mode.second_look)
            with clock.stage("second look", len(rows)):
                again = self._look_again(rows, voices, mode, exact)
            if again is not voices:
                with clock.stage("clustering", 0):
                    clusters = cluster(again, mode.clustering, bounds)
        with clock.stage("reconstruction", self.windows):
            rebuilt = self._reconstruct(mode, clusters)
        turns, exclusive, order = _in_order_of_appearance(rebuilt)
        seconds = speaking_seconds(turns)
        speakers = tuple(
            Speaker(
                label,
                seconds[label],
                sum(turn.speaker == label for turn in turns),
                clusters.centroids[number],
            )
            for label, number in order
        )
        return Outcome(turns, exclusive, speakers, _notes(bounds, len(speakers)))

    def _voices(self, looks: float) -> Voices:
        voices = [(window.number, voice) for window in self._windows for voice in window.speakers]
        return Voices(
            np.array([number for number, _ in voices], np.intp),
            self._vectors[: self._voices_kept],
            np.array([voice.clean_seconds for _, voice in voices], np.float64),
            looks,
        )

    def _keep(self, vector: Vectors) -> None:
        if self._voices_kept == len(self._vectors):
            # Large arrays grow where they lie. By little, because all of it is touched.
            rows = max(256, self._voices_kept + self._voices_kept // 16)
            self._vectors.resize((rows, EMBEDDING_SIZE), refcheck=False)
        self._vectors[self._voices_kept] = vector
        self._voices_kept += 1

    def _look_again(
        self, rows: NDArray[np.intp], voices: Voices, mode: ModeConfig, exact: CropEmbedder
    ) -> Voices:
        """``voices`` with those of ``rows`` embedded again; ``voices`` itself where none is."""
        if not rows.size:
            return voices
        step = round(mode.windows.step_seconds * SAMPLE_RATE)
        every = [
            Glimpse(window.number * step, voice.crops)
            for window in self._windows
            for voice in window.speakers
        ]
        glimpses = [every[row] for row in rows]
        vectors = voices.vectors.copy()
        # Its own stages are part of this one, and are not listed beside it.
        vectors[rows] = look_again(self.info, glimpses, exact, StageClock())
        self.crops += sum(len(glimpse.crops) for glimpse in glimpses)
        return replace(voices, vectors=vectors)

    def _reconstruct(self, mode: ModeConfig, clusters: Clusters) -> Reconstruction:
        step = round(mode.windows.step_seconds * SAMPLE_RATE)
        windows = []
        used = 0
        for window in self._windows:
            labels = clusters.labels[used : used + len(window.speakers)].tolist()
            used += len(labels)
            windows.append(
                LabelledWindow(
                    GRID.window_offset(window.number * step),
                    window.presence,
                    tuple(
                        (voice.slot, label)
                        for voice, label in zip(window.speakers, labels, strict=True)
                        if label >= 0
                    ),
                )
            )
        names = [str(number) for number in range(len(clusters.centroids))]
        return reconstruct(windows, names, self.samples, mode.reconstruction)


_IN_THE_STORE: Vectors = np.zeros(0, np.float32)


def _in_order_of_appearance(
    rebuilt: Reconstruction,
) -> tuple[tuple[Turn, ...], tuple[Turn, ...], list[tuple[str, int]]]:
    """Turns with speakers called SPEAKER_00, SPEAKER_01 … as they first speak."""
    order: list[tuple[str, int]] = []
    labels: dict[str, str] = {}
    for turn in rebuilt.turns:
        if turn.speaker not in labels:
            labels[turn.speaker] = f"SPEAKER_{len(labels):02d}"
            order.append((labels[turn.speaker], int(turn.speaker)))
    renamed = tuple(sorted(turn._replace(speaker=labels[turn.speaker]) for turn in rebuilt.turns))
    exclusive = tuple(
        sorted(
            turn._replace(speaker=labels[turn.speaker])
            for turn in rebuilt.exclusive_turns
            if turn.speaker in labels
        )
    )
    return renamed, exclusive, order


def _notes(bounds: SpeakerBounds, found: int) -> tuple[str, ...]:
    wanted = bounds.exactly or bounds.at_least
    if wanted is None or found >= wanted:
        return ()
    heard = "1 speaker" if found == 1 else f"{found} speakers"
    return (
        f"{wanted} speakers were asked for, but only {heard} could be given turns: "
        "the others' voices cannot be told apart, or never speak alone",
    )
