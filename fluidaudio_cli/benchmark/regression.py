"""Logistic regression, as calibrations are fitted by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]


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
