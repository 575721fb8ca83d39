"""Which variants no other beats in everything: speed, error and memory together."""

from __future__ import annotations

from collections.abc import Sequence

from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import VariantRecord

AXES = ("rtfx", "der_strict", "peak_memory")


def pareto_optimal(variants: Sequence[VariantRecord]) -> tuple[str, ...]:
    """Names of the variants not dominated on the axes that all of them have measured.

    One variant dominates another when it is at least as good on every axis and better on one.
    A variant without any measurement is not considered.
    """
    measured = [variant for variant in variants if variant.finished]
    axes = [axis for axis in AXES if all(METRICS[axis].measure(v) for v in measured)]
    scores = {variant.name: [_goodness(variant, axis) for axis in axes] for variant in measured}
    if not axes:
        return ()
    return tuple(
        name
        for name, own in scores.items()
        if not any(_dominates(other, own) for other in scores.values())
    )


def _goodness(variant: VariantRecord, axis: str) -> float:
    metric = METRICS[axis]
    summary = metric.measure(variant)
    assert summary is not None  # the caller keeps only axes that every variant has
    return summary.median if metric.higher_is_better else -summary.median


def _dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))
