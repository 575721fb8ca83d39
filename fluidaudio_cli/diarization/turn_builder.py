"""From labelled windows back to turns, overlap included.

Every window votes with its probabilities. The summed probability of all voices in a frame says
how many speak there, the summed probability of each speaker who they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.evidence import FULL_SCALE, WindowEvidence
from fluidaudio_cli.diarization.frames import GRID, SAMPLE_RATE, WINDOW_FRAMES
from fluidaudio_cli.masks import runs
from fluidaudio_cli.turns import Turn

# Frames voted on at a time (under 5 minutes), so that memory grows neither with the recording nor
# much with its speakers: a chunk takes some 18 bytes for each frame and speaker.
_CHUNK_FRAMES = 16_384
# By how much the frames gathered grow, so that they are seldom moved.
_ROOM_FRAMES = 4 * WINDOW_FRAMES


@dataclass(frozen=True)
class ReconstructionRules:
    """Values of the mode file.

    ``onset``: expected number of speakers in a frame from which one is counted;
    ``overlap_onset``: from which two are. ``fill_gap_seconds``: shorter pauses of a speaker are
    bridged. ``min_turn_seconds``: shorter turns are dropped.
    """

    onset: float
    overlap_onset: float
    fill_gap_seconds: float
    min_turn_seconds: float


@dataclass(frozen=True)
class Reconstruction:
    """``turns`` may overlap; in ``exclusive_turns`` only the likeliest speaker speaks."""

    turns: tuple[Turn, ...]
    exclusive_turns: tuple[Turn, ...]


EVERYWHERE_ALIKE: NDArray[np.float32] = np.ones(WINDOW_FRAMES, np.float32)
"""Trust in a window that is not looked at before all of it was heard, and more."""


Span = tuple[int, int]
"""First frame of a stretch of speech, and the one after its last."""


class TurnBuilder:
    """Windows with their speakers in, turns out; a turn's speaker is a number, as text.

    ``step_samples`` between windows. ``trust`` (frames,): what a window's vote on each of its
    frames is worth. ``chunk_frames``: how much is gathered before it is voted
    on: large ones are quicker, 1 gives turns as soon as no window can change them. ``first``: the
    frame from which on there are turns.
    """

    def __init__(
        self,
        rules: ReconstructionRules,
        step_samples: int,
        chunk_frames: int = _CHUNK_FRAMES,
        trust: NDArray[np.float32] = EVERYWHERE_ALIKE,
        first: int = 0,
    ) -> None:
        self._rules = rules
        self._step = step_samples
        self._trust = trust
        self._chunk = chunk_frames
        self._fill = rules.fill_gap_seconds / GRID.hop_seconds
        # Votes of the frames from ``_first`` on: on how many speak, and for each speaker.
        self._first = first
        self._total: NDArray[np.float32] = np.zeros(0, np.float32)
        self._seen: NDArray[np.float32] = np.zeros(0, np.float32)
        self._votes: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._spans: list[list[Span]] = []  # of each speaker: those that may still grow
        self._exclusive: list[tuple[Span, int]] = []

    def push(self, evidence: WindowEvidence, labels: Sequence[int]) -> list[Turn]:
        """Take in the next window; ``labels``: a speaker 0, 1 … for each voice, -1 for none.

        Returns the turns that no later window can change, in order of time.
        """
        start = GRID.window_offset(evidence.number * self._step)
        final = self.settle(start) if start - self._first >= self._chunk else []
        self.add(evidence, labels)
        return final

    def add(self, evidence: WindowEvidence, labels: Sequence[int]) -> None:
        """As :meth:`push`, but nothing is settled; what is settled already stays as it is.

        The window may begin before the recording: its number is then negative.
        """
        start = GRID.window_offset(evidence.number * self._step)
        known = max((label + 1 for label in labels), default=0)
        self._make_room(start + WINDOW_FRAMES - self._first, known)
        late = max(0, self._first - start)
        if late >= WINDOW_FRAMES:
            return
        inside = slice(start + late - self._first, start + WINDOW_FRAMES - self._first)
        trust = self._trust[late:]
        self._seen[inside] += FULL_SCALE * trust
        if not evidence.voices:
            return
        presence = evidence.presence()[late:] * trust[:, None]
        self._total[inside] += presence.sum(axis=1, dtype=np.float32)
        slots: dict[int, list[int]] = {}
        for voice, label in zip(evidence.voices, labels, strict=True):
            if label >= 0:
                slots.setdefault(label, []).append(voice.slot)
        for label, own in slots.items():
            speaks = presence[:, own[0]]
            if len(own) > 1:
                # Taken for several, but one person: at no moment more than one.
                speaks = presence[:, own].max(axis=1)
                self._total[inside] -= presence[:, own].sum(axis=1, dtype=np.float32) - speaks
            self._votes[inside, label] += speaks

    def forget(self) -> None:
        """Take back all votes on what is not settled."""
        for votes in (self._total, self._seen, self._votes):
            votes[:] = 0.0

    def settle(self, frontier: int) -> list[Turn]:
        """Decide the frames before ``frontier``, whatever windows may still come.

        Returns the turns that end before it, in order of time.
        """
        if frontier > self._first:
            self._make_room(frontier - self._first, 0)
            self._vote(frontier)
        return self._final(self._first)

    def open_since(self) -> int:
        """First frame that a turn not given out yet may have; what is before is all given out."""
        return min([self._first, *(spans[0][0] for spans in self._spans if spans)])

    def preview(self, samples: int) -> tuple[Turn, ...]:
        """The turns not given out yet, as they would be if the recording ended now."""
        other = copy.copy(self)
        other._spans = [list(spans) for spans in self._spans]
        other._exclusive = []
        return other.finish(samples).turns

    def finish(self, samples: int) -> Reconstruction:
        """The turns not given out yet, and all exclusive ones.

        ``samples``: length of the recording at 16 kHz.
        """
        frames = GRID.frames_within(samples)
        self._make_room(frames - self._first, 0)
        self._vote(frames)
        seconds = samples / SAMPLE_RATE
        exclusive = [self._turn(span, speaker, seconds) for span, speaker in self._exclusive]
        return Reconstruction(
            tuple(self._final(None, seconds)),
            tuple(turn for turn in exclusive if turn is not None),
        )

    def _make_room(self, frames: int, speakers: int) -> None:
        more = max(0, frames - len(self._total))
        others = max(0, speakers - self._votes.shape[1])
        if more or others:
            more = max(more, _ROOM_FRAMES) if more else 0
            self._total = np.pad(self._total, (0, more))
            self._seen = np.pad(self._seen, (0, more))
            self._votes = np.pad(self._votes, ((0, more), (0, others)))
            self._spans.extend([] for _ in range(others))

    def _vote(self, end: int) -> None:
        """Settle who speaks in the frames before ``end``."""
        count = max(0, min(end - self._first, len(self._total)))
        if self._spans:
            self._settle(count)
        self._total = self._total[count:].copy()
        self._seen = self._seen[count:].copy()
        self._votes = self._votes[count:].copy()
        self._first = end

    def _settle(self, count: int) -> None:
        """Add what is spoken in the first ``count`` frames to the spans."""
        seen = np.maximum(self._seen[:count], np.float32(1.0))
        total: NDArray[np.float32] = self._total[:count] / seen
        votes: NDArray[np.float32] = self._votes[:count] / seen[:, None]
        speaking = _speaking(total, votes, self._rules)
        for speaker, spans in enumerate(self._spans):
            for first, last in (runs(speaking[:, speaker]) + self._first).tolist():
                if spans and self._goes_on(spans[-1], first):
                    spans[-1] = (spans[-1][0], last)
                else:
                    spans.append((first, last))
        alone = _strongest(speaking, votes)
        found = [
            ((first, last), speaker)
            for speaker in range(len(self._spans))
            for first, last in (runs(alone[:, speaker]) + self._first).tolist()
        ]
        for (first, last), speaker in sorted(found):
            # Pauses are bridged where nobody else speaks in them.
            if self._exclusive and self._exclusive[-1][1] == speaker:
                span = self._exclusive[-1][0]
                if self._goes_on(span, first):
                    self._exclusive[-1] = (span[0], last), speaker
                    continue
            self._exclusive.append(((first, last), speaker))

    def _goes_on(self, span: Span, first: int) -> bool:
        gap = first - span[1]
        return gap == 0 or gap < self._fill

    def _final(self, frontier: int | None, seconds: float = np.inf) -> list[Turn]:
        """Take out the spans that speech from frame ``frontier`` on cannot join; all if None."""
        turns: list[Turn | None] = []
        for speaker, spans in enumerate(self._spans):
            open_from = len(spans)
            if frontier is not None and spans and self._goes_on(spans[-1], frontier):
                open_from -= 1
            turns.extend(self._turn(span, speaker, seconds) for span in spans[:open_from])
            del spans[:open_from]
        return sorted(turn for turn in turns if turn is not None)

    def _turn(self, span: Span, speaker: int, seconds: float) -> Turn | None:
        start, end = GRID.boundary(span[0]), min(GRID.boundary(span[1]), seconds)
        if end - start < max(self._rules.min_turn_seconds, _SHORTEST_TURN):
            return None
        return Turn(start, end, str(speaker))


# One millisecond, the resolution of RTTM: a shorter turn would be written with no length.
_SHORTEST_TURN = 0.001


def _speaking(
    count: NDArray[np.float32], votes: NDArray[np.float32], rules: ReconstructionRules
) -> NDArray[np.bool_]:
    """(n, k): the likeliest speakers of each frame, as many as are counted in it."""
    speaking = np.zeros(votes.shape, bool)
    remaining = votes.copy()
    everywhere = np.arange(len(votes))
    for rank, least in enumerate((rules.onset, rules.overlap_onset)[: votes.shape[1]]):
        best = remaining.argmax(axis=1)
        chosen = (count >= least) & (remaining[everywhere, best] >= _LEAST_SHARE)
        speaking[everywhere[chosen], best[chosen]] = True
        if rank == 0:
            remaining[everywhere, best] = -1.0
    return speaking


# A speaker hardly voted for is not put in only because the count asks for one more.
_LEAST_SHARE = 0.05


def _strongest(speaking: NDArray[np.bool_], votes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n, k): at most one speaker per frame."""
    alone = np.zeros(speaking.shape, bool)
    somebody = np.flatnonzero(speaking.any(axis=1))
    alone[somebody, votes[somebody].argmax(axis=1)] = True
    return alone & speaking


def build_turns(
    labelled: Iterable[tuple[WindowEvidence, Sequence[int]]],
    rules: ReconstructionRules,
    step_samples: int,
    samples: int,
) -> Reconstruction:
    """All turns of ``labelled`` windows, in order, of a recording of ``samples``."""
    builder = TurnBuilder(rules, step_samples)
    turns = [turn for evidence, labels in labelled for turn in builder.push(evidence, labels)]
    rest = builder.finish(samples)
    return Reconstruction(tuple(sorted((*turns, *rest.turns))), rest.exclusive_turns)
