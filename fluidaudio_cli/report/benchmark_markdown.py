"""A benchmark report as Markdown, for a pull request, an issue or a CI step summary."""

from __future__ import annotations

from fluidaudio_cli.report import benchmark_tables as tables
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, remarks
from fluidaudio_cli.report.benchmark_scaling import scaling_lines, scaling_table
from fluidaudio_cli.report.benchmark_tables import Table


def to_markdown(report: BenchmarkReport) -> str:
    """The whole report; ends in a newline."""
    result = report.result
    machine = result.environment.machine
    parts = [
        "# fluidaudio benchmark",
        f"Dataset `{result.dataset.name}`, {len(result.dataset.uris)} file(s), "
        f"{result.plan.iterations} iteration(s) after {result.plan.warmup} warm-up; "
        f"{machine.cpu_model}, {machine.usable_cores} cores, {machine.system} "
        f"{machine.architecture}; fluidaudio {result.version}"
        + (f" at `{result.environment.git_commit[:12]}`" if result.environment.git_commit else ""),
        markdown_table(tables.overview(report)),
    ]
    optional = (
        tables.comparison(report),
        tables.paired_table(report),
        scaling_table(result),
        tables.gate_table(report),
    )
    parts.extend(markdown_table(table) for table in optional if table is not None)
    if line := tables.pareto_line(report):
        parts.append(line)
    parts += [f"- {line}" for line in (*scaling_lines(result), *remarks(report))]
    for variant in result.variants:
        if variant.files:
            details = [tables.variant_details(variant), tables.stage_table(variant)]
            parts += [markdown_table(table) for table in (*details, tables.file_table(variant))]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """One table with its title; figures to the right, bars in cells escaped."""
    lines = [
        _row(table.header),
        "|" + "|".join([" --- "] + [" ---: "] * (len(table.header) - 1)) + "|",
        *(_row(row) for row in table.rows),
    ]
    return f"### {table.title}\n\n" + "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
