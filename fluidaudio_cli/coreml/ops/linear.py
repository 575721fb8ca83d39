"""Matrix products and attention."""

from __future__ import annotations

import numpy as np

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction


def _linear(op: Lowering) -> str:
    # x [..., in] times weight [out, in] transposed.
    x = op.tensor("x")
    if op.type().rank == 2 and op.is_float():
        return op.emit("Gemm", x, op.tensor("weight"), *op.given("bias"), transB=1)
    product = op.emit("MatMul", x, _matrix(op, "weight", transposed=True))
    return op.emit("Add", product, op.tensor("bias")) if op.has("bias") else product


def _matrix(op: Lowering, parameter: str, transposed: bool) -> str:
    """A matrix, its last two axes exchanged if asked; constants are exchanged here and now."""
    rank = op.type(parameter).rank
    if not transposed or rank < 2:
        return op.tensor(parameter)
    array = op.optional_array(parameter)
    if array is not None:
        return op.like(np.swapaxes(array, -1, -2), parameter)
    return op.transpose(op.tensor(parameter), _swapped(rank))


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def _matmul(op: Lowering) -> str:
    return op.emit(
        "MatMul",
        _matrix(op, "x", op.flag("transpose_x")),
        _matrix(op, "y", op.flag("transpose_y")),
    )


def _einsum(op: Lowering) -> str:
    """MIL's two equations, ``nchw,nwhu->nchu`` and ``chw,whr->chr`` (any letters).

    As a batched matrix product over the third axis from the right, which unlike ONNX's Einsum
    also broadcasts sizes of 1.
    """
    left, right = op.tensors("values")
    rank = op.operation.inputs["values"][0].type.rank
    equation = op.text("equation").replace(" ", "")
    canonical = _canonical(equation)
    if canonical not in ("abcd,adce->abce", "abc,cbd->abd"):
        raise op.error(f"has equation '{equation}', which is not supported")
    # [..., c, h, w] -> [..., h, c, w]
    order = [*range(rank - 3), rank - 2, rank - 3, rank - 1]
    product = op.emit("MatMul", op.transpose(left, order), op.transpose(right, order))
    return op.transpose(product, order)


def _canonical(equation: str) -> str:
    """The equation with its letters renamed a, b, c ... in order of appearance."""
    names: dict[str, str] = {}
    return "".join(
        names.setdefault(letter, chr(ord("a") + len(names))) if letter.isalpha() else letter
        for letter in equation
    )


def _attention(op: Lowering) -> str:
    query = op.type("query")
    width = query.shape[-1]
    if not isinstance(width, int):
        raise op.error("has queries of unknown width")
    scaled = op.emit("Mul", op.tensor("query"), op.like(width**-0.5, "query"))
    keys = op.transpose(op.tensor("key"), _swapped(op.type("key").rank))
    scores = op.emit("MatMul", scaled, keys)
    if op.has("attn_mask"):
        mask = op.tensor("attn_mask")
        if op.type("attn_mask").dtype == "bool":
            scores = op.emit("Where", mask, scores, op.like(-np.inf, "query"))
        else:
            scores = op.emit("Add", scores, mask)
    return op.emit("MatMul", op.emit("Softmax", scores, axis=-1), op.tensor("value"))


TABLE: dict[str, LoweringFunction] = {
    "einsum": _einsum,
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
}
