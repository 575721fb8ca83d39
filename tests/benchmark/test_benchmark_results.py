"""The result file: what is written is read back, and what breaks the schema is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarking import cell, file_record, result

from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.pareto import pareto_optimal
from fluidaudio_cli.benchmark.results import (
    FileRecord,
    json_schema,
    read_result,
    to_json,
    write_result,
)
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.scoring.records import DiarizationErrorRate


def test_round_trip(tmp_path: Path) -> None:
    original = result()
    write_result(original, tmp_path / "r.json")
    assert read_result(tmp_path / "r.json") == original
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == "fluidaudio.benchmark/2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "fluidaudio.benchmark/9"}, "schema: Input should be 'fluidaudio.benchmark/2'"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"complete": "perhaps"}, "complete: Input should be a valid boolean"),
    ],
)
def test_what_breaks_the_schema_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    document = {**json.loads(to_json(result())), **change}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        read_result(path)
    assert str(caught.value).startswith(f"{path} is not a fluidaudio.benchmark/2 file: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_nan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        read_result(tmp_path / "absent.json")
    path = tmp_path / "r.json"
    path.write_text(to_json(result()).replace('"wall_seconds": 1.0', '"wall_seconds": NaN', 1))
    with pytest.raises(
        InputError, match=r"cells\.0\.processes\.0\.files\.0\.iterations\.0\.wall_seconds"
    ):
        read_result(path)


def test_json_schema_names_every_top_level_key() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(json.loads(to_json(result())))
    assert schema["additionalProperties"] is False


def test_pooled_figures_weigh_files_by_their_length() -> None:
    long = file_record("long", (2.0, 4.0), audio_seconds=300.0, error_seconds=5.0)
    short = file_record("short", (1.0, 1.0), audio_seconds=100.0, error_seconds=10.0)
    both = cell("fast", long, short)
    assert METRICS["rtfx"].samples(both) == (400 / 3, 400 / 5)
    assert METRICS["wall"].samples(both) == (3.0, 5.0)
    assert METRICS["rtfx"].samples(both, (short,)) == (100.0, 100.0)
    assert METRICS["der_strict"].samples(both) == pytest.approx((15.0,))
    assert METRICS["der_lenient"].samples(both) == ()
    assert METRICS["cpu_cores"].samples(both) == (2.0, 2.0)
    assert METRICS["windows_per_second"].samples(both) == (20 / 3, 20 / 5)
    assert METRICS["jer"].samples(both) == (25.0,)
    assert METRICS["latency_max"].samples(both) == pytest.approx((30.0,))
    assert METRICS["latency_p50"].samples(both) == pytest.approx((20.0,))
    assert METRICS["boundary_median"].samples(both) == pytest.approx((200.0,))
    assert METRICS["peak_memory"].samples(both) == (50.0,)
    assert METRICS["memory_growth"].samples(both) == (20.0,)
    assert METRICS["energy"].samples(both) == ()
    assert METRICS["load_cold"].samples(both) == (2.0,)


def test_percentiles_are_of_all_windows_of_all_recordings() -> None:
    low, high = ([n / 1000 for n in numbers] for numbers in (range(40), range(40, 101)))
    found = cell(
        "fast", file_record("a", latency=tuple(low)), file_record("b", latency=tuple(high))
    )
    names = ("latency_p50", "latency_p90", "latency_p99", "latency_max")
    assert [METRICS[name].samples(found) for name in names] == [
        pytest.approx((value,)) for value in (50.0, 90.0, 99.0, 100.0)
    ]
    boundaries = ("boundary_median", "boundary_p90")  # off by 100 and by -300 ms, twice
    assert [METRICS[name].samples(found) for name in boundaries] == [
        pytest.approx((value,)) for value in (200.0, 300.0)
    ]
    without = cell("fast", file_record("a", latency=tuple(low)), file_record("b", latency=()))
    assert METRICS["latency_p50"].samples(without) == ()


def test_what_a_command_does_not_tell_has_no_figure() -> None:
    """A recording whose header states no length, and windows that nobody counted."""
    known, unknown = file_record("a"), file_record("b", audio_seconds=0.0)
    for files in ((unknown,), (known, unknown)):
        for name in ("rtfx", "rtf"):
            assert METRICS[name].measure(cell("", *files)) is None
    samples = tuple(each.model_copy(update={"windows": 0}) for each in known.iterations)
    uncounted = known.model_copy(update={"iterations": samples})
    assert METRICS["windows_per_second"].measure(cell("", uncounted)) is None


def test_pareto_names_what_nothing_beats_everywhere() -> None:
    slow_exact = cell("reference", file_record(walls=(9.0,), error_seconds=5.0))
    fast_rough = cell("fast", file_record(walls=(1.0,), error_seconds=8.0))
    beaten = cell("balanced", file_record(walls=(2.0,), error_seconds=8.0))
    assert pareto_optimal([slow_exact, beaten, fast_rough]) == ("reference", "fast")


def test_pareto_uses_memory_only_where_every_variant_has_it() -> None:
    lean = cell("lean", file_record(walls=(2.0,), peak=45_000_000))
    quick = cell("quick", file_record(walls=(1.0,), peak=90_000_000))
    assert pareto_optimal([lean, quick]) == ("lean", "quick")
    unmeasured = cell("quick", file_record(walls=(1.0,), peak=None))
    assert pareto_optimal([lean, unmeasured]) == ("quick",)


def test_a_result_of_the_earlier_schema_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text('{"schema": "fluidaudio.benchmark/1"}')
    with pytest.raises(InputError, match=r"earlier version .*: measure again"):
        read_result(path)


def test_processes_are_joined_by_recording_and_told_apart_by_process() -> None:
    first = (file_record("a", (1.0, 3.0)), file_record("b", (2.0, 2.0)))
    second = (file_record("a", (5.0, 5.0)), FileRecord(uri="b", error="hung"))
    both = cell(processes=(first, second))
    assert [len(record.iterations) for record in both.finished] == [4, 2]
    assert both.failures == (("b", "hung"),)
    assert METRICS["wall"].by_process(both) == (4.0, 5.0)
    # The second did not measure all of them.
    assert METRICS["wall"].by_process(both, ("a", "b")) == (4.0,)


def test_memory_growth_is_the_greatest_of_all_processes() -> None:
    """One that was loaded smaller may grow more, and peak lower."""
    first, second = file_record(peak=90_000_000), file_record(peak=85_000_000)
    assert second.memory is not None
    smaller = second.memory.model_copy(update={"baseline_rss_bytes": 5_000_000})
    both = cell(processes=((first,), (second.model_copy(update={"memory": smaller}),)))
    assert METRICS["peak_memory"].samples(both) == (90.0,)
    assert METRICS["memory_growth"].samples(both) == (80.0,)
    assert METRICS["memory_growth"].by_process(both) == (60.0, 80.0)


def test_counts_and_the_error_budget_are_shares_of_recordings_and_of_speech() -> None:
    perfect = DiarizationErrorRate(missed_detection=1.0, false_alarm=0.0, confusion=0.0, total=50.0)
    files = []
    for number, found in enumerate((2, 3, 5)):
        record = file_record(str(number), oracle=perfect)
        assert record.accuracy is not None
        accuracy = record.accuracy.model_copy(update={"speakers_found": found})
        files.append(record.model_copy(update={"accuracy": accuracy}))
    measured = cell("fast", *files)
    shares = ("speaker_count", "count_off_by_one", "count_off_by_more", "count_bias")
    figures = [METRICS[name].samples(measured)[0] for name in shares]
    assert figures == pytest.approx([100 / 3, 100 / 3, 100 / 3, 4 / 3])
    assert METRICS["budget_confusion"].samples(measured) == pytest.approx((20.0,))
    assert METRICS["der_oracle"].samples(measured) == pytest.approx((2.0,))
    assert METRICS["clustering_cost"].samples(measured) == pytest.approx((18.0,))
    # Of some recordings only, it says nothing of all.
    assert METRICS["der_oracle"].samples(cell("fast", files[0], file_record("x"))) == ()
