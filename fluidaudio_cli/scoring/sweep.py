"""Diarization error by one sweep over the boundaries: exact, without frames, and fast.

Time is cut at every boundary into slices within which nobody starts or stops. Per slice with
``r`` reference and ``h`` hypothesis speakers of whom ``c`` are mapped to each other (NIST
RT-09 evaluation plan, section 6.1): missed ``max(r-h, 0)``, false alarm ``max(h-r, 0)``,
confusion ``min(r, h) - c``, each times the slice's length. The mapping maximises the time in
common (Hungarian algorithm).

pyannote.metrics remains the scorer of record (``metrics.score_conditions``); this one is its
independent check, and the one to call thousands of times while tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.scoring.extents import Extents, merge_extents, subtract_extents
from fluidaudio_cli.scoring.records import DiarizationErrorRate, JaccardErrorRate, OverlapError
from fluidaudio_cli.turns import Turn, merge_self_overlap

# pyannote.core ignores segments shorter than a microsecond; each slice may lose as much.
PRECISION_SECONDS = 1e-6

Regions = Literal["all", "single", "overlap", "nonoverlap"]
"""Scored part of the time: any, exactly one reference speaker, two or more, at most one."""


@dataclass(frozen=True)
class Slices:
    """Scored time cut at every boundary: S slices, R reference and H hypothesis speakers.

    ``spans``: start and end, float64 (S, 2). ``reference``, ``hypothesis``: who speaks, bool
    (S, R) and (S, H), speakers sorted by name.
    """

    spans: NDArray[np.float64]
    reference: NDArray[np.bool_]
    hypothesis: NDArray[np.bool_]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Length of each, float64 (S,)."""
        return np.asarray(self.spans[:, 1] - self.spans[:, 0])


def score_turns(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents,
    *,
    collar_per_side: float = 0.0,
    skip_overlap: bool = False,
    regions: Regions = "all",
) -> DiarizationErrorRate:
    """Diarization error within ``uem`` (seconds); self-overlap of a speaker is merged first.

    ``collar_per_side`` seconds are left out on either side of each reference boundary, and
    with ``skip_overlap`` all time with two or more reference speakers. ``regions`` limits what
    is counted, not the mapping, so that ``overlap`` and ``nonoverlap`` add up to ``all``.
    """
    scored = scored_extents(reference, uem, collar_per_side, skip_overlap)
    slices = cut(reference, hypothesis, scored)
    speaking = slices.reference.sum(axis=1)
    answered = slices.hypothesis.sum(axis=1)
    correct = np.zeros_like(speaking)
    for row, column in _best_mapping(_common_seconds(slices)):
        correct += slices.reference[:, row] & slices.hypothesis[:, column]
    seconds = slices.seconds * in_regions(speaking, regions)
    return DiarizationErrorRate(
        missed_detection=float(seconds @ np.maximum(speaking - answered, 0)),
        false_alarm=float(seconds @ np.maximum(answered - speaking, 0)),
        confusion=float(seconds @ (np.minimum(speaking, answered) - correct)),
        total=float(seconds @ speaking),
    )


def overlap_error(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], uem: Extents
) -> OverlapError:
    """Overlap (two or more speakers at once, whoever they are) missed and falsely added."""
    slices = cut(reference, hypothesis, merge_extents(uem))
    true = slices.reference.sum(axis=1) >= 2
    found = slices.hypothesis.sum(axis=1) >= 2
    return OverlapError(
        missed=float(slices.seconds @ (true & ~found)),
        false_alarm=float(slices.seconds @ (found & ~true)),
        total=float(slices.seconds @ true),
    )


def speaker_mapping(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], scored: Extents
) -> dict[str, str]:
    """Hypothesis speaker to reference speaker, maximising the ``scored`` time in common."""
    truth, answer = (_speakers(side) for side in (reference, hypothesis))
    common = _common_seconds(cut(reference, hypothesis, scored))
    return {answer[column]: truth[row] for row, column in _best_mapping(common)}


def jaccard_error(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], scored: Extents
) -> JaccardErrorRate:
    """Jaccard error of each reference speaker heard in ``scored``, with their mapped one.

    One minus time in common over time of either (Second DIHARD Challenge evaluation plan,
    v1.1); 1 for a speaker who is mapped to nobody.
    """
    slices = cut(reference, hypothesis, scored)
    common = _common_seconds(slices)
    spoken, found = slices.seconds @ slices.reference, slices.seconds @ slices.hypothesis
    shared = sum(
        float(common[row, column] / (spoken[row] + found[column] - common[row, column]))
        for row, column in _best_mapping(common)
    )
    # Less is what rounding left of a speaker whom collars took out.
    heard = int((spoken > PRECISION_SECONDS).sum())
    return JaccardErrorRate(max(heard - shared, 0.0), heard)


def scored_extents(
    reference: Sequence[Turn], uem: Extents, collar_per_side: float, skip_overlap: bool
) -> Extents:
    """``uem`` without the collars and, if asked, without the overlap of ``reference``."""
    check_collar(collar_per_side)
    turns = merge_self_overlap(reference)
    edges = [edge for turn in turns for edge in (turn.start, turn.end)]
    collars = merge_extents((edge - collar_per_side, edge + collar_per_side) for edge in edges)
    scored = subtract_extents(merge_extents(uem), collars)
    return subtract_extents(scored, region_extents(turns, "overlap")) if skip_overlap else scored


def check_collar(collar_per_side: float) -> None:
    """Raise ``UsageError`` unless the collar is a finite time of 0 s or more."""
    if not 0 <= collar_per_side < float("inf"):
        raise UsageError(f"a collar of {collar_per_side} s per side", "give a time of 0 s or more")


def region_extents(reference: Sequence[Turn], regions: Regions) -> Extents:
    """Time of ``reference`` with exactly one speaker (``single``) or several (``overlap``)."""
    turns = merge_self_overlap(reference)
    if not turns:
        return ()
    slices = cut(turns, (), ((min(turns)[0], max(turn.end for turn in turns)),))
    chosen = in_regions(slices.reference.sum(axis=1), regions)
    return merge_extents((start, end) for start, end in slices.spans[chosen].tolist())


def in_regions(speaking: NDArray[np.int64], regions: Regions) -> NDArray[np.bool_]:
    """Which slices with ``speaking`` (S,) reference speakers belong to ``regions``."""
    if regions == "all":
        return np.ones(speaking.shape, dtype=np.bool_)
    if regions == "single":
        return np.equal(speaking, 1)
    if regions == "overlap":
        return np.greater_equal(speaking, 2)
    if regions == "nonoverlap":
        return np.less_equal(speaking, 1)
    raise UsageError(f"regions '{regions}'", f"choose one of {', '.join(get_args(Regions))}")


def cut(reference: Sequence[Turn], hypothesis: Sequence[Turn], scored: Extents) -> Slices:
    """Cut the ``scored`` time at every boundary of either side."""
    sides = (merge_self_overlap(reference), merge_self_overlap(hypothesis))
    edges = np.unique(
        np.array(
            [edge for side in sides for turn in side for edge in (turn.start, turn.end)]
            + [edge for interval in scored for edge in interval],
            dtype=np.float64,
        )
    )
    inside = _activity([Turn(start, end, "") for start, end in scored], edges).any(axis=1)
    return Slices(
        np.stack([edges[:-1], edges[1:]], axis=1)[inside],
        _activity(sides[0], edges)[inside],
        _activity(sides[1], edges)[inside],
    )


def _common_seconds(slices: Slices) -> NDArray[np.float64]:
    """Time each reference speaker shares with each hypothesis speaker, float64 (R, H)."""
    return np.asarray(slices.reference.T @ (slices.hypothesis * slices.seconds[:, None]))


def _best_mapping(common: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (reference, hypothesis) that maximise the summed common time (R, H); none at 0 s."""
    from scipy.optimize import linear_sum_assignment  # 0.3 s to import, and rarely needed

    rows, columns = linear_sum_assignment(common, maximize=True)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if common[row, column] > 0
    ]


def _activity(turns: Sequence[Turn], edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Who speaks between consecutive ``edges``: bool (len(edges) - 1, speakers by name)."""
    columns = {name: index for index, name in enumerate(_speakers(turns))}
    steps = np.zeros((max(len(edges), 1), len(columns)), dtype=np.int32)
    where = np.array([columns[turn.speaker] for turn in turns], dtype=np.int64)
    starts = np.searchsorted(edges, np.array([turn.start for turn in turns]))
    ends = np.searchsorted(edges, np.array([turn.end for turn in turns]))
    np.add.at(steps, (starts, where), 1)
    np.add.at(steps, (ends, where), -1)
    return np.asarray(np.cumsum(steps, axis=0)[:-1] > 0)


def _speakers(turns: Sequence[Turn]) -> list[str]:
    return sorted({turn.speaker for turn in turns})
