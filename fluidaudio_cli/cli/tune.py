"""``fluidaudio tune``: find this machine's fastest setting and keep it for ``auto``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluidaudio_cli.cli import report_output


def tune(
    show: Annotated[
        bool, typer.Option("--show", help="Show the stored choice; measure nothing.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete the stored choice; measure nothing.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds after which a setting counts as hung.")
    ] = 120.0,
    measured: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Write all that was measured as `benchmark` does: .json, .csv, .md, .xml, .html.",
        ),
    ] = None,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Try executors, precisions, workers and batches; store the best for this machine.

    Each setting runs in a process of its own. The fastest is kept whose error rate on the bundled
    sample is within 0.2 points of fp32's. Takes some minutes; run it on an idle machine.
    """
    from fluidaudio_cli.cli.render.tune import (
        print_stored,
        print_tuning,
        stored_document,
        tuning_document,
        tuning_progress,
    )
    from fluidaudio_cli.diarization.tuning import (
        TUNING_VARIABLE,
        load_tuning,
        save_tuning,
        tuning_path,
    )

    report_output.check(output, output_format)
    path = tuning_path()
    if forget:
        path.unlink(missing_ok=True)
        return
    if show:
        stored = load_tuning()
        report_output.write_report(
            output,
            output_format,
            lambda: stored_document(stored, path),
            lambda console: print_stored(console, stored, path),
        )
        return
    from fluidaudio_cli.benchmark.tuning import tune as find_best
    from fluidaudio_cli.cli.benchmark_plan import formatted, output_formats
    from fluidaudio_cli.files import write_text_atomic
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport

    formats = output_formats(measured or (), "summary")
    report_output.check_not_read("--output", output, formats)
    report_output.check_writable(TUNING_VARIABLE, path)
    with tuning_progress() as watch:
        result = find_best(watch, timeout)
    save_tuning(result.chosen)
    for target, name in formats.items():
        write_text_atomic(target, formatted(BenchmarkReport(result.measured), name))
    report_output.write_report(
        output,
        output_format,
        lambda: tuning_document(result, path),
        lambda console: print_tuning(console, result, path),
    )
