"""Summaries, tests and intervals for timing samples: pure functions, seeded where they draw.

Times are positive and skewed by interruptions, so everything here rests on medians and ranks,
and comparisons are ratios (``head / base``; above 1 means head is slower).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_RESAMPLES = 4000  # standard error of a 2.5 % tail below 0.25 points
_OUTLIER_SCORE = 3.5  # Iglewicz & Hoaglin (1993), "How to detect and handle outliers"
_OUTLIER_SHARE = 0.10  # a deviation under a tenth of the median changes no conclusion here
_FEWEST_FOR_OUTLIERS = 5  # the median absolute deviation of fewer says nothing
# Two-sided signed-rank intervals at 95 % do not exist below six pairs: 2 / 2**5 > 0.05.
FEWEST_PAIRS = 6
# Of fewer recordings a bootstrap knows too few combinations for its tails to mean anything, and
# fewer that all agree would not be proof by a sign test either.
FEWEST_RECORDINGS = 6


@dataclass(frozen=True)
class Summary:
    """Order statistics of one metric's samples, in the samples' unit."""

    count: int
    median: float
    q1: float
    q3: float
    minimum: float
    maximum: float

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        return self.q3 - self.q1


@dataclass(frozen=True)
class RatioInterval:
    """A ratio ``head / base`` with its confidence interval."""

    ratio: float
    low: float
    high: float
    confidence: float = CONFIDENCE


@dataclass(frozen=True)
class DifferenceInterval:
    """A difference ``head - base`` with its confidence interval; above 0 means head has more."""

    difference: float
    low: float
    high: float

    @property
    def proven(self) -> bool:
        """Whether the interval excludes no difference."""
        return self.low > 0.0 or self.high < 0.0


def summarise(samples: Sequence[float]) -> Summary:
    """Median, quartiles (linear interpolation) and extremes; raises ``ValueError`` on none."""
    values = _positive_count(samples)
    low, q1, median, q3, high = np.percentile(values, (0, 25, 50, 75, 100)).tolist()
    return Summary(len(values), median, q1, q3, low, high)


def percentile(samples: Sequence[float], percent: float) -> float:
    """Percentile by linear interpolation (NumPy's default), ``percent`` in 0–100."""
    return float(np.percentile(_positive_count(samples), percent))


def outliers(samples: Sequence[float]) -> tuple[int, ...]:
    """Indices whose modified z-score is extreme and that are over 10 % from the median.

    Modified z-score: ``0.6745 * |x - median| / MAD``. Fewer than five samples give none.
    """
    values = np.asarray(samples, dtype=np.float64)
    if len(values) < _FEWEST_FOR_OUTLIERS:
        return ()
    median = float(np.median(values))
    distance = np.abs(values - median)
    mad = float(np.median(distance))
    far = distance > _OUTLIER_SHARE * abs(median)
    extreme = 0.6745 * distance > _OUTLIER_SCORE * mad
    return tuple(np.flatnonzero(far & extreme).tolist())


def ratio_of_medians(
    base: Sequence[float], head: Sequence[float], *, seed: int = 0
) -> RatioInterval:
    """``median(head) / median(base)`` of two independent samples, percentile bootstrap interval.

    With one sample on a side there is no spread to resample; the interval is then unbounded.
    """
    first, second = _positive_count(base), _positive_count(head)
    ratio = float(np.median(second) / np.median(first))
    if min(len(first), len(second)) < 2:
        return RatioInterval(ratio, 0.0, math.inf)
    random = np.random.default_rng(seed)

    def medians(values: Floats) -> Floats:
        drawn = random.integers(0, len(values), size=(_RESAMPLES, len(values)))
        return np.asarray(np.median(values[drawn], axis=1), dtype=np.float64)

    ratios = medians(second) / medians(first)
    return RatioInterval(ratio, *_interval(ratios))


def two_sample_p(base: Sequence[float], head: Sequence[float]) -> float:
    """Two-sided p-value of the Mann–Whitney U test; exact for small samples without ties.

    Identical constant samples give 1. With three values a side the smallest p there is is 0.1:
    a handful of iterations cannot reach 0.05, and callers say so rather than read 0.1 as "same".
    """
    first, second = _positive_count(base), _positive_count(head)
    if np.ptp(np.concatenate((first, second))) == 0.0:
        return 1.0
    from scipy import stats  # slow to import, and of use here only

    return float(stats.mannwhitneyu(first, second, alternative="two-sided").pvalue)


def paired_ratio(base: Sequence[float], head: Sequence[float]) -> RatioInterval:
    """Typical ratio ``head[i] / base[i]`` of interleaved runs, with an exact rank interval.

    Hodges–Lehmann estimate of the log ratios (median of the Walsh averages) and the interval
    from the exact null distribution of Wilcoxon's signed-rank statistic (Hollander & Wolfe,
    "Nonparametric Statistical Methods", section 3.3). Drift slower than a pair cancels; one
    disturbed pair moves the estimate little. Fewer than six pairs raise ``ValueError``.
    """
    first, second = _positive_count(base), _positive_count(head)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} base and {len(second)} head samples are not pairs")
    if len(first) < FEWEST_PAIRS:
        raise ValueError(f"{len(first)} pairs are too few for an interval ({FEWEST_PAIRS} needed)")
    logs = np.log(second / first)
    rows, columns = np.triu_indices(len(logs))
    walsh = np.sort((logs[rows] + logs[columns]) / 2.0)
    drop = _signed_rank_quantile(len(logs), (1.0 - CONFIDENCE) / 2.0)
    return RatioInterval(
        float(np.exp(np.median(walsh))),
        float(np.exp(walsh[drop])),
        float(np.exp(walsh[len(walsh) - 1 - drop])),
    )


def paired_rate_difference(
    base: Sequence[tuple[float, float]],
    head: Sequence[tuple[float, float]],
    *,
    seed: int = 0,
) -> DifferenceInterval:
    """Difference of two pooled rates over the same recordings, percentile bootstrap over them.

    ``base[i]`` and ``head[i]`` are (errors, total) of recording i; a rate is the sum of errors
    over the sum of totals. Whole recordings are drawn, both sides together (Bisani & Ney, ICASSP
    2004). Fewer than ``FEWEST_RECORDINGS`` that have a total give an unbounded interval.
    """
    if len(base) != len(head) or not base:
        raise ValueError(f"{len(base)} base and {len(head)} head recordings are not pairs")
    sides = np.array([base, head], dtype=np.float64)  # (2, recordings, 2)
    whole = sides.sum(axis=1)
    difference = float(whole[1, 0] / whole[1, 1] - whole[0, 0] / whole[0, 1])
    if np.count_nonzero(sides[..., 1].all(axis=0)) < FEWEST_RECORDINGS:
        return DifferenceInterval(difference, -math.inf, math.inf)
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(base), size=(_RESAMPLES, len(base)))
    sums = sides[:, drawn].sum(axis=2)  # (2, resamples, 2)
    with np.errstate(invalid="ignore", divide="ignore"):  # of all drawn there may be nothing
        rates = sums[..., 0] / sums[..., 1]
    differences = rates[1] - rates[0]
    return DifferenceInterval(difference, *_interval(differences[np.isfinite(differences)]))


def _interval(resampled: Floats) -> tuple[float, float]:
    """Percentiles of what was resampled."""
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(resampled, (tail, 100.0 - tail)).tolist()
    return low, high


def _signed_rank_quantile(pairs: int, tail: float) -> int:
    """Number of Walsh averages to drop at each end: the largest k with P(W+ <= k) <= tail."""
    # Counts of subsets of {1..n} by sum; 2**n subsets are equally likely under the null.
    counts = np.zeros(pairs * (pairs + 1) // 2 + 1)
    counts[0] = 1.0
    for rank in range(1, pairs + 1):
        shifted = np.zeros_like(counts)
        shifted[rank:] = counts[:-rank]
        counts = (counts + shifted) / 2.0
    cumulative = np.cumsum(counts)
    return int(np.searchsorted(cumulative, tail, side="right")) - 1


def _positive_count(samples: Sequence[float]) -> Floats:
    values = np.asarray(samples, dtype=np.float64)
    if not len(values):
        raise ValueError("no samples")
    return values
