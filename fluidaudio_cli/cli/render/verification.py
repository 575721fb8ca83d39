"""The bundled models and their checks, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fluidaudio_cli.cli.models_verify import VerificationReport
from fluidaudio_cli.cli.render.tables import coloured, print_line, titled_table
from fluidaudio_cli.models.registry import BundledModel
from fluidaudio_cli.models.verification import SelfTestOutcome

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_SHORT_HASH = 12


def render_models(
    console: Console, models: Sequence[BundledModel], sizes: Mapping[str, int]
) -> None:
    """Print what the bundled models are, and what goes in and out."""
    headings = ("model", "what", "licence", "weights", "sha256", "in, out", "size")
    table = titled_table("Bundled models", *headings, left=6)
    for model in models:
        facts = model.facts
        tensors = (*_tensors("in", facts["inputs"]), *_tensors("out", facts["outputs"]))
        table.add_row(
            model.name,
            facts["title"],
            facts["licence"],
            facts["conversion"]["precision"],
            model.sha256[:_SHORT_HASH],
            "\n".join(tensors),
            f"{sizes[model.name] / 1e6:.2f} MB",
        )
    console.print(table)
    print_line(console, f"{sum(sizes.values()) / 1e6:.2f} MB in {models[0].package.parent}")
    for model in models:
        if training := model.facts.get("training"):
            print_line(console, f"{model.name}: trained on {training['trained_on']}")
            print_line(console, f"{model.name}: has not heard {training['not_heard']}")


def _tensors(role: str, tensors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for tensor in tensors:
        shape = " \u00d7 ".join(str(size) for size in tensor["shape"])
        yield f"{role}: {tensor['name']} {tensor['dtype']} {shape}, {tensor['unit']}"


def render_verification(console: Console, report: VerificationReport) -> None:
    """Print hashes and self-tests, then which executors are not here and why."""
    hashes = titled_table("Hashes", "model", "sha256", "", left=3)
    for check in report.hashes:
        hashes.add_row(check.model, check.actual[:_SHORT_HASH], _verdict(check.ok))
    console.print(hashes)
    console.print(selftest_table(report.selftests))
    for outcome in report.selftests:
        if outcome.unavailable:
            print_line(console, f"{outcome.model} in {outcome.precision}: {outcome.unavailable}")
    for name, state in report.absent.items():
        print_line(console, f"{name}: not here: {state.reason} ({state.remedy})")


def selftest_table(outcomes: Sequence[SelfTestOutcome]) -> Table:
    """One row for each model, executor and precision, with the figures."""
    headings = ("executor", "precision", "model", "max difference", "rms", "least cosine", "")
    table = titled_table("Self-tests: distance from the expected output", *headings, left=3)
    for outcome in sorted(outcomes, key=lambda one: (one.executor, one.precision)):
        worst = max(outcome.agreements, key=lambda one: one.max_abs, default=None)
        figures = ("", "", "")
        if worst is not None:
            figures = (f"{worst.max_abs:.2g}", f"{worst.rms:.2g}", _cosine(worst.cosine))
        names = (outcome.executor, outcome.precision, outcome.model)
        verdict = coloured("not run here", "dim") if outcome.unavailable else _verdict(outcome.ok)
        table.add_row(*names, *figures, verdict)
    return table


def _cosine(value: float) -> str:
    # Cut, not rounded: 0.9999996 is not 1.
    return f"{math.floor(value * 1e6) / 1e6:.6f}"


def _verdict(ok: bool) -> Text:
    return coloured("ok", "green") if ok else coloured("FAILED", "bold red")
