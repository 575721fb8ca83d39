"""Speaker turns: the one currency between diarization, scoring and reports."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from fluidaudio_cli.errors import AnnotationError


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


def in_milliseconds(turns: Iterable[Turn]) -> list[tuple[int, int, str]]:
    """Start, end and speaker in whole milliseconds, sorted; what rounds to nothing is left out.

    Both ends are rounded, so that turns that touch still touch. Raises ``AnnotationError`` for
    a time that is no number or before 0, or an end before its start.
    """
    rounded = []
    for turn in turns:
        if not 0 <= turn.start <= turn.end < math.inf:  # false for NaN too
            raise AnnotationError(
                f"{turn.speaker!r} speaks from {turn.start} to {turn.end} s",
                "a turn needs finite times from 0 on and an end after its start",
            )
        rounded.append((round(turn.start * 1000), round(turn.end * 1000), turn.speaker))
    return sorted(each for each in rounded if each[1] > each[0])


def speaking_seconds(turns: Iterable[Turn]) -> dict[str, float]:
    """Seconds of speech per speaker, overlap between speakers counted for each of them."""
    totals: dict[str, float] = {}
    for turn in merge_self_overlap(turns):
        totals[turn.speaker] = totals.get(turn.speaker, 0.0) + turn.duration
    return totals
