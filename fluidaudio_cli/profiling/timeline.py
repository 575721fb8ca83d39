"""The turns found, and where they differ from a reference."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.profiling.records import ErrorSpan, Timeline, Unavailable
from fluidaudio_cli.scoring.extents import Extents, merge_extents, subtract_extents
from fluidaudio_cli.scoring.matching import read_annotations, read_uems
from fluidaudio_cli.scoring.metrics import STRICT, score_conditions
from fluidaudio_cli.scoring.sweep import cut, speaker_mapping
from fluidaudio_cli.turns import Turn

_KINDS = ("missed", "false alarm", "confusion")


class Truth(NamedTuple):
    """What a recording is compared with: the reference's turns, in the time that is scored."""

    turns: tuple[Turn, ...]
    extents: Extents


def read_truth(reference: Path, uem: Path | None, uri: str, audio_seconds: float) -> Truth:
    """The reference of ``uri``, or of the only recording that the files hold.

    Scored is the UEM's time, or all of the audio, less what the reference excludes (NOSCORE), as
    ``fluidaudio score`` has it. Raises ``AnnotationError`` when a file has no such recording.
    """
    annotations = read_annotations(reference)
    name = _name_in(annotations.turns, uri, f"{reference}", "reference")
    extents: Extents = ((0.0, audio_seconds),)
    if uem is not None:
        uems = read_uems(uem)
        extents = uems[_name_in(uems, uri, f"{uem}", "UEM")]
    no_score = annotations.no_score.get(name, ())
    return Truth(annotations.turns[name], subtract_extents(extents, no_score))


def _name_in(known: Collection[str], uri: str, file: str, kind: str) -> str:
    if uri not in known and len(known) != 1:
        raise AnnotationError(f"{file} has no recording '{uri}'", f"give the {kind} of this file")
    return uri if uri in known else next(iter(known))


def strict_der(result: Diarization, reference: Path, uem: Path | None) -> float:
    """Strict error rate of a diarization, as ``fluidaudio score`` has it."""
    truth = read_truth(reference, uem, result.uri, result.duration_seconds)
    score = score_conditions((STRICT,), truth.turns, result.turns, truth.extents, uri=result.uri)
    return score.strict.der.rate


def timeline(result: Diarization, reference: Path | None, uem: Path | None) -> Timeline:
    """What was found, and with a reference what is wrong with it."""
    if reference is None:
        return Timeline(result.turns, Unavailable("no --reference was given"))
    truth, extents = read_truth(reference, uem, result.uri, result.duration_seconds)
    found = renamed(truth, result.turns, extents)
    return Timeline(
        found,
        truth,
        error_spans(truth, found, extents),
        strict_der(result, reference, uem),
    )


def renamed(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], extents: Extents
) -> tuple[Turn, ...]:
    """``hypothesis`` with the names of the reference's speakers where they are mapped.

    Who is mapped to nobody keeps the own name, marked where the reference has the same.
    """
    names = speaker_mapping(reference, hypothesis, extents)
    taken = {turn.speaker for turn in reference}
    for speaker in {turn.speaker for turn in hypothesis} - names.keys():
        names[speaker] = f"{speaker} (unmapped)" if speaker in taken else speaker
    return tuple(turn._replace(speaker=names[turn.speaker]) for turn in hypothesis)


def error_spans(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], extents: Extents
) -> tuple[ErrorSpan, ...]:
    """Where who speaks differs, speakers taken for equal by name; touching spans are joined.

    At one moment there may be a confusion and beside it a missed speaker or a false alarm.
    """
    slices = cut(reference, hypothesis, merge_extents(extents))
    names = [sorted({turn.speaker for turn in side}) for side in (reference, hypothesis)]
    both = [np.isin(own, other) for own, other in (names, names[::-1])]
    truth, answer = slices.reference.sum(axis=1), slices.hypothesis.sum(axis=1)
    correct = (slices.reference[:, both[0]] & slices.hypothesis[:, both[1]]).sum(axis=1)
    wrong = (truth > answer, answer > truth, np.minimum(truth, answer) > correct)
    spans = (
        ErrorSpan(start, end, kind)  # type: ignore[arg-type]
        for kind, rows in zip(_KINDS, wrong, strict=True)
        for start, end in merge_extents((a, b) for a, b in slices.spans[rows].tolist())
    )
    return tuple(sorted(spans, key=lambda span: (span.start, span.kind)))
