"""Which LSTM layers are taken out of a lowered model, and that the parts make the whole."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from lstm_models import HIDDEN, Floats, LstmGraph, lstm_model, plain_lstm
from onnx import TensorProto, helper

from fluidaudio_cli.executors.lowering import lower_package
from fluidaudio_cli.executors.lstm import kernel
from fluidaudio_cli.executors.lstm.cut import CutModel, cut_at_lstm
from fluidaudio_cli.executors.lstm.tiles import TileRun, TileStack
from fluidaudio_cli.resources import packages_dir


def ran(model: onnx.ModelProto, *inputs: Floats) -> Floats:
    """The model's first result on ONNX Runtime."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = {port.name: array for port, array in zip(session.get_inputs(), inputs, strict=True)}
    return np.asarray(session.run(None, feeds)[0], np.float32)


def noise(*shape: int) -> Floats:
    return np.random.default_rng(3).normal(0.0, 1.0, shape).astype(np.float32)


def taken(model: onnx.ModelProto) -> CutModel:
    cut = cut_at_lstm(model)
    assert cut is not None
    onnx.checker.check_model(cut.before)
    onnx.checker.check_model(cut.after)
    return cut


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_the_parts_make_the_whole(layers: int) -> None:
    model = lstm_model(layers=layers)
    cut = taken(model)
    assert kinds(cut.before) == ["Tanh"]
    assert kinds(cut.after) == ["MatMul"]
    assert [layer.name for layer in cut.layers] == [f"l{number}" for number in range(layers)]
    x = noise(3, 12, 6)
    states = plain_lstm(cut.layers, ran(cut.before, x)).astype(np.float32)
    np.testing.assert_allclose(ran(cut.after, states), ran(model, x), rtol=0, atol=2e-6)


def test_layers_at_the_very_start_and_end() -> None:
    graph = LstmGraph()
    swapped = graph.add("Transpose", ["x"], "swapped", perm=[1, 0, 2])
    graph.outputs = 256
    graph.add("Transpose", [graph.layer(swapped, "l0", graph.width)], "y", perm=[1, 0, 2])
    cut = taken(graph.model())
    assert kinds(cut.before) == kinds(cut.after) == []
    assert [port.name for port in cut.before.graph.output] == ["x"]
    assert [port.name for port in cut.after.graph.input] == ["y"]


def test_only_the_first_run_of_layers_is_cut() -> None:
    graph = LstmGraph()
    first = graph.layer(graph.before(), "l0", graph.width)
    outside = graph.add("Transpose", [first], "outside", perm=[1, 0, 2])
    again = graph.add("Transpose", [graph.add("Relu", [outside], "relu")], "again", perm=[1, 0, 2])
    graph.after(graph.layer(again, "l1"))
    model = graph.model()
    cut = taken(model)
    assert [layer.name for layer in cut.layers] == ["l0"]
    assert kinds(cut.after)[:3] == ["Relu", "Transpose", "LSTM"]
    x = noise(2, 12, 6)
    states = plain_lstm(cut.layers, ran(cut.before, x)).astype(np.float32)
    np.testing.assert_allclose(ran(cut.after, states), ran(model, x), rtol=0, atol=2e-6)


def test_inputs_left_out_elsewhere_do_not_count_as_uses_of_states() -> None:
    """The empty name stands for an LSTM's unwanted states and for an absent limit alike."""
    graph = LstmGraph()
    joined = graph.layer(graph.before(), "l0", graph.width, more_outputs=["", ""])
    limit = graph.constant("limit", np.array(0.5, np.float32))
    graph.after(graph.add("Clip", [joined, "", limit], "clipped"))
    assert cut_at_lstm(graph.model()) is None  # the joined states are not batch first at once
    graph = LstmGraph()
    limit = graph.constant("limit", np.array(0.5, np.float32))
    entry = graph.add("Clip", ["x", "", limit], "entry")
    swapped = graph.add("Transpose", [entry], "swapped", perm=[1, 0, 2])
    graph.after(graph.layer(swapped, "l0", graph.width, more_outputs=["", ""]))
    assert kinds(taken(graph.model()).before) == ["Clip"]


def one_direction(graph: LstmGraph) -> None:
    joined = graph.layer(graph.before(), "l0", graph.width, direction="forward")
    graph.after(joined, HIDDEN)


def one_wide_direction(graph: LstmGraph) -> None:
    joined = graph.layer(graph.before(), "l0", graph.width, direction="reverse", hidden=256)
    graph.after(joined)


def another_hidden_size(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.before(), "l0", graph.width, hidden=64), 128)


def initial_state(graph: LstmGraph) -> None:
    state = graph.constant("state", np.zeros((2, 1, HIDDEN), np.float32))
    joined = graph.layer(graph.before(), "l0", graph.width, more_inputs=["", state, state])
    graph.after(joined)


def peepholes(graph: LstmGraph) -> None:
    peeps = graph.constant("peeps", np.zeros((2, 3 * HIDDEN), np.float32))
    joined = graph.layer(graph.before(), "l0", graph.width, more_inputs=["", "", "", peeps])
    graph.after(joined)


def other_activations(graph: LstmGraph) -> None:
    names = ["Sigmoid", "Relu", "Tanh"] * 2
    graph.after(graph.layer(graph.before(), "l0", graph.width, activations=names))


def clipped_cells(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.before(), "l0", graph.width, clip=3.0))


def coupled_gates(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.before(), "l0", graph.width, input_forget=1))


def hidden_size_left_out(graph: LstmGraph) -> None:
    """ONNX allows it; the shapes of the weights tell it then."""
    graph.after(graph.layer(graph.before(), "l0", graph.width))
    node = next(node for node in graph.nodes if node.op_type == "LSTM")
    kept = [each for each in node.attribute if each.name != "hidden_size"]
    del node.attribute[:]
    node.attribute.extend(kept)


def final_state_as_output(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.before(), "l0", graph.width, more_outputs=["last"]))
    port = helper.make_tensor_value_info("last", TensorProto.FLOAT, [2, "batch", HIDDEN])
    graph.extra_outputs.append(port)


def final_state_read(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.before(), "l0", graph.width, more_outputs=["last"]))
    graph.add("Relu", ["last"], "read")


def states_of_one_layer_read_elsewhere(graph: LstmGraph) -> None:
    inner = graph.layer(graph.before(), "l0", graph.width)
    outer = graph.layer(inner, "l1")
    graph.after(graph.add("Add", [inner, outer], "sum"))


def layers_output_as_model_output(graph: LstmGraph) -> None:
    joined = graph.layer(graph.before(), "l0", graph.width)
    graph.after(joined)
    port = helper.make_tensor_value_info(joined, TensorProto.FLOAT, [12, "batch", 256])
    graph.extra_outputs.append(port)


def directions_as_model_output(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.before(), "l0", graph.width))
    port = helper.make_tensor_value_info("l0.both", TensorProto.FLOAT, [12, 2, "batch", HIDDEN])
    graph.extra_outputs.append(port)


def steps_first_outside(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.add("Tanh", ["x"], "entry"), "l0", graph.width))


def steps_first_at_the_end(graph: LstmGraph) -> None:
    joined = graph.layer(graph.before(), "l0", graph.width)
    weights = graph.constant("head", np.zeros((256, graph.outputs), np.float32))
    graph.add("MatMul", [joined, weights], "y")


def path_beside(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.before(), "l0", graph.width))
    graph.nodes[-1].output[0] = "head.y"
    beside = graph.add("ReduceMean", ["x"], "beside", axes=[2], keepdims=1)
    graph.add("Add", ["head.y", beside], "y")


def input_of_its_own_beside(graph: LstmGraph) -> None:
    port = helper.make_tensor_value_info("offset", TensorProto.FLOAT, ["batch", 1, 3])
    graph.extra_inputs.append(port)
    graph.after(graph.layer(graph.before(), "l0", graph.width))
    graph.nodes[-1].output[0] = "head.y"
    graph.add("Add", ["head.y", "offset"], "y")


def directions_joined_otherwise(graph: LstmGraph) -> None:
    joined = graph.layer(graph.before(), "l0", graph.width)
    inward = next(node for node in graph.nodes if node.name == "l0.inward")
    inward.attribute[0].ints[:] = [0, 2, 3, 1]
    graph.after(joined)


def double_precision(graph: LstmGraph) -> None:
    wide = graph.add("Cast", [graph.before()], "wide", to=TensorProto.DOUBLE)
    joined = graph.layer(wide, "l0", graph.width, dtype=np.float64)
    graph.after(graph.add("Cast", [joined], "narrow", to=TensorProto.FLOAT))


def double_precision_batch_first(graph: LstmGraph) -> None:
    entry = graph.add("Cast", ["x"], "entry", to=TensorProto.DOUBLE)
    swapped = graph.add("Transpose", [entry], "swapped", perm=[1, 0, 2])
    joined = graph.layer(swapped, "l0", graph.width, dtype=np.float64)
    last = graph.add("Transpose", [joined], "end", perm=[1, 0, 2])
    narrow = graph.add("Cast", [last], "narrow", to=TensorProto.FLOAT)
    weights = graph.constant("head", np.zeros((256, graph.outputs), np.float32))
    graph.add("MatMul", [narrow, weights], "y")


def computed_weights(graph: LstmGraph) -> None:
    graph.after(graph.layer(graph.before(), "l0", graph.width))
    node = next(node for node in graph.nodes if node.op_type == "LSTM")
    node.input[1] = graph.add("Neg", ["l0.w"], "negative")
    # In order: what makes the weights comes first.
    graph.nodes.insert(0, graph.nodes.pop())


def no_layers(graph: LstmGraph) -> None:
    weights = graph.constant("head", np.zeros((6, graph.outputs), np.float32))
    graph.add("MatMul", ["x", weights], "y")


@pytest.mark.parametrize(
    "build",
    [
        one_direction,
        one_wide_direction,
        another_hidden_size,
        initial_state,
        peepholes,
        other_activations,
        clipped_cells,
        coupled_gates,
        hidden_size_left_out,
        final_state_as_output,
        final_state_read,
        states_of_one_layer_read_elsewhere,
        layers_output_as_model_output,
        directions_as_model_output,
        steps_first_outside,
        steps_first_at_the_end,
        path_beside,
        input_of_its_own_beside,
        directions_joined_otherwise,
        double_precision,
        double_precision_batch_first,
        computed_weights,
        no_layers,
    ],
)
def test_other_models_stay_whole(build: Callable[[LstmGraph], None]) -> None:
    graph = LstmGraph()
    build(graph)
    model = graph.model()
    onnx.checker.check_model(model)
    assert cut_at_lstm(model) is None


@pytest.fixture(scope="module")
def segmentation() -> onnx.ModelProto:
    package = packages_dir() / "segmentation.mlpackage"
    if not package.is_dir():
        pytest.skip(f"the bundled package {package.name} is not built (make models)")
    return onnx.load_from_string(lower_package(package))


def test_the_bundled_segmentation_is_cut(segmentation: onnx.ModelProto) -> None:
    cut = taken(segmentation)
    assert [layer.input_weights.shape for layer in cut.layers] == [
        (2, 512, 60),
        (2, 512, 256),
        (2, 512, 256),
        (2, 512, 256),
    ]
    assert len(cut.before.graph.node) + len(cut.after.graph.node) + 4 * 3 + 2 == len(
        segmentation.graph.node
    )
    assert "LSTM" not in kinds(cut.before) + kinds(cut.after)


@pytest.mark.skipif(
    bool(kernel.unavailable()), reason=f"the LSTM kernel cannot run: {kernel.unavailable()}"
)
def test_the_bundled_segmentation_hears_the_same_with_the_kernel(
    segmentation: onnx.ModelProto, sample_wav: Path
) -> None:
    """On speech, with all else in fp32: what is left are the kernel's roundings to bf16."""
    with wave.open(str(sample_wav)) as reader:
        content = reader.readframes(reader.getnframes())
    samples = (np.frombuffer(content, "<i2") / 32768.0).astype(np.float32)
    windows = np.stack([samples[first : first + 160_000] for first in range(0, 320_001, 40_000)])
    audio = windows[:, None]
    cut = taken(segmentation)
    sequences = ran(cut.before, audio)
    states = np.empty((*sequences.shape[:2], 2 * HIDDEN), np.float32)
    TileRun(TileStack.of(cut.layers))(sequences, states)
    with_kernel, whole = ran(cut.after, states), ran(segmentation, audio)
    error = np.abs(np.exp(with_kernel) - np.exp(whole))
    assert error.mean() <= 5e-4
    assert error.max() <= 0.03
    assert (with_kernel.argmax(-1) == whole.argmax(-1)).mean() >= 0.999
