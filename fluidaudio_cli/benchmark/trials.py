"""Figures of trials: how often one person is rejected and a stranger accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fluidaudio_cli.benchmark.results import IdentificationRecord

Floats = NDArray[np.float64]


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
    """Cost of the log-odds in bits, 1 for knowing nothing (Brümmer and du Preez, 2006)."""
    same = np.logaddexp(0.0, -np.array(record.same_odds)).mean() if record.same_odds else np.log(2)
    other = np.logaddexp(0.0, np.array(record.stranger_odds)).mean()
    return float((same + other) / 2.0 / np.log(2.0))


def false_accepts(record: IdentificationRecord, asked: float) -> float:
    """Share of strangers that are accepted where ``asked`` is allowed."""
    return float(np.mean(np.array(record.stranger_rates) <= asked))


def false_rejects(record: IdentificationRecord, asked: float) -> float:
    """Share of tests of one person that are not accepted there, unheard ones included."""
    missed = sum(rate > asked for rate in record.same_rates) + record.unheard
    return missed / max(len(record.same_rates) + record.unheard, 1)


def expected_and_observed(
    record: IdentificationRecord, edges: Sequence[float] = (0.0, 0.1, 0.5, 0.9, 1.0)
) -> list[tuple[float, float, int]]:
    """Mean probability said, share that was one person, and trials, for bands of probability.

    Both kinds of trial count alike, as the log-odds take it.
    """
    said = expit(np.array((*record.same_odds, *record.stranger_odds)))
    same = np.arange(said.size) < len(record.same_odds)
    weights = np.where(same, 0.5 / max(same.sum(), 1), 0.5 / max((~same).sum(), 1))
    bands = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, len(edges) - 2)
    found = []
    for band in range(len(edges) - 1):
        rows = bands == band
        if (whole := weights[rows].sum()) > 0.0:
            found.append(
                (
                    float(weights[rows] @ said[rows] / whole),
                    float(weights[rows & same].sum() / whole),
                    int(rows.sum()),
                )
            )
    return found
