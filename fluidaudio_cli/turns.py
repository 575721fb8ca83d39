"""Speaker turns: the one currency between diarization, scoring and reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Turn(NamedTuple):
    """One speaker speaking without a pause, ``start`` and ``end`` in seconds."""

    start: float
    end: float
    speaker: str

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start


def merge_self_overlap(turns: Iterable[Turn]) -> list[Turn]:
    """Union of each speaker's own turns where they overlap or touch, sorted by time.

    A speaker cannot overlap themselves; references written by hand often say so anyway, and
    scoring would count that speech twice.
    """
    merged: list[Turn] = []
    latest: dict[str, int] = {}
    for turn in sorted(turns):
        index = latest.get(turn.speaker)
        if index is not None and turn.start <= merged[index].end:
            last = merged[index]
            merged[index] = Turn(last.start, max(last.end, turn.end), last.speaker)
        else:
            latest[turn.speaker] = len(merged)
            merged.append(turn)
    return merged


def speaking_seconds(turns: Iterable[Turn]) -> dict[str, float]:
    """Seconds of speech per speaker, overlap between speakers counted for each of them."""
    totals: dict[str, float] = {}
    for turn in merge_self_overlap(turns):
        totals[turn.speaker] = totals.get(turn.speaker, 0.0) + turn.duration
    return totals
