"""A plan, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fluidaudio_cli.cli.render.tables import print_line
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.executors.gemm_probe import products_of
from fluidaudio_cli.executors.kernels import kernel_for
from fluidaudio_cli.executors.select import executor, traits_of
from fluidaudio_cli.models.card import NARROW

if TYPE_CHECKING:
    from rich.console import Console


def plan_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """Name and text of each line, in the order in which they are settled."""
    yield "mode", plan.mode.name
    yield "models", plan.models
    units = f", {plan.compute_units}" if plan.compute_units != "all" else ""
    yield "executor", f"{plan.executor} ({executor(plan.executor).availability().version}){units}"
    for role, network in plan.networks.items():
        precision = "its own precision" if network.precision == "auto" else network.precision
        if network.variant == NARROW:
            integers = products_of(plan.executor, network.precision, narrow=True) == "int8"
            precision = f"8-bit integers{' and' if integers else ', computed in'} {precision}"
        elif network.variant:
            precision = f"{network.variant}, {precision}"
        yield role, f"{precision}, {network.batch} at a time"
    each = "one thread on each inference" if plan.one_thread_each else "shared by inferences"
    side = "1 worker" if plan.workers == 1 else f"{plan.workers} workers side by side"
    yield "processors", f"{plan.threads}, {side}, {each}"
    yield "kernels", ", ".join(_kernels(plan)) or "the executor's own"
    yield "tuning", plan.tuning or "none followed"
    for note in plan.notes:
        yield "note", note


def render_plan(console: Console, plan: Plan) -> None:
    """Print each line."""
    for name, text in plan_lines(plan):
        print_line(console, f"{name:<16}{text}")


def _kernels(plan: Plan) -> Iterator[str]:
    """Kernels of this project that would run a part of a network."""
    if not traits_of(plan.executor).joins_kernels:
        return
    used = (
        kernel_for(network.precision, plan.mode.execution.kernels)
        for network in plan.networks.values()
    )
    for kernel in dict.fromkeys(each for each in used if each is not None):
        yield f"{kernel.name} ({kernel.title}, {kernel.precision})"
