"""What a stream has said so far, and how that changes: every change has a name and a span."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from fluidaudio_cli.scoring.extents import Extents, intersect_extents, subtract_extents
from fluidaudio_cli.turns import Turn

Span = tuple[float, float]
"""Start and end in whole milliseconds: what is taken back is exactly what was given."""

Spans = dict[str, list[Span]]
"""Of each speaker, in order, apart from each other."""


class Revision(NamedTuple):
    """``start`` to ``end`` (seconds) is no longer ``before``'s speech, but ``after``'s.

    ``None`` stands for nobody: speech that was not heard before, or is taken back.
    """

    start: float
    end: float
    before: str | None
    after: str | None


class Ledger:
    """All turns that a reader of the stream has by now: finals in, revisions applied."""

    def __init__(self) -> None:
        self._spans: Spans = {}

    def add(self, turns: Iterable[Turn]) -> None:
        """Take in turns that became final."""
        for turn in turns:
            _put(self._spans, turn.speaker, _span(turn))

    def apply(self, revisions: Iterable[Revision]) -> None:
        """What a reader does with revisions: first all that goes, then all that comes."""
        revisions = list(revisions)
        for start, end, before, _ in revisions:
            if before is not None:
                gone = (round(start * 1000), round(end * 1000))
                own = self._spans.setdefault(before, [])
                first = _ending_from(own, gone[0])
                own[first:] = subtract_extents(own[first:], [gone])
        for start, end, _, after in revisions:
            if after is not None:
                _put(self._spans, after, (round(start * 1000), round(end * 1000)))

    def rename(self, names: Mapping[str, str | None]) -> None:
        """Make all speech of some speakers that of others, or nobody's (``None``)."""
        for before, after in names.items():
            if after != before:
                for span in self._spans.pop(before, []):
                    if after is not None:
                        _put(self._spans, after, span)

    def copy(self) -> Ledger:
        """The same, which does not change with it."""
        other = Ledger()
        other._spans = {speaker: list(spans) for speaker, spans in self._spans.items()}
        return other

    def turns(self, since: float = 0.0) -> list[Turn]:
        """All that ends no sooner than ``since`` (seconds), in order of time."""
        return sorted(
            Turn(start / 1000, end / 1000, speaker)
            for speaker in self._spans
            for start, end in self._since(speaker, since)
        )

    def first(self, speaker: str) -> Turn | None:
        """The earliest of a speaker."""
        spans = self._spans.get(speaker)
        return Turn(spans[0][0] / 1000, spans[0][1] / 1000, speaker) if spans else None

    def _since(self, speaker: str, seconds: float) -> list[Span]:
        spans = self._spans.get(speaker, [])
        return spans[_ending_from(spans, round(seconds * 1000)) :]

    def speakers(self) -> set[str]:
        """Those who have speech."""
        return {speaker for speaker, spans in self._spans.items() if spans}

    def changes(
        self, turns: Iterable[Turn], start: float, end: float, shortest: float = 0.0
    ) -> list[Revision]:
        """What makes this be ``turns`` between ``start`` and ``end``, in order of time.

        Changes shorter than ``shortest`` (seconds) are left out.
        """
        inside = (round(start * 1000), round(end * 1000))
        wanted: Spans = {}
        for turn in turns:
            _put(wanted, turn.speaker, _span(turn))
        gone: dict[str, Extents] = {}
        come: dict[str, Extents] = {}
        for speaker in self._spans.keys() | wanted.keys():
            old = intersect_extents(self._since(speaker, start), [inside])
            new = intersect_extents(wanted.get(speaker, []), [inside])
            gone[speaker], come[speaker] = subtract_extents(old, new), subtract_extents(new, old)
        found: list[tuple[Span, str | None, str | None]] = []
        for after in sorted(come):
            for before in sorted(gone):
                both = intersect_extents(gone[before], come[after])
                found.extend((span, before, after) for span in both)
                gone[before] = subtract_extents(gone[before], both)
                come[after] = subtract_extents(come[after], both)
        for speaker in gone:
            found.extend((span, speaker, None) for span in gone[speaker])
            found.extend((span, None, speaker) for span in come[speaker])
        least = max(1, round(shortest * 1000))
        return sorted(
            (
                Revision(first / 1000, last / 1000, before, after)
                for (first, last), before, after in found
                if last - first >= least
            ),
            key=lambda each: (each.start, each.end, each.before or "", each.after or ""),
        )


def overlap_seconds(
    first: Iterable[Turn], second: Iterable[Turn]
) -> Mapping[tuple[str, str], float]:
    """How long each speaker of ``first`` speaks while each of ``second`` does."""
    one: Spans = {}
    other: Spans = {}
    for spans, turns in ((one, first), (other, second)):
        for turn in turns:
            _put(spans, turn.speaker, _span(turn))
    return {
        (a, b): sum(end - start for start, end in intersect_extents(one[a], other[b])) / 1000
        for a in one
        for b in other
    }


def partners(first: Iterable[Turn], second: Iterable[Turn]) -> dict[str, str]:
    """Speakers of ``first`` by those of ``second``, one each, who speak most while they do."""
    together = overlap_seconds(first, second)
    names = list(dict.fromkeys(a for a, _ in together))
    others = sorted({b for _, b in together})
    table = np.array([[together[a, b] for b in others] for a in names])
    if not table.size:
        return {}
    rows, columns = linear_sum_assignment(-table)
    pairs = ((names[row], others[column]) for row, column in zip(rows, columns, strict=True))
    return {a: b for a, b in pairs if together[a, b] > 0.0}


def _span(turn: Turn) -> Span:
    return round(turn.start * 1000), round(turn.end * 1000)


def _put(spans: Spans, speaker: str, span: Span) -> None:
    """Add ``span`` to a speaker's, joined with those it touches."""
    own = spans.setdefault(speaker, [])
    if span[1] <= span[0]:
        return
    first = last = _ending_from(own, span[0])
    while last < len(own) and own[last][0] <= span[1]:
        span = min(span[0], own[last][0]), max(span[1], own[last][1])
        last += 1
    own[first:last] = [span]


def _ending_from(spans: list[Span], time: float) -> int:
    """Number of the first of ``spans`` that ends no sooner than ``time``.

    Only what follows is looked at: hours of a stream cost no more than minutes.
    """
    return bisect_left(spans, time, key=lambda span: span[1])
