"""Which cells no other beats in everything: speed, error and memory together."""

from __future__ import annotations

from collections.abc import Sequence

from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import CellRecord

AXES = ("rtfx", "der_strict", "peak_memory")


def pareto_optimal(cells: Sequence[CellRecord]) -> tuple[str, ...]:
    """Names of the cells not dominated on the axes that all of them have measured.

    One cell dominates another when it is at least as good on every axis and better on one.
    A cell without any measurement is not considered.
    """
    measured = [cell for cell in cells if cell.finished]
    axes = [axis for axis in AXES if all(METRICS[axis].measure(v) for v in measured)]
    scores = {cell.name: [_goodness(cell, axis) for axis in axes] for cell in measured}
    if not axes:
        return ()
    return tuple(
        name
        for name, own in scores.items()
        if not any(_dominates(other, own) for other in scores.values())
    )


def _goodness(cell: CellRecord, axis: str) -> float:
    metric = METRICS[axis]
    summary = metric.measure(cell)
    assert summary is not None  # the caller keeps only axes that every cell has
    return summary.median if metric.higher_is_better else -summary.median


def _dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))
