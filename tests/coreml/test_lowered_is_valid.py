"""Whatever is lowered is valid ONNX that ONNX Runtime loads, and inspect says what lowering says.

The packages are made here: models found in the wild that were lowered to graphs no runtime took.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import package, run, tensor
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its usual name
from coremltools.converters.mil.mil import types

from fluidaudio_cli.coreml.inspect import inspect_package
from fluidaudio_cli.errors import ExecutorUnavailableError, ModelFormatError
from fluidaudio_cli.executors import onnxruntime as executor
from fluidaudio_cli.executors.lowering import lower_checked


def test_outputs_that_are_constants(tmp_path: Path) -> None:
    def program(x: Any) -> Any:
        return (
            mb.relu(x=x, name="y"),
            mb.const(val=np.arange(3, dtype=np.float32), name="floats"),
            mb.const(val=np.arange(4, dtype=np.int32), name="integers"),
        )

    y, floats, integers = run(
        package(tmp_path, program, tensor(2, 3)), x=-np.ones((2, 3), np.float32)
    )
    assert y.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert floats.tolist() == [0.0, 1.0, 2.0]
    assert (integers.tolist(), integers.dtype) == ([0, 1, 2, 3], np.int32)


@pytest.mark.parametrize("dtype", [types.fp32, types.int32])
def test_an_input_handed_on_as_an_output_is_refused(dtype: Any, tmp_path: Path) -> None:
    def program(x: Any, lengths: Any) -> Any:
        return mb.relu(x=x, name="y"), lengths

    path = package(tmp_path, program, tensor(1, 2), tensor(2, dtype=dtype))
    assert inspect_package(path).refusal == "input 'lengths' is an output, too"


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
def test_indices_of_small_integers(kind: str, tmp_path: Path) -> None:
    def program(x: Any, i: Any) -> Any:
        small = mb.cast(x=i, dtype=kind)
        return (
            mb.gather(x=x, indices=small, axis=0, name="y"),
            mb.gather_nd(x=x, indices=mb.expand_dims(x=small, axes=[1]), name="z"),
            mb.cast(x=small, dtype="int32", name="back"),
        )

    x = np.arange(40, dtype=np.float32).reshape(10, 4)
    given = np.array([1, 9, 3], np.int32)
    path = package(tmp_path, program, tensor(10, 4), tensor(3, dtype=types.int32))
    y, z, back = run(path, x=x, i=given)
    np.testing.assert_array_equal(y, x[given])
    np.testing.assert_array_equal(z, x[given])
    assert back.tolist() == [1, 9, 3]


def test_bounds_that_come_at_run_time_may_be_left_open(tmp_path: Path) -> None:
    def program(x: Any, begin: Any, end: Any) -> Any:
        bounds = {"x": x, "begin": begin, "end": end}
        open_end = mb.slice_by_index(**bounds, end_mask=[True, False], name="y")
        masks = {"begin_mask": [True, False], "end_mask": [True, True]}
        return open_end, mb.slice_by_index(**bounds, **masks, stride=[-1, 1], name="z")

    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    pairs = (tensor(2, dtype=types.int32) for _ in range(2))
    begin, end = np.array([1, 2], np.int32), np.array([2, 4], np.int32)
    path = package(tmp_path, program, tensor(4, 5), *pairs)
    y, z = run(path, x=x, begin=begin, end=end)
    np.testing.assert_array_equal(y, x[1:, 2:4])
    np.testing.assert_array_equal(z, x[::-1, 2:])


def test_integers_are_reduced(tmp_path: Path) -> None:
    def program(x: Any) -> Any:
        return (
            mb.reduce_sum(x=x, axes=[1], name="sum"),
            mb.reduce_max(x=x, axes=[1], name="max"),
            mb.reduce_argmax(x=x, axis=1, name="where"),
        )

    path = package(tmp_path, program, tensor(2, 3, dtype=types.int32))
    results = run(path, x=np.array([[1, 5, 3], [7, 2, 2]], np.int32))
    assert [result.tolist() for result in results] == [[9, 11], [5, 7], [1, 0]]


def test_inspect_asks_the_lowering(tmp_path: Path) -> None:
    zeros, rng = np.zeros((1, 6), np.float32), np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((24, 8), (24, 6), (24,))]

    def program(x: Any) -> Any:
        return mb.lstm(
            x=x,
            initial_h=zeros,
            initial_c=zeros,
            clip=np.float32(2.0),
            weight_ih=weights[0],
            weight_hh=weights[1],
            bias=weights[2],
            output_sequence=True,
            name="y",
        )[0]

    path = package(tmp_path, program, tensor(5, 1, 8))
    report = inspect_package(path)
    assert report.unsupported == ()
    assert report.refusal is not None
    assert "clips its cell gate, which is not supported" in report.refusal
    with pytest.raises(ModelFormatError) as caught:
        lower_checked(path)
    assert caught.value.message == f"{path}: {report.refusal}"


def test_without_onnx_runtime_the_package_is_not_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(x: Any) -> Any:
        return mb.relu(x=x, name="y")

    def missing() -> Any:
        raise ExecutorUnavailableError("onnxruntime cannot be imported: gone")

    path = package(tmp_path, program, tensor(2, 3))
    monkeypatch.setattr(executor, "runtime", missing)
    with pytest.raises(ExecutorUnavailableError, match="cannot be imported: gone"):
        lower_checked(path)
