"""The scorer of record: pyannote.metrics (H. Bredin, Interspeech 2017).

Its ``collar`` is the total width, twice ours. It is imported on first use: that takes 1.5 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fluidaudio_cli.scoring.extents import Extents, intersect_extents
from fluidaudio_cli.scoring.records import DiarizationErrorRate, JaccardErrorRate
from fluidaudio_cli.scoring.sweep import jaccard_error, scored_extents, speaker_mapping
from fluidaudio_cli.turns import Turn

# pyannote.metrics takes time with the square of the turns: for two conditions some 2 s at 2500
# (a lively hour), minutes at ten times that. Longer recordings are scored in parts.
_WHOLE_TURNS = 2500
_PART_SECONDS = 600.0


def pyannote_rates(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents,
    counted: Extents,
    collar_per_side: float,
    skip_overlap: bool,
) -> tuple[DiarizationErrorRate, JaccardErrorRate]:
    """Diarization and Jaccard error; turns have no self-overlap, all times are seconds.

    Speakers are mapped over ``uem``; errors are counted in ``counted``, a part of it. Above
    ``_WHOLE_TURNS`` turns, the mapping and the Jaccard error are the sweep's, and
    pyannote.metrics counts the diarization error part by part.
    """
    sides = (reference, hypothesis)
    if len(reference) + len(hypothesis) <= _WHOLE_TURNS:
        return _whole(*sides, uem, counted, collar_per_side, skip_overlap)
    der = _in_parts(*sides, uem, counted, collar_per_side, skip_overlap)
    scored = scored_extents(reference, counted, collar_per_side, skip_overlap)
    return der, jaccard_error(*sides, scored)


def _whole(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents,
    counted: Extents,
    collar_per_side: float,
    skip_overlap: bool,
) -> tuple[DiarizationErrorRate, JaccardErrorRate]:
    """Both rates by pyannote.metrics as it is, ``counted`` being the wanted part of ``uem``."""
    from pyannote.metrics.diarization import DiarizationErrorRate as PyannoteDER
    from pyannote.metrics.diarization import JaccardErrorRate as PyannoteJER
    from pyannote.metrics.identification import IdentificationErrorRate

    options = {"collar": 2 * collar_per_side, "skip_overlap": skip_overlap}
    truth, answer = _annotation(reference, "reference"), _annotation(hypothesis, "hypothesis")
    if counted == uem:
        metric = PyannoteDER(**options)
        metric(truth, answer, uem=_timeline(uem))
    else:
        scored = scored_extents(reference, uem, collar_per_side, skip_overlap)
        mapping = PyannoteDER().optimal_mapping(truth, answer, uem=_timeline(scored))
        metric = IdentificationErrorRate(**options)
        metric(truth, answer.rename_labels(mapping=mapping), uem=_timeline(counted))
    # Components only: releases before 4.2 divide by zero when they make a rate of no speakers.
    metric_of_speakers = PyannoteJER(**options)
    jaccard = metric_of_speakers.compute_components(truth, answer, uem=_timeline(counted))
    return _record(metric), JaccardErrorRate(
        float(jaccard["speaker error"]), int(jaccard["speaker count"])
    )


def _in_parts(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    uem: Extents,
    counted: Extents,
    collar_per_side: float,
    skip_overlap: bool,
) -> DiarizationErrorRate:
    """The same sum, part by part: given the mapping, seconds in error add up over time."""
    from pyannote.metrics.identification import IdentificationErrorRate

    metric = IdentificationErrorRate(collar=2 * collar_per_side, skip_overlap=skip_overlap)
    scored = scored_extents(reference, uem, collar_per_side, skip_overlap)
    mapping = speaker_mapping(reference, hypothesis, scored)
    named = {f"hypothesis {name}": f"reference {own}" for name, own in mapping.items()}
    for part in _parts(counted):
        truth = _annotation(_near(reference, part, collar_per_side), "reference")
        answer = _annotation(_near(hypothesis, part, 0.0), "hypothesis")
        metric(truth, answer.rename_labels(mapping=named), uem=_timeline(part))
    return _record(metric)


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
