"""``fluidaudio profile``: where the time, the memory and the precision go."""

from __future__ import annotations

import sys
import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fluidaudio_cli.cli import messages, options, report_output
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.files import write_text_atomic


class ProfileFormat(str, Enum):
    """How the profile is written."""

    table = "table"
    json = "json"
    html = "html"


_BY_SUFFIX = {
    ".json": ProfileFormat.json,
    ".html": ProfileFormat.html,
    ".htm": ProfileFormat.html,
    ".txt": ProfileFormat.table,
}


def profile(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording to profile with.")],
    performance_mode: options.ModeOption = "balanced",
    models: options.ModelsOption = "bundled",
    output_format: Annotated[
        ProfileFormat | None,
        typer.Option(
            *report_output.FORMAT_NAMES, help="table, json or html; else by the ending of --output."
        ),
    ] = None,
    output: report_output.OutputOption = report_output.STDOUT,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Also write a trace for Perfetto (ui.perfetto.dev)."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="REF.rttm", help="Reference turns: mark errors, give error rates."),
    ] = None,
    uem: Annotated[
        Path | None, typer.Option(metavar="U.uem", help="Scored time; else the whole audio.")
    ] = None,
    precision_report: Annotated[
        bool,
        typer.Option("--precision-report", help="Also: what each precision costs, by layer."),
    ] = False,
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="Operators shown for each network.")
    ] = 10,
    peaks: Annotated[
        bool, typer.Option(help="Measure what the machine can do, to set rates against (seconds).")
    ] = True,
    num_speakers: options.NumSpeakersOption = None,
    min_speakers: options.MinSpeakersOption = None,
    max_speakers: options.MaxSpeakersOption = None,
    executor: options.ExecutorOption = options.ExecutorChoice.auto,
    precision: options.PrecisionOption = options.PrecisionChoice.auto,
    compute_units: options.ComputeUnitsOption = options.ComputeUnitsChoice.all,
    threads: options.ThreadsOption = None,
    no_tuning: options.NoTuningOption = False,
) -> None:
    """Profile the diarization of one recording: stages, operators, memory, precision.

    The recording is diarized several times. The profiler's own cost is measured and printed.
    """
    chosen = report_output.chosen_format(output_format, output, _BY_SUFFIX, ProfileFormat.table)
    path = _recording(file)
    report_output.check_writable("--output", output)
    if trace is not None:
        report_output.check_ending("--trace", trace, (".json",))
        report_output.check_writable("--trace", trace)
        report_output.check_not_read("--trace", trace, (path, reference, uem))
    report_output.check_not_read("--output", output, (path, reference, uem, trace))

    from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
    from fluidaudio_cli.profiling.passes import Options
    from fluidaudio_cli.profiling.session import profile as run

    wanted = Options(
        mode=performance_mode,
        models=models,
        wishes={
            "executor": executor.value,
            "precision": precision.value,
            "compute_units": compute_units.value,
            "threads": threads,
        },
        tuning=not no_tuning,
        speakers=SpeakerBounds(num_speakers, min_speakers, max_speakers),
        reference=reference,
        uem=uem,
        peaks=peaks,
        precision_report=precision_report,
    )
    began = time.perf_counter()
    say = messages.say if sys.stderr.isatty() else messages.detail
    outcome = run(path, wanted, lambda step: say(f"{step} …"))
    if trace is not None:
        from fluidaudio_cli.report.trace import format_trace

        write_text_atomic(trace, format_trace(outcome))
        messages.say(f"wrote {trace}")
    if chosen is ProfileFormat.table:
        from fluidaudio_cli.cli.render.profile import render_profile

        took = time.perf_counter() - began
        report_output.write(
            output, lambda page: render_profile(page, outcome, top=top, seconds=took)
        )
    elif chosen is ProfileFormat.json:
        from fluidaudio_cli.profiling.document import format_json

        report_output.write(output, format_json(outcome))
    else:
        from fluidaudio_cli.report.html_profile import profile_page

        report_output.write(output, profile_page(outcome, top=top))
    if output != report_output.STDOUT:
        messages.say(f"wrote {output}")


def _recording(file: Path) -> Path:
    from fluidaudio_cli.audio.folders import uris_by_place

    found = [each for each in uris_by_place([file]) if isinstance(each, Path)]
    if len(found) != 1:
        raise UsageError(f"{file} holds {len(found)} recordings", "give one of them to profile")
    return next(iter(found))
