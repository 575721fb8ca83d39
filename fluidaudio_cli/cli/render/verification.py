"""The bundled models and their checks, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.cli.models_verify import VerificationReport
from fluidaudio_cli.models.registry import BundledModel
from fluidaudio_cli.models.verification import SelfTestOutcome

_SHORT_HASH = 12


def render_models(
    console: Console, models: Sequence[BundledModel], sizes: Mapping[str, int]
) -> None:
    """Print what the bundled models are, and what goes in and out."""
    table = _table("Bundled models")
    for heading in ("model", "what", "licence", "weights", "size", "sha256", "in, out"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for model in models:
        facts = model.facts
        tensors = (*_tensors("in", facts["inputs"]), *_tensors("out", facts["outputs"]))
        table.add_row(
            Text(model.name),
            Text(facts["title"]),
            Text(facts["licence"]),
            Text(facts["conversion"]["precision"]),
            f"{sizes[model.name] / 1e6:.2f} MB",
            model.sha256[:_SHORT_HASH],
            Text("\n".join(tensors)),
        )
    console.print(table)
    console.print(Text(f"{sum(sizes.values()) / 1e6:.2f} MB in {models[0].package.parent}"))
    for model in models:
        if training := model.facts.get("training"):
            console.print(Text(f"{model.name}: trained on {training['trained_on']}"))
            console.print(Text(f"{model.name}: has not heard {training['not_heard']}"))


def _tensors(role: str, tensors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for tensor in tensors:
        shape = " \u00d7 ".join(str(size) for size in tensor["shape"])
        yield f"{role}: {tensor['name']} {tensor['dtype']} {shape}, {tensor['unit']}"


def render_verification(console: Console, report: VerificationReport) -> None:
    """Print hashes and self-tests, then which executors are not here and why."""
    hashes = _table("Hashes")
    for heading in ("model", "sha256", ""):
        hashes.add_column(heading)
    for check in report.hashes:
        hashes.add_row(Text(check.model), check.actual[:_SHORT_HASH], _verdict(check.ok))
    console.print(hashes)
    console.print(selftest_table(report.selftests))
    for name, state in report.absent.items():
        console.print(Text(f"{name}: not here: {state.reason} ({state.remedy})"), soft_wrap=True)


def selftest_table(outcomes: Sequence[SelfTestOutcome]) -> Table:
    """One row for each model, executor and precision, with the figures."""
    table = _table("Self-tests: distance from the expected output")
    for heading in ("executor", "precision", "model"):
        table.add_column(heading)
    for heading in ("max difference", "rms", "least cosine"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for outcome in sorted(outcomes, key=lambda one: (one.executor, one.precision)):
        worst = max(outcome.agreements, key=lambda one: one.max_abs, default=None)
        figures = ("", "", "")
        if worst is not None:
            figures = (f"{worst.max_abs:.2g}", f"{worst.rms:.2g}", _cosine(worst.cosine))
        table.add_row(
            outcome.executor,
            outcome.precision,
            Text(outcome.model),
            *figures,
            _verdict(outcome.ok),
        )
    return table


def _cosine(value: float) -> str:
    # Cut, not rounded: 0.9999996 is not 1.
    return f"{math.floor(value * 1e6) / 1e6:.6f}"


def _verdict(ok: bool) -> Text:
    return Text("ok", "green") if ok else Text("FAILED", "bold red")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
