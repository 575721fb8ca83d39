"""Arithmetic of scored time: sorted, disjoint ``(start, end)`` pairs in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Extents: TypeAlias = tuple[tuple[float, float], ...]
"""Sorted, disjoint, non-empty intervals in seconds, as ``merge_extents`` returns them."""

_Sorted: TypeAlias = Sequence[tuple[float, float]]


def merge_extents(intervals: Iterable[tuple[float, float]]) -> Extents:
    """Union of intervals, sorted; touching ones are joined and empty ones dropped."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def intersect_extents(left: _Sorted, right: _Sorted) -> Extents:
    """Time in both, by one walk over the two sorted lists."""
    common: list[tuple[float, float]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start = max(left[i][0], right[j][0])
        end = min(left[i][1], right[j][1])
        if start < end:
            common.append((start, end))
        if left[i][1] <= right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(common)


def subtract_extents(extents: _Sorted, removed: _Sorted) -> Extents:
    """Time in ``extents`` that is not in ``removed``."""
    if not removed:
        return tuple(extents)
    edges = [float("-inf"), *(edge for interval in removed for edge in interval), float("inf")]
    kept = tuple(zip(edges[::2], edges[1::2], strict=True))
    return intersect_extents(extents, kept)


def extents_seconds(extents: Extents) -> float:
    """Total length in seconds."""
    return sum(end - start for start, end in extents)
