"""Logistic regression, and what it finds as values of a calibration."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from fluidaudio_cli.diarization.speakers.calibration import Calibration

Floats = NDArray[np.float64]


def slopes_of(kind: str) -> list[str]:
    """Fields of a calibration that are slopes of log-odds of this ``kind``, a prefix."""
    names = [field.name for field in fields(Calibration)]
    return [name for name in names if name.startswith(f"{kind}_") and name != f"{kind}_offset"]


def fitted(
    start: Calibration,
    kind: str,
    features: Floats,
    true: NDArray[np.bool_],
    weights: Floats,
    ridge: float,
    more: float = 0.0,
) -> Calibration:
    """``start`` with log-odds of ``kind`` as :func:`logistic` finds them, and ``more``.

    ``features`` in the order of :func:`slopes_of`. ``start`` where all or none are ``true``.
    """
    if true.all() or not true.any():
        return start
    slopes, offset = logistic(features, true, weights, ridge)
    found: dict[str, Any] = dict(zip(slopes_of(kind), map(float, slopes), strict=True))
    found[f"{kind}_offset"] = offset + more
    return replace(start, **found)


def logistic(
    features: Floats, true: NDArray[np.bool_], weights: Floats, ridge: float
) -> tuple[Floats, float]:
    """Slopes (f,) and offset of the log-odds of ``true`` (m,) by ``features`` (m, f).

    ``weights`` (m,): what an error costs; ``ridge``: what a slope of one standard deviation of
    its feature does.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0.0] = 1.0
    standard = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    signs = np.where(true, 1.0, -1.0)

    def cost(values: Floats) -> tuple[float, Floats]:
        margin = signs * (standard @ values)
        wrong = weights / (1.0 + np.exp(np.clip(margin, -50.0, 50.0)))
        slope = -standard.T @ (signs * wrong)
        slope[:-1] += 2.0 * ridge * values[:-1]
        penalty = ridge * float(values[:-1] @ values[:-1])
        return float(weights @ np.logaddexp(0.0, -margin)) + penalty, slope

    found = minimize(cost, np.zeros(standard.shape[1]), jac=True, method="L-BFGS-B").x
    slopes = found[:-1] / scale
    return slopes, float(found[-1] - slopes @ mean)
