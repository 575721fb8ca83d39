"""LSTM, GRU and plain recurrent layers.

MIL concatenates directions along the last axis of states and outputs, ONNX keeps them apart on
an axis of their own; MIL orders LSTM gates input, forget, output, cell, ONNX input, output,
forget, cell; MIL's bias is the sum of both biases that ONNX wants side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction

_LSTM_GATES = (0, 2, 1, 3)  # ONNX iofc out of MIL ifoz
_PEEPHOLES = (0, 2, 1)  # ONNX iof out of MIL ifo
_GRU_GATES = (2, 0, 1)  # ONNX zrh out of MIL roz
_DIRECTIONS = {"forward": ("",), "reverse": ("",), "bidirectional": ("", "_back")}
_GATE_ACTIVATION = ("recurrent_activation", "sigmoid")
_CELL_ACTIVATION = ("cell_activation", "tanh")
_ACTIVATIONS = {
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "linear": "Affine",
    "hard_sigmoid": "HardSigmoid",
    "sigmoid_hard": "HardSigmoid",
    "scaled_tanh": "ScaledTanh",
}
# Alpha and beta of those that have such: Core ML's constants.
_CONSTANTS = {
    "Affine": (1.0, 0.0),
    "HardSigmoid": (0.2, 0.5),
    "ScaledTanh": (1.7159, 2.0 / 3.0),
}


def _lstm(op: Lowering) -> list[str]:
    if op.has("clip"):
        raise op.error("clips its cell gate, which is not supported")
    direction = op.text("direction", "forward")
    if direction not in _DIRECTIONS:
        raise op.error(f"has unknown direction '{direction}'")
    suffixes = _DIRECTIONS[direction]
    return _layer(op, "LSTM", _LSTM_GATES, suffixes, _GATE_ACTIVATION, _CELL_ACTIVATION)


def _gru(op: Lowering) -> list[str]:
    # o = f(W x + R (r * h) + b), the reset gate before the product, as NeuralNetwork.proto and
    # coremltools' own tests have it; ONNX's default.
    if op.has("input_bias") or op.flag("reset_after"):
        raise op.error("has the iOS 18 form (input_bias, reset_after), which is not supported")
    return _layer(op, "GRU", _GRU_GATES, ("",), _GATE_ACTIVATION)


def _layer(
    op: Lowering,
    kind: str,
    gates: tuple[int, ...],
    suffixes: tuple[str, ...],
    *activations: tuple[str, str],
) -> list[str]:
    """The layer, its outputs as MIL has them.

    ``activations``: parameters before the last, with their defaults.
    """
    hidden, directions = op.array("weight_hh").shape[1], len(suffixes)
    inputs = [_own_input(op), *_weights(op, gates, suffixes)]
    inputs.append("")  # all sequences have full length
    inputs.append(_initial_state(op, "initial_h", suffixes, hidden))
    if kind == "LSTM":
        inputs.append(_initial_state(op, "initial_c", suffixes, hidden))
        inputs.append(_peepholes(op, suffixes, hidden))
    while not inputs[-1]:
        inputs.pop()
    every, *states = op.emit_many(
        kind,
        *inputs,
        outputs=3 if kind == "LSTM" else 2,
        hidden_size=hidden,
        direction=op.text("direction", "forward"),
        **_activations(op, directions, (*activations, ("activation", "tanh"))),
    )
    merged = [_merge_state(op, state, directions, hidden) for state in states]
    return [_sequence(op, every, merged[0], directions, hidden), *merged]


def _own_input(op: Lowering) -> str:
    """The input sequence; a copy of it where an earlier recurrent layer reads it too.

    OpenVINO 2026.4 rewrites the transpose in front of its sequence operations in place, and
    layers that share it get each other's layout: wrong numbers from batch 2 on, no error. A
    maximum with the lowest float is the cheapest step that it does not optimise away.
    """
    x = op.value("x")
    source = op.graph.origins.get(x, x)
    earlier = op.graph.recurrent_readers[source]
    op.graph.recurrent_readers[source] += 1
    if not earlier:
        return op.tensor("x")
    # A different bound for each, or equal copies would be merged again.
    bound = np.finfo(op.graph.numpy_type(x.type.dtype)).min
    for _ in range(earlier):
        bound = np.nextafter(bound, bound * 0)
    return op.emit("Max", op.tensor("x"), op.like(bound))


def _reorder(array: NDArray[Any], gates: tuple[int, ...]) -> NDArray[Any]:
    """Blocks of equal size along axis 0 in the order ``gates``."""
    blocks = np.split(array, len(gates))
    return np.concatenate([blocks[gate] for gate in gates])


def _weights(op: Lowering, gates: tuple[int, ...], suffixes: tuple[str, ...]) -> list[str]:
    """ONNX's W [directions, gates * hidden, in], R, and B [directions, 2 * gates * hidden]."""
    stacked = [
        np.stack([_reorder(op.floats(f"{parameter}{suffix}"), gates) for suffix in suffixes])
        for parameter in ("weight_ih", "weight_hh")
    ]
    biases = []
    for suffix in suffixes:
        rows = stacked[0].shape[1]
        given = op.has(f"bias{suffix}")
        summed = _reorder(op.floats(f"bias{suffix}"), gates) if given else np.zeros(rows)
        biases.append(np.concatenate([summed, np.zeros(rows)]))
    return [op.like(array) for array in (*stacked, np.stack(biases))]


def _peepholes(op: Lowering, suffixes: tuple[str, ...], hidden: int) -> str:
    given = [op.optional_array(f"peephole{suffix}") for suffix in suffixes]
    if all(one is None for one in given):
        return ""
    return op.like(
        np.stack(
            [np.zeros(3 * hidden) if one is None else _reorder(one, _PEEPHOLES) for one in given]
        )
    )


def _initial_state(op: Lowering, parameter: str, suffixes: tuple[str, ...], hidden: int) -> str:
    """[batch, directions * hidden] as [directions, batch, hidden]; "" for zeros, the default.

    Leaving zeros out lets the chain that computes their shape from the batch size vanish.
    """
    if not op.has(parameter) or op.graph.uniform.get(op.value(parameter)) == 0:
        return ""
    array = op.optional_array(parameter)
    if array is not None:
        if not array.any():
            return ""
        return op.like(array.reshape(-1, len(suffixes), hidden).transpose(1, 0, 2))
    if len(suffixes) == 1:
        return op.emit("Unsqueeze", op.tensor(parameter), op.constant([0]))
    apart = op.reshape(op.tensor(parameter), [0, len(suffixes), hidden])
    return op.transpose(apart, [1, 0, 2])


def _merge_state(op: Lowering, state: str, directions: int, hidden: int) -> str:
    """[directions, batch, hidden] as [batch, directions * hidden]."""
    if directions == 1:
        return op.emit("Squeeze", state, op.constant([0]))
    return op.reshape(op.transpose(state, [1, 0, 2]), [0, directions * hidden])


def _sequence(op: Lowering, every: str, last: str, directions: int, hidden: int) -> str:
    """[steps, directions, batch, hidden] as [steps, batch, directions * hidden].

    One direction is not squeezed: OpenVINO 2026.4 then takes the transposes around its layer
    away and forgets so when it exports the model, which gives wrong numbers, no error.
    """
    if not op.flag("output_sequence"):
        return op.emit("Unsqueeze", last, op.constant([0]))
    return op.reshape(op.transpose(every, [0, 2, 1, 3]), [0, 0, directions * hidden])


def _activations(
    op: Lowering, directions: int, parameters: tuple[tuple[str, str], ...]
) -> dict[str, Any]:
    """Attributes for activations, none where all are ONNX's defaults."""
    names = [op.text(parameter, default).lower() for parameter, default in parameters]
    if all(name == default for name, (_, default) in zip(names, parameters, strict=True)):
        return {}
    unknown = [name for name in names if name not in _ACTIVATIONS]
    if unknown:
        raise op.error(f"has unknown activation '{unknown[0]}'")
    chosen = [_ACTIVATIONS[name] for name in names] * directions
    # In the order of the activations, none for one that has no such constant.
    constants = [_CONSTANTS[name] for name in chosen if name in _CONSTANTS]
    attributes = {
        "activations": chosen,
        "activation_alpha": [alpha for alpha, _ in constants],
        "activation_beta": [beta for _, beta in constants],
    }
    return {name: values for name, values in attributes.items() if values}


TABLE: dict[str, LoweringFunction] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn": lambda op: _layer(op, "RNN", (0,), ("",)),
}
