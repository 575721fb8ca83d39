"""Probes and the choice made from them, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table

from fluidaudio_cli.benchmark.tuning import TuningResult
from fluidaudio_cli.cli.render.console import stderr_console, stdout_console
from fluidaudio_cli.diarization.tuning import Tuning
from fluidaudio_cli.executors.probe import ProbeResult, ProbeSetting


@contextmanager
def probe_progress() -> Iterator[Callable[[ProbeResult], None]]:
    """Say each probe on stderr as it ends, where a person is watching."""
    console = stderr_console()
    if not console.is_terminal:
        yield lambda result: None
        return
    with console.status("probing …") as status:
        yield lambda result: status.update(f"{_network(result.setting)} {_speed(result)}")


def print_tuning(result: TuningResult, path: Path) -> None:
    """All probes, then what was chosen, what it costs in accuracy, and where it is kept."""
    console = stdout_console()
    table = Table(title="Probes")
    for heading in ("network", "executor", "precision", "units", "workers", "batch", "items/s"):
        table.add_column(heading, justify="right" if heading in ("batch", "items/s") else "left")
    for probe in result.probes:
        setting = probe.setting
        table.add_row(
            _network(setting),
            setting.executor,
            setting.precision,
            setting.compute_units,
            str(setting.streams),
            str(setting.batch),
            _speed(probe),
        )
    console.print(table)
    for rejected in result.rejected:
        console.print(f"not taken: {_describe(rejected.tuning)}: {rejected.reason}")
    console.print(f"chosen: {_describe(result.chosen.tuning)}")
    console.print(f"DER on the bundled sample: {result.der:.2%}, in fp32 {result.fp32_der:.2%}")
    console.print(f"stored in {path}", soft_wrap=True)


def print_stored(tuning: Tuning | None, path: Path) -> None:
    """The stored choice, or that there is none for this machine."""
    console = stdout_console()
    if tuning is None:
        console.print(f"no choice for this machine in {path}; auto uses the defaults")
    else:
        console.print(f"{_describe(tuning)}\nstored in {path}", soft_wrap=True)


def _describe(tuning: Tuning) -> str:
    return (
        f"{tuning.executor} {tuning.precision}, units {tuning.compute_units}, "
        f"{tuning.workers} workers, windows by {tuning.window_batch}, crops by {tuning.crop_batch}"
    )


def _network(setting: ProbeSetting) -> str:
    return Path(setting.package).stem


def _speed(result: ProbeResult) -> str:
    if result.items_per_second is None:
        return f"failed: {result.failure}"
    return f"{result.items_per_second:.1f}"
