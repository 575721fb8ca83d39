"""What a diarization run returns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import AudioInfo
from fluidaudio_cli.diarization.clock import StageClock, StageTiming
from fluidaudio_cli.diarization.evidence import EvidenceLog
from fluidaudio_cli.diarization.frames import SAMPLE_RATE
from fluidaudio_cli.diarization.speakers.known import Identity
from fluidaudio_cli.turns import Turn


@dataclass(frozen=True)
class Speaker:
    """One speaker of a recording.

    ``speech_seconds`` counts overlap for every speaker in it, ``clean_seconds`` only what the
    speaker's voice was taken from. ``embedding`` (192,) float32 is the unit-length centroid of
    that voice, zeros where none was long enough. ``identity``: who it is, where voices were known.
    """

    label: str
    speech_seconds: float
    turns: int
    embedding: NDArray[np.float32]
    clean_seconds: float = 0.0
    identity: Identity | None = None


@dataclass(frozen=True)
class Timings:
    """Steady-state time of one recording: decoding to turns, without loading any model.

    ``processing_seconds`` is wall time, ``cpu_seconds`` that of the whole process, all threads.
    Unless ``overlapped``, the stages (the last is ``other``) add up to ``processing_seconds``.
    """

    processing_seconds: float
    cpu_seconds: float
    stages: tuple[StageTiming, ...]
    overlapped: bool
    windows: int
    crops: int
    copied_bytes: int


@dataclass(frozen=True)
class Conclusion:
    """What was found in a recording.

    ``turns`` may overlap, ``exclusive_turns`` do not. ``notes`` say in a sentence each what the
    user should know (a speaker count that could not be met). ``speaker_counts``: probability of
    each number of speakers, ascending, as the evidence has it whatever the user said.
    """

    turns: tuple[Turn, ...]
    exclusive_turns: tuple[Turn, ...]
    speakers: tuple[Speaker, ...]
    notes: tuple[str, ...]
    speaker_counts: Mapping[int, float]

    def result(
        self,
        audio: AudioInfo,
        evidence: EvidenceLog,
        clock: StageClock,
        processing_seconds: float,
        cpu_since: float,
        *,
        overlapped: bool = False,
    ) -> Diarization:
        """The diarization of ``audio``, which took ``processing_seconds`` by ``clock``.

        ``cpu_since``: of the process when it began.
        """
        timings = Timings(
            processing_seconds=processing_seconds,
            cpu_seconds=time.process_time() - cpu_since,
            stages=clock.timings(processing_seconds, overlapped),
            overlapped=overlapped,
            windows=evidence.windows,
            crops=evidence.crops,
            copied_bytes=evidence.copied_bytes,
        )
        found = {**vars(self), "notes": (*audio.notes, *self.notes)}
        return Diarization(
            **found,
            audio=audio,
            duration_seconds=evidence.samples / SAMPLE_RATE,
            timings=timings,
            evidence=evidence,
        )


@dataclass(frozen=True, kw_only=True)
class Diarization(Conclusion):
    """Who spoke when in one recording.

    ``duration_seconds`` is what was decoded. ``evidence``: what it was made from; without audio
    and networks, other speakers can be made from it again.
    """

    audio: AudioInfo
    duration_seconds: float
    timings: Timings
    evidence: EvidenceLog | None = None

    @property
    def uri(self) -> str:
        """What the recording is called."""
        return self.audio.uri

    @property
    def name_probabilities(self) -> dict[str, float]:
        """How sure the names of known voices among the speakers are."""
        known = [(s.label, s.identity) for s in self.speakers if s.identity is not None]
        return {label: found.probability for label, found in known if found.name}

    @property
    def rtfx(self) -> float:
        """Audio seconds per processing second."""
        return self.duration_seconds / self.timings.processing_seconds


@dataclass(frozen=True)
class ModelRef:
    """Which package ran, and how: asked and actual.

    ``stands_for``: of a narrow one the hash of the usual one, whose results its own are taken for.
    """

    name: str
    sha256: str
    asked: Mapping[str, object]
    ran: Mapping[str, object]
    stands_for: str = ""

    @property
    def comparable(self) -> str:
        """The same for networks whose results are taken for each other's."""
        return self.stands_for or self.sha256
