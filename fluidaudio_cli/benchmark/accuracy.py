"""Score one file's turns for the benchmark, strict and lenient, over its UEM or its audio."""

from __future__ import annotations

from collections.abc import Sequence

from fluidaudio_cli.benchmark.results import AccuracyRecord, BudgetRecord
from fluidaudio_cli.corpora.folder import DatasetItem
from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.scoring.extents import Extents, merge_extents, subtract_extents
from fluidaudio_cli.scoring.metrics import LENIENT, STRICT, score_conditions
from fluidaudio_cli.scoring.records import DiarizationErrorRate
from fluidaudio_cli.scoring.rttm import parse_rttm
from fluidaudio_cli.scoring.sweep import cut, score_turns
from fluidaudio_cli.scoring.uem import read_uem
from fluidaudio_cli.turns import Turn


def assess(
    item: DatasetItem,
    turns: Sequence[Turn],
    audio_seconds: float,
    oracle: Sequence[Turn] | None = None,
) -> AccuracyRecord:
    """Scores of ``turns`` against the item's reference; ``oracle``: turns with oracle labels.

    Raises ``AnnotationError`` when the annotations are broken, do not hold this recording, or
    hold no speech: a benchmark without a reference has no error rate, and never 0 %.
    """
    reference, no_score, extents = _annotations(item, audio_seconds)
    scores = score_conditions(
        (STRICT, LENIENT),
        reference,
        turns,
        extents,
        uri=item.uri,
        uem_source="audio" if item.uem is None else "given",
        no_score=no_score,
    )
    strict = scores.strict
    return AccuracyRecord(
        uem_source=scores.uem_source,
        budget=budget(
            reference,
            turns,
            subtract_extents(merge_extents(extents), no_score),
            strict.der,
            oracle,
        ),
        strict=strict.der,
        lenient=scores.lenient.der,
        jer=strict.jer,
        speakers_found=scores.speakers.hypothesis,
        speakers_true=scores.speakers.reference,
        boundary=scores.boundaries,
        overlap=scores.overlap,
    )


def reference_turns(item: DatasetItem) -> tuple[Turn, ...]:
    """The item's reference; raises ``AnnotationError`` as :func:`assess` does."""
    return tuple(_annotations(item, 0.0)[0])


def budget(
    reference: Sequence[Turn],
    turns: Sequence[Turn],
    scored: Extents,
    strict: DiarizationErrorRate,
    oracle: Sequence[Turn] | None = None,
) -> BudgetRecord:
    """Split the ``strict`` error of ``turns`` within ``scored``; the parts add up to it."""
    slices = cut(reference, turns, scored)
    spoken, found = slices.reference.any(axis=1), slices.hypothesis.any(axis=1)
    missed = min(float(slices.seconds @ (spoken & ~found)), strict.missed_detection)
    added = min(float(slices.seconds @ (found & ~spoken)), strict.false_alarm)
    perfect = None
    if oracle is not None:
        error = score_turns(reference, oracle, scored)
        perfect = error if error.total > 0 else None
    return BudgetRecord(
        missed=missed,
        false_alarm=added,
        overlap=strict.missed_detection - missed + strict.false_alarm - added,
        confusion=strict.confusion,
        oracle=perfect,
    )


def _annotations(
    item: DatasetItem, audio_seconds: float
) -> tuple[Sequence[Turn], Extents, Extents]:
    """Reference turns, what is not to be scored, and what is."""
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
    return rttm.turns[item.uri], rttm.no_score.get(item.uri, ()), extents
