"""Reductions over axes, and positions of extremes."""

from __future__ import annotations

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction


def _over_axes(kind: str) -> LoweringFunction:
    def lower(op: Lowering) -> str:
        keep = int(op.flag("keep_dims"))
        # Without axes all are reduced.
        axes = [op.constant(op.integers("axes"))] if op.has("axes") else []
        return op.emit(kind, op.tensor("x"), *axes, keepdims=keep)

    return lower


def _position(kind: str) -> LoweringFunction:
    return lambda op: op.emit(
        kind, op.tensor("x"), axis=op.axis(default=-1), keepdims=int(op.flag("keep_dims"))
    )


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
