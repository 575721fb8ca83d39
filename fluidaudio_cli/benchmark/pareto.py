"""Which cells no other beats in everything: speed, error and memory together."""

from __future__ import annotations

from collections.abc import Sequence

from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import CellRecord

AXES = {"rtfx": 1.0, "der_strict": -1.0, "peak_memory": -1.0}
"""Metrics, and whether more of one is better or worse."""


def pareto_optimal(cells: Sequence[CellRecord]) -> tuple[str, ...]:
    """Names of the cells not dominated on the axes that all of them have measured.

    One cell dominates another when it is at least as good on every axis and better on one.
    A cell without any measurement is not considered.
    """
    measured = [cell for cell in cells if cell.finished]
    scores: dict[str, list[float]] = {cell.name: [] for cell in measured}
    for axis, sign in AXES.items():
        found = [summary.median for cell in measured if (summary := METRICS[axis].measure(cell))]
        if len(found) == len(measured):
            for own, value in zip(scores.values(), found, strict=True):
                own.append(sign * value)

    def dominated(own: Sequence[float]) -> bool:
        return any(
            other != own and all(a >= b for a, b in zip(other, own, strict=True))
            for other in scores.values()
        )

    return tuple(name for name, own in scores.items() if own and not dominated(own))
