"""Who is who: evidence in, speakers out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fluidaudio_cli.diarization.evidence import EvidenceLog, WindowEvidence
from fluidaudio_cli.diarization.frames import CROP_SECONDS, WINDOW_SAMPLES
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.known import KnownPeople
from fluidaudio_cli.diarization.speakers.links import LinkCollector, Links
from fluidaudio_cli.diarization.speakers.mixture import Voices
from fluidaudio_cli.diarization.speakers.offline import SpeakerLabels, find_speakers


class SpeakerModel(Protocol):
    """Turns the evidence of one recording, window by window, into speakers.

    Files and streams use it alike: ``update`` with each window as it comes, then ``finish``.
    """

    @property
    def evidence(self) -> EvidenceLog:
        """The windows that :meth:`finish` labels, in order."""

    def update(self, evidence: WindowEvidence) -> None:
        """Take in the next window."""

    def finish(self, bounds: SpeakerBounds) -> SpeakerLabels:
        """The final speakers of all voices in :attr:`evidence`; may be asked again."""


class OfflineSpeakers:
    """Decides when it has heard everything.

    ``step_samples``: from window to window. ``crops``: of a voice at most. ``evidence``: windows
    taken in before, which it goes on. ``known``: people who may be among the speakers.
    """

    def __init__(
        self,
        calibration: Calibration,
        step_samples: int,
        crops: int,
        evidence: EvidenceLog | None = None,
        known: KnownPeople | None = None,
    ) -> None:
        self.evidence = EvidenceLog() if evidence is None else evidence
        self._known = known
        self._calibration = calibration
        self._step = step_samples
        self._most_heard = crops * CROP_SECONDS

    def update(self, evidence: WindowEvidence) -> None:
        """Keep the window."""
        self.evidence.append(evidence)

    def finish(self, bounds: SpeakerBounds) -> SpeakerLabels:
        """Settle all voices; ``bounds``: how many speakers there are, as far as known."""
        log = self.evidence
        if log.placed:
            return placed_speakers(log)
        return find_speakers(*self.heard(), self._calibration, bounds, self._known)

    def heard(self) -> tuple[Voices, Links]:
        """All voices so far, and what overlapping windows say of them."""
        log = self.evidence
        clean = log.clean_seconds
        heard = np.minimum(clean, self._most_heard)
        looks = WINDOW_SAMPLES / self._step
        ends = log.samples - self._step * np.arange(log.windows)
        seen = float(np.clip(ends, 0, WINDOW_SAMPLES).sum())
        inside = seen / (looks * log.samples) if log.samples else 1.0
        voices = Voices(log.voice_windows, log.vectors, clean, heard, looks, inside)
        return voices, self._links()

    def _links(self) -> Links:
        collector = LinkCollector(self._step)
        for evidence in self.evidence:
            if evidence.voices:
                slots = [voice.slot for voice in evidence.voices]
                collector.add(evidence.number, evidence.presence(), slots)
        return collector.links()


def placed_speakers(log: EvidenceLog) -> SpeakerLabels:
    """The speakers of evidence that has each in a slot of its own: nothing is to be decided."""
    slots, labels = np.unique(log.slots, return_inverse=True)
    centroids = np.zeros((len(slots), log.vectors.shape[1]), np.float32)
    centroids[labels] = log.vectors
    seconds = np.bincount(labels, log.clean_seconds, len(slots)).astype(np.float64)
    certain = np.asarray(log.vectors.any(axis=1), np.float64)
    count = len(slots)
    return SpeakerLabels(labels.astype(np.intp), centroids, seconds, {count: 1.0}, count, certain)
