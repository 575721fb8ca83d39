"""A benchmark report on the terminal: the summary, and with ``detailed`` everything."""

from __future__ import annotations

from pydantic import JsonValue
from rich.console import Console

from fluidaudio_cli.benchmark.results import CellRecord, MemoryRecord
from fluidaudio_cli.cli.render.tables import print_line, print_table
from fluidaudio_cli.measure.environment import Environment
from fluidaudio_cli.report import benchmark_tables as tables
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, error_line, remarks
from fluidaudio_cli.report.tables import Table

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 60


def render_report(console: Console, report: BenchmarkReport, *, detailed: bool) -> None:
    """Print the tables, then what a reader must know of them."""
    result = report.result
    print_line(console, f"{result.dataset.name}: {len(result.dataset.uris)} file(s); medians")
    if detailed:
        _environment(console, result.environment)
        for cell in result.cells:
            if cell.finished:
                _cell(console, cell)
    for table in tables.summary_tables(report):
        render_table(console, table)
    if line := tables.pareto_line(report):
        print_line(console, line)
    for remark in remarks(report):
        print_line(console, f"note: {remark}")
    for name, uri, reason in result.failures:
        print_line(
            console, f"failed: {name}: {uri}: {reason}" if uri else f"failed: {name}: {reason}"
        )


def _cell(console: Console, cell: CellRecord) -> None:
    details, *others = tables.detail_tables(cell)
    render_table(console, details)
    if line := error_line(cell):
        print_line(console, line)
    for name, run in cell.executors.items():
        print_line(console, f"{name}: {'; '.join(_facts(part, run[part]) for part in run)}")
    for model in cell.models:
        print_line(console, f"model {model.name}: sha256 {model.sha256}")
    for table in others:
        render_table(console, table)
    peaks = [record.memory for record in cell.finished if record.memory is not None]
    if peaks:
        _memory(console, cell.name, max(peaks, key=lambda memory: memory.peak_rss_bytes))


def _facts(part: str, values: JsonValue) -> str:
    if not isinstance(values, dict):
        return f"{part} {values}"
    return f"{part}: " + ", ".join(
        f"{key} {value}" for key, value in values.items() if value is not None
    )


def _memory(console: Console, name: str, memory: MemoryRecord) -> None:
    low, high = memory.baseline_rss_bytes, memory.peak_rss_bytes
    sizes = [size for _, size in memory.curve]
    step = max(1, len(sizes) // _CURVE_WIDTH)
    readings = [max(sizes[at : at + step]) for at in range(0, len(sizes), step)]
    span = max(1, high - low)
    bars = "".join(
        _BARS[min(len(_BARS) - 1, max(0, (size - low) * len(_BARS) // span))] for size in readings
    )
    print_line(
        console,
        f"{name}: memory {bars} loaded {low / 1e6:.1f} MB, peak {high / 1e6:.1f} MB "
        f"({memory.peak_source}; curve sampled every {1e3 * memory.period_seconds:g} ms)",
    )


def _environment(console: Console, record: Environment) -> None:
    machine = record.machine
    rows = {
        "processor": f"{machine.cpu_model}, {machine.usable_cores} of {machine.logical_cores} "
        f"cores, {machine.memory_bytes / 2**30:.1f} GiB",
        "system": f"{record.system_release}, Python {record.python}",
        "packages": ", ".join(f"{name} {version}" for name, version in record.packages.items()),
        "commit": record.commit() or "not a git checkout",
        "load average": "unavailable"
        if record.load_average is None
        else ", ".join(f"{load:.2f}" for load in record.load_average),
        "thread settings": ", ".join(f"{k}={v}" for k, v in record.thread_settings.items())
        or "none set",
    }
    for name, text in rows.items():
        print_line(console, f"{name}: {text}")


def render_table(console: Console, table: Table) -> None:
    """Print one table; its cells' names, and what they ran on, in one piece."""
    print_table(console, table, whole=(table.header[0], "ran on"))
