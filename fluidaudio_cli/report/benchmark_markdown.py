"""A benchmark report as Markdown, for a pull request, an issue or a CI step summary."""

from __future__ import annotations

from fluidaudio_cli.report import benchmark_tables as tables
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, remarks
from fluidaudio_cli.report.tables import Table


def to_markdown(report: BenchmarkReport) -> str:
    """The whole report; ends in a newline."""
    result = report.result
    machine = result.environment.machine
    parts = [
        "# fluidaudio benchmark",
        f"Dataset `{result.dataset.name}`, {len(result.dataset.uris)} file(s); "
        f"{machine.cpu_model}, {machine.usable_cores} cores, {machine.system} "
        f"{machine.architecture}; fluidaudio {result.version}"
        + (f" at `{result.environment.git_commit[:12]}`" if result.environment.git_commit else ""),
        *(markdown_table(table) for table in tables.summary_tables(report)),
    ]
    if line := tables.pareto_line(report):
        parts.append(line)
    parts += [f"- {line}" for line in remarks(report)]
    for cell in result.cells:
        parts += [markdown_table(table) for table in tables.detail_tables(cell)]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """One table with its title; figures to the right, bars in cells escaped."""
    lines = [
        _row(table.header),
        "|" + "|".join([" --- "] + [" ---: "] * (len(table.header) - 1)) + "|",
        *(_row(row) for row in table.texts),
    ]
    return f"### {table.title}\n\n" + "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
