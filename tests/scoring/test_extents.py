from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fluidaudio_cli.scoring.extents import (
    Extents,
    extents_seconds,
    intersect_extents,
    merge_extents,
    subtract_extents,
)

integers = st.integers(0, 30)
interval_lists = st.lists(st.tuples(integers, integers), max_size=6)


def seconds_of(extents: Extents) -> set[int]:
    return {second for start, end in extents for second in range(int(start), int(end))}


def test_hand_computed() -> None:
    left = merge_extents([(5, 9), (0, 2), (2, 3), (7, 7), (8, 12)])
    assert left == ((0, 3), (5, 12))
    assert intersect_extents(left, ((1, 6), (11, 20))) == ((1, 3), (5, 6), (11, 12))
    assert subtract_extents(left, ((1, 6), (11, 20))) == ((0, 1), (6, 11))
    assert subtract_extents(left, ()) == left
    assert subtract_extents((), left) == ()
    assert extents_seconds(left) == 10


@settings(derandomize=True)
@given(interval_lists, interval_lists)
def test_same_as_sets_of_whole_seconds(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    left, right = merge_extents(first), merge_extents(second)
    a, b = seconds_of(left), seconds_of(right)
    assert seconds_of(intersect_extents(left, right)) == a & b
    assert seconds_of(subtract_extents(left, right)) == a - b
    assert extents_seconds(left) == len(a)
    assert all(end < start for (_, end), (start, _) in pairwise(left))
