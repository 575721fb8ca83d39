"""Tiny models: folders that look like packages, whose lowered form is made here with onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fluidaudio_cli.executors import lowering
from fluidaudio_cli.executors.cache import CompileCache

# y = relu(x @ WEIGHTS): worked out by hand in the tests.
WEIGHTS = np.array([[1.0, -1.0], [2.0, 0.5], [0.0, -3.0]], dtype=np.float32)


def affine_model(*free: str) -> onnx.ModelProto:
    """``x`` float32[B, *free, 3] to ``y`` float32[B, *free, 2] = relu(x @ WEIGHTS)."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["product"], name="linear_0"),
            helper.make_node("Relu", ["product"], ["y"], name="relu_0"),
        ],
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *free, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *free, 2])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def flatten_model() -> onnx.ModelProto:
    """``x`` float32[B, 3] to ``flat`` float32[3B]: a free output size that is not the batch."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["row"], name="reshape_0"),
            helper.make_node("Neg", ["row"], ["flat"], name="neg_0"),
        ],
        "flatten",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["length"])],
        [numpy_helper.from_array(np.array([-1], dtype=np.int64), "shape")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def unread_model() -> onnx.ModelProto:
    """The affine model with a second input, ``unread`` int32[B, 2], that nobody reads."""
    model = affine_model()
    model.graph.input.append(
        helper.make_tensor_value_info("unread", TensorProto.INT32, ["batch", 2])
    )
    return model


MODELS = {
    "affine": affine_model,
    "flatten": flatten_model,
    "steps": lambda: affine_model("steps"),
    "unread": unread_model,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make a stand-in package by model name; lowering it gives the ONNX model inside."""

    def lower(path: Path) -> bytes:
        return (path / "Data" / "model.onnx").read_bytes()

    monkeypatch.setattr(lowering, "lower_package", lower)

    def make(name: str) -> Path:
        folder = tmp_path / f"{name}.mlpackage"
        (folder / "Data").mkdir(parents=True)
        (folder / "Data" / "model.onnx").write_bytes(MODELS[name]().SerializeToString())
        return folder

    return make


@pytest.fixture
def cache(tmp_path: Path) -> CompileCache:
    return CompileCache(tmp_path / "cache")
