"""What the HTML pages hold, read without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from benchmarking import cell, file_record, result, walled
from made_profile import made_profile

from fluidaudio_cli.benchmark.compare import compare
from fluidaudio_cli.benchmark.findings import conclude
from fluidaudio_cli.profiling.records import Timeline, Unavailable
from fluidaudio_cli.report.benchmark_report import BenchmarkReport
from fluidaudio_cli.report.html_benchmark import benchmark_page, log_axis
from fluidaudio_cli.report.html_charts import joined
from fluidaudio_cli.report.html_page import chart, escape
from fluidaudio_cli.report.html_profile import profile_page
from fluidaudio_cli.turns import Turn

CHART = re.compile(r'<script type="application/json" data-chart="([^"]+)">(.*?)</script>', re.S)


def charts(page: str) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in CHART.findall(page)}


@pytest.fixture(scope="module")
def page() -> str:
    return profile_page(made_profile())


def test_profile_page_has_all_its_charts(page: str) -> None:
    assert list(charts(page)) == [
        "chart-waterfall",
        "chart-operators",
        "chart-kinds",
        "chart-memory",
        "chart-timeline",
        "chart-precision",
    ]


def test_waterfall_bars_are_the_calls(page: str) -> None:
    lanes = {trace["name"]: trace for trace in charts(page)["chart-waterfall"]["data"]}
    assert list(lanes) == ["decode", "worker-0", "worker-1", "MainThread"]
    assert lanes["worker-0"]["base"] == pytest.approx([0.1])
    assert lanes["worker-0"]["x"] == pytest.approx([0.4])
    # Two workers in the same row, in lanes of their own.
    assert lanes["worker-0"]["y"][0] < lanes["worker-1"]["y"][0]


def test_timeline_marks_the_errors(page: str) -> None:
    rows = {trace["name"]: trace for trace in charts(page)["chart-timeline"]["data"]}
    assert list(rows) == [
        "A · found",
        "A · reference",
        "B · found",
        "B · reference",
        "error · missed, 1.0 s",
        "error · confusion, 1.0 s",
    ]
    assert (rows["error · confusion, 1.0 s"]["base"], rows["B · found"]["x"]) == ([4.0], [5.0])


def test_timeline_without_reference_says_how_to_get_errors() -> None:
    bare = Timeline((Turn(0.0, 1.0, "A"),), Unavailable("no --reference was given"))
    page = profile_page(made_profile(timeline=bare, precision=None))
    assert [row["name"] for row in charts(page)["chart-timeline"]["data"]] == ["A · found"]
    assert "Give --reference to see errors." in page
    assert "chart-precision" not in charts(page)


def test_a_profile_without_turns_or_operators_still_makes_a_page() -> None:
    silent = Timeline((), Unavailable("no --reference was given"))
    page = profile_page(made_profile(timeline=silent, models=(), calls=(), memory_curve=()))
    assert charts(page)["chart-timeline"]["data"] == []
    assert "chart-operators" not in charts(page)


def test_names_cannot_break_out_of_the_page(page: str) -> None:
    assert "<title>Profile of meeting &lt;1&gt;</title>" in page
    assert "unavailable: made &lt;b&gt;up&lt;/b&gt;" in page
    inline = chart("c", {"data": [{"type": "bar", "name": "</script><b>"}]}, 'a "label"')
    assert "</script><b>" not in inline
    assert 'aria-label="a &quot;label&quot;"' in inline


def test_a_figure_that_plotly_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        chart("c", {"data": [{"type": "bar", "nonsense": 1}]}, "label")


def test_calls_closer_than_the_eye_can_tell_are_one_bar() -> None:
    calls = [each for each in made_profile().calls if each.span.stage == "segmentation"]
    # 0.1 to 0.5 and 0.2 to 0.6 overlap; a gap of any width joins them.
    assert joined(calls, 1000.0, 0.01) == [pytest.approx((0.1, 0.6, 2, 8))]


@pytest.mark.parametrize("make", [lambda: profile_page(made_profile()), lambda: bench()])
def test_the_page_asks_the_network_for_nothing(make: Callable[[], str]) -> None:
    page = make()
    # The library holds addresses as text; the page's own markup must not refer to any.
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:)", markup)
    assert "default-src 'none'" in markup


def bench(**changes: Any) -> str:
    base = result(walled("fast", 1.0, 1.02, 1.04, 1.06))
    fast = walled("fast", 2.0, 2.02, 2.04, 2.06)
    head = result(
        cell("reference", file_record("one", (10.0, 11.0), error_seconds=5.0)), fast, **changes
    )
    head = head.model_copy(update={"findings": conclude(head)})
    return benchmark_page(BenchmarkReport(head, changes=compare(base, head)))


def test_benchmark_page_sets_speed_against_error() -> None:
    data = charts(bench())["chart-pareto"]["data"]
    points = {trace["name"]: trace for trace in data if "name" in trace}
    # 100 s of audio in 10.5 s (median), 5 of 50 s wrong.
    assert points["reference"]["x"] == [10.0]
    assert points["reference"]["y"] == [pytest.approx((100 / 10 + 100 / 11) / 2)]
    assert points["fast"]["x"] == [20.0]
    assert points["fast"]["marker"]["symbol"] == "circle"
    # Nothing beats either: both are on the line.
    assert data[0]["x"] == [10.0, 20.0]
    left, right = charts(bench())["chart-pareto"]["layout"]["xaxis"]["range"]
    assert left < 10.0 < 20.0 < right


def test_benchmark_page_shows_every_table_of_the_report() -> None:
    page = bench()
    for title in ("Performance modes", "Error budget, % of speech", "Changes, base to head"):
        assert f"<h2>{title}</h2>" in page
    compared = page.split("<h2>Changes, base to head</h2>")[1]
    assert '<td data-value="fast wall">fast wall</td><td data-value="1.03">1.03 s</td>' in compared
    assert '<td class="bad" data-value="regression">regression</td>' in compared
    files = page.split('id="table-cell-0-2"')[1]
    assert re.findall(r"<tr><td[^>]*>(.*?)<", files)[0] == "one"


def test_differences_are_drawn_with_their_intervals() -> None:
    files = [file_record(str(n), (1.0,), error_seconds=error) for n, error in enumerate(range(8))]
    better = [
        file_record(str(n), (1.0,), error_seconds=error / 2) for n, error in enumerate(range(8))
    ]
    whole = result(cell("reference", *files), cell("fast", *better))
    whole = whole.model_copy(update={"findings": conclude(whole)})
    found = charts(benchmark_page(BenchmarkReport(whole)))
    (point,) = found["chart-differences"]["data"]
    assert point["x"] == [pytest.approx(-3.5)]  # 28 of 400 s wrong, and half of that
    assert point["x"][0] + point["error_x"]["array"][0] < 0
    left, right = found["chart-differences"]["layout"]["xaxis"]["range"]
    assert left < point["x"][0] - point["error_x"]["arrayminus"][0]
    assert right > 0
    for name in ("chart-speed", "chart-latency"):
        boxes, (left, right) = found[name]["data"], found[name]["layout"]["xaxis"]["range"]
        assert left == 0
        assert max(max(box["x"]) for box in boxes) < right
    (difference,) = whole.findings.differences
    assert difference.accuracy == "better"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (100.0, 101.0, ["90", "100", "110"]),
        (95.0, 230.0, ["100", "200"]),
        (10.0, 1000.0, ["10", "100", "1000"]),
        (0.004, 0.3, ["0.01", "0.1"]),
    ],
)
def test_a_logarithmic_axis_has_ticks_to_read(low: float, high: float, ticks: list[str]) -> None:
    axis = log_axis("x", low, high)
    assert set(ticks) <= set(axis["ticktext"])
    assert 3 <= len(axis["tickvals"]) <= 10
    first, last = axis["range"]
    assert 10**first < low < high < 10**last


def test_time_and_memory_are_drawn_over_the_length() -> None:
    long = [
        cell("fast", file_record(walls=(wall,)), study="scaling", threads=2, length=length)
        for wall, length in ((1.0, 600.0), (6.0, 3600.0))
    ]
    found = charts(benchmark_page(BenchmarkReport(result(cell("fast"), *long))))
    (line,) = found["chart-length-wall"]["data"]
    assert (line["name"], line["x"], line["y"]) == (
        "fast/2 threads",
        [600.0, 3600.0],
        [1.0, 6.0],
    )
    axis = found["chart-length-wall"]["layout"]["xaxis"]
    assert axis["ticktext"] == ["10 min", "1 h"]


def test_benchmark_page_without_accuracy_or_finished_files() -> None:
    failed = file_record("one").model_copy(update={"error": "cannot <read>", "iterations": ()})
    page = benchmark_page(BenchmarkReport(result(cell("fast", failed))))
    assert "Nothing was both timed and scored." in page
    assert escape("Failed: fast: one: cannot <read>") in page
    assert charts(page) == {}


def test_what_was_scored_but_not_timed_has_no_place_among_speeds() -> None:
    """As with --workers, and as a stream: numbers under the chart are those in it."""
    untimed = cell("fast", file_record(walls=(), latency=()), latency=2.0, study="streaming")
    alone = charts(benchmark_page(BenchmarkReport(result(untimed))))
    assert not {"chart-pareto", "chart-speed", "chart-latency"} & alone.keys()
    page = benchmark_page(BenchmarkReport(result(untimed, cell("balanced"))))
    _, point = charts(page)["chart-pareto"]["data"]
    assert (point["name"], point["text"]) == ("balanced", ["1"])
    assert '<p class="soft">1 balanced</p>' in page
    assert [row["name"] for row in charts(page)["chart-speed"]["data"]] == ["balanced"]
