"""A benchmark report as Markdown, for a pull request, an issue or a CI step summary."""

from __future__ import annotations

import html

from fluidaudio_cli.report import benchmark_tables as tables
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, remarks
from fluidaudio_cli.report.tables import Table


def to_markdown(report: BenchmarkReport) -> str:
    """The whole report; ends in a newline."""
    result = report.result
    machine, commit = result.environment.machine, result.environment.commit(12)
    parts = [
        "# fluidaudio benchmark",
        f"Dataset `{result.dataset.name}`, {len(result.dataset.uris)} file(s); "
        f"{machine.cpu_model}, {machine.usable_cores} cores, {machine.system} "
        f"{machine.architecture}; fluidaudio {result.version}"
        + (f" at {commit}" if commit else ""),
        *(markdown_table(table) for table in tables.summary_tables(report)),
    ]
    if line := tables.pareto_line(report):
        parts.append(_plain(line))
    parts += [f"- {_plain(line)}" for line in remarks(report)]
    for cell in result.cells:
        parts += [markdown_table(table) for table in tables.detail_tables(cell)]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """One table with its title and notes; figures to the right, bars in cells escaped."""
    lines = [
        _row(table.header),
        "|" + "|".join([" --- "] + [" ---: "] * (len(table.header) - 1)) + "|",
        *(_row(row) for row in table.texts),
    ]
    parts = (f"### {_plain(table.title)}", "\n".join(lines), *map(_plain, table.notes))
    return "\n\n".join(parts)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """``text`` on one line, nothing of it taken for HTML."""
    return " ".join(html.escape(text, quote=False).splitlines())
