"""Probes and the choice made from them, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fluidaudio_cli.cli import messages
from fluidaudio_cli.cli.render.console import stderr_console

SCHEMA = "fluidaudio.tune/1"

if TYPE_CHECKING:
    from rich.console import Console

    from fluidaudio_cli.benchmark.tuning import TuningResult, Watch
    from fluidaudio_cli.diarization.tuning import Tuning
    from fluidaudio_cli.executors.probe import ProbeResult, ProbeSetting


@contextmanager
def tuning_progress() -> Iterator[Watch]:
    """Say on stderr what is probed and how far it is, where a person is watching."""
    console = stderr_console()
    if messages.is_quiet() or not console.is_terminal:
        yield lambda what, done, expected: None
        return
    with console.status("probing …") as status:
        yield lambda what, done, expected: status.update(f"{done + 1} of about {expected}: {what}")


def print_tuning(console: Console, result: TuningResult, path: Path) -> None:
    """All probes, then what was chosen, what it costs in accuracy, and where it is kept."""
    table = Table(title="Probes")
    for heading in ("network", "setting"):
        table.add_column(heading)
    for heading in ("streams", "threads", "batch", "items/s"):
        table.add_column(heading, justify="right")
    for probe in result.probes:
        setting = probe.setting
        units = f" {setting.compute_units}" if setting.compute_units != "all" else ""
        table.add_row(
            Path(setting.package).stem,
            f"{setting.executor} {setting.precision}{units}",
            str(setting.streams),
            str(setting.threads),
            str(probe.batch),
            _speed(probe),
        )
    console.print(table)
    for rejected in result.rejected:
        console.print(f"not taken: {rejected.tuning}: {rejected.reason}", soft_wrap=True)
    console.print(f"chosen: {result.chosen.tuning}", soft_wrap=True)
    console.print(
        f"about {result.chosen.windows_per_second:.0f} windows/s through both networks; "
        f"DER on the bundled sample {result.der:.2%}, in fp32 {result.fp32_der:.2%}",
        soft_wrap=True,
    )
    console.print(f"took {result.seconds:.0f} s; stored in {path}", soft_wrap=True)


def print_stored(console: Console, tuning: Tuning | None, path: Path) -> None:
    """The stored choice, or that there is none for this machine."""
    if tuning is None:
        console.print(
            f"no choice for this machine in {path}; auto uses the defaults", soft_wrap=True
        )
    else:
        console.print(f"{tuning}\nstored in {path}", soft_wrap=True)


def tuning_document(result: TuningResult, path: Path) -> dict[str, Any]:
    """All that was measured and chosen, as plain values; what failed has a reason, no speed."""
    return {
        "schema": SCHEMA,
        "chosen": asdict(result.chosen.tuning),
        "windows_per_second": result.chosen.windows_per_second,
        "der": result.der,
        "fp32_der": result.fp32_der,
        "rejected": [
            {"tuning": asdict(each.tuning), "reason": each.reason} for each in result.rejected
        ],
        "probes": [
            asdict(probe) | {"setting": _described(probe.setting)} for probe in result.probes
        ],
        "seconds": result.seconds,
        "stored_in": str(path),
    }


def stored_document(tuning: Tuning | None, path: Path) -> dict[str, Any]:
    """The stored choice as plain values; ``chosen`` is null where there is none for here."""
    chosen = None if tuning is None else asdict(tuning)
    return {"schema": SCHEMA, "chosen": chosen, "stored_in": str(path)}


def _described(setting: ProbeSetting) -> dict[str, Any]:
    return asdict(setting) | {"package": Path(setting.package).stem}


def _speed(result: ProbeResult) -> str:
    if result.items_per_second is None:
        return f"failed: {result.failure}"
    return f"{result.items_per_second:.1f}"
