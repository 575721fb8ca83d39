"""Summaries and intervals against values worked out by hand or taken from printed tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluidaudio_cli.measure import statistics


def test_summary_of_five_values() -> None:
    summary = statistics.summarise([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (summary.count, summary.median, summary.q1, summary.q3) == (5, 3.0, 2.0, 4.0)
    assert (summary.minimum, summary.maximum, summary.iqr) == (1.0, 5.0, 2.0)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        statistics.summarise([])


def test_percentile_interpolates() -> None:
    assert statistics.percentile([0.0, 10.0], 90) == pytest.approx(9.0)


def test_outlier_is_found_by_index() -> None:
    assert statistics.outliers([1.0, 1.01, 0.99, 1.02, 3.0]) == (4,)


def test_outlier_among_identical_values_is_found_though_the_mad_is_zero() -> None:
    assert statistics.outliers([1.0] * 6 + [2.0]) == (6,)


def test_a_deviation_under_ten_percent_is_no_outlier_however_tight_the_rest() -> None:
    assert statistics.outliers([1.0, 1.0, 1.0, 1.0, 1.0, 1.09]) == ()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_outliers_are_the_same_in_any_unit(unit: float) -> None:
    assert statistics.outliers([each * unit for each in (1.0, 1.01, 0.99, 1.02, 3.0)]) == (4,)
    assert statistics.outliers([each * unit for each in (1.0, 2.0, 3.0, 4.0, 5.0)]) == ()


def test_four_samples_have_no_outliers() -> None:
    assert statistics.outliers([1.0, 1.0, 1.0, 9.0]) == ()


def test_ratio_of_medians_of_constant_samples_is_exact() -> None:
    interval = statistics.ratio_of_medians([2.0, 2.0, 2.0], [3.0, 3.0, 3.0])
    assert (interval.ratio, interval.low, interval.high) == (1.5, 1.5, 1.5)


def test_ratio_interval_covers_the_ratio_and_repeats_with_its_seed() -> None:
    random = np.random.default_rng(7)
    base, head = random.normal(1.0, 0.05, 30).tolist(), random.normal(1.1, 0.05, 30).tolist()
    first = statistics.ratio_of_medians(base, head, seed=3)
    assert first.low < first.ratio < first.high
    assert 1.0 < first.low < 1.1 < first.high < 1.2
    assert statistics.ratio_of_medians(base, head, seed=3) == first


def test_a_single_sample_has_an_unbounded_interval() -> None:
    interval = statistics.ratio_of_medians([2.0], [4.0, 4.0])
    assert (interval.ratio, interval.low, interval.high) == (2.0, 0.0, math.inf)


def test_mann_whitney_is_exact_for_three_against_three() -> None:
    # 20 ways to place three ranks among six; two of them separate the samples wholly.
    assert statistics.two_sample_p([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]) == pytest.approx(0.1)


def test_mann_whitney_of_identical_constants_is_one() -> None:
    assert statistics.two_sample_p([1.0, 1.0], [1.0, 1.0]) == 1.0


# Critical values of the signed-rank statistic, two-sided 0.05 (any printed table).
@pytest.mark.parametrize(
    ("pairs", "critical"), [(6, 0), (7, 2), (8, 3), (10, 8), (15, 25), (20, 52), (25, 89)]
)
def test_signed_rank_critical_values(pairs: int, critical: int) -> None:
    assert statistics._signed_rank_quantile(pairs, 0.025) == critical


def test_paired_ratio_ignores_drift_that_both_sides_share() -> None:
    drift = np.linspace(1.0, 3.0, 12)
    interval = statistics.paired_ratio(drift.tolist(), (1.1 * drift).tolist())
    assert interval.ratio == pytest.approx(1.1)
    assert interval.low == pytest.approx(1.1)
    assert interval.high == pytest.approx(1.1)


def test_paired_interval_of_six_pairs_is_their_range() -> None:
    head = [0.9, 1.0, 1.1, 1.2, 1.3, 1.4]
    interval = statistics.paired_ratio([1.0] * 6, head)
    assert interval.low == pytest.approx(0.9)
    assert interval.high == pytest.approx(1.4)


def test_one_disturbed_pair_moves_the_paired_ratio_little() -> None:
    head = [1.0] * 11 + [10.0]
    assert statistics.paired_ratio([1.0] * 12, head).ratio == pytest.approx(1.0)


def test_five_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5 pairs are too few for an interval \(6 needed\)"):
        statistics.paired_ratio([1.0] * 5, [1.0] * 5)


def test_unequal_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="7 base and 6 head samples are not pairs"):
        statistics.paired_ratio([1.0] * 7, [1.0] * 6)


def test_paired_interval_covers_the_truth_about_95_percent_of_the_time() -> None:
    random = np.random.default_rng(11)
    covered = 0
    for _ in range(300):
        pair = random.normal(0.0, 0.1, 15)
        interval = statistics.paired_ratio([1.0] * 15, np.exp(pair).tolist())
        covered += interval.low <= 1.0 <= interval.high
    assert 0.92 <= covered / 300 <= 0.98


def test_pooled_rates_differ_by_what_recordings_differ_by() -> None:
    base = [(1.0, 10.0)] * 8
    found = statistics.paired_rate_difference(base, [(1.5, 10.0)] * 8)
    assert (found.difference, found.low, found.high) == pytest.approx((0.05, 0.05, 0.05))
    assert found.proven
    # Weighted by length: one long recording counts for its speech.
    mixed = statistics.paired_rate_difference([(10.0, 90.0), (0.0, 10.0)], [(10, 90), (5, 10)])
    assert mixed.difference == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("low", "high", "proven"), [(0.01, 0.1, True), (-0.1, -0.01, True), (-0.1, 0.01, False)]
)
def test_a_difference_is_proven_on_either_side_of_none(
    low: float, high: float, proven: bool
) -> None:
    assert statistics.DifferenceInterval((low + high) / 2, low, high).proven == proven


def test_recordings_that_disagree_prove_nothing() -> None:
    base = [(1.0, 10.0)] * 8
    head = [(error, 10.0) for error in (3.0, 0.0, 2.5, 0.2, 2.0, 0.5, 1.5, 0.4)]
    found = statistics.paired_rate_difference(base, head, seed=1)
    assert found.low < 0 < found.difference < found.high
    assert not found.proven
    assert found == statistics.paired_rate_difference(base, head, seed=1)


def test_few_recordings_have_no_interval() -> None:
    found = statistics.paired_rate_difference([(1.0, 10.0)] * 5, [(2.0, 10.0)] * 5)
    assert (found.low, found.high, found.proven) == (-math.inf, math.inf, False)
    # With collars a short recording may have no speech left, and draws of these have no rate.
    silent = [(1.0, 0.0)] * 4
    five, six = ([*[(1.0, 10.0)] * number, *silent] for number in (5, 6))
    assert not math.isfinite(statistics.paired_rate_difference(five, five).high)
    found = statistics.paired_rate_difference(six, [(2 * a, b) for a, b in six])
    assert 0.1 < found.low < found.difference < found.high < math.inf
    enough = statistics.paired_rate_difference([(1.0, 10.0)] * 6, [(2.0, 10.0)] * 6)
    assert (enough.low, enough.high, enough.proven) == pytest.approx((0.1, 0.1, True))
    with pytest.raises(ValueError, match="2 base and 1 head recordings are not pairs"):
        statistics.paired_rate_difference([(1.0, 10.0)] * 2, [(1.0, 10.0)])


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(3), 0
    for trial in range(200):
        base = [(error, 10.0) for error in random.uniform(0.0, 3.0, 20)]
        head = [
            (error + step, 10.0)
            for (error, _), step in zip(base, random.normal(0.2, 0.5, 20), strict=True)
        ]
        found = statistics.paired_rate_difference(base, head, seed=trial)
        covered += found.low <= 0.02 <= found.high
    assert 176 <= covered <= 198  # 95 %, somewhat less with 20 recordings
