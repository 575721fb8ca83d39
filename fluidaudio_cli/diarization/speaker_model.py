"""Who is who: evidence in, speakers out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.clustering import (
    ClusteringRules,
    SpeakerBounds,
    Voices,
    cluster,
)
from fluidaudio_cli.diarization.evidence import EvidenceLog, WindowEvidence

Labels = NDArray[np.intp]


@dataclass(frozen=True)
class SpeakerLabels:
    """The speakers of a recording.

    ``labels`` (n,): speaker of each voice in order of the windows, -1 for none. ``centroids``
    (k, d): their voices, unit length, zeros where none was long enough.
    """

    labels: Labels
    centroids: NDArray[np.float32]

    def by_window(self, log: EvidenceLog) -> Iterator[tuple[WindowEvidence, list[int]]]:
        """Every window of ``log`` with the speakers of its voices."""
        used = 0
        for evidence in log:
            end = used + len(evidence.voices)
            yield evidence, self.labels[used:end].tolist()
            used = end


class SpeakerModel(Protocol):
    """Turns the evidence of one recording, window by window, into speakers."""

    def update(self, evidence: WindowEvidence) -> Labels:
        """Take in the next window; the speaker of each of its voices as far as known, else -1."""

    def finish(self, bounds: SpeakerBounds) -> SpeakerLabels:
        """The final speakers of all windows."""


class OfflineSpeakers:
    """Decides when it has heard everything, by clustering all voices.

    ``windows_per_moment``: how many windows see each moment. ``log`` keeps the evidence, or
    brings it along.
    """

    def __init__(self, rules: ClusteringRules, windows_per_moment: float, log: EvidenceLog) -> None:
        self.log = log
        self._rules = rules
        self._looks = windows_per_moment

    def update(self, evidence: WindowEvidence) -> Labels:
        """Keep the window; nobody is known yet."""
        self.log.append(evidence)
        return np.full(len(evidence.voices), -1, np.intp)

    def finish(self, bounds: SpeakerBounds) -> SpeakerLabels:
        """Cluster all voices; ``bounds``: how many speakers there are, as far as known."""
        log = self.log
        voices = Voices(log.voice_windows, log.vectors, log.clean_seconds, self._looks)
        clusters = cluster(voices, self._rules, bounds)
        return SpeakerLabels(clusters.labels, clusters.centroids)
