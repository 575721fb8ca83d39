"""Verdicts on time and memory over the length of the audio, by hand."""

from __future__ import annotations

import csv
import io

import pytest
from benchmarking import cell, file_record, result

from fluidaudio_cli.benchmark.findings import conclude, growth
from fluidaudio_cli.benchmark.results import CellRecord
from fluidaudio_cli.report.benchmark_csv import to_csv


def long(
    length: float, threads: int, walls: tuple[float, ...], peak_mb: float, mode: str = "fast"
) -> CellRecord:
    processes = tuple(
        (file_record(walls=(wall,), audio_seconds=length, peak=round(peak_mb * 1e6) - number),)
        for number, wall in enumerate(walls)
    )
    return cell(mode, processes=processes, study="scaling", threads=threads, length=length)


CELLS = (
    long(60.0, 1, (1.0,), 200.0),  # 60 s an hour: too short to be judged
    long(600.0, 1, (4.5, 5.0, 9.0), 300.0),  # 30 s an hour
    long(600.0, 2, (2.5,), 310.0),  # 15
    long(3600.0, 1, (33.0,), 305.0),  # 33: +10 %
    long(36_000.0, 1, (291.0,), 320.0),  # 29.1: -3 %
    long(36_000.0, 2, (153.0,), 318.5),  # 15.3: +2 %
)


def test_time_and_memory_are_judged_from_ten_minutes_on() -> None:
    one, two = growth(CELLS)
    assert (one.series, one.shortest_seconds, one.longest_seconds) == (
        "fast/1 thread",
        600.0,
        36_000.0,
    )
    assert [one.time_share, two.time_share] == pytest.approx([0.10, 0.02])
    assert [one.memory_bytes, two.memory_bytes] == pytest.approx([20e6, 8.5e6])
    assert (one.memory_holds, two.time_holds, two.memory_holds) == (True, True, True)


def test_more_than_the_limits_fails() -> None:
    (worse,) = growth((CELLS[1], long(36_000.0, 1, (334.0,), 320.1)))
    assert worse.time_share == pytest.approx(0.113, abs=0.001)
    assert (worse.time_holds, worse.memory_holds) == (False, False)


def test_two_lengths_are_needed_for_a_verdict() -> None:
    (few,) = growth(CELLS[:2])
    assert (few.time_share, few.memory_bytes, few.time_holds) == (None, None, None)
    assert growth((cell(),)) == ()


def test_csv_has_the_growth_of_each_series_under_its_factors() -> None:
    found = result(*CELLS)
    found = found.model_copy(update={"findings": conclude(found)})
    rows = csv.DictReader(io.StringIO(to_csv(found)))
    names = ("study", "mode", "threads", "length", "metric", "unit", "median")
    grown = [tuple(row[name] for name in names) for row in rows if "_growth" in row["metric"]]
    assert [row for row in grown if row[4] != "memory_growth"] == [
        ("scaling", "fast", "1", "", "time_growth", "%", "10"),
        ("scaling", "fast", "1", "", "memory_growth_with_length", "MB", "20"),
        ("scaling", "fast", "2", "", "time_growth", "%", "2"),
        ("scaling", "fast", "2", "", "memory_growth_with_length", "MB", "8.5"),
    ]
