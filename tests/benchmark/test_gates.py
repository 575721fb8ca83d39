"""Gates: what passes, what fails, and that what was not measured fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarking import cell, file_record, result

from fluidaudio_cli.benchmark.gates import Gate, evaluate, read_gates
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.resources import configs_dir


def gate(**values: Any) -> Gate:
    return Gate(**{"metric": "rtfx", "unit": "x", **values})


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ({"at_least": 100}, True),
        ({"above": 100}, False),
        ({"at_most": 100}, True),
        ({"below": 100}, False),
        ({"at_least": 100.1}, False),
    ],
)
def test_each_kind_of_limit_at_its_edge(values: dict[str, float], passed: bool) -> None:
    (check,) = evaluate([gate(**values)], result())
    assert (check.value, check.passed) == (100.0, passed)


def test_a_check_says_value_and_limit() -> None:
    (check,) = evaluate([gate(mode="fast", at_least=1200)], result())
    assert (check.name, check.verdict) == ("any dataset fast rtfx", "fail")
    assert (check.measured, check.limit) == ("100 x", "≥ 1200 x")


def test_a_value_just_beyond_its_limit_is_shown_beyond_it() -> None:
    slow = result(cell("fast", file_record(walls=(1.0000011,))))
    (check,) = evaluate([gate(mode="fast", at_least=100)], slow)
    assert (check.measured, check.limit) == ("99.9999 x", "≥ 100 x")
    # Large numbers are whole, not powers of ten.
    (check,) = evaluate(
        [gate(at_most=20_000_000)], result(cell("fast", file_record(walls=(0.001,))))
    )
    assert (check.measured, check.limit) == ("100000 x", "≤ 20000000 x")


def test_a_star_checks_every_mode() -> None:
    both = result(cell("fast"), cell("accurate", file_record(walls=(4.0, 4.0))))
    checks = evaluate([gate(at_least=50)], both)
    assert [(check.name, check.passed) for check in checks] == [
        ("any dataset fast rtfx", True),
        ("any dataset accurate rtfx", False),
    ]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"metric": "power", "unit": "W", "at_most": 5}, "not measured"),
        ({"mode": "accurate", "at_least": 1}, "not measured: no such cell in this run"),
        ({"dataset": "ami-sdm", "at_least": 1}, "not measured: this run was on tiny"),
        ({"relative": "ratio", "at_least": 0.9}, "not measured in a baseline (--baseline)"),
    ],
)
def test_what_was_not_measured_fails(values: dict[str, Any], problem: str) -> None:
    (check,) = evaluate([gate(**values)], result())
    assert (check.passed, check.value, check.measured) == (False, None, problem)


def test_a_gate_without_a_cell_says_which_it_asks_for() -> None:
    absent = (
        {"metric": "robust_der_babble_5", "unit": "%"},
        {"metric": "robust_der_snr-5", "unit": "%"},
        {"study": "scaling", "mode": "fast", "length": "10h", "threads": 2},
        {"mode": "accurate"},
    )
    checks = evaluate([gate(at_most=1, **values) for values in absent], result())
    assert [check.name for check in checks] == [
        "any dataset babble=5 der_strict",
        "any dataset noise=-5 der_strict",
        "any dataset fast/2/10h rtfx",
        "any dataset accurate rtfx",
    ]


def test_a_file_without_result_leaves_the_gate_unmeasured() -> None:
    from fluidaudio_cli.benchmark.results import FileRecord

    files = (file_record("a"), *(FileRecord(uri=uri, error="cut off") for uri in "bcd"))
    for count, told in ((2, "not measured on b"), (3, "not measured on b and 1 more")):
        (check,) = evaluate([gate(at_least=1)], result(cell("fast", *files[:count])))
        assert (check.passed, check.measured) == (False, told)


def test_an_executor_that_is_not_here_is_a_cell_only_for_who_asks_for_it() -> None:
    absent = cell("fast", executor="coreml").model_copy(
        update={"unavailable": "only on macOS", "processes": ()}
    )
    both = result(cell("fast", executor="openvino"), absent)
    (any_of_them,) = evaluate([gate(at_least=1)], both)
    assert (any_of_them.name, any_of_them.passed) == ("any dataset fast/openvino rtfx", True)
    (named,) = evaluate([gate(executor="coreml", at_least=1)], both)
    assert (named.name, named.passed) == ("any dataset fast/coreml rtfx", False)


def test_a_latency_of_some_recordings_only_is_not_the_latency_of_all() -> None:
    partly = cell("fast", file_record("a"), file_record("b", latency=()))
    (check,) = evaluate([gate(metric="latency_p90", unit="ms", at_most=100)], result(partly))
    assert (check.passed, check.measured) == (False, "not measured")


@pytest.mark.parametrize("name", ["baseline", "versus"])
def test_what_is_compared_with_must_be_of_all_recordings_too(name: str) -> None:
    from fluidaudio_cli.benchmark.results import FileRecord

    both = (file_record("a"), file_record("b"))
    partly = (file_record("a"), FileRecord(uri="b", error="cut off"))
    head, base = result(cell("fast", *both), cell("slow", *partly)), result(cell("fast", *partly))
    versus = "slow" if name == "versus" else None
    where = "of slow" if versus else "in a baseline (--baseline)"
    wanted = gate(mode="fast", relative="ratio", at_least=0.5, versus=versus)
    (check,) = evaluate([wanted], head, base)
    assert (check.passed, check.measured) == (False, f"not measured on b {where}")


def test_relative_limits_use_the_baseline() -> None:
    slower = result(cell("fast", file_record(walls=(1.25, 1.25), error_seconds=11.0)))
    gates = [
        gate(relative="ratio", at_least=0.9),
        gate(metric="der_strict", unit="%", relative="difference", at_most=1.0),
    ]
    speed, error = evaluate(gates, slower, baseline=result())
    assert speed.value == pytest.approx(0.8)
    assert not speed.passed
    assert speed.limit == "≥ 0.9 x of baseline"
    assert error.value == pytest.approx(2.0)
    assert not error.passed
    perfect = result(cell("fast", file_record(error_seconds=0.0)))
    twice = gate(metric="der_strict", unit="x", relative="ratio", at_most=2)
    (endless,) = evaluate([twice], slower, baseline=perfect)
    assert (endless.passed, endless.measured) == (
        False,
        "0 in a baseline (--baseline), which no figure is a multiple of",
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"metric": "speed", "unit": "x", "at_least": 1}, "unknown metric 'speed'; known: rtfx"),
        ({"metric": "rtfx", "unit": "x"}, "needs exactly one of at_least, at_most, above, below"),
        (
            {"metric": "rtfx", "unit": "x", "at_least": 1, "below": 3},
            "needs exactly one of at_least, at_most, above, below",
        ),
        (
            {"metric": "latency_p90", "unit": "s", "at_most": 5},
            "latency_p90 is in 'ms' here, not in 's'",
        ),
        (
            {"metric": "rtfx", "unit": "x", "at_least": 1, "versus": "slow"},
            "versus needs relative: ratio or difference",
        ),
        ({"metric": "rtfx", "unit": "x", "atleast": 1}, "atleast: Extra inputs"),
        ({"metric": "rtfx", "unit": "x", "at_least": True}, "at_least: Input should be a valid"),
        (
            {"metric": "robust_der_noise", "unit": "%", "at_most": 9},
            "robust_der_noise: give robust_der_snr10, robust_der_clean or robust_der_FACTOR_LEVEL",
        ),
        (
            {"metric": "robust_der_snr5", "study": "modes", "unit": "%", "at_most": 9},
            "robust_der_snr5 says its study itself",
        ),
    ],
)
def test_a_broken_gate_file_is_refused(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(yaml.safe_dump({"schema": "fluidaudio.gates/1", "gates": [entry]}))
    with pytest.raises(InputError) as caught:
        read_gates(path)
    assert str(caught.value).startswith(f"{path} is not a fluidaudio.gates/1 file: gates.0")
    assert message in str(caught.value)
    assert "more)" not in str(caught.value)  # there is one fault


def test_a_gate_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text("schema: fluidaudio.gates/1\ngates: [rtfx]\n")
    with pytest.raises(InputError, match=r"gates\.0: Input should be a valid dict"):
        read_gates(path)


def test_an_absent_gate_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the gates .*absent\.yaml: "):
        read_gates(tmp_path / "absent.yaml")


def test_an_empty_gate_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text("schema: fluidaudio.gates/1\ngates: []\n")
    with pytest.raises(InputError, match="gates: List should have at least 1 item"):
        read_gates(path)


def test_the_roadmaps_targets_are_all_there() -> None:
    gates = read_gates(configs_dir() / "roadmap-gates.yaml")
    assert {(item.metric, item.limit) for item in gates} == {
        ("rtfx", "≥ 1200 x"),
        ("der_strict", "< 18 %"),
        ("peak_memory", "≤ 40 MB"),
        ("latency_p50", "≤ 5 ms"),
    }


def test_the_shipped_gates_are_valid_and_say_why() -> None:
    gates = read_gates(configs_dir() / "gates.yaml")
    assert {item.dataset for item in gates} == {"sample"}
    assert all(item.reason for item in gates)


def test_a_gate_is_about_one_study_and_may_name_any_factor() -> None:
    made = file_record("10 h", walls=(4.0,))
    long = cell("fast", made, study="scaling", threads=2, length=36_000.0)
    both = result(cell("fast"), long)
    (usual,) = evaluate([gate(at_least=50)], both)
    assert usual.name == "any dataset fast rtfx"
    (chosen,) = evaluate([gate(study="scaling", length="10h", threads="2", at_least=50)], both)
    assert (chosen.name, chosen.value) == ("any dataset fast/2 threads/10 h rtfx", 25.0)
    assert [check.passed for check in evaluate([gate(study="*", at_least=50)], both)] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("seconds", "names"),
    [
        (600.0, ("10m", "10 min", "10min", 600, "600s")),
        (36_000.0, ("10h", "10 h")),
        (20.0, ("20s", 20)),
        (5400.0, ("1.5 h", "90m", "1.5h", "5400s")),
    ],
)
def test_a_level_is_named_as_it_is_shown_as_it_is_asked_for_or_as_a_number(
    seconds: float, names: tuple[str | int, ...]
) -> None:
    long = cell("fast", study="scaling", threads=2, length=seconds)
    for name in names:
        for threads in (2, "2", "2 threads"):
            (check,) = evaluate(
                [gate(study="scaling", length=name, threads=threads, at_least=50)], result(long)
            )
            assert check.passed, (name, threads)


def test_a_gate_may_compare_with_another_cell() -> None:
    peer = cell("", file_record(walls=(8.0,)), study="peers", program="sherpa-onnx at 0.8")
    versus = gate(relative="ratio", versus="sherpa-onnx at 0.8", at_least=5)
    (check,) = evaluate([versus], result(cell("fast"), peer))
    assert (check.value, check.limit) == (8.0, "≥ 5 x of sherpa-onnx at 0.8")
    (absent,) = evaluate([versus], result())
    assert absent.measured == "not measured of sherpa-onnx at 0.8"
