"""Praat's TextGrid, long text form (Praat manual, "TextGrid file formats")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A labelled stretch of a tier, in milliseconds."""

    start_ms: int
    end_ms: int
    text: str


class Tier(NamedTuple):
    """A named tier and its labelled intervals, sorted and without overlap."""

    name: str
    intervals: tuple[Interval, ...]


def format_textgrid(tiers: Sequence[Tier], length_ms: int) -> str:
    """Text of a grid from 0 to ``length_ms``; unlabelled intervals fill each tier's gaps."""
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {_seconds(length_ms)}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, tier in enumerate(tiers, start=1):
        intervals = _without_gaps(tier.intervals, length_ms)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(tier.name)}",
            "        xmin = 0",
            f"        xmax = {_seconds(length_ms)}",
            f"        intervals: size = {len(intervals)}",
        ]
        for index, interval in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {_seconds(interval.start_ms)}",
                f"            xmax = {_seconds(interval.end_ms)}",
                f"            text = {_quoted(interval.text)}",
            ]
    return "\n".join(lines) + "\n"


def _without_gaps(intervals: Sequence[Interval], length_ms: int) -> list[Interval]:
    filled: list[Interval] = []
    position = 0
    for interval in (*intervals, Interval(length_ms, length_ms, "")):
        if interval.start_ms > position:
            filled.append(Interval(position, interval.start_ms, ""))
        if interval.end_ms > interval.start_ms:
            filled.append(interval)
        position = interval.end_ms
    return filled


def _seconds(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds}.{thousandths:03d}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
