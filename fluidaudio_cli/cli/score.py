"""``fluidaudio score``: a diarization against its reference."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluidaudio_cli.cli import messages, report_output
from fluidaudio_cli.errors import UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.scoring.metrics import Condition


class Regions(str, Enum):
    """Part of the time that error rates count, by the reference's number of speakers."""

    all = "all"
    single = "single"
    overlap = "overlap"
    nonoverlap = "nonoverlap"


class Format(str, Enum):
    """How the result is written."""

    table = "table"
    json = "json"
    csv = "csv"


_BY_SUFFIX = {".json": Format.json, ".csv": Format.csv, ".txt": Format.table}


def score(
    reference: Annotated[
        Path,
        typer.Argument(metavar="REF", help="Reference: RTTM or lab file, a folder, or - (stdin)."),
    ],
    hypothesis: Annotated[
        Path,
        typer.Argument(metavar="HYP", help="Likewise, matched by uri; - is stdin."),
    ],
    uem: Annotated[
        Path | None,
        typer.Option(
            help="Scored time: UEM file or folder. Without it, from the first to the last "
            "boundary of reference and hypothesis."
        ),
    ] = None,
    collar_per_side: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Seconds left out on EACH side of a reference boundary (NIST: 0.25), instead "
            "of showing strict and lenient side by side.",
        ),
    ] = None,
    skip_overlap: Annotated[
        bool,
        typer.Option(
            "--skip-overlap",
            help="Leave out time with two or more reference speakers, instead of showing strict "
            "and lenient side by side.",
        ),
    ] = False,
    regions: Annotated[
        Regions,
        typer.Option(
            help="Count errors only where the reference has: any number of speakers, exactly "
            "one, two or more, at most one."
        ),
    ] = Regions.all,
    tolerance: Annotated[
        float,
        typer.Option(metavar="S", help="Seconds up to which two boundaries match."),
    ] = 0.5,
    output_format: Annotated[
        Format | None,
        typer.Option(
            *report_output.FORMAT_NAMES, help="table, json or csv; else by the ending of --output."
        ),
    ] = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Score a diarization: DER, JER, speaker count, boundaries and overlap.

    Strict (no collar, overlap scored) and lenient (0.25 s per side, overlap skipped) side by
    side, per recording and pooled by duration. A recording on one side only is an error.
    """
    from fluidaudio_cli.scoring.document import format_csv, format_json
    from fluidaudio_cli.scoring.matching import (
        annotation_files,
        match_by_uri,
        read_annotations,
        read_uems,
    )
    from fluidaudio_cli.scoring.metrics import pool, score_conditions

    chosen = report_output.chosen_format(output_format, output, _BY_SUFFIX, Format.table)
    if [reference, hypothesis, uem].count(report_output.STDOUT) > 1:
        raise UsageError("two of REF, HYP and --uem are -", "give all but one of them as a file")
    read = (*annotation_files(reference), *annotation_files(hypothesis), uem)
    report_output.check_not_read("--output", output, read)
    conditions = _conditions(collar_per_side, skip_overlap, regions)
    truth, answer = read_annotations(reference), read_annotations(hypothesis)
    pairs = match_by_uri(truth, answer, None if uem is None else read_uems(uem))
    scores = [
        score_conditions(
            conditions,
            pair.reference,
            pair.hypothesis,
            pair.uem,
            regions=regions.value,
            tolerance=tolerance,
            uri=pair.uri,
            no_score=pair.no_score,
        )
        for pair in pairs
    ]
    omitted = [
        f"{hypothesis} has no turns of {pair.uri}: nobody speaks, all of it is missed"
        for pair in pairs
        if pair.omitted
    ]
    notes = (*truth.notes, *answer.notes, *omitted)
    for note in notes:
        messages.say(f"note: {note}")
    pooled = pool(scores)
    facts: dict[str, Any] = {"regions": regions.value, "tolerance": tolerance}
    if chosen is Format.json:
        report_output.write(output, format_json(scores, pooled, notes=notes, **facts))
    elif chosen is Format.csv:
        report_output.write(output, format_csv(scores, pooled))
    else:
        from fluidaudio_cli.cli.render.score import render_scores

        report_output.write(output, lambda page: render_scores(page, scores, pooled, **facts))


def _conditions(
    collar_per_side: float | None, skip_overlap: bool, regions: Regions
) -> tuple[Condition, ...]:
    from fluidaudio_cli.scoring.metrics import LENIENT, STRICT, condition

    if skip_overlap and regions is Regions.overlap:
        raise UsageError(
            "--skip-overlap with --regions overlap leaves nothing to score", "choose one of them"
        )
    if collar_per_side is None and not skip_overlap:
        return (STRICT, LENIENT)
    return (condition(collar_per_side or 0.0, skip_overlap),)
