"""What ``fluidaudio tune`` measured and chose, for people and as a document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluidaudio_cli.cli import messages
from fluidaudio_cli.cli.render.console import stderr_console
from fluidaudio_cli.cli.render.tables import print_line

SCHEMA = "fluidaudio.tune/2"

if TYPE_CHECKING:
    from rich.console import Console

    from fluidaudio_cli.benchmark.tuning import TuningResult, Watch
    from fluidaudio_cli.diarization.tuning import Tuning


@contextmanager
def tuning_progress() -> Iterator[Watch]:
    """Say on stderr what is measured, where a person is watching."""
    if not messages.is_watched():
        yield lambda what, done: None
        return
    with stderr_console().status("measuring …") as status:
        yield lambda what, done: status.update(f"setting {done + 1}: {what}")


def print_tuning(console: Console, result: TuningResult, path: Path) -> None:
    """All cells, then what was chosen, what it costs in accuracy, and where it is kept."""
    from fluidaudio_cli.cli.render.benchmark import render_table
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport
    from fluidaudio_cli.report.benchmark_tables import summary_tables

    render_table(console, summary_tables(BenchmarkReport(result.measured))[0])
    for setting, reason in result.failed.items():
        print_line(console, f"failed: {setting}: {reason}")
    for rejected in result.rejected:
        print_line(console, f"not taken: {rejected.tuning}: {rejected.reason}")
    print_line(console, f"chosen: {result.chosen}")
    print_line(
        console,
        f"{result.rtfx:.0f}x real time; "
        f"DER on the bundled sample {result.der:.2%}, in fp32 {result.fp32_der:.2%}",
    )
    print_line(console, f"took {result.seconds:.0f} s; stored in {path}")


def print_stored(console: Console, tuning: Tuning | None, path: Path) -> None:
    """The stored choice, or that there is none for this machine."""
    if tuning is None:
        print_line(console, f"no choice for this machine in {path}; auto uses the defaults")
    else:
        print_line(console, f"{tuning}\nstored in {path}")


def tuning_document(result: TuningResult, path: Path) -> dict[str, Any]:
    """All that was chosen and measured, as plain values; ``benchmark`` is a result of its own."""
    from fluidaudio_cli.benchmark.results import to_json

    return {
        "schema": SCHEMA,
        "chosen": asdict(result.chosen),
        "rtfx": result.rtfx,
        "der": result.der,
        "fp32_der": result.fp32_der,
        "rejected": [
            {"tuning": asdict(each.tuning), "reason": each.reason} for each in result.rejected
        ],
        "failed": dict(result.failed),
        "benchmark": json.loads(to_json(result.measured)),
        "seconds": result.seconds,
        "stored_in": str(path),
    }


def stored_document(tuning: Tuning | None, path: Path) -> dict[str, Any]:
    """The stored choice as plain values; ``chosen`` is null where there is none for here."""
    chosen = None if tuning is None else asdict(tuning)
    return {"schema": SCHEMA, "chosen": chosen, "stored_in": str(path)}
