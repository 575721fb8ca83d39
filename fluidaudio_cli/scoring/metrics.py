"""Scores of a diarization against its reference; pyannote.metrics is the scorer of record.

Two conditions stand side by side by default, since published figures mix them: *strict* (no
collar, overlap scored) and *lenient* (0.25 s left out on either side of each reference
boundary, overlap skipped; NIST's habit). pyannote.metrics' own ``collar`` is the total width,
twice ours.

Each diarization error rate is computed a second time by our sweep (``sweep.score_turns``), and
a disagreement beyond rounding is an error: no number is shown that only one scorer vouches for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

from fluidaudio_cli.errors import AnnotationError, SelfTestError
from fluidaudio_cli.scoring.boundaries import DEFAULT_TOLERANCE, boundary_score
from fluidaudio_cli.scoring.extents import (
    Extents,
    extents_seconds,
    intersect_extents,
    merge_extents,
    subtract_extents,
)
from fluidaudio_cli.scoring.pyannote_scorer import pyannote_rates
from fluidaudio_cli.scoring.records import (
    BoundaryScore,
    DiarizationErrorRate,
    JaccardErrorRate,
    OverlapError,
    SpeakerCount,
)
from fluidaudio_cli.scoring.sweep import (
    PRECISION_SECONDS,
    Regions,
    check_collar,
    cut,
    overlap_error,
    region_extents,
    score_turns,
)
from fluidaudio_cli.turns import Turn, merge_self_overlap

UemSource = Literal["given", "audio", "extent"]
"""Where the scored time comes from: a UEM, the audio's length, or reference and hypothesis."""


@dataclass(frozen=True)
class Condition:
    """What is left out of a diarization error rate; ``collar_per_side`` in seconds."""

    name: str
    collar_per_side: float
    skip_overlap: bool

    def __post_init__(self) -> None:
        """Refuse a collar that is negative or no number."""
        check_collar(self.collar_per_side)

    @property
    def description(self) -> str:
        """For people: the name and what it means."""
        overlap = "skipped" if self.skip_overlap else "scored"
        return f"{self.name}: collar ±{self.collar_per_side:g} s, overlap {overlap}"


STRICT = Condition("strict", 0.0, skip_overlap=False)
LENIENT = Condition("lenient", 0.25, skip_overlap=True)


def condition(collar_per_side: float, skip_overlap: bool) -> Condition:
    """The condition of these settings: strict, lenient, or one named ``custom``."""
    for known in (STRICT, LENIENT):
        if (known.collar_per_side, known.skip_overlap) == (collar_per_side, skip_overlap):
            return known
    return Condition("custom", collar_per_side, skip_overlap)


@dataclass(frozen=True)
class ConditionScore:
    """Error rates under one condition."""

    condition: Condition
    der: DiarizationErrorRate
    jer: JaccardErrorRate

    def __add__(self, other: ConditionScore) -> ConditionScore:
        """Pool two scores of the same condition."""
        if other.condition != self.condition:
            raise ValueError(f"cannot add {other.condition} to {self.condition}")
        return ConditionScore(self.condition, self.der + other.der, self.jer + other.jer)


@dataclass(frozen=True)
class Scores:
    """Every figure of one recording, or of several pooled.

    Speaker count, overlap and boundaries are those of the whole UEM: no collar, all regions.
    ``scored_seconds`` is the UEM's length.
    """

    conditions: tuple[ConditionScore, ...]
    speakers: SpeakerCount
    overlap: OverlapError
    boundaries: BoundaryScore
    scored_seconds: float

    def under(self, name: str) -> ConditionScore:
        """The error rates under the condition of that name."""
        for score in self.conditions:
            if score.condition.name == name:
                return score
        raise KeyError(f"not scored under condition {name!r}")

    @property
    def strict(self) -> ConditionScore:
        """Error rates without collar, overlap scored."""
        return self.under(STRICT.name)

    @property
    def lenient(self) -> ConditionScore:
        """Error rates with a collar of 0.25 s per side, overlap skipped."""
        return self.under(LENIENT.name)


@dataclass(frozen=True)
class FileScore(Scores):
    """Scores of one recording: its ``uri``, the scored time and where that comes from."""

    uri: str
    uem: Extents
    uem_source: UemSource


def score_conditions(
    conditions: Sequence[Condition],
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents | None = None,
    *,
    regions: Regions = "all",
    tolerance: float = DEFAULT_TOLERANCE,
    uri: str = "recording",
    uem_source: UemSource = "given",
    no_score: Extents = (),
) -> FileScore:
    """Score one recording under ``conditions``.

    ``uem``: scored time in seconds (pass the audio's extent, with ``uem_source="audio"``, when
    there is no UEM); without it, from the first to the last boundary of either side, and
    ``FileScore.uem_source`` says so; ``no_score`` is taken from it. ``regions`` limits what the
    error rates count; for DER speakers are mapped over all of the scored time. ``tolerance``:
    seconds up to which boundaries match. A speaker's self-overlap is merged first.

    A hypothesis without turns is a legitimate answer (all speech missed). A reference without
    speech in the scored time raises ``AnnotationError``; where a collar or a region leaves no
    speech, the rate is NaN.
    """
    truth, answer = merge_self_overlap(reference), merge_self_overlap(hypothesis)
    if uem is None:
        uem_source = "extent"
        turns = [*truth, *answer]
        extent = merge_extents([(min(turns)[0], max(turn.end for turn in turns))] if turns else [])
    else:
        extent = merge_extents(uem)
    extent = subtract_extents(extent, merge_extents(no_score))
    present = cut(truth, answer, extent)
    if not present.reference.any():
        raise AnnotationError(
            f"the reference of '{uri}' has no speech in the scored time, so it has no error rate",
            "check the reference and its UEM, or leave this recording out",
        )
    speakers = SpeakerCount.of_file(
        int(present.reference.any(axis=0).sum()), int(present.hypothesis.any(axis=0).sum())
    )
    boundaries = boundary_score(truth, answer, extent, tolerance=tolerance)
    return FileScore(
        conditions=tuple(
            _under_condition(each, truth, answer, extent, regions, uri) for each in conditions
        ),
        speakers=speakers,
        overlap=overlap_error(truth, answer, extent),
        boundaries=boundaries,
        scored_seconds=extents_seconds(extent),
        uri=uri,
        uem=extent,
        uem_source=uem_source,
    )


def pool(scores: Iterable[Scores]) -> Scores:
    """Pool recordings: seconds, speakers and boundaries add up, and rates follow from sums.

    Raises ``ValueError`` without scores, or when they were made under different conditions.
    """
    return reduce(_add, scores)


def _add(left: Scores, right: Scores) -> Scores:
    return Scores(
        conditions=tuple(a + b for a, b in zip(left.conditions, right.conditions, strict=True)),
        speakers=left.speakers + right.speakers,
        overlap=left.overlap + right.overlap,
        boundaries=left.boundaries + right.boundaries,
        scored_seconds=left.scored_seconds + right.scored_seconds,
    )


def _under_condition(
    condition: Condition,
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents,
    regions: Regions,
    uri: str,
) -> ConditionScore:
    """Both error rates by pyannote.metrics; the diarization error checked by the sweep."""
    collar, skip = condition.collar_per_side, condition.skip_overlap
    counted = _region(reference, uem, regions)
    der, jer = pyannote_rates(reference, hypothesis, uem, counted, collar, skip)
    check = score_turns(
        reference, hypothesis, uem, collar_per_side=collar, skip_overlap=skip, regions=regions
    )
    _agree(der, check, 4 * (len(reference) + len(hypothesis) + len(uem)), uri, condition)
    return ConditionScore(condition, der, jer)


def _agree(
    record: DiarizationErrorRate,
    check: DiarizationErrorRate,
    slices: int,
    uri: str,
    condition: Condition,
) -> None:
    tolerance = slices * PRECISION_SECONDS
    for name in ("missed_detection", "false_alarm", "confusion", "total"):
        first, second = getattr(record, name), getattr(check, name)
        if abs(first - second) > tolerance:
            raise SelfTestError(
                f"two scorers disagree on {name} of '{uri}' ({condition.description}): "
                f"pyannote.metrics {first:.6f} s, sweep {second:.6f} s",
                "please report this with the two files",
            )


def _region(reference: Sequence[Turn], uem: Extents, regions: Regions) -> Extents:
    if regions == "all":
        return uem
    if regions == "nonoverlap":
        return subtract_extents(uem, region_extents(reference, "overlap"))
    return intersect_extents(uem, region_extents(reference, regions))
