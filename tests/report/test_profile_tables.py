"""The tables of a profile: every figure with its unit, as the profile has it."""

from __future__ import annotations

import dataclasses

import pytest
from made_profile import made_profile

from fluidaudio_cli.profiling.records import Peak, Unavailable
from fluidaudio_cli.report import profile_tables as tables
from fluidaudio_cli.report.tables import Table

PROFILE = made_profile()


def texts(table: Table) -> list[tuple[str, ...]]:
    return [
        tuple(cell if isinstance(cell, str) else cell.text for cell in row) for row in table.rows
    ]


def test_stages() -> None:
    table = tables.stage_table(PROFILE)
    assert texts(table)[1] == (
        *("segmentation", "800.0 ms", "*", "80.0%", "2", "100.0 ms", "200.0 ms", "300.0 ms", "8"),
        *("640.0 kB", "**", "0 B", "1.0 kB", "+2.0 MB", "12x"),
    )
    assert table.notes[:2] == ("* unavailable: made <b>up</b>", "** unavailable: not counted")
    waits = [dataclasses.replace(stage, waiting=True) for stage in PROFILE.stages]
    (row, _) = texts(tables.stage_table(made_profile(stages=tuple(waits))))
    assert [place for place, text in enumerate(row) if text == tables.DASH] == [3, 9, 10, 14]


def test_threads() -> None:
    table = tables.thread_table(PROFILE)
    assert texts(table) == [("worker-0", "400.0 ms", "0 µs", "400.0 ms")]
    assert table.notes == (
        "Stages at work at once: 0: 0 µs, 1: 500.0 ms, 2: 300.0 ms; "
        "37% of the time two or more, 1.38 on average",
    )


def test_operators() -> None:
    (model,) = PROFILE.models
    assert not isinstance(model.layers, Unavailable)
    several = dataclasses.replace(model.layers[0], kernels=("a", "b", "c"))
    peak = Peak("bf16", 2, 10e9, 8e9)
    table = tables.operator_table(
        dataclasses.replace(model, layers=(several, model.layers[1]), peak=peak), top=1
    )
    assert texts(table) == [
        ("lstm_1", "lstm", "600.0 ms", "60.0%", "1.00", "1.7 GFLOP/s", "16.7%", "1.0 MB", "a +2")
    ]
    (note,) = table.notes
    assert note.endswith("peak of 2 thread(s), measured: 10.0 GFLOP/s bf16, 8.0 GB/s in cache")
    unknown = tables.operator_table(model)
    assert texts(unknown)[1][5:7] == ("2.5 GFLOP/s", tables.DASH)
    assert texts(tables.kind_table(model)) == [
        ("lstm", "2", "1.00 s", "100.0%", "2.00", "2.0 MB"),
    ]


def test_precision() -> None:
    report = PROFILE.precision
    assert report is not None
    (model,) = report.models
    cosine = dataclasses.replace(model, figure_name="lowest cosine", entry="")
    both = dataclasses.replace(report, models=(model, cosine))
    assert texts(tables.precision_table(both)) == [
        ("segmentation", "fp16", "norm_1", "flipped frames", "1.00%", "2.00%"),
        ("segmentation", "fp16", tables.DASH, "lowest cosine", "0.010000", "0.020000"),
    ]
    assert texts(tables.error_table(model, 1)) == [
        ("norm_1", "instance_norm", "0.5", "0.1", "2.000%", "2.000%", "1", "2", "3", "100")
    ]
    assert texts(tables.rate_table(report)) == [
        ("fp16", "openvino", "21.00%", "+1.00 points", "against the reference")
    ]


def test_costs() -> None:
    assert PROFILE.rtfx == pytest.approx(12.5)
    assert texts(tables.cost_table(PROFILE)) == [
        ("stage clock", "800.0 ms", "810.0 ms", "1.012", "5")
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.2, "1.20 s"), (1.0, "1.00 s"), (0.001, "1.0 ms"), (12e-6, "12 µs")]
)
def test_times_have_their_unit(seconds: float, text: str) -> None:
    assert tables.time_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(2.5e9, "2.5 GB"), (1e9, "1.0 GB"), (1_234_000, "1.2 MB"), (1e3, "1.0 kB"), (999, "999 B")],
)
def test_sizes_have_their_unit(size: float, text: str) -> None:
    assert tables.size_text(size) == text
