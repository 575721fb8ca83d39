"""Score one file's turns for the benchmark, strict and lenient, over its UEM or its audio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fluidaudio_cli.benchmark.results import (
    AccuracyRecord,
    BoundaryRecord,
    DerRecord,
    JerRecord,
    OverlapRecord,
)
from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.scoring.extents import Extents
from fluidaudio_cli.scoring.metrics import LENIENT, STRICT, score_conditions
from fluidaudio_cli.scoring.records import DiarizationErrorRate
from fluidaudio_cli.scoring.rttm import parse_rttm
from fluidaudio_cli.scoring.uem import read_uem
from fluidaudio_cli.turns import Turn


class ScoredItem(Protocol):
    """One recording with its annotations, as ``corpora`` gives it."""

    @property
    def uri(self) -> str:
        """Name in the annotations."""

    @property
    def reference(self) -> Path:
        """RTTM that holds this recording."""

    @property
    def uem(self) -> Path | None:
        """UEM that holds this recording, if the corpus has one."""


def assess(item: ScoredItem, turns: Sequence[Turn], audio_seconds: float) -> AccuracyRecord:
    """Scores of ``turns`` against the item's reference.

    Raises ``AnnotationError`` when the annotations are broken, do not hold this recording, or
    hold no speech: a benchmark without a reference has no error rate, and never 0 %.
    """
    rttm = parse_rttm(item.reference)
    if item.uri not in rttm.turns:
        raise AnnotationError(f"{item.reference} has no recording '{item.uri}'", "add its turns")
    extents: Extents
    if item.uem is None:
        extents = ((0.0, audio_seconds),)
    else:
        extents = read_uem(item.uem).get(item.uri, ())
        if not extents:
            raise AnnotationError(f"{item.uem} has no recording '{item.uri}'", "add its extent")
    scores = score_conditions(
        (STRICT, LENIENT),
        rttm.turns[item.uri],
        turns,
        extents,
        uri=item.uri,
        uem_source="audio" if item.uem is None else "given",
        no_score=rttm.no_score.get(item.uri, ()),
    )
    strict, lenient = scores.strict, scores.lenient
    return AccuracyRecord(
        uem_source=scores.uem_source,
        strict=_der(strict.der),
        lenient=_der(lenient.der) if lenient.der.total > 0 else None,
        jer=JerRecord(
            speaker_error=strict.jer.speaker_error, speaker_count=strict.jer.speaker_count
        ),
        speakers_found=scores.speakers.hypothesis,
        speakers_true=scores.speakers.reference,
        boundary=BoundaryRecord(
            offsets=scores.boundaries.offsets,
            reference=scores.boundaries.reference,
            hypothesis=scores.boundaries.hypothesis,
        ),
        overlap=OverlapRecord(
            missed=scores.overlap.missed,
            false_alarm=scores.overlap.false_alarm,
            total=scores.overlap.total,
        ),
    )


def _der(record: DiarizationErrorRate) -> DerRecord:
    return DerRecord(
        missed_detection=record.missed_detection,
        false_alarm=record.false_alarm,
        confusion=record.confusion,
        total=record.total,
    )
