"""A benchmark report on the terminal: the summary, and with ``detailed`` everything."""

from __future__ import annotations

from pydantic import JsonValue
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fluidaudio_cli.benchmark.results import MemoryRecord, VariantRecord
from fluidaudio_cli.measure.environment import Environment
from fluidaudio_cli.report import benchmark_tables as tables
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, error_line, remarks
from fluidaudio_cli.report.benchmark_scaling import scaling_lines, scaling_table
from fluidaudio_cli.report.benchmark_tables import Table

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 60
_STYLES = {"fail": "bold red", "slower": "bold red", "pass": "green"}


def render_report(console: Console, report: BenchmarkReport, *, detailed: bool) -> None:
    """Print the tables, then what a reader must know of them."""
    result = report.result
    plan = result.plan
    _line(
        console,
        f"{result.dataset.name}: {len(result.dataset.uris)} file(s), {plan.iterations} measured "
        f"iteration(s) after {plan.warmup} warm-up; medians",
    )
    if detailed:
        _environment(console, result.environment)
        for variant in result.variants:
            if variant.finished:
                _variant(console, variant)
    _table(console, tables.overview(report))
    for table in (
        tables.comparison(report),
        tables.paired_table(report),
        scaling_table(report.result),
        tables.gate_table(report),
    ):
        if table is not None:
            _table(console, table)
    if line := tables.pareto_line(report):
        _line(console, line)
    for verdict in scaling_lines(report.result):
        _line(console, verdict)
    for remark in remarks(report):
        _line(console, f"note: {remark}")
    for name, record in result.failures:
        _line(console, f"failed: {name}: {record.uri}: {record.error}")


def _variant(console: Console, variant: VariantRecord) -> None:
    _table(console, tables.variant_details(variant))
    if line := error_line(variant):
        _line(console, line)
    for name, run in variant.executors.items():
        _line(console, f"{name}: {'; '.join(_facts(part, run[part]) for part in run)}")
    for model in variant.models:
        _line(console, f"model {model.name}: sha256 {model.sha256}")
    _table(console, tables.stage_table(variant))
    _table(console, tables.file_table(variant))
    peaks = [record.memory for record in variant.finished if record.memory is not None]
    if peaks:
        _memory(console, variant.name, max(peaks, key=lambda memory: memory.peak_rss_bytes))


def _facts(part: str, values: JsonValue) -> str:
    if not isinstance(values, dict):
        return f"{part} {values}"
    return f"{part}: " + ", ".join(
        f"{key} {value}" for key, value in values.items() if value is not None
    )


def _memory(console: Console, name: str, memory: MemoryRecord) -> None:
    low, high = memory.baseline_rss_bytes, memory.peak_rss_bytes
    readings = memory.curve[:: max(1, len(memory.curve) // _CURVE_WIDTH)]
    span = max(1, high - low)
    bars = "".join(
        _BARS[min(len(_BARS) - 1, max(0, (size - low) * len(_BARS) // span))]
        for _, size in readings
    )
    _line(
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
        "commit": "not a git checkout"
        if record.git_commit is None
        else record.git_commit + (" with local changes" if record.git_dirty else ""),
        "load average": "unavailable"
        if record.load_average is None
        else ", ".join(f"{load:.2f}" for load in record.load_average),
        "thread settings": ", ".join(f"{k}={v}" for k, v in record.thread_settings.items())
        or "none set",
    }
    for name, text in rows.items():
        _line(console, f"{name}: {text}")


def _table(console: Console, table: Table) -> None:
    rich = RichTable(title=table.title, box=SIMPLE_HEAD, title_justify="left")
    for index, name in enumerate(table.header):
        name_column = index == 0 or name == "ran on"
        rich.add_column(
            name,
            justify="left" if name_column else "right",
            overflow="fold",
            no_wrap=name_column,
        )
    for row in table.rows:
        rich.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    console.print(rich)


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
