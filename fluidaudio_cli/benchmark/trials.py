"""Figures of trials: how often one person is rejected and a stranger accepted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from fluidaudio_cli.benchmark.results import IdentificationRecord

Floats = NDArray[np.float64]
Kinds = NDArray[np.bool_]


def error_curve(record: IdentificationRecord) -> tuple[Floats, Floats]:
    """False accepts and false rejects at every threshold of the log-odds, from the lowest up.

    A test in which nobody was heard is a false reject at all of them.
    """
    same, strangers = np.sort(record.same_odds), np.sort(record.stranger_odds)
    steps = np.concatenate([[-np.inf], np.unique(np.concatenate([same, strangers])), [np.inf]])
    missed = np.searchsorted(same, steps) + record.unheard
    accepted = strangers.size - np.searchsorted(strangers, steps)
    return accepted / max(strangers.size, 1), missed / max(same.size + record.unheard, 1)


def equal_error_rate(record: IdentificationRecord) -> float:
    """Where both rates are equal: the mean of the two where they cross."""
    accepts, rejects = error_curve(record)
    nearest = int(np.abs(accepts - rejects).argmin())
    return float((accepts[nearest] + rejects[nearest]) / 2.0)


def min_dcf(record: IdentificationRecord, prior: float = 0.01) -> float:
    """Least detection cost at any threshold, both errors costing 1; 1 for accepting nobody.

    As in NIST's evaluations: one trial in a hundred is of one person.
    """
    accepts, rejects = error_curve(record)
    return float((prior * rejects + (1.0 - prior) * accepts).min() / prior)


def cllr(record: IdentificationRecord) -> float:
    """:func:`weighted_cllr` of all trials; of a test in which nobody was heard nothing is known."""
    if not record.stranger_odds:
        return math.nan
    return weighted_cllr(*_pooled((*record.same_odds, *[0.0] * record.unheard), record))


def weighted_cllr(odds: Floats, same: Kinds, weights: Floats) -> float:
    """Cost of the log-odds in bits, 1 for knowing nothing (Brümmer and du Preez, 2006).

    ``weights`` add up to a half for one person and for two.
    """
    return float((weights * np.logaddexp(0.0, np.where(same, -odds, odds))).sum() / np.log(2.0))


def least_cllr(same: Kinds, weights: Floats, *features: Floats) -> list[float]:
    """Slope of each of ``features``, and offset, of log-odds of least :func:`weighted_cllr`.

    Where nothing confuses the two kinds all would grow without end; so each trial counts a
    little as of the other kind, as if one more of that had been seen (J. Platt, "Probabilistic
    outputs for support vector machines", 1999).
    """
    there = weights > 0.0
    seen = np.where(same, np.count_nonzero(same & there), np.count_nonzero(~same & there))
    doubt = weights / (seen + 2.0)

    def cost(line: Floats) -> float:
        odds = np.tensordot(line[:-1], known, 1) + line[-1]
        return weighted_cllr(odds, same, weights - doubt) + weighted_cllr(odds, ~same, doubt)

    known = np.stack(features)
    found = minimize(cost, [1.0] * len(features) + [0.0], method="Nelder-Mead").x
    return [float(value) for value in found]


def false_accepts(record: IdentificationRecord, asked: float) -> float:
    """Share of strangers that are accepted where ``asked`` is allowed."""
    rates = np.array(record.stranger_rates)
    return float(np.mean(rates <= asked)) if rates.size else math.nan


def false_rejects(record: IdentificationRecord, asked: float) -> float:
    """Share of tests of one person that are not accepted there, unheard ones included."""
    missed = sum(rate > asked for rate in record.same_rates) + record.unheard
    return missed / max(len(record.same_rates) + record.unheard, 1)


def expected_and_observed(record: IdentificationRecord) -> list[tuple[float, float, int]]:
    """:func:`bands` of all trials up to 10, 50, 90 and 100 %; both kinds count alike."""
    return bands(*_pooled(record.same_odds, record), (0.0, 0.1, 0.5, 0.9, 1.0))


def bands(
    odds: Floats, same: Kinds, weights: Floats, edges: Sequence[float]
) -> list[tuple[float, float, int]]:
    """Mean probability said, share that was one person, and trials, between ``edges``."""
    said = expit(odds)
    places = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, len(edges) - 2)
    found = []
    for place in range(len(edges) - 1):
        rows = places == place
        if (whole := weights[rows].sum()) > 0.0:
            told = float(weights[rows] @ said[rows] / whole)
            found.append((told, float(weights[rows & same].sum() / whole), int(rows.sum())))
    return found


def _pooled(own: Sequence[float], record: IdentificationRecord) -> tuple[Floats, Kinds, Floats]:
    """Log-odds of one person, ``own``, and of strangers; which are which; their weights."""
    odds = np.array((*own, *record.stranger_odds))
    same = np.arange(odds.size) < len(own)
    weights = np.where(same, 0.5 / max(same.sum(), 1), 0.5 / max((~same).sum(), 1))
    return odds, same, weights
