"""``fluidaudio compare``: two benchmark results, what changed and whether it is proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fluidaudio_cli.cli import messages, report_output
from fluidaudio_cli.errors import GateError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from fluidaudio_cli.benchmark.compare import Difference, Kind
    from fluidaudio_cli.benchmark.results import BenchmarkResult

SCHEMA = "fluidaudio.compare/1"


def check_kinds(text: str) -> tuple[Kind, ...]:
    """The kinds of difference in a comma-separated list; an unknown one is a usage error."""
    from fluidaudio_cli.benchmark.compare import KINDS

    kinds = tuple(part.strip() for part in text.split(",") if part.strip())
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--allow-different {kind}", f"choose from {', '.join(KINDS)}")
    return cast("tuple[Kind, ...]", kinds)


def warn_of_allowed(
    base: BenchmarkResult, head: BenchmarkResult, kinds: Sequence[str]
) -> tuple[Difference, ...]:
    """Say what differs and was allowed to; raises as ``check_comparable``."""
    from fluidaudio_cli.benchmark.compare import check_comparable

    allowed = check_comparable(base, head, kinds)
    for difference in allowed:
        messages.say(f"warning: compared although {difference.text}")
    return allowed


def compare(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="Earlier result (JSON).")],
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="Later result (JSON).")],
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit with code 1 if HEAD is worse.")
    ] = False,
    allow_different: Annotated[
        str,
        typer.Option(
            metavar="KIND,…",
            help="Differences to accept: machine, models, dataset, config, executor, plan.",
        ),
    ] = "",
    max_slowdown: Annotated[
        float, typer.Option(metavar="PERCENT", min=0.0, help="More time than this is worse.")
    ] = 5.0,
    max_error_increase: Annotated[
        float, typer.Option(metavar="POINTS", min=0.0, help="More error than this is worse.")
    ] = 0.1,
    max_memory_increase: Annotated[
        float, typer.Option(metavar="PERCENT", min=0.0, help="More memory than this is worse.")
    ] = 10.0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the resampling.")] = 0,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Compare two benchmark results of the same work on the same machine.

    Times: medians, their ratio with a 95 % interval, and a two-sample test. Error rates and
    memory: the difference. Results of different machines, models or datasets are refused.
    """
    from fluidaudio_cli.benchmark.compare import Tolerance, not_compared
    from fluidaudio_cli.benchmark.compare import compare as compare_results
    from fluidaudio_cli.benchmark.results import read_result

    report_output.check(output, output_format)
    report_output.check_not_read("--output", output, (base, head))
    kinds = check_kinds(allow_different)
    old, new = read_result(base), read_result(head)
    allowed = warn_of_allowed(old, new, kinds)
    for name, first, second in (("BASE", old, new), ("HEAD", new, old)):
        if not first.complete:
            messages.say(f"warning: {name} is incomplete: its run was interrupted")
        if alone := ", ".join(not_compared(first, second, later=second is new)):
            messages.say(f"warning: in {name} only, not compared: {alone}")
    tolerance = Tolerance(max_slowdown / 100, max_error_increase, max_memory_increase / 100)
    changes = compare_results(old, new, tolerance, seed)
    if not changes:
        raise UsageError("the results have no figure in common", "measure the same recordings")

    def document() -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "base": str(base),
            "head": str(head),
            "differences_allowed": [asdict(each) for each in allowed],
            "tolerance": asdict(tolerance),
            "changes": [asdict(change) for change in changes],
        }

    def render(console: Console) -> None:
        from fluidaudio_cli.cli.render.benchmark import render_table
        from fluidaudio_cli.cli.render.tables import print_line
        from fluidaudio_cli.report.benchmark_tables import changes_table

        render_table(console, changes_table(changes))
        for change in changes:
            if change.note:
                print_line(console, f"{change.cell} {change.metric}: {change.note}")

    report_output.write_report(output, output_format, document, render)
    worse = [f"{c.cell} {c.metric}" for c in changes if c.verdict == "regression"]
    if worse and fail_on_regression:
        raise GateError(f"{len(worse)} regressions: {', '.join(worse)}")
