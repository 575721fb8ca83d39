"""Reductions over axes, and positions of extremes."""

from __future__ import annotations

from onnx import TensorProto

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction


def _over_axes(kind: str) -> LoweringFunction:
    def lower(op: Lowering) -> str:
        keep = int(op.flag("keep_dims"))
        # Without axes all are reduced.
        axes = [op.constant(op.integers("axes"))] if op.has("axes") else []
        result = op.emit(kind, _reducible(op), *axes, keepdims=keep)
        return result if op.is_float() else op.emit("Cast", result, to=TensorProto.INT64)

    return lower


def _position(kind: str) -> LoweringFunction:
    return lambda op: op.emit(
        kind, _reducible(op), axis=op.axis(default=-1), keepdims=int(op.flag("keep_dims"))
    )


def _reducible(op: Lowering) -> str:
    """``x``; integers as the int32 they are in MIL: ONNX Runtime reduces few kinds of int64."""
    x = op.tensor("x")
    return x if op.is_float() else op.emit("Cast", x, to=TensorProto.INT32)


TABLE: dict[str, LoweringFunction] = {
    "reduce_argmax": _position("ArgMax"),
    "reduce_argmin": _position("ArgMin"),
    "reduce_l1_norm": _over_axes("ReduceL1"),
    "reduce_l2_norm": _over_axes("ReduceL2"),
    "reduce_log_sum": _over_axes("ReduceLogSum"),
    "reduce_log_sum_exp": _over_axes("ReduceLogSumExp"),
    "reduce_max": _over_axes("ReduceMax"),
    "reduce_mean": _over_axes("ReduceMean"),
    "reduce_min": _over_axes("ReduceMin"),
    "reduce_prod": _over_axes("ReduceProd"),
    "reduce_sum": _over_axes("ReduceSum"),
    "reduce_sum_square": _over_axes("ReduceSumSquare"),
}
