"""Scores as frozen records that check themselves and add up: pooling is ``sum``.

Every rate is a ratio of sums, so that pooled files weigh by their speech. A rate whose
denominator is zero is NaN (nothing was there to measure), never 0 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

_NEGLIGIBLE_SECONDS = 1e-6  # rounding left by sums of a few thousand float64 durations

_Record = TypeVar("_Record", bound="_Summable")


@dataclass(frozen=True)
class _Summable:
    """A record whose numeric fields are finite, not negative, and added field by field."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value: Any = getattr(self, item.name)
            if not isinstance(value, tuple) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{type(self).__name__}.{item.name} is {value}")
        self._check()

    def _check(self) -> None:
        """Raise ``ValueError`` when the fields contradict each other."""

    def __add__(self: _Record, other: _Record) -> _Record:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(
            *(getattr(self, item.name) + getattr(other, item.name) for item in fields(self))
        )


@dataclass(frozen=True)
class DiarizationErrorRate(_Summable):
    """Seconds missed, falsely added, given to the wrong speaker, and of reference speech.

    Speech counts once per speaker: two at once for a second are two seconds of ``total``.
    ``confusion`` and ``missed_detection`` together cannot exceed ``total``.
    """

    missed_detection: float
    false_alarm: float
    confusion: float
    total: float

    def _check(self) -> None:
        excess = self.missed_detection + self.confusion - self.total
        if excess > _NEGLIGIBLE_SECONDS * max(1.0, self.total):
            raise ValueError(f"{self} misses and confuses more than there is")

    @property
    def error(self) -> float:
        """Seconds in error: missed, false alarm and confusion together."""
        return self.missed_detection + self.false_alarm + self.confusion

    @property
    def rate(self) -> float:
        """Seconds in error per second of reference speech; may exceed 1; NaN without speech."""
        return _ratio(self.error, self.total)


@dataclass(frozen=True)
class JaccardErrorRate(_Summable):
    """Sum over reference speakers of their Jaccard error (0 to 1), and how many there are.

    Defined in the Second DIHARD Challenge evaluation plan, v1.1.
    """

    speaker_error: float
    speaker_count: int

    def _check(self) -> None:
        if self.speaker_error > self.speaker_count + _NEGLIGIBLE_SECONDS:
            raise ValueError(f"{self} has more error than speakers")

    @property
    def rate(self) -> float:
        """Mean error per reference speaker, 0 to 1; NaN without speakers."""
        return _ratio(self.speaker_error, self.speaker_count)


@dataclass(frozen=True)
class SpeakerCount(_Summable):
    """Speakers true and found, the absolute difference, and files with the right number."""

    reference: int
    hypothesis: int
    absolute_error: int
    correct_files: int
    files: int

    def _check(self) -> None:
        # Over several files errors of opposite sign add up; they never cancel.
        if self.absolute_error < abs(self.reference - self.hypothesis):
            raise ValueError(f"{self} counts too little error")
        if self.correct_files > self.files:
            raise ValueError(f"{self} has more correct files than files")

    @classmethod
    def of_file(cls, reference: int, hypothesis: int) -> SpeakerCount:
        """The record of one file with ``reference`` speakers of whom ``hypothesis`` were found."""
        wrong = abs(reference - hypothesis)
        return cls(reference, hypothesis, wrong, int(wrong == 0), 1)


@dataclass(frozen=True)
class OverlapError(_Summable):
    """Seconds of reference overlap (two or more speakers) missed, overlap falsely added, total."""

    missed: float
    false_alarm: float
    total: float

    def _check(self) -> None:
        if self.missed > self.total + _NEGLIGIBLE_SECONDS * max(1.0, self.total):
            raise ValueError(f"{self} misses more overlap than there is")


@dataclass(frozen=True)
class BoundaryScore(_Summable):
    """Matched turn boundaries.

    ``offsets``: per matched pair, hypothesis minus reference in seconds (late is positive).
    ``reference``, ``hypothesis``: how many boundaries each side has.
    """

    offsets: tuple[float, ...]
    reference: int
    hypothesis: int

    def _check(self) -> None:
        if len(self.offsets) > min(self.reference, self.hypothesis):
            raise ValueError(f"{len(self.offsets)} matches of {self.reference}/{self.hypothesis}")

    @property
    def precision(self) -> float:
        """Share of hypothesis boundaries that match one of the reference; NaN without any."""
        return _ratio(len(self.offsets), self.hypothesis)

    @property
    def recall(self) -> float:
        """Share of reference boundaries that were found; NaN without any."""
        return _ratio(len(self.offsets), self.reference)

    @property
    def median_seconds(self) -> float:
        """Median distance of matched boundaries."""
        return self._quantile(0.5)

    @property
    def p90_seconds(self) -> float:
        """90th percentile (linearly interpolated) of the distance of matched boundaries."""
        return self._quantile(0.9)

    @property
    def bias_seconds(self) -> float:
        """Median signed offset: positive when the hypothesis is late."""
        return float(np.median(self.offsets)) if self.offsets else math.nan

    def _quantile(self, level: float) -> float:
        return float(np.quantile(np.abs(self.offsets), level)) if self.offsets else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
