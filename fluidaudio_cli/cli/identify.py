"""``fluidaudio identify``: whose voices are heard in a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluidaudio_cli.cli import options, report_output
from fluidaudio_cli.cli.diarize_evidence import evidence_among, read_alike
from fluidaudio_cli.cli.known import known_voices
from fluidaudio_cli.cli.process import EXIT_BAD_INPUT
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.recordings import place_from

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.result import Diarization, Speaker


def identify(
    ctx: typer.Context,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="Recordings, URLs, or folders of them.")
    ],
    known: options.KnownOption = "",
    store: options.StoreOption = None,
    max_false_accept: options.MaxFalseAcceptOption = "1%",
    performance_mode: options.ModeOption = "balanced",
    models: options.ModelsOption = "bundled",
    executor: options.ExecutorOption = options.ExecutorChoice.auto,
    precision: options.PrecisionOption = options.PrecisionChoice.auto,
    threads: options.ThreadsOption = None,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Tell whose voices are heard in recordings: names from the store, with probabilities.

    FILE may be evidence of diarize --save-evidence. For who speaks when: diarize --known.
    """
    from fluidaudio_cli.audio.folders import uris_by_place
    from fluidaudio_cli.audio.source import AudioSource
    from fluidaudio_cli.cli.render.voices import render_identities
    from fluidaudio_cli.diarization.loading import load_pipeline
    from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds

    report_output.check(output, output_format)
    people = known_voices(known, store, max_false_accept)
    assert people is not None
    places = [place_from(text) for text in files]
    evidence = evidence_among(ctx, places)

    def outcomes() -> Iterator[Diarization | InputError]:
        for saved in read_alike(evidence):
            if isinstance(saved, InputError):
                yield saved
            else:
                known = people.people(saved.models, saved.plan.mode.calibration)
                yield saved.diarize(SpeakerBounds(), known)
        if evidence:
            return
        sources = [AudioSource(*each) for each in uris_by_place(places).items()]
        pipeline = load_pipeline(
            performance_mode,
            executor=executor.value,
            precision=precision.value,
            threads=threads,
            models=models,
        )
        known = people.people(pipeline.models, pipeline.mode.calibration)
        yield from pipeline.diarize_many([(each, None) for each in sources], known=known)

    failed = False
    found: list[Diarization] = []
    for outcome in outcomes():
        if isinstance(outcome, InputError):
            failed = True
            typer.echo(f"fluidaudio: {outcome}", err=True)
        else:
            found.append(replace(outcome, evidence=None))  # large, and of no more use

    document = {
        "schema": "fluidaudio.identify/1",
        "store": str(people.store.path),
        "known": len(people.voices),
        "max_false_accept": people.false_accept,
        "recordings": [
            {"uri": result.uri, "speakers": [_speaker(each) for each in result.speakers]}
            for result in found
        ],
    }
    if found:
        report_output.write_report(output, output_format, document, render_identities, found)
    if failed:
        raise typer.Exit(EXIT_BAD_INPUT)


def _speaker(speaker: Speaker) -> dict[str, Any]:
    from fluidaudio_cli.report.diarization_json import identity_document

    assert speaker.identity is not None
    return {
        "label": speaker.label,
        "speech_seconds": round(speaker.speech_seconds, 3),
        "clean_seconds": round(speaker.clean_seconds, 3),
        **identity_document(speaker.identity),
    }
