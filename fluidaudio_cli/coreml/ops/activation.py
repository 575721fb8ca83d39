"""Activation functions; formulas as in MIL's operation documentation."""

from __future__ import annotations

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction, unary

_GELU_SIGMOID_FACTOR = 1.702


def _clamped_relu(op: Lowering) -> str:
    rectified = op.emit("LeakyRelu", op.tensor("x"), alpha=op.number("alpha"))
    return op.emit("Min", rectified, op.like(op.number("beta")))


def _gelu(op: Lowering) -> str:
    x, mode = op.tensor("x"), op.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        scaled = op.emit("Mul", x, op.like(_GELU_SIGMOID_FACTOR))
        return op.emit("Mul", x, op.emit("Sigmoid", scaled))
    if mode not in ("EXACT", "TANH_APPROXIMATION"):
        raise op.error(f"has unknown mode '{mode}'")
    return op.emit("Gelu", x, approximate="none" if mode == "EXACT" else "tanh")


def _linear_activation(op: Lowering) -> str:
    scaled = op.emit("Mul", op.tensor("x"), op.like(op.number("alpha")))
    return op.emit("Add", scaled, op.like(op.number("beta")))


def _per_channel(op: Lowering, parameter: str) -> str:
    """A vector over channels (axis 1 of ``x``), shaped to broadcast from the right."""
    return op.like(op.array(parameter).reshape(-1, *[1] * (op.type().rank - 2)))


def _scaled_tanh(op: Lowering) -> str:
    inner = op.emit("Mul", op.tensor("x"), op.like(op.number("beta")))
    return op.emit("Mul", op.emit("Tanh", inner), op.like(op.number("alpha")))


def _softplus_parametric(op: Lowering) -> str:
    inner = op.emit("Mul", op.tensor("x"), _per_channel(op, "beta"))
    return op.emit("Mul", op.emit("Softplus", inner), _per_channel(op, "alpha"))


def _thresholded_relu(op: Lowering) -> str:
    # Not ONNX's ThresholdedRelu, which drops x == alpha.
    x = op.tensor("x")
    kept = op.emit("GreaterOrEqual", x, op.like(op.number("alpha")))
    return op.emit("Where", kept, x, op.like(0))


TABLE: dict[str, LoweringFunction] = {
    "clamped_relu": _clamped_relu,
    "elu": lambda op: op.emit("Elu", op.tensor("x"), alpha=op.number("alpha")),
    "gelu": _gelu,
    "leaky_relu": lambda op: op.emit("LeakyRelu", op.tensor("x"), alpha=op.number("alpha")),
    "linear_activation": _linear_activation,
    "prelu": lambda op: op.emit("PRelu", op.tensor("x"), _per_channel(op, "alpha")),
    "relu": unary("Relu"),
    "relu6": lambda op: op.emit("Clip", op.tensor("x"), op.like(0), op.like(6)),
    "scaled_tanh": _scaled_tanh,
    "sigmoid": unary("Sigmoid"),
    "sigmoid_hard": lambda op: op.emit(
        "HardSigmoid", op.tensor("x"), alpha=op.number("alpha"), beta=op.number("beta")
    ),
    "silu": lambda op: op.emit("Mul", op.tensor("x"), op.emit("Sigmoid", op.tensor("x"))),
    "softmax": lambda op: op.emit("Softmax", op.tensor("x"), axis=op.axis(default=-1)),
    "softplus": unary("Softplus"),
    "softplus_parametric": _softplus_parametric,
    "softsign": unary("Softsign"),
    "thresholded_relu": _thresholded_relu,
}
