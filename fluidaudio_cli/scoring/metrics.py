"""Scores of a diarization against its reference; pyannote.metrics is the scorer of record.

Two conditions stand side by side by default, since published figures mix them: *strict* (no
collar, overlap scored) and *lenient* (0.25 s left out on either side of each reference
boundary, overlap skipped; NIST's habit). pyannote.metrics' own ``collar`` is the total width,
twice ours.

Each diarization error rate is computed a second time by our sweep (``sweep.score_turns``), and
a disagreement beyond rounding is an error: no number is shown that only one scorer vouches for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from fluidaudio_cli.errors import AnnotationError, SelfTestError, UsageError
from fluidaudio_cli.scoring.boundaries import DEFAULT_TOLERANCE, boundary_score
from fluidaudio_cli.scoring.extents import (
    Extents,
    extents_seconds,
    intersect_extents,
    merge_extents,
    subtract_extents,
)
from fluidaudio_cli.scoring.records import (
    BoundaryScore,
    DiarizationErrorRate,
    JaccardErrorRate,
    OverlapError,
    SpeakerCount,
)
from fluidaudio_cli.scoring.sweep import (
    Regions,
    check_collar,
    cut,
    jaccard_error,
    overlap_error,
    region_extents,
    score_turns,
    scored_extents,
    speaker_mapping,
)
from fluidaudio_cli.turns import Turn, merge_self_overlap

# pyannote.core ignores segments shorter than a microsecond; each slice may lose as much.
_PRECISION_SECONDS = 1e-6

# pyannote.metrics takes time with the square of the turns: for both conditions some 2 s at 2500
# (a lively hour), minutes at ten times that. Longer recordings are scored in parts.
_WHOLE_TURNS = 2500
_PART_SECONDS = 600.0

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

    @property
    def der(self) -> DiarizationErrorRate:
        """Diarization error under the first condition: strict, or the one asked for."""
        return self.conditions[0].der

    @property
    def jer(self) -> JaccardErrorRate:
        """Jaccard error under the first condition: strict, or the one asked for."""
        return self.conditions[0].jer


@dataclass(frozen=True)
class FileScore(Scores):
    """Scores of one recording: its ``uri``, the scored time and where that comes from."""

    uri: str
    uem: Extents
    uem_source: UemSource


def score(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents | None = None,
    *,
    collar_per_side: float = 0.0,
    skip_overlap: bool = False,
    regions: Regions = "all",
    tolerance: float = DEFAULT_TOLERANCE,
    uri: str = "recording",
    uem_source: UemSource = "given",
) -> FileScore:
    """Score one recording under one condition; see ``score_conditions``."""
    if skip_overlap and regions == "overlap":
        raise UsageError("regions 'overlap' with overlap skipped leaves nothing", "choose one")
    return score_conditions(
        (condition(collar_per_side, skip_overlap),),
        reference,
        hypothesis,
        uem,
        regions=regions,
        tolerance=tolerance,
        uri=uri,
        uem_source=uem_source,
    )


def score_both(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents | None = None,
    *,
    regions: Regions = "all",
    tolerance: float = DEFAULT_TOLERANCE,
    uri: str = "recording",
    uem_source: UemSource = "given",
) -> FileScore:
    """Score one recording, strict and lenient; see ``score_conditions``."""
    return score_conditions(
        (STRICT, LENIENT),
        reference,
        hypothesis,
        uem,
        regions=regions,
        tolerance=tolerance,
        uri=uri,
        uem_source=uem_source,
    )


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
    if len(reference) + len(hypothesis) <= _WHOLE_TURNS:
        der, jer = _whole(condition, reference, hypothesis, uem, counted)
    else:
        scored = scored_extents(reference, uem, collar, skip)
        mapping = speaker_mapping(reference, hypothesis, scored)
        der = _in_parts(condition, reference, hypothesis, counted, mapping)
        jer = jaccard_error(reference, hypothesis, scored_extents(reference, counted, collar, skip))
    check = score_turns(
        reference, hypothesis, uem, collar_per_side=collar, skip_overlap=skip, regions=regions
    )
    _agree(der, check, 4 * (len(reference) + len(hypothesis) + len(uem)), uri, condition)
    return ConditionScore(condition, der, jer)


def _whole(
    condition: Condition,
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents,
    counted: Extents,
) -> tuple[DiarizationErrorRate, JaccardErrorRate]:
    """Both rates by pyannote.metrics as it is, ``counted`` being the wanted part of ``uem``."""
    from pyannote.metrics.diarization import DiarizationErrorRate as PyannoteDER
    from pyannote.metrics.diarization import JaccardErrorRate as PyannoteJER
    from pyannote.metrics.identification import IdentificationErrorRate

    options = _options(condition)
    truth, answer = _annotation(reference, "reference"), _annotation(hypothesis, "hypothesis")
    if counted == uem:
        metric = PyannoteDER(**options)
        metric(truth, answer, uem=_timeline(uem))
    else:
        scored = scored_extents(reference, uem, condition.collar_per_side, condition.skip_overlap)
        mapping = PyannoteDER().optimal_mapping(truth, answer, uem=_timeline(scored))
        metric = IdentificationErrorRate(**options)
        metric(truth, answer.rename_labels(mapping=mapping), uem=_timeline(counted))
    jaccard = PyannoteJER(**options)(truth, answer, uem=_timeline(counted), detailed=True)
    return _record(metric), JaccardErrorRate(
        float(jaccard["speaker error"]), int(jaccard["speaker count"])
    )


def _in_parts(
    condition: Condition,
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    counted: Extents,
    mapping: Mapping[str, str],
) -> DiarizationErrorRate:
    """The same sum, part by part: given the mapping, seconds in error add up over time."""
    from pyannote.metrics.identification import IdentificationErrorRate

    metric = IdentificationErrorRate(**_options(condition))
    named = {f"hypothesis {name}": f"reference {own}" for name, own in mapping.items()}
    for part in _parts(counted):
        truth = _annotation(_near(reference, part, condition.collar_per_side), "reference")
        answer = _annotation(_near(hypothesis, part, 0.0), "hypothesis")
        metric(truth, answer.rename_labels(mapping=named), uem=_timeline(part))
    return _record(metric)


def _options(condition: Condition) -> dict[str, Any]:
    return {"collar": 2 * condition.collar_per_side, "skip_overlap": condition.skip_overlap}


def _record(metric: Any) -> DiarizationErrorRate:
    return DiarizationErrorRate(
        missed_detection=float(metric["missed detection"]),
        false_alarm=float(metric["false alarm"]),
        confusion=float(metric["confusion"]),
        total=float(metric["total"]),
    )


def _parts(extents: Extents) -> Iterator[Extents]:
    """Scored time in consecutive parts of ``_PART_SECONDS`` of recording each."""
    if not extents:
        return
    start, end = extents[0][0], extents[-1][1]
    while start < end:
        part = intersect_extents(extents, ((start, start + _PART_SECONDS),))
        if part:
            yield part
        start += _PART_SECONDS


def _near(turns: Sequence[Turn], part: Extents, margin: float) -> list[Turn]:
    """Turns that reach into ``part`` or closer than ``margin`` to it, uncut."""
    first, last = part[0][0] - margin, part[-1][1] + margin
    return [turn for turn in turns if turn.end >= first and turn.start <= last]


def _agree(
    record: DiarizationErrorRate,
    check: DiarizationErrorRate,
    slices: int,
    uri: str,
    condition: Condition,
) -> None:
    tolerance = slices * _PRECISION_SECONDS
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


def _annotation(turns: Sequence[Turn], side: str) -> Any:
    """pyannote Annotation; names get their side, so that equal names are no mapping."""
    from pyannote.core import Annotation, Segment

    annotation = Annotation()
    for track, turn in enumerate(turns):
        annotation[Segment(turn.start, turn.end), track] = f"{side} {turn.speaker}"
    return annotation


def _timeline(extents: Extents) -> Any:
    from pyannote.core import Segment, Timeline

    return Timeline([Segment(start, end) for start, end in extents])
