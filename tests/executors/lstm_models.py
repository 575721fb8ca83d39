"""Bidirectional LSTMs for tests: their weights, a plain fp64 implementation, and ONNX models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fluidaudio_cli.executors.lstm.layers import LstmLayer

HIDDEN = 128
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def random_layer(rng: np.random.Generator, width: int, name: str = "lstm") -> LstmLayer:
    """Weights as PyTorch starts with them: uniform within 1 / sqrt(128)."""

    def uniform(*shape: int) -> Floats:
        limit = HIDDEN**-0.5
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    return LstmLayer(name, uniform(2, 512, width), uniform(2, 512, HIDDEN), uniform(2, 1024))


def random_layers(seed: int, width: int, count: int) -> list[LstmLayer]:
    rng = np.random.default_rng(seed)
    return [random_layer(rng, 256 if number else width, f"l{number}") for number in range(count)]


def sigmoid(values: Doubles) -> Doubles:
    return 0.5 + 0.5 * np.tanh(0.5 * values)


def plain_lstm(layers: Sequence[LstmLayer], sequences: npt.NDArray[np.floating]) -> Doubles:
    """(windows, steps, width) to (windows, steps, 256) by the definition, in fp64."""
    values = sequences.astype(np.float64)
    for layer in layers:
        values = np.concatenate([_direction(layer, values, side) for side in (0, 1)], axis=2)
    return values


def _direction(layer: LstmLayer, values: Doubles, side: int) -> Doubles:
    """ONNX's LSTM: gates input, output, forget, cell; the second direction runs from the end."""
    weights, recurrence = (
        array[side].astype(np.float64) for array in (layer.input_weights, layer.state_weights)
    )
    bias = layer.bias[side].astype(np.float64).reshape(2, -1).sum(axis=0)
    windows, steps, _ = values.shape
    state, cell = np.zeros((windows, HIDDEN)), np.zeros((windows, HIDDEN))
    made = np.empty((windows, steps, HIDDEN))
    for step in range(steps)[:: -1 if side else 1]:
        gates = values[:, step] @ weights.T + state @ recurrence.T + bias
        enter, show, keep, candidate = np.split(gates, 4, axis=1)
        cell = sigmoid(keep) * cell + sigmoid(enter) * np.tanh(candidate)
        state = made[:, step] = sigmoid(show) * np.tanh(cell)
    return made


class LstmGraph:
    """An ONNX model made node by node; the defaults are what the kernel can run.

    ``x`` float32[batch, 12, 6] -> Tanh -> batch inside -> LSTM layers -> batch first -> MatMul
    -> ``y`` float32[batch, 12, 3].
    """

    steps, width, outputs = 12, 6, 3

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.arrays: list[TensorProto] = []
        self.extra_inputs: list[onnx.ValueInfoProto] = []
        self.extra_outputs: list[onnx.ValueInfoProto] = []

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Add an operator with one result, named like it."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> str:
        self.arrays.append(numpy_helper.from_array(array, name))
        return name

    def before(self) -> str:
        """The model's start; its result is (steps, batch, width)."""
        return self.add("Transpose", [self.add("Tanh", ["x"], "entry")], "swapped", perm=[1, 0, 2])

    def layer(
        self,
        source: str,
        name: str,
        width: int = 256,
        *,
        hidden: int = HIDDEN,
        dtype: type[np.floating] = np.float32,
        direction: str = "bidirectional",
        more_inputs: Sequence[str] = (),
        more_outputs: Sequence[str] = (),
        **attributes: object,
    ) -> str:
        """An LSTM and the joining of its directions: (steps, batch, directions x hidden)."""
        sides = 2 if direction == "bidirectional" else 1
        shapes = {
            "w": (sides, 4 * hidden, width),
            "r": (sides, 4 * hidden, hidden),
            "b": (sides, 8 * hidden),
        }
        names = [
            self.constant(f"{name}.{part}", self.rng.uniform(-0.1, 0.1, shape).astype(dtype))
            for part, shape in shapes.items()
        ]
        self.nodes.append(
            helper.make_node(
                "LSTM",
                [source, *names, *more_inputs],
                [f"{name}.both", *more_outputs],
                name=name,
                direction=direction,
                hidden_size=hidden,
                **attributes,
            )
        )
        return self.joined(f"{name}.both", name, sides * hidden)

    def joined(self, both: str, name: str, features: int) -> str:
        inward = self.add("Transpose", [both], f"{name}.inward", perm=[0, 2, 1, 3])
        shape = self.constant(f"{name}.shape", np.array([0, 0, features]))
        return self.add("Reshape", [inward, shape], f"{name}.joined")

    def after(self, joined: str, features: int = 256) -> None:
        """The model's end, from (steps, batch, features)."""
        last = self.add("Transpose", [joined], "end", perm=[1, 0, 2])
        weights = self.rng.uniform(-0.3, 0.3, (features, self.outputs)).astype(np.float32)
        self.add("MatMul", [last, self.constant("head", weights)], "y")

    def model(self) -> onnx.ModelProto:
        def port(name: str, *sizes: int) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes])

        graph = helper.make_graph(
            self.nodes,
            "made",
            [port("x", self.steps, self.width), *self.extra_inputs],
            [port("y", self.steps, self.outputs), *self.extra_outputs],
            self.arrays,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def lstm_model(
    change: Callable[[LstmGraph], None] | None = None, layers: int = 2
) -> onnx.ModelProto:
    """The model of :class:`LstmGraph`; ``change`` may add to it before it is made."""
    graph = LstmGraph()
    tensor, width = graph.before(), graph.width
    for number in range(layers):
        tensor, width = graph.layer(tensor, f"l{number}", width), 256
    graph.after(tensor)
    if change is not None:
        change(graph)
    return graph.model()
