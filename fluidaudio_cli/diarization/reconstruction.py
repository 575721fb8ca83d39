"""From labelled windows back to turns, overlap included.

Every window votes with its probabilities. The summed probability of all voices in a frame says
how many speak there, the summed probability of each speaker who they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.frames import GRID, SAMPLE_RATE, WINDOW_FRAMES
from fluidaudio_cli.diarization.local_speakers import runs
from fluidaudio_cli.turns import Turn

# Frames voted on at a time (under 5 minutes), so that memory grows neither with the recording nor
# much with its speakers: a chunk takes some 18 bytes for each frame and speaker.
_CHUNK_FRAMES = 16_384


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
class LabelledWindow:
    """One window's vote.

    ``first_frame``: its place on the recording's grid. ``presence`` gives (589, 3) uint8, the
    probability of each local speaker, full scale 255; a function, because windows are kept
    compressed. ``speakers``: (slot, speaker) of those that have one.
    """

    first_frame: int
    presence: Callable[[], NDArray[np.uint8]]
    speakers: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Reconstruction:
    """``turns`` may overlap; in ``exclusive_turns`` only the likeliest speaker speaks."""

    turns: tuple[Turn, ...]
    exclusive_turns: tuple[Turn, ...]


def reconstruct(
    windows: Sequence[LabelledWindow],
    names: Sequence[str],
    duration_samples: int,
    rules: ReconstructionRules,
) -> Reconstruction:
    """Turns of the speakers ``names`` in a recording of ``duration_samples`` samples (16 kHz).

    ``windows`` are sorted by ``first_frame``.
    """
    if not names:
        return Reconstruction((), ())
    frames = GRID.frames_within(duration_samples)
    seconds = duration_samples / SAMPLE_RATE
    overlapping: list[list[tuple[int, int]]] = [[] for _ in names]
    exclusive: list[list[tuple[int, int]]] = [[] for _ in names]
    for first, count, votes in _vote(windows, len(names), frames):
        speaking = _speaking(count, votes, rules)
        alone = _strongest(speaking, votes)
        for spans, mask in ((overlapping, speaking), (exclusive, alone)):
            for speaker, ends in enumerate(spans):
                _extend(ends, runs(mask[:, speaker]) + first)
    fill = rules.fill_gap_seconds / GRID.hop_seconds
    filled = [_bridge(spans, fill) for spans in overlapping]
    return Reconstruction(
        _turns(filled, names, seconds, rules.min_turn_seconds),
        _turns(_bridge_unless_taken(exclusive, fill), names, seconds, rules.min_turn_seconds),
    )


Spans = list[tuple[int, int]]


def _vote(
    windows: Sequence[LabelledWindow], speakers: int, frames: int
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """Per chunk: its first frame, expected speakers (n,) and each speaker's share (n, k)."""
    begin = 0
    for first in range(0, frames, _CHUNK_FRAMES):
        size = min(_CHUNK_FRAMES, frames - first)
        total = np.zeros(size, np.float32)
        votes = np.zeros((size, speakers), np.float32)
        seen = np.zeros(size, np.float32)
        while begin < len(windows) and windows[begin].first_frame + WINDOW_FRAMES <= first:
            begin += 1
        for index in range(begin, len(windows)):
            window = windows[index]
            start = window.first_frame - first
            if start >= size:
                break
            inside = slice(max(start, 0), min(start + WINDOW_FRAMES, size))
            presence = window.presence()[inside.start - start : inside.stop - start]
            seen[inside] += _FULL_SCALE
            total[inside] += presence.sum(axis=1, dtype=np.float32)
            for slot, speaker in window.speakers:
                votes[inside, speaker] += presence[:, slot]
        np.maximum(seen, 1.0, out=seen)
        yield first, total / seen, votes / seen[:, None]


_FULL_SCALE = 255.0


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


def _extend(spans: Spans, found: NDArray[np.intp]) -> None:
    """Append runs, joining one that goes on from the chunk before."""
    for first, last in found.tolist():
        if spans and spans[-1][1] == first:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))


def _bridge(spans: Spans, gap_frames: float) -> Spans:
    """Join spans that are less than ``gap_frames`` apart."""
    joined: Spans = []
    for first, last in spans:
        if joined and first - joined[-1][1] < gap_frames:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def _bridge_unless_taken(per_speaker: Sequence[Spans], gap_frames: float) -> list[Spans]:
    """As :func:`_bridge`, but only over gaps in which nobody else speaks."""
    bridged: list[Spans] = [[] for _ in per_speaker]
    latest = -1
    everything = sorted(
        (first, last, speaker) for speaker, spans in enumerate(per_speaker) for first, last in spans
    )
    for first, last, speaker in everything:
        own = bridged[speaker]
        if own and latest == speaker and first - own[-1][1] < gap_frames:
            own[-1] = (own[-1][0], last)
        else:
            own.append((first, last))
        latest = speaker
    return bridged


def _turns(
    per_speaker: Sequence[Spans], names: Sequence[str], seconds: float, shortest: float
) -> tuple[Turn, ...]:
    """Turns in seconds, sorted by time."""
    turns = []
    for name, spans in zip(names, per_speaker, strict=True):
        for first, last in spans:
            start, end = GRID.boundary(first), min(GRID.boundary(last), seconds)
            if end - start >= max(shortest, _SHORTEST_TURN):
                turns.append(Turn(start, end, name))
    return tuple(sorted(turns))


# One millisecond, the resolution of RTTM: a shorter turn would be written with no length.
_SHORTEST_TURN = 0.001
