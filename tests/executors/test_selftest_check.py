"""The self-test: figures worked out by hand, and refusals that name them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fluidaudio_cli.errors import ModelFormatError, SelfTestError
from fluidaudio_cli.executors.base import CompiledModel, ExecutorOptions
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.executors.selftest import (
    SelfTest,
    Tolerance,
    check,
    compare,
    load_arrays,
    save_arrays,
)

X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]], dtype=np.float32)
Y = np.array([[5.0, 0.0], [0.0, 1.25]], dtype=np.float32)


@pytest.fixture
def model(package: Callable[[str], Path], cache: CompileCache) -> CompiledModel:
    engine = executor("onnxruntime", cache)
    return engine.load(package("affine"), ExecutorOptions(precision="fp32"))


def make(expected: np.ndarray, **limits: float) -> SelfTest:
    return SelfTest("affine", {"x": X}, {"y": expected}, {"fp32": Tolerance(**limits)})


def test_pass_reports_the_figures(model: CompiledModel) -> None:
    report = check(model, make(Y + np.float32(0.25), max_abs=0.25, min_argmax_agreement=1.0))
    (agreement,) = report.agreements
    assert (report.name, report.ran) == ("affine", model.ran)
    assert (agreement.output, agreement.max_abs, agreement.rms) == ("y", 0.25, 0.25)
    assert agreement.argmax_agreement == 1.0
    # Row 2: (0, 1.25) against (0.25, 1.5): 1.5 / sqrt(0.0625 + 2.25).
    assert agreement.cosine == pytest.approx(1.5 / np.sqrt(2.3125))


@pytest.mark.parametrize(
    ("limits", "required"),
    [
        ({"max_abs": 0.2}, "required difference at most 0.2"),
        ({"min_cosine": 0.99}, "required cosine at least 0.99"),
        ({"max_abs": 0.1, "min_cosine": 0.99}, "difference at most 0.1, cosine at least 0.99"),
    ],
)
def test_failure_says_figures_and_limits(
    model: CompiledModel, limits: dict[str, float], required: str
) -> None:
    with pytest.raises(SelfTestError) as caught:
        check(model, make(Y + np.float32(0.25), **limits))
    message = str(caught.value)
    assert message.startswith("self-test of affine failed on onnxruntime ")
    assert "(fp32): y: max difference 0.25, rms 0.25, cosine 0.98639" in message
    assert required in message
    assert message.endswith("try another --executor or --precision fp32")


def test_flipped_decision_fails(model: CompiledModel) -> None:
    with pytest.raises(SelfTestError, match=r"agreement 50\.00%.*at least 99\.50%"):
        check(model, make(np.array([[5.0, 0.0], [1.25, 0.0]]), min_argmax_agreement=0.995))


def test_shape_name_and_precision_must_be_there(model: CompiledModel) -> None:
    with pytest.raises(SelfTestError, match=r"output y has shape \(2, 2\), expected \(1, 2\)"):
        check(model, make(Y[:1], max_abs=1.0))
    selftest = replace(make(Y, max_abs=1.0), expected={"z": Y})
    with pytest.raises(SelfTestError, match="output z is missing"):
        check(model, selftest)
    selftest = replace(selftest, tolerances={"bf16": Tolerance(max_abs=1.0)})
    with pytest.raises(SelfTestError, match="no tolerance for fp32: use --precision bf16"):
        check(model, selftest)


def test_nan_fails_every_limit() -> None:
    agreement = compare("y", np.array([[np.nan, 1.0]]), np.array([[0.0, 1.0]]))
    assert (agreement.max_abs, agreement.cosine, agreement.argmax_agreement) == (np.inf, -1.0, 0.0)


def test_zero_rows_agree_with_zero_rows_only() -> None:
    zeros, ones = np.zeros((1, 3)), np.ones((1, 3))
    assert compare("y", zeros, zeros).cosine == 1.0
    assert compare("y", zeros, ones).cosine == 0.0


def test_arrays_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "selftest.npz"
    save_arrays(path, {"x": X}, {"y": Y, "z": Y[:1]})
    inputs, outputs = load_arrays(path)
    np.testing.assert_array_equal(inputs["x"], X)
    assert inputs["x"].dtype == np.float32
    assert sorted(outputs) == ["y", "z"]
    np.testing.assert_array_equal(outputs["z"], Y[:1])


def test_unusable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "selftest.npz"
    with pytest.raises(ModelFormatError, match=r"cannot read the self-test .*selftest\.npz"):
        load_arrays(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(ModelFormatError, match="cannot read the self-test"):
        load_arrays(path)
    save_arrays(path, {"x": X}, {})
    with pytest.raises(ModelFormatError, match="has no outputs"):
        load_arrays(path)
