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
    from pyannote.metrics.diarization import DiarizationErrorRate as PyannoteDER
    from pyannote.metrics.diarization import JaccardErrorRate as PyannoteJER
    from pyannote.metrics.identification import IdentificationErrorRate

    options = {"collar": 2 * collar_per_side, "skip_overlap": skip_overlap}
    sides = reference, hypothesis
    truth, answer = _annotation(reference, "reference"), _annotation(hypothesis, "hypothesis")
    whole = len(reference) + len(hypothesis) <= _WHOLE_TURNS
    if whole and counted == uem:
        metric = PyannoteDER(**options)
        metric(truth, answer, uem=_timeline(uem))
    else:
        scored = scored_extents(reference, uem, collar_per_side, skip_overlap)
        if whole:
            mapping = PyannoteDER().optimal_mapping(truth, answer, uem=_timeline(scored))
        else:
            pairs = speaker_mapping(*sides, scored).items()
            mapping = {f"hypothesis {name}": f"reference {own}" for name, own in pairs}
        # Given the mapping, seconds in error add up over time.
        metric = IdentificationErrorRate(**options)
        parts = [(truth, answer, counted)] if whole else _in_parts(*sides, counted, collar_per_side)
        for near, found, part in parts:
            metric(near, found.rename_labels(mapping=mapping), uem=_timeline(part))
    if not whole:
        scored = scored_extents(reference, counted, collar_per_side, skip_overlap)
        return _record(metric), jaccard_error(*sides, scored)
    # Components only: releases before 4.2 divide by zero when they make a rate of no speakers.
    jaccard = PyannoteJER(**options).compute_components(truth, answer, uem=_timeline(counted))
    return _record(metric), JaccardErrorRate(
        float(jaccard["speaker error"]), int(jaccard["speaker count"])
    )


def _record(metric: Any) -> DiarizationErrorRate:
    return DiarizationErrorRate(
        missed_detection=float(metric["missed detection"]),
        false_alarm=float(metric["false alarm"]),
        confusion=float(metric["confusion"]),
        total=float(metric["total"]),
    )


def _in_parts(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], counted: Extents, collar: float
) -> Iterator[tuple[Any, Any, Extents]]:
    """Scored time in consecutive parts of ``_PART_SECONDS`` of recording each, and who is near."""
    start, end = (counted[0][0], counted[-1][1]) if counted else (0.0, 0.0)
    while start < end:
        if part := intersect_extents(counted, ((start, start + _PART_SECONDS),)):
            truth, answer = _near(reference, part, collar), _near(hypothesis, part, 0.0)
            yield _annotation(truth, "reference"), _annotation(answer, "hypothesis"), part
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
