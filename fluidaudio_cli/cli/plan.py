"""``fluidaudio plan``: how a recording would be diarized here; nothing is loaded or run."""

from __future__ import annotations

from typing import Annotated

import typer

from fluidaudio_cli.cli import options, report_output

SCHEMA = "fluidaudio.plan/1"


def plan(
    performance_mode: options.ModeOption = "balanced",
    models: options.ModelsOption = "bundled",
    executor: options.ExecutorOption = options.ExecutorChoice.auto,
    precision: options.PrecisionOption = options.PrecisionChoice.auto,
    compute_units: options.ComputeUnitsOption = options.ComputeUnitsChoice.all,
    threads: options.ThreadsOption = None,
    no_tuning: options.NoTuningOption = False,
    audio_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.0, help="Of a recording as short as this."),
    ] = None,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Show what `diarize` would run here: executor, precisions, batches, workers, and why.

    The same is stored as `plan` in every JSON result.
    """
    from fluidaudio_cli.cli.render.plan import render_plan
    from fluidaudio_cli.diarization.loading import make_plan

    made = make_plan(
        performance_mode,
        executor=executor.value,
        precision=precision.value,
        compute_units=compute_units.value,
        threads=threads,
        audio_seconds=audio_seconds,
        models=models,
        tuning=not no_tuning,
    )
    document = {"schema": SCHEMA, **made.as_dict()}
    report_output.write_report(output, output_format, document, render_plan, made)
