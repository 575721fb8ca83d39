"""The benchmark's exports: each is parsed back, and holds what the result says."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from benchmarking import cell, file_record, plan, result

from fluidaudio_cli.benchmark.findings import conclude
from fluidaudio_cli.benchmark.gates import Gate, evaluate
from fluidaudio_cli.benchmark.grid import Cell, Contrast
from fluidaudio_cli.benchmark.results import CellRecord, EnergySample, FileRecord, StageSample
from fluidaudio_cli.benchmark.studies import AGAINST
from fluidaudio_cli.cli.render.benchmark import render_report
from fluidaudio_cli.cli.render.console import plain_text
from fluidaudio_cli.report.benchmark_csv import HEADER, to_csv
from fluidaudio_cli.report.benchmark_github import annotation_lines
from fluidaudio_cli.report.benchmark_junit import to_junit
from fluidaudio_cli.report.benchmark_markdown import markdown_table, to_markdown
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, error_line, figure, remarks
from fluidaudio_cli.report.benchmark_tables import (
    cell_details,
    file_table,
    medians,
    pareto_line,
    stage_table,
    summary_tables,
)
from fluidaudio_cli.report.tables import Table


def full_report() -> BenchmarkReport:
    """Two modes, a failed file, an absent executor, a passed and a failed gate, a slower pair."""
    reference = cell("reference", file_record("a", walls=(4.0, 4.0)))
    fast = cell(
        "fast",
        file_record("a", walls=(1.0, 1.0, 1.0, 1.0, 3.0), error_seconds=11.0, peak=75_000_000),
        FileRecord(uri="b\x01", error="cut | off"),
    )
    absent = CellRecord(
        cell=Cell(mode="fast", executor="coreml"), study="modes", unavailable="only on macOS"
    )
    ours, theirs = Cell(mode="fast", program="this version"), Cell(mode="fast", program="main")
    pairs = [
        cell(
            "fast",
            processes=((file_record("a", walls=(wall,)),),) * 8,
            study=AGAINST,
            program=each.program,
        )
        for each, wall in ((ours, 1.1), (theirs, 1.0))
    ]
    modes = plan(reference.cell, fast.cell)
    turns = plan(ours, theirs, name=AGAINST, contrasts=(Contrast(ours, theirs),), in_turn=True)
    both = modes.model_copy(update={"studies": (*modes.studies, *turns.studies)})
    whole = result(reference, fast, absent, *pairs, warnings=("100% busy",), plan=both)
    whole = whole.model_copy(update={"findings": conclude(whole)})
    gates = [
        Gate(mode="reference", metric="rtfx", at_least=20, unit="x"),
        Gate(mode="reference", metric="rtfx", at_least=1200, unit="x"),
    ]
    return BenchmarkReport(whole, evaluate(gates, whole))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00 s"),
        (-1.5, "-1.50 s"),
        (0.001234, "0.00123 s"),
        (0.5, "0.5 s"),
        (1.234, "1.23 s"),
        (12.34, "12.3 s"),
        (0.995, "0.995 s"),
        (0.9996, "1.00 s"),
        (-0.0, "0.00 s"),
        (9.996, "10.0 s"),
        (99.96, "100 s"),
        (1234.5, "1 234 s"),
    ],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert figure(value, "s") == text


def test_csv_is_long_and_holds_files_and_the_pool() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(full_report().result))))
    assert tuple(rows[0]) == HEADER
    found = {
        (row["mode"], row["file"]): row
        for row in rows
        if row["metric"] == "rtfx" and row["study"] == "modes"
    }
    assert set(found) == {
        ("reference", "a"),
        ("reference", "all files"),
        ("fast", "a"),
        ("fast", "all files"),
    }
    row = found["fast", "a"]
    assert (row["median"], row["minimum"], row["samples"]) == ("100", "33.3333", "5")
    assert (row["unit"], row["dataset"]) == ("x", "tiny")
    (slower,) = (row for row in rows if row["metric"] == "wall_ratio" and row["study"] == AGAINST)
    assert (slower["against"], slower["median"]) == ("fast/main", "1.1")
    assert (slower["minimum"], slower["maximum"], slower["samples"]) == ("1.1", "1.1", "8")


def test_junit_counts_errors_failures_and_skips() -> None:
    root = ElementTree.fromstring(to_junit(full_report()).encode())
    suites = {suite.get("name"): suite for suite in root}
    cells = ["reference", "fast", "fast/coreml", "fast/this version", "fast/main"]
    assert list(suites) == [*cells, "gates", "findings"]
    fast, gates = suites["fast"], suites["gates"]
    assert (fast.get("tests"), fast.get("errors"), fast.get("failures")) == ("2", "1", "0")
    error = fast.find("testcase/error")
    assert error is not None
    assert error.get("message") == "cut | off"
    assert [case.get("name") for case in fast.iter("testcase")] == ["b\ufffd", "a"]
    assert suites["fast/coreml"].get("skipped") == "1"
    assert (gates.get("tests"), gates.get("failures")) == ("3", "2")
    messages = [failure.get("message") for failure in gates.iter("failure")]
    assert messages == [
        "25 x (limit ≥ 1200 x)",
        "10 % (limit ≤ 5 % (95 % interval +10.0…+10.0 %))",
    ]


def test_markdown_escapes_bars_in_cells() -> None:
    table = markdown_table(Table("T", ("a", "b"), (("x|y", "1"),)))
    assert table == "### T\n\n| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


def test_markdown_shows_names_as_they_are_and_notes_below_their_table() -> None:
    table = markdown_table(Table("T", ("a",), (("<i>\nR&amp;D",),), ("a < b",)))
    assert table.splitlines()[4:] == ["| &lt;i&gt; R&amp;amp;D |", "", "a &lt; b"]
    note = "better and worse are said only where a 95 % interval excludes no difference"
    assert f"\n\n{note}\n\n" in to_markdown(full_report())
    assert f"\n{note}</system-out>" in to_junit(full_report())


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ((None, None), "fluidaudio 0.1.0"),
        (("c" * 40, False), "fluidaudio 0.1.0 at cccccccccccc"),
        (("c" * 40, True), "fluidaudio 0.1.0 at cccccccccccc with local changes"),
    ],
)
def test_a_commit_is_not_named_for_what_was_changed_after_it(
    state: tuple[str | None, bool | None], text: str
) -> None:
    measured = result()
    commit, dirty = state
    environment = replace(measured.environment, git_commit=commit, git_dirty=dirty)
    changed = measured.model_copy(update={"environment": environment})
    assert f"; {text}\n" in to_markdown(BenchmarkReport(changed))


def test_markdown_names_the_machine_and_every_table() -> None:
    text = to_markdown(full_report())
    assert "Made-up CPU, 2 cores, Linux x86_64; fluidaudio 0.1.0 at cccccccccccc" in text
    titles = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    assert titles[:7] == [
        "Performance modes",
        "In turn with another version",
        "Differences: Performance modes",
        "Differences: In turn with another version",
        "Error budget, % of speech",
        "Counts of speakers",
        "Gates",
    ]
    assert "failed |  | cut \\| off" in text


def test_annotations_escape_what_github_reads() -> None:
    assert annotation_lines(full_report()) == (
        "::error title=Performance gate::any dataset reference rtfx: 25 x, limit ≥ 1200 x",
        "::error title=Performance gate::fast/this version slowdown against fast/main "
        "(wall time): 10 %25, limit ≤ 5 %25 (95 %25 interval +10.0…+10.0 %25)",
        "::error title=Benchmark file failed::fast: b\x01: cut | off",
        "::warning title=Benchmark::100%25 busy",
    )


def test_a_study_shows_only_measured_columns_and_says_what_is_absent() -> None:
    table = summary_tables(full_report())[0]
    assert table.title == "Performance modes"
    assert "power (W)" not in table.header
    assert "DER lenient (%)" not in table.header
    assert table.rows[0][:2] == ("reference", "onnxruntime fp32")
    assert table.rows[2][:2] == ("fast/coreml", "unavailable")


def test_differences_are_said_with_intervals_and_only_proven_ones_are_verdicts() -> None:
    tables = {table.title: table for table in summary_tables(full_report())}
    (fast,) = tables["Differences: Performance modes"].rows
    assert fast[:3] == ("fast", "reference", "4x")
    assert fast[5:10] == ("+2.00", "—", "1.50x", "inconclusive", "inconclusive")
    (turns,) = tables["Differences: In turn with another version"].rows
    assert turns[2:5] == ("0.909x", "0.909…0.909", "1.1x")
    assert turns[8:] == ("worse", "inconclusive", "1", "8")
    assert pareto_line(full_report()) == (
        "Pareto-optimal (RTFx, DER strict, peak memory): reference, fast"
    )


def test_what_cannot_be_had_here_is_said_once_and_differs_from_nothing() -> None:
    absent = CellRecord(cell=Cell(mode="fast", executor="cuda"), study="modes", unavailable="no")
    pairs = (Contrast(absent.cell, cell().cell),)
    asked = plan(cell().cell, absent.cell, contrasts=pairs)
    whole = result(cell(), absent, plan=asked)
    whole = whole.model_copy(update={"findings": conclude(whole)})
    assert whole.findings.differences == ()
    assert remarks(BenchmarkReport(whole)) == ("fast/cuda unavailable: no",)
    # Another version that does not run is a comparison that fails.
    turns = plan(cell().cell, absent.cell, name=AGAINST, in_turn=True, contrasts=pairs)
    turned = whole.model_copy(update={"plan": turns})
    turned = turned.model_copy(update={"findings": conclude(turned)})
    (found,) = turned.findings.differences
    assert (found.speed, found.note) == ("inconclusive", "nothing was measured of fast/cuda")
    (check,) = BenchmarkReport(turned).failed_checks
    assert (check.limit, check.measured) == ("≤ 5 %", "nothing was measured of fast/cuda")


def test_a_short_peak_of_memory_is_seen_on_the_terminal() -> None:
    sizes = [30_000_000] * 300
    sizes[151] = 50_000_000
    record = file_record()
    assert record.memory is not None
    curve = tuple((number / 100, size) for number, size in enumerate(sizes))
    memory = record.memory.model_copy(update={"curve": curve})
    measured = cell("fast", record.model_copy(update={"memory": memory}))
    report = BenchmarkReport(result(measured))
    text = plain_text(lambda console: render_report(console, report, detailed=True))
    assert f"fast: memory {'▁' * 30}█{'▁' * 29} loaded 30.0 MB, peak 50.0 MB" in text


def test_memory_is_compared_over_the_recordings_that_both_finished() -> None:
    base = cell("reference", file_record("a"), file_record("b", peak=400_000_000))
    head = cell("fast", file_record("a"), FileRecord(uri="b", error="cut off"))
    for first, second in ((base, head), (head, base)):
        whole = result(first, second, plan=plan(first.cell, second.cell))
        (found,) = conclude(whole).differences
        assert (found.recordings, found.memory_ratio) == (1, 1.0)


def test_streams_and_conditions_are_shown_in_digits_not_powers_of_ten() -> None:
    slow = cell("fast", file_record(latency=(1.2345,)))
    assert list(medians(slow, ("latency_max", "power", "count_bias"))) == ["1 234", "—", "0.00"]


def test_one_mode_has_nothing_to_compare() -> None:
    single = BenchmarkReport(result())
    assert not any("Differences" in table.title for table in summary_tables(single))
    assert pareto_line(single) == ""


def test_remarks_name_outliers_and_an_interruption() -> None:
    lines = remarks(full_report())
    assert lines == (
        "100% busy",
        "fast: iteration 5 of a is an outlier (3.00 s); medians stand, means would not",
        "fast/coreml unavailable: only on macOS",
        "'fast against reference', 'fast/this version against fast/main': "
        "1 recording: too few to say which errs less",
    )
    # Iterations are counted in their process.
    processes = ((file_record(walls=(1.0, 1.0, 1.0)),), (file_record(walls=(1.0, 3.0, 1.0)),))
    (line,) = remarks(BenchmarkReport(result(cell(processes=processes))))
    assert line.startswith("fast: iteration 2 of one in process 2 is an outlier (3.00 s); ")
    warm = cell().model_copy(update={"cold_note": "cold load unavailable"})
    assert remarks(BenchmarkReport(result(warm))) == ("fast: cold load unavailable",)
    stopped = BenchmarkReport(result(complete=False))
    assert remarks(stopped) == ("incomplete: this run was interrupted; continue it with --resume",)


def test_error_line_adds_up() -> None:
    assert error_line(cell()) == (
        "DER 20.00 % = 0.00 missed + 0.00 false alarm + 20.00 confusion, over 50.0 s of speech"
    )


def test_stage_table_sums_stages_against_the_wall_time() -> None:
    record = file_record(walls=(1.0, 1.0))
    stages = (
        StageSample(name="decode", busy_seconds=0.4, calls=1),
        StageSample(name="other", busy_seconds=0.6, calls=1),
    )
    samples = tuple(s.model_copy(update={"stages": stages}) for s in record.iterations)
    serial = stage_table(cell("fast", record.model_copy(update={"iterations": samples})))
    assert serial.title == "fast: stages (serial)"
    assert serial.rows[-1] == ("sum", "1.00 s", "100.0%", "")
    both = tuple(s.model_copy(update={"stages": stages * 2, "overlapped": True}) for s in samples)
    overlapped = stage_table(cell("fast", record.model_copy(update={"iterations": both})))
    assert overlapped.title == "fast: stages (concurrent: busy times overlap)"
    assert overlapped.header[2] == "busy ÷ wall"
    assert overlapped.rows[-1] == ("sum", "2.00 s", "200.0%", "")
    # Of the pass in the middle, 2 s, in which half a second was busy.
    (stage, total) = stage_table(cell("fast", file_record(walls=(4.0, 1.0, 2.0)))).rows
    assert stage == ("segmentation", "0.5 s", "25.0%", "2")
    assert total == ("sum", "0.5 s", "25.0%", "")


def test_details_have_a_spread_where_there_are_several_samples() -> None:
    table = cell_details(cell("fast", file_record(walls=(4.0, 1.0, 2.0, 3.0, 10.0))))
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["wall time"] == ("3.00 s", "2.00 s", "1.00…10.0 s", "5")
    assert rows["load cold"] == ("2.00 s", "", "", "1")


def test_a_column_is_there_where_any_cell_has_it() -> None:
    unscored = file_record().model_copy(update={"accuracy": None})
    report = BenchmarkReport(result(cell("reference", unscored), cell("fast")))
    (modes, *_) = summary_tables(report)
    place = modes.header.index("DER strict (%)")
    assert [row[place] for row in modes.rows] == ["—", "20.0"]
    assert modes.header[2] == "RTFx"


def test_file_table_lists_a_failed_file_with_its_reason() -> None:
    table = file_table(full_report().result.cells[1])
    assert table.rows[1][0] == "b\x01"
    assert table.rows[1][1:4] == ("failed", "", "cut | off")
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_power_and_energy_are_in_watts_and_joules_per_audio_hour() -> None:
    from fluidaudio_cli.benchmark.metrics import METRICS

    record = file_record(walls=(2.0,))
    energy = EnergySample(
        joules=30.0, seconds=2.5, domains={"package-0": 30.0, "package-0/core": 20.0}
    )
    sample = record.iterations[0].model_copy(update={"energy": energy})
    measured = cell("fast", record.model_copy(update={"iterations": (sample,)}))
    assert METRICS["power"].samples(measured) == pytest.approx((12.0,))
    assert METRICS["energy"].samples(measured) == pytest.approx((30.0 * 3600 / 100,))
