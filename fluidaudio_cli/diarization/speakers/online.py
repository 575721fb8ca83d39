"""The speakers of a stream, as they are known by now: each window is answered at once.

A speaker is a few exemplars: of each stretch of its speech the look that heard most, kept by
certainty and recency, so that hours cost what minutes do. Voices are given to speakers by the
calibrated model of :mod:`mixture`, with somebody new as one more possibility; no two voices of a
window are one speaker. What was too hasty is corrected by :meth:`OnlineSpeakers.replace`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fluidaudio_cli.diarization.evidence import (
    FULL_SCALE,
    EvidenceLog,
    LocalVoice,
    Presence,
    WindowEvidence,
)
from fluidaudio_cli.diarization.frames import (
    CROP_SECONDS,
    GRID,
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    WINDOW_SECONDS,
)
from fluidaudio_cli.diarization.local_speakers import MIN_CLEAN_SECONDS
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.calibration import SHORTEST, Calibration
from fluidaudio_cli.diarization.speakers.links import linked
from fluidaudio_cli.diarization.speakers.mixture import Labels
from fluidaudio_cli.diarization.speakers.model import OfflineSpeakers
from fluidaudio_cli.diarization.speakers.offline import SpeakerLabels

Floats = NDArray[np.float64]

MOST_EXEMPLARS = 24
"""Of a speaker: two minutes of speech, beyond which a mean of voices hardly changes."""

# Seconds of speech for which one exemplar stands: windows half a window apart hear it anew.
_STRETCH_SECONDS = WINDOW_SECONDS / 2
# An exemplar this much older counts for half as much: people move, and rooms change.
_HALF_LIFE_SECONDS = 600.0
# A voice heard alone for less than this starts no speaker, unless there is none.
_NEW_SECONDS = 0.8
# Log-odds against somebody new, beside the prior of who speaks how much.
_NEW_MARGIN = 2.0
# Share of all speech that somebody new is taken to have beforehand, however long others spoke.
_NEW_SHARE = 0.2
# Seconds that somebody new is taken to speak beforehand, and every speaker beside its own.
_TALK_SECONDS = 0.3
# Log-odds against a voice staying without a name.
_NAMELESS = 3.0
# Seconds for which a voice that goes on needs no new look: 43 % of embeddings are saved and the
# error is the same; with 2 s, 56 % are, for 0.3 points of error on ten simulated meetings.
_FAMILIAR_SECONDS = 1.0
_FORBIDDEN = -1e9


class Exemplar(NamedTuple):
    """A voice (d,) that was heard alone for ``seconds``, up to ``time`` (s)."""

    vector: NDArray[np.float32]
    seconds: float
    time: float


@dataclass
class CachedSpeaker:
    """What is kept of a speaker; ``spoken``: seconds."""

    exemplars: list[Exemplar] = field(default_factory=list)
    spoken: float = 0.0
    born: float = 0.0
    withdrawn: bool = False

    def hear(self, voice: Exemplar, calibration: Calibration) -> None:
        """Keep ``voice``, in place of a poorer look at the same stretch."""
        kept = self.exemplars
        if kept and voice.time - kept[-1].time < _STRETCH_SECONDS:
            if voice.seconds >= kept[-1].seconds:
                # The stretch keeps its time, so that it ends.
                kept[-1] = voice._replace(time=kept[-1].time)
            return
        kept.append(voice)
        if len(kept) > MOST_EXEMPLARS:
            seconds = np.array([each.seconds for each in kept])
            age = voice.time - np.array([each.time for each in kept])
            worth = calibration.reliability_of(seconds) * 0.5 ** (age / _HALF_LIFE_SECONDS)
            del kept[int(worth.argmin())]


class _Previous(NamedTuple):
    """The window before: its start, presence (frames, n), labels (n,) and vectors (n, d).

    ``heard`` (n,): when (s) each voice was last embedded with a whole crop, as far as it goes on.
    """

    begin: int
    active: NDArray[np.float32]
    labels: Labels
    vectors: NDArray[np.float32]
    heard: Floats


class OnlineSpeakers:
    """A :class:`SpeakerModel` that knows by each window who speaks in it.

    Windows are ``step_samples`` apart; those that ``offline`` would see, one of ``every``, it is
    given too, and :meth:`finish` is its: what a stream ends with is what a file would have.
    """

    def __init__(
        self,
        calibration: Calibration,
        offline: OfflineSpeakers,
        step_samples: int,
        every: int,
        crops: int,
        bounds: SpeakerBounds,
    ) -> None:
        self.speakers: list[CachedSpeaker] = []
        self._calibration = calibration
        self._offline = offline
        self._step = step_samples
        self._every = every
        self._most_heard = crops * CROP_SECONDS
        self._most = bounds.most
        self._previous: _Previous | None = None

    @property
    def evidence(self) -> EvidenceLog:
        """What :meth:`finish` labels: the windows of the offline model."""
        return self._offline.evidence

    def update(self, evidence: WindowEvidence, *, answer: bool = True) -> Labels:
        """The speaker of each voice of the next window, -1 where nobody can be named.

        Unless ``answer``: the window is only kept.
        """
        unknown = np.full(len(evidence.voices), -1, np.intp)
        if self.on_grid(evidence.number):
            unknown = self._offline.update(replace(evidence, number=evidence.number // self._every))
        return self.label(evidence) if answer else unknown

    def on_grid(self, number: int) -> bool:
        """Whether the offline model sees window ``number``."""
        return number >= 0 and number % self._every == 0

    def finish(self, bounds: SpeakerBounds) -> SpeakerLabels:
        """The offline model's decision on all of :attr:`evidence`."""
        return self._offline.finish(bounds)

    def label(self, evidence: WindowEvidence) -> Labels:
        """As :meth:`update`, of a window that is not kept."""
        begin = evidence.number * self._step
        now = (begin + WINDOW_SAMPLES) / SAMPLE_RATE
        voices = evidence.voices
        slots = [voice.slot for voice in voices]
        active = evidence.presence()[:, slots].astype(np.float32) / np.float32(FULL_SCALE)
        labels = np.full(len(voices), -1, np.intp)
        before = self._going_on(begin, active)
        voices = tuple(
            voice._replace(vector=self._previous.vectors[row])
            if row >= 0 and self._previous is not None and not voice.vector.any()
            else voice
            for voice, row in zip(voices, before.tolist(), strict=True)
        )
        if voices:
            labels = self._shared_out(self._scores(voices, begin, active), voices, now)
        for voice, label, present in zip(voices, labels.tolist(), active.T, strict=True):
            if label < 0:
                continue
            speaker = self.speakers[label]
            looks = WINDOW_SAMPLES / self._step
            speaker.spoken += float(present.sum()) * GRID.hop_seconds / looks
            if voice.clean_seconds >= MIN_CLEAN_SECONDS and voice.vector.any():
                heard = min(voice.clean_seconds, self._most_heard)
                speaker.hear(Exemplar(voice.vector.copy(), heard, now), self._calibration)
        whole = [v.clean_seconds >= CROP_SECONDS and bool(v.vector.any()) for v in evidence.voices]
        vectors = np.array([voice.vector for voice in voices])
        times = np.asarray(np.where(whole, now, self._heard_before(before)), np.float64)
        self._previous = _Previous(begin, active, labels, vectors, times)
        return labels

    def familiar(self, number: int, presence: Presence, slots: Sequence[int]) -> list[bool]:
        """Which voices of window ``number`` need not be embedded: they go on, beyond doubt.

        ``presence`` (frames, all slots) uint8; ``slots`` of the voices.
        """
        if self.on_grid(number):
            return [False] * len(slots)
        begin = number * self._step
        active = presence[:, list(slots)].astype(np.float32) / np.float32(FULL_SCALE)
        now = (begin + WINDOW_SAMPLES) / SAMPLE_RATE
        heard = self._heard_before(self._going_on(begin, active))
        return [bool(now - time <= _FAMILIAR_SECONDS) for time in heard]

    def _going_on(self, begin: int, active: NDArray[np.float32]) -> Labels:
        """(n,) voice of the window before that each beyond doubt goes on from, else -1."""
        rows = np.full(active.shape[1], -1, np.intp)
        strength = self._strength(begin, active)
        if strength is None or self._previous is None:
            return rows
        sure = strength >= self._calibration.most_link
        alone = (sure.sum(axis=1) == 1) & (self._previous.labels >= 0)
        for column in np.flatnonzero(sure.sum(axis=0) == 1):
            row = int(sure[:, column].argmax())
            if alone[row]:
                rows[column] = row
        return rows

    def _heard_before(self, rows: Labels) -> Floats:
        """(n,) when the voices ``rows`` of the window before were embedded; -inf for none."""
        times = np.append(np.zeros(0) if self._previous is None else self._previous.heard, -np.inf)
        return np.asarray(times[rows])

    def replace(self, speakers: Iterable[tuple[int, Sequence[Exemplar]]]) -> None:
        """Take over what was found to be the exemplars of some speakers, in order of time."""
        for number, exemplars in speakers:
            while number >= len(self.speakers):
                self.speakers.append(CachedSpeaker())
            self.speakers[number].exemplars = []
            for exemplar in exemplars:
                self.speakers[number].hear(exemplar, self._calibration)

    def withdraw(self, number: int, heir: int | None) -> None:
        """Speaker ``number`` is nobody of its own, but ``heir``, if that is known."""
        gone = self.speakers[number]
        gone.withdrawn, gone.exemplars = True, []
        if heir is not None:
            self.speakers[heir].spoken += gone.spoken
        gone.spoken = 0.0
        if self._previous is not None:
            labels = self._previous.labels
            labels[labels == number] = -1 if heir is None else heir

    def _scores(
        self, voices: Sequence[LocalVoice], begin: int, active: NDArray[np.float32]
    ) -> Floats:
        """(n, k + 1) log-probability of each voice being each speaker, or somebody new."""
        calibration = self._calibration
        seconds = np.array([voice.clean_seconds for voice in voices])
        vectors = np.stack([voice.vector for voice in voices]).astype(np.float64)
        clean = seconds >= MIN_CLEAN_SECONDS
        heard = np.maximum(np.minimum(seconds, self._most_heard), SHORTEST)
        present = active.sum(axis=0, dtype=np.float64) * GRID.hop_seconds
        reliable = np.where(
            clean,
            calibration.reliability_of(heard),
            calibration.overlapped_reliability_of(np.maximum(present, SHORTEST)),
        )
        means, uncertain = self._centroids(vectors.shape[1])
        squares = (means * means).sum(axis=1)
        scores = calibration.likelihoods(vectors @ means.T, squares, reliable, uncertain)
        scores[~vectors.any(axis=1)] = 0.0
        spoken = np.array([*(each.spoken for each in self.speakers), 0.0]) + _TALK_SECONDS
        spoken[-1] = max(spoken[-1], _NEW_SHARE * spoken.sum())
        scores += calibration.talk_weight * np.log(spoken / spoken.sum())
        scores[:, -1] -= _NEW_MARGIN
        return np.asarray(scores + self._links(begin, active, scores.shape))

    def _centroids(self, size: int) -> tuple[Floats, Floats]:
        """Means (k + 1, d) of speakers, with nothing known of the last, and variances (k + 1,)."""
        means = np.zeros((len(self.speakers) + 1, size))
        precisions = np.ones(len(means))
        for number, speaker in enumerate(self.speakers):
            if not speaker.exemplars:
                continue
            vectors = np.stack([each.vector for each in speaker.exemplars])
            seconds = np.array([each.seconds for each in speaker.exemplars])
            reliable = self._calibration.reliability_of(np.maximum(seconds, SHORTEST))
            weights = np.sqrt(reliable) / (1.0 - reliable)
            precisions[number] += float((reliable / (1.0 - reliable)).sum())
            means[number] = weights @ vectors / precisions[number]
        return means, 1.0 / precisions + self._calibration.spread

    def _links(self, begin: int, active: NDArray[np.float32], shape: tuple[int, ...]) -> Floats:
        """(n, k + 1) log-odds by who spoke at the same moments in the window before."""
        odds = np.zeros(shape)
        strength = self._strength(begin, active)
        if strength is None or self._previous is None:
            return odds
        for row, label in enumerate(self._previous.labels.tolist()):
            if label >= 0:
                odds[:, label] += strength[row]
        return odds

    def _strength(self, begin: int, active: NDArray[np.float32]) -> Floats | None:
        """(m, n) log-odds of each voice of the window before being each of this one."""
        before = self._previous
        if before is None or not len(before.labels) or begin - before.begin >= WINDOW_SAMPLES:
            return None
        offset = GRID.window_offset(begin) - GRID.window_offset(before.begin)
        _, together, apart, _ = linked(before.active, active, offset, 0, 0)
        odds = self._calibration.link_odds(together, apart)
        return odds.reshape(len(before.labels), active.shape[1])

    def _shared_out(self, scores: Floats, voices: Sequence[LocalVoice], now: float) -> Labels:
        """(n,) the likeliest speakers, no two the same; makes new ones."""
        count, known = len(voices), len(self.speakers)
        living = [not each.withdrawn for each in self.speakers]
        options = np.full((count, known + 2 * count), _FORBIDDEN)
        options[:, :known] = np.where(living, scores[:, :known], _FORBIDDEN)
        room = count if self._most is None else self._most - sum(living)
        for row, voice in enumerate(voices):
            enough = voice.clean_seconds >= _NEW_SECONDS or not any(living)
            if enough and voice.vector.any() and row < room:
                options[row, known + row] = scores[row, -1]
            # Somebody who has no name yet; of whom too little is heard to be given one.
            options[row, known + count + row] = scores[row, -1] - _NAMELESS
        labels = np.full(count, -1, np.intp)
        rows, columns = linear_sum_assignment(-options)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if column < known:
                labels[row] = column
            elif column < known + count:
                labels[row] = len(self.speakers)
                self.speakers.append(CachedSpeaker(born=now))
            elif any(living):
                # As likely one of these; a pause counts as missed as much as a wrong name does.
                labels[row] = int(options[row, :known].argmax())
        return labels
