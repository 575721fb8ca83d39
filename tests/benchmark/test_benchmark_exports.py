"""The benchmark's exports: each is parsed back, and holds what the result says."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import pytest
from benchmarking import file_record, result, variant

from fluidaudio_cli.benchmark.against import judge
from fluidaudio_cli.benchmark.gates import Gate, evaluate
from fluidaudio_cli.benchmark.results import (
    EnergySample,
    FileRecord,
    PairedRecord,
    StageSample,
    VariantRecord,
)
from fluidaudio_cli.report.benchmark_csv import HEADER, to_csv
from fluidaudio_cli.report.benchmark_github import annotation_lines
from fluidaudio_cli.report.benchmark_junit import to_junit
from fluidaudio_cli.report.benchmark_markdown import markdown_table, to_markdown
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, error_line, figure, remarks
from fluidaudio_cli.report.benchmark_tables import (
    Table,
    comparison,
    file_table,
    overview,
    pareto_line,
    stage_table,
)


def full_report() -> BenchmarkReport:
    """Two modes, a failed file, an absent executor, a passed and a failed gate, a slower pair."""
    reference = variant("reference", file_record("a", walls=(4.0, 4.0)))
    fast = variant(
        "fast",
        file_record("a", walls=(1.0, 1.0, 1.0, 1.0, 3.0), error_seconds=11.0, peak=75_000_000),
        FileRecord(uri="b\x01", error="cut | off"),
    )
    absent = VariantRecord(
        mode="fast", executor="coreml", precision="auto", unavailable="only on macOS"
    )
    whole = result(reference, fast, absent, warnings=("100% busy",))
    gates = [
        Gate(mode="reference", metric="rtfx", at_least=20, unit="x"),
        Gate(mode="reference", metric="rtfx", at_least=1200, unit="x"),
    ]
    paired = PairedRecord(
        variant="fast",
        base="main",
        kind="worker",
        base_seconds=(1.0,) * 8,
        head_seconds=(1.1,) * 8,
        rounds=3,
    )
    return BenchmarkReport(whole, evaluate(gates, whole), ((paired, judge(paired)),))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00 s"),
        (0.001234, "0.00123 s"),
        (0.5, "0.5 s"),
        (1.234, "1.23 s"),
        (12.34, "12.3 s"),
        (99.96, "100 s"),
        (1234.5, "1 234 s"),
    ],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert figure(value, "s") == text


def test_csv_is_long_and_holds_files_and_the_pool() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(full_report().result))))
    assert tuple(rows[0]) == HEADER
    found = {(row["mode"], row["file"]): row for row in rows if row["metric"] == "rtfx"}
    assert set(found) == {
        ("reference", "a"),
        ("reference", "all files"),
        ("fast", "a"),
        ("fast", "all files"),
    }
    row = found["fast", "a"]
    assert (row["median"], row["minimum"], row["samples"]) == ("100", "33.3333", "5")
    assert (row["unit"], row["dataset"]) == ("x", "tiny")


def test_junit_counts_errors_failures_and_skips() -> None:
    root = ElementTree.fromstring(to_junit(full_report()).encode())
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["reference", "fast", "fast/coreml", "gates"]
    fast, gates = suites["fast"], suites["gates"]
    assert (fast.get("tests"), fast.get("errors"), fast.get("failures")) == ("2", "1", "0")
    error = fast.find("testcase/error")
    assert error is not None
    assert error.get("message") == "cut | off"
    assert [case.get("name") for case in fast.iter("testcase")] == ["a", "b\ufffd"]
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


def test_markdown_names_the_machine_and_every_table() -> None:
    text = to_markdown(full_report())
    assert "Made-up CPU, 2 cores, Linux x86_64; fluidaudio 0.1.0 at `cccccccccccc`" in text
    titles = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    assert titles[:4] == [
        "Performance modes",
        "Against reference",
        "Interleaved with another version",
        "Gates",
    ]
    assert "failed: cut \\| off" in text


def test_annotations_escape_what_github_reads() -> None:
    assert annotation_lines(full_report()) == (
        "::error title=Performance gate::any dataset reference rtfx: 25 x, limit ≥ 1200 x",
        "::error title=Performance gate::fast slowdown against main (wall time): 10 %25, "
        "limit ≤ 5 %25 (95 %25 interval +10.0…+10.0 %25)",
        "::error title=Benchmark file failed::fast: b\x01: cut | off",
        "::warning title=Benchmark::100%25 busy",
    )


def test_overview_shows_only_measured_columns_and_says_what_is_absent() -> None:
    table = overview(full_report())
    assert "power (W)" not in table.header
    assert "DER lenient (%)" not in table.header
    assert table.rows[0][:2] == ("reference", "onnxruntime fp32")
    assert table.rows[2][:2] == ("fast/coreml", "unavailable")


def test_comparison_with_reference() -> None:
    table = comparison(full_report())
    assert table is not None
    assert table.title == "Against reference"
    assert table.rows[0] == ("reference", "1.00x", "+0.00 points", "1.00x", "yes")
    assert table.rows[1] == ("fast", "4.00x", "+2.00 points", "1.50x", "yes")
    assert pareto_line(full_report()) == (
        "Pareto-optimal (RTFx, DER strict, peak memory): reference, fast"
    )


def test_one_mode_has_nothing_to_compare() -> None:
    single = BenchmarkReport(result())
    assert comparison(single) is None
    assert pareto_line(single) == ""


def test_remarks_name_outliers_and_an_interruption() -> None:
    lines = remarks(full_report())
    assert lines == (
        "100% busy",
        "fast: iteration 5 of a is an outlier (3.00 s); medians stand, means would not",
        "fast/coreml unavailable: only on macOS",
    )
    stopped = BenchmarkReport(result(complete=False))
    assert remarks(stopped) == ("incomplete: this run was interrupted; continue it with --resume",)


def test_error_line_adds_up() -> None:
    assert error_line(variant()) == (
        "DER 20.00 % = 0.00 missed + 0.00 false alarm + 20.00 confusion, over 50.0 s of speech"
    )


def test_stage_table_sums_stages_against_the_wall_time() -> None:
    record = file_record(walls=(1.0, 1.0))
    stages = (
        StageSample(name="decode", busy_seconds=0.4, calls=1),
        StageSample(name="other", busy_seconds=0.6, calls=1),
    )
    samples = tuple(s.model_copy(update={"stages": stages}) for s in record.iterations)
    serial = stage_table(variant("fast", record.model_copy(update={"iterations": samples})))
    assert serial.title == "fast: stages (serial)"
    assert serial.rows[-1] == ("sum", "1.00 s", "100.0%", "")
    both = tuple(s.model_copy(update={"stages": stages * 2, "overlapped": True}) for s in samples)
    overlapped = stage_table(variant("fast", record.model_copy(update={"iterations": both})))
    assert overlapped.title == "fast: stages (concurrent: busy times overlap)"
    assert overlapped.header[2] == "busy ÷ wall"
    assert overlapped.rows[-1] == ("sum", "2.00 s", "200.0%", "")


def test_file_table_lists_a_failed_file_with_its_reason() -> None:
    table = file_table(full_report().result.variants[1])
    assert table.rows[1][0] == "b\x01"
    assert "failed: cut | off" in table.rows[1]


def test_power_and_energy_are_in_watts_and_joules_per_audio_hour() -> None:
    from fluidaudio_cli.benchmark.metrics import METRICS

    record = file_record(walls=(2.0,))
    energy = EnergySample(
        joules=30.0, seconds=2.5, domains={"package-0": 30.0, "package-0/core": 20.0}
    )
    sample = record.iterations[0].model_copy(update={"energy": energy})
    measured = variant("fast", record.model_copy(update={"iterations": (sample,)}))
    assert METRICS["power"].samples(measured) == pytest.approx((12.0,))
    assert METRICS["energy"].samples(measured) == pytest.approx((30.0 * 3600 / 100,))
