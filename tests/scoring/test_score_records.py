from __future__ import annotations

import math

import pytest

from fluidaudio_cli.scoring.records import (
    BoundaryScore,
    DiarizationErrorRate,
    JaccardErrorRate,
    OverlapError,
    SpeakerCount,
)


def test_rates_are_ratios_of_sums_not_means_of_ratios() -> None:
    pooled = DiarizationErrorRate(1, 2, 1, 10) + DiarizationErrorRate(0, 0, 0, 90)
    assert pooled == DiarizationErrorRate(1, 2, 1, 100)
    assert pooled.error == 4
    assert pooled.rate == 0.04
    assert (JaccardErrorRate(1.0, 2) + JaccardErrorRate(0.0, 6)).rate == 0.125
    assert OverlapError(1, 3, 4) + OverlapError(1, 0, 1) == OverlapError(2, 3, 5)


def test_speaker_errors_of_opposite_sign_do_not_cancel() -> None:
    pooled = SpeakerCount.of_file(4, 3) + SpeakerCount.of_file(2, 4) + SpeakerCount.of_file(5, 5)
    assert pooled == SpeakerCount(11, 12, absolute_error=3, correct_files=1, files=3)


def test_boundary_quantiles() -> None:
    score = BoundaryScore((0.0, -0.1, 0.2), 5, 4) + BoundaryScore((0.3, -0.4), 5, 4)
    assert score.median_seconds == 0.2
    assert score.p90_seconds == pytest.approx(0.36)
    assert score.bias_seconds == 0.0
    assert (score.precision, score.recall) == (5 / 8, 5 / 10)


def test_nothing_to_measure_is_nan_never_zero() -> None:
    assert math.isnan(DiarizationErrorRate(0, 0, 0, 0).rate)
    assert math.isnan(DiarizationErrorRate(0, 3, 0, 0).rate)
    assert math.isnan(JaccardErrorRate(0, 0).rate)
    empty = BoundaryScore((), 0, 0)
    for value in (
        empty.precision, empty.recall, empty.median_seconds, empty.p90_seconds, empty.bias_seconds
    ):  # fmt: skip
        assert math.isnan(value)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: DiarizationErrorRate(-1, 0, 0, 1), "missed_detection is -1"),
        (lambda: DiarizationErrorRate(0, math.nan, 0, 1), "false_alarm is nan"),
        (lambda: DiarizationErrorRate(6, 0, 5, 10), "misses and confuses more than there is"),
        (lambda: JaccardErrorRate(2.5, 2), "more error than speakers"),
        (lambda: SpeakerCount(3, 1, 1, 0, 1), "counts too little error"),
        (lambda: SpeakerCount(1, 1, 0, 2, 1), "more correct files than files"),
        (lambda: OverlapError(2, 0, 1), "misses more overlap than there is"),
        (lambda: BoundaryScore((0.1, 0.2), 1, 5), "2 matches of 1/5"),
    ],
)
def test_contradictions_are_refused(build: object, reason: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=reason):
        build()


def test_only_the_same_kind_adds() -> None:
    with pytest.raises(TypeError):
        JaccardErrorRate(0, 1) + OverlapError(0, 0, 1)  # type: ignore[operator]
