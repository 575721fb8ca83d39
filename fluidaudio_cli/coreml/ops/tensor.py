"""Tensors made, padded, selected from, sorted and counted."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def _pad(op: Lowering) -> str:
    rank, mode = op.type().rank, op.text("mode", "constant")
    if mode not in _PAD_MODES:
        raise op.error(f"has unknown mode '{mode}'")
    amounts = op.optional_array("pad")
    if amounts is None:
        rows = op.reshape(op.tensor("pad"), [rank, 2])
        pads = op.reshape(op.transpose(rows, [1, 0]), [-1])
    else:
        # MIL gives (before, after) pairs for the last axes only.
        pairs = np.zeros((rank, 2), np.int64)
        given = amounts.reshape(-1, 2)
        pairs[rank - len(given) :] = given
        pads = op.constant(pairs.T.ravel())
    filler = [op.like(op.number("constant_val", 0))] if mode == "constant" else []
    return op.emit("Pad", op.tensor("x"), pads, *filler, mode=_PAD_MODES[mode])


def _filled(op: Lowering, shape: str) -> str:
    dtype = op.operation.outputs[0].type.dtype
    value = np.full(1, op.number("value", 0), op.graph.numpy_type(dtype))
    return op.emit("ConstantOfShape", shape, value=numpy_helper.from_array(value))


def _range(op: Lowering) -> str:
    scalars = [
        op.tensor(parameter)
        if op.type(parameter).rank == 0
        else op.emit("Squeeze", op.tensor(parameter))
        for parameter in ("start", "end", "step")
    ]
    return op.emit("Range", *scalars)


def _one_hot(op: Lowering) -> str:
    dtype = op.operation.outputs[0].type.dtype
    values = op.constant([op.number("off_value", 0), op.number("on_value", 1)], dtype)
    return op.emit(
        "OneHot",
        op.tensor("indices"),
        op.reshape(op.tensor("one_hot_vector_size"), [1]),
        values,
        axis=op.integer("axis", -1),
    )


def _top_k(op: Lowering) -> list[str]:
    count = op.reshape(op.tensor("k"), [1]) if op.has("k") else op.constant([1])
    return op.emit_many(
        "TopK",
        op.tensor("x"),
        count,
        outputs=2,
        axis=op.axis(default=-1),
        largest=int(not op.flag("ascending")),
        sorted=int(op.flag("sort", True)),
    )


def _argsort(op: Lowering) -> str:
    axis = op.axis(default=-1)
    size = op.emit("Shape", op.tensor("x"), start=axis, end=axis + 1)
    order = int(not op.flag("ascending"))
    return op.emit_many("TopK", op.tensor("x"), size, outputs=2, axis=axis, largest=order)[1]


def _cumsum(op: Lowering) -> str:
    return op.emit(
        "CumSum",
        op.tensor("x"),
        op.constant(op.axis(default=0)),
        exclusive=int(op.flag("exclusive")),
        reverse=int(op.flag("reverse")),
    )


def _band_part(op: Lowering) -> str:
    lower, upper, result = op.integer("lower", -1), op.integer("upper", -1), op.tensor("x")
    if upper >= 0:
        result = op.emit("Trilu", result, op.constant(upper), upper=0)
    if lower >= 0:
        result = op.emit("Trilu", result, op.constant(-lower), upper=1)
    return result


def _select(op: Lowering) -> str:
    cond, a, b = (op.tensor(parameter) for parameter in ("cond", "a", "b"))
    if op.type("a").dtype != "bool":
        return op.emit("Where", cond, a, b)
    # ONNX Runtime chooses between numbers only.
    return op.emit("Or", op.emit("And", cond, a), op.emit("And", op.emit("Not", cond), b))


TABLE: dict[str, LoweringFunction] = {
    "argsort": _argsort,
    "band_part": _band_part,
    "cumsum": _cumsum,
    "fill": lambda op: _filled(op, op.tensor("shape")),
    "fill_like": lambda op: _filled(op, op.emit("Shape", op.tensor("ref_tensor"))),
    "non_zero": lambda op: op.transpose(op.emit("NonZero", op.tensor("x")), [1, 0]),
    "one_hot": _one_hot,
    "pad": _pad,
    "range_1d": _range,
    "select": _select,
    "topk": _top_k,
}
