"""Element-wise arithmetic, comparison and logic."""

from __future__ import annotations

from fluidaudio_cli.coreml.graph import NARROW_TYPES, Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction, binary, unary

# Defaults of MIL's operation documentation.
_LOG_EPSILON = 1e-45
_RSQRT_EPSILON = 1e-12
_INVERSE_EPSILON = 1e-4


def cast(op: Lowering) -> str:
    """Change of type; nothing where both types are the same in the lowered graph."""
    wanted, given, x = op.text("dtype"), op.type().dtype, op.tensor("x")
    if wanted == given:
        return x
    target, kind = op.graph.onnx_type(wanted), op.graph.onnx_type(given)
    if wanted in NARROW_TYPES:
        x, kind = op.emit("Cast", x, to=NARROW_TYPES[wanted]), NARROW_TYPES[wanted]
    return x if kind == target else op.emit("Cast", x, to=target)


def _shifted(op: Lowering, default: float) -> str:
    """``x + epsilon``."""
    epsilon = op.number("epsilon", default)
    x = op.tensor("x")
    return op.emit("Add", x, op.like(epsilon)) if epsilon else x


def _floor_div(op: Lowering) -> str:
    x, y = op.tensor("x"), op.tensor("y")
    if op.is_float():
        return op.emit("Floor", op.emit("Div", x, y))
    # ONNX divides integers towards zero; take the remainder (sign of y) away first.
    return op.emit("Div", op.emit("Sub", x, op.emit("Mod", x, y)), y)


def _mod(op: Lowering) -> str:
    x, y = op.tensor("x"), op.tensor("y")
    if not op.is_float():
        return op.emit("Mod", x, y)
    whole = op.emit("Floor", op.emit("Div", x, y))
    return op.emit("Sub", x, op.emit("Mul", whole, y))


# Of the same name in ONNX, with a capital letter.
_UNARY = "abs acos asin atan atanh ceil cos cosh erf exp floor round sign sin sinh sqrt tan tanh"
_BINARY = "add equal greater less mul pow sub"

TABLE: dict[str, LoweringFunction] = {
    **{name: unary(name.capitalize()) for name in _UNARY.split()},
    **{name: binary(name.capitalize()) for name in _BINARY.split()},
    "cast": cast,
    "clip": lambda op: op.emit(
        "Clip", op.tensor("x"), op.like(op.number("alpha")), op.like(op.number("beta"))
    ),
    "exp2": lambda op: op.emit("Pow", op.like(2), op.tensor("x")),
    "floor_div": _floor_div,
    "greater_equal": binary("GreaterOrEqual"),
    "inverse": lambda op: op.emit("Reciprocal", _shifted(op, _INVERSE_EPSILON)),
    "less_equal": binary("LessOrEqual"),
    "log": lambda op: op.emit("Log", _shifted(op, _LOG_EPSILON)),
    "logical_and": binary("And"),
    "logical_not": unary("Not"),
    "logical_or": binary("Or"),
    "logical_xor": binary("Xor"),
    "maximum": binary("Max"),
    "minimum": binary("Min"),
    "mod": _mod,
    "not_equal": lambda op: op.emit("Not", op.emit("Equal", op.tensor("x"), op.tensor("y"))),
    "real_div": binary("Div"),
    "rsqrt": lambda op: op.emit("Reciprocal", op.emit("Sqrt", _shifted(op, _RSQRT_EPSILON))),
    "square": lambda op: op.emit("Mul", op.tensor("x"), op.tensor("x")),
    "threshold": lambda op: op.emit("Max", op.tensor("x"), op.like(op.number("alpha"))),
}
