"""Comparison of two result files: what is refused, and what is called a regression."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from benchmarking import cell, file_record, plan, result, walled

from fluidaudio_cli.benchmark.compare import check_comparable, compare, differences
from fluidaudio_cli.benchmark.grid import Cell
from fluidaudio_cli.benchmark.kept_result import Settings
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    FileRecord,
    IdentificationRecord,
    StreamingRecord,
)
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.scoring.records import DiarizationErrorRate, JaccardErrorRate

STEADY = (1.00, 1.01, 1.02, 1.03, 1.04)


def with_walls(*walls: float, **changes: Any) -> BenchmarkResult:
    return result(walled("fast", *walls, **changes))


def verdicts(base: BenchmarkResult, head: BenchmarkResult) -> dict[str, str]:
    return {change.metric: change.verdict for change in compare(base, head)}


def other_machine() -> BenchmarkResult:
    original = result()
    machine = replace(original.environment.machine, cpu_model="Another CPU")
    environment = replace(original.environment, machine=machine)
    return original.model_copy(update={"environment": environment})


def other_dataset() -> BenchmarkResult:
    original = result()
    dataset = original.dataset.model_copy(update={"name": "big", "fingerprint": "0" * 64})
    return original.model_copy(update={"datasets": {"": dataset}})


_RAN = {"executor": "onnxruntime", "precision": "fp32", "version": "2"}
OTHER_VERSION = {"segmentation": {"asked": {"precision": "auto"}, "ran": _RAN}}


@pytest.mark.parametrize(
    ("head", "kind", "text"),
    [
        (other_machine(), "machine", "cpu_model was Made-up CPU and is Another CPU"),
        (other_dataset(), "dataset", "dataset was tiny and is big (by content)"),
        (
            result(cell(model="b")),
            "models",
            "fast ran other models: segmentation was aaaaaaaaaaaa and is bbbbbbbbbbbb",
        ),
        (
            result(cell().model_copy(update={"config": {"step": 2.0}})),
            "config",
            "fast was configured otherwise: step was 1.0 and is 2.0",
        ),
        (
            result(cell().model_copy(update={"config": {"step": 1.0, "onset": 0.5}})),
            "config",
            "fast was configured otherwise: onset was absent and is 0.5",
        ),
        (
            result(cell().model_copy(update={"config": {"step": {"seconds": 2.0}}})),
            "config",
            "fast was configured otherwise: step was 1.0 and is {'seconds': 2.0}",
        ),
        (
            result(cell().model_copy(update={"executors": OTHER_VERSION})),
            "executor",
            "fast ran otherwise: segmentation.ran.version was absent and is 2",
        ),
        (
            result(plan=plan(Cell(mode="fast"), settings=Settings(compute_units="cpu-only"))),
            "plan",
            "compute_units was all and is cpu-only",
        ),
    ],
)
def test_unlike_results_are_refused_unless_told_otherwise(
    head: BenchmarkResult, kind: str, text: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check_comparable(result(), head)
    assert str(caught.value) == (
        f"the results are not comparable: {text}: "
        f"compare like with like, or give --allow-different {kind}"
    )
    assert [found.text for found in check_comparable(result(), head, [kind])] == [text]


def test_equal_results_differ_in_nothing() -> None:
    assert tuple(differences(result(), result())) == ()


def test_identical_results_are_unchanged() -> None:
    assert set(verdicts(result(), result()).values()) == {"unchanged"}


def test_a_clear_slowdown_is_a_regression_and_its_reverse_an_improvement() -> None:
    slow = tuple(1.2 * wall for wall in STEADY)
    assert verdicts(with_walls(*STEADY), with_walls(*slow))["wall"] == "regression"
    assert verdicts(with_walls(*slow), with_walls(*STEADY))["wall"] == "improvement"
    change = compare(with_walls(*STEADY), with_walls(*slow))[0]
    assert change.ratio is not None
    assert change.ratio.ratio == pytest.approx(1.2)
    assert 1.1 < change.ratio.low < 1.2 < change.ratio.high < 1.3
    assert change.p == pytest.approx(2 / 252)  # exact, five against five, wholly apart


def test_a_slowdown_within_the_tolerance_is_unchanged_however_significant() -> None:
    slow = tuple(1.045 * wall for wall in STEADY)
    assert verdicts(with_walls(*STEADY), with_walls(*slow))["wall"] == "unchanged"
    assert verdicts(with_walls(*slow), with_walls(*STEADY))["wall"] == "unchanged"


def test_too_few_samples_prove_nothing_and_say_so() -> None:
    change = compare(with_walls(1.0, 1.0, 1.1), with_walls(1.5, 1.6, 1.7))[0]
    assert (change.metric, change.verdict) == ("wall", "inconclusive")
    assert (
        change.note
        == "3 process(es) a side prove nothing: give --processes 4 or more, or use --against"
    )


def test_what_one_process_did_often_is_one_sample() -> None:
    base = result(cell("fast", file_record(walls=STEADY)))
    head = result(cell("fast", file_record(walls=tuple(1.5 * wall for wall in STEADY))))
    assert verdicts(base, head)["wall"] == "inconclusive"


@pytest.mark.parametrize("cpu", [1.0, 1.03])
def test_wall_time_that_cpu_time_does_not_confirm_is_inconclusive(cpu: float) -> None:
    def drifted(process: tuple[FileRecord, ...]) -> tuple[FileRecord, ...]:
        (record,) = process
        samples = (
            sample.model_copy(
                update={
                    "wall_seconds": 1.3 * sample.wall_seconds,
                    "cpu_seconds": cpu * sample.cpu_seconds,
                }
            )
            for sample in record.iterations
        )
        return (record.model_copy(update={"iterations": tuple(samples)}),)

    base = walled("fast", *STEADY)
    head = cell("fast", processes=tuple(drifted(each.files) for each in base.processes))
    change = compare(result(base), result(head))[0]
    assert change.verdict == "inconclusive"
    assert change.note.startswith("CPU time does not agree")


def test_what_one_result_did_not_measure_is_left_out() -> None:
    without = with_walls(*STEADY, latency=())
    for base, head in ((without, with_walls(*STEADY)), (with_walls(*STEADY), without)):
        assert "latency_p50" not in verdicts(base, head)
    unscored = result(cell("fast", file_record().model_copy(update={"accuracy": None})))
    for base, head in ((unscored, result()), (result(), unscored)):
        assert "der_strict" not in verdicts(base, head)


def test_an_error_that_its_interval_does_not_prove_is_inconclusive() -> None:
    def scored(*errors: float) -> BenchmarkResult:
        files = [file_record(str(n), error_seconds=error) for n, error in enumerate(errors)]
        return result(cell("fast", *files))

    base = scored(*[10.0] * 8)
    assert verdicts(base, scored(*[11.0] * 8))["der_strict"] == "regression"
    wild = scored(25.0, 2.0, 22.0, 1.0, 18.0, 3.0, 12.0, 5.0)
    assert verdicts(base, wild)["der_strict"] == "inconclusive"
    (same,) = (each for each in compare(base, base) if each.metric == "der_strict")
    assert (same.verdict, same.ratio) == ("unchanged", None)
    assert same.note == "95 % interval of the change: +0.00 to +0.00 points"
    few = scored(*[10.0] * 5), scored(*[11.0] * 5)
    (unproven,) = (each for each in compare(*few) if each.metric == "der_strict")
    assert unproven.verdict == "regression"
    assert unproven.note == "5 recordings with speech: too few for an interval"


def test_every_rate_of_recordings_has_its_interval() -> None:
    """A rate beside the strict one may fall as little by chance."""

    def scored(*errors: float) -> BenchmarkResult:
        files = []
        for number, error in enumerate(errors):
            record = file_record(str(number))
            assert record.accuracy is not None
            rate = DiarizationErrorRate(
                missed_detection=0.0, false_alarm=0.0, confusion=error, total=50.0
            )
            jer = JaccardErrorRate(speaker_error=error / 25.0, speaker_count=2)
            update = {"lenient": rate, "jer": jer}
            accuracy = record.accuracy.model_copy(update=update)
            stream = StreamingRecord(
                online=rate, refined=rate, delays=(), switches=0, switches_end=0, turns=2,
                revisions=0, revised_seconds=0.0, created=2, withdrawn=0, step_seconds=1.0,
                computing=(0.1,),
            )  # fmt: skip
            files.append(record.model_copy(update={"accuracy": accuracy, "streaming": stream}))
        return result(cell("fast", *files))

    rates = ("der_lenient", "jer", "online_der", "refined_der")
    base = scored(*[10.0] * 8)
    certain = verdicts(base, scored(*[11.0] * 8))
    assert {name: certain[name] for name in rates} == dict.fromkeys(rates, "regression")
    wild = verdicts(base, scored(25.0, 2.0, 22.0, 1.0, 18.0, 3.0, 12.0, 5.0))
    assert {name: wild[name] for name in rates} == dict.fromkeys(rates, "inconclusive")


def test_how_well_voices_are_known_is_compared() -> None:
    def identified(*same_odds: float) -> BenchmarkResult:
        trials = IdentificationRecord(
            voices=2, same_odds=same_odds, same_rates=(0.0, 0.0),
            stranger_odds=(-3.0, -4.0), stranger_rates=(0.5, 0.9),
        )  # fmt: skip
        return result(cell("fast").model_copy(update={"identification": trials}))

    found = verdicts(identified(5.0, 6.0), identified(5.0, -3.5))
    assert found["eer"] == "regression"


def test_accuracy_and_memory_are_compared_without_a_test() -> None:
    base = with_walls(1.0, 1.0)
    worse = with_walls(1.0, 1.0, error_seconds=10.06, peak=56_000_000)
    found = verdicts(base, worse)
    assert found["der_strict"] == "regression"  # 20.0 to 20.12 %, 0.1 points allowed
    assert found["peak_memory"] == "regression"  # 12 %, 10 % allowed
    (memory,) = (each for each in compare(base, worse) if each.metric == "peak_memory")
    assert memory.ratio is not None
    assert memory.ratio.ratio == pytest.approx(1.12)
    barely = with_walls(1.0, 1.0, error_seconds=10.04, peak=54_000_000)
    assert {verdicts(base, barely)[name] for name in ("der_strict", "peak_memory")} == {"unchanged"}


def test_a_file_that_no_longer_works_is_a_regression() -> None:
    base = result(cell("fast", file_record("a"), file_record("b")))
    head = result(cell("fast", file_record("a"), FileRecord(uri="b", error="cut off")))
    change = compare(base, head)[0]
    assert (change.metric, change.verdict) == ("files", "regression")
    assert change.note == "no result for b"


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(UsageError, match="the results have no cell in common"):
        compare(result(cell("fast")), result(cell("accurate")))
