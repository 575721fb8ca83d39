"""Convolutions of 8-bit integers: written with coremltools, lowered for runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from quantized_package import QuantizedConvolution, write_quantized

from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.errors import ModelFormatError
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.select import executor

# Exact in half precision, so that expectations are.
X = np.arange(48, dtype=np.float32).reshape(2, 3, 8) % 11 / 4 - 1
WIDE = np.ones((4, 3, 3), np.float16)
STEPS = np.array([0.5, 0.25, 1.0, 0.125], np.float32)
BIAS = np.array([1.0, 0.0, -1.0, 0.5], np.float32)


def integers(seed: int, *shape: int) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rectifier whose result two convolutions read, the second without a bias."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its usual name

    @mb.program(input_specs=[mb.TensorSpec(shape=X.shape)], opset_version=ct.target.iOS18)
    def program(x):  # type: ignore[no-untyped-def]
        half = mb.relu(x=mb.cast(x=x, dtype="fp16"), name="rectified")
        first = mb.conv(x=half, weight=WIDE, bias=np.zeros(4, np.float16), pad_type="same")
        second = mb.conv(x=half, weight=WIDE[:, :, :1] * np.float16(2))
        return mb.cast(x=first, dtype="fp32"), mb.cast(x=second, dtype="fp32")

    path = tmp_path_factory.mktemp("plain") / "plain.mlpackage"
    ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    ).save(str(path))
    return path


@pytest.fixture(scope="module")
def narrow(plain: Path) -> tuple[Path, dict[str, QuantizedConvolution]]:
    names = [op.name for op in read_program(plain).main.block.operations if op.kind == "conv"]
    made = {
        name: QuantizedConvolution(0.25, integers(seed, 4, 3, size), STEPS, BIAS)
        for seed, (name, size) in enumerate(zip(names, (3, 1), strict=True))
    }
    path = plain.with_name("narrow.mlpackage")
    write_quantized(plain, path, made, "for a test", {"why": "a test"})
    return path, made


def test_runtimes_are_given_integers_on_both_sides(
    narrow: tuple[Path, dict[str, QuantizedConvolution]],
) -> None:
    graph = lower_to_onnx(read_program(narrow[0])).graph
    makers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node, made in zip(convolutions, narrow[1].values(), strict=True):
        x, weight = (makers[name] for name in node.input[:2])
        assert (x.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        # Nothing between the two: else runtimes do not see that they belong together.
        assert makers[x.input[0]].op_type == "QuantizeLinear"
        stored = weights[weight.input[0]]
        assert stored.data_type == onnx.TensorProto.INT8
        assert np.array_equal(numpy_helper.to_array(stored), made.weight)
        assert len(weight.input) == 2
    # Made once, however many read it.
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) == 1


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_results_are_those_of_the_integers(
    name: str, narrow: tuple[Path, dict[str, QuantizedConvolution]]
) -> None:
    model = executor(name).load(narrow[0], ExecutorOptions("fp32"))
    found = model.request().run({model.inputs[0].name: X})
    x = np.clip(np.rint(np.maximum(X, 0) / 0.25), 0, 255) * 0.25
    for result, made in zip(found.values(), narrow[1].values(), strict=True):
        weight = made.weight * STEPS[:, None, None]
        reach = weight.shape[2]
        padded = np.pad(x, ((0, 0), (0, 0), (reach // 2, reach // 2)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=2)
        expected = np.einsum("bctk,ock->bot", windows, weight) + BIAS[:, None]
        np.testing.assert_allclose(np.asarray(result, np.float32), expected, rtol=1e-5, atol=1e-3)


def test_a_convolution_that_is_not_there_is_named(plain: Path, tmp_path: Path) -> None:
    made = QuantizedConvolution(0.25, integers(0, 4, 3, 3), STEPS, BIAS)
    with pytest.raises(ModelFormatError, match=r"plain\.mlpackage has no nowhere"):
        write_quantized(plain, tmp_path / "x.mlpackage", {"nowhere": made}, "", {})
