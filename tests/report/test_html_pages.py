"""What the HTML pages hold, read without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from benchmarking import file_record, result, variant
from made_profile import made_profile

from fluidaudio_cli.profiling.records import Timeline, Unavailable
from fluidaudio_cli.report.html_benchmark import benchmark_page
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
    base = result(variant("fast", file_record("one", (1.0, 1.1) * 4)))
    head = result(
        variant("reference", file_record("one", (10.0, 11.0), error_seconds=5.0)),
        variant("fast", file_record("one", (2.0, 2.2) * 4), file_record("two", (1.0, 1.0))),
        **changes,
    )
    return benchmark_page(head, base)


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


def test_benchmark_page_has_files_and_baseline() -> None:
    page = bench()
    rows = re.findall(r"<tr><td[^>]*>(.*?)</tr>", page.split('id="table-files"')[1])
    assert [row.split("<")[0] for row in rows[:3]] == ["one", "one", "two"]
    compared = page.split('id="table-baseline"')[1]
    assert '<td data-value="fast">fast</td><td data-value="wall, s">wall, s</td>' in compared
    assert '<td class="bad" data-value="regression">regression</td>' in compared


def test_benchmark_page_without_accuracy_or_finished_files() -> None:
    failed = file_record("one").model_copy(update={"error": "cannot <read>", "iterations": ()})
    page = benchmark_page(result(variant("fast", failed)))
    assert "Nothing was scored." in page
    assert escape("fast: one failed: cannot <read>") in page
    assert charts(page) == {}
