from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.scoring.boundaries import boundary_score, match
from fluidaudio_cli.turns import Turn


def test_onsets_and_offsets_are_matched_apart_and_signed() -> None:
    # At 5.0 one speaker stops and another starts; the hypothesis leaves a gap there.
    reference = [Turn(1.0, 5.0, "A"), Turn(5.0, 9.0, "B")]
    hypothesis = [Turn(1.1, 4.9, "x"), Turn(5.2, 9.0, "x")]
    score = boundary_score(reference, hypothesis, ((0.0, 10.0),), tolerance=0.5)
    assert score.offsets == pytest.approx((0.1, 0.2, -0.1, 0.0))
    assert (score.reference, score.hypothesis) == (4, 4)


def test_tolerance_is_inclusive_and_nearest_pair_wins() -> None:
    reference = [Turn(10.0, 20.0, "A")]
    hypothesis = [Turn(9.8, 15.0, "x"), Turn(10.3, 20.3, "y")]
    score = boundary_score(reference, hypothesis, ((0.0, 30.0),), tolerance=0.3)
    assert score.offsets == pytest.approx((-0.2, 0.3))
    assert (score.precision, score.recall) == (0.5, 1.0)


def test_uem_edges_count_but_cuts_do_not() -> None:
    turns = [Turn(0.0, 4.0, "A"), Turn(8.0, 12.0, "B")]
    score = boundary_score(turns, turns, ((0.0, 10.0),))
    assert score.offsets == (0.0, 0.0, 0.0)  # onsets 0 and 8, offset 4; 12 is outside
    assert (score.reference, score.hypothesis) == (3, 3)


def test_self_overlap_makes_no_boundary() -> None:
    score = boundary_score([Turn(0, 3, "A"), Turn(2, 5, "A")], [Turn(0, 5, "x")], ((0.0, 6.0),))
    assert (score.reference, score.hypothesis) == (2, 2)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_tolerance(tolerance: float) -> None:
    with pytest.raises(UsageError, match=r"a boundary tolerance of .* s: give a time above 0 s"):
        boundary_score([], [], (), tolerance=tolerance)


times = st.lists(st.integers(0, 60), max_size=10, unique=True)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(times, times)
def test_matches_as_many_as_pyannote_metrics(first: list[int], second: list[int]) -> None:
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.segmentation import SegmentationPrecision

    tolerance = 2.0
    # pyannote takes the end of every segment but the last for a boundary.
    timelines = [
        Timeline([Segment(-1, time / 4) for time in sorted(side)] + [Segment(50, 99)])
        for side in (first, second)
    ]
    theirs = SegmentationPrecision(tolerance=tolerance)(*timelines, detailed=True)
    ours = match(np.array(sorted(first)) / 4, np.array(sorted(second)) / 4, tolerance)
    assert len(ours) == theirs["number of matches"]
    assert all(abs(offset) <= tolerance for offset in ours)
