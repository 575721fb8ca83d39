"""Batch, instance, layer, L2 and local response normalization."""

from __future__ import annotations

import numpy as np

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction

_EPSILON = 1e-5
_L2_EPSILON = 1e-6


def _scale_and_shift(op: Lowering, channels: int) -> list[str]:
    return [
        op.tensor(parameter) if op.has(parameter) else op.like(np.full(channels, default))
        for parameter, default in (("gamma", 1.0), ("beta", 0.0))
    ]


def _batch_norm(op: Lowering) -> str:
    return op.emit(
        "BatchNormalization",
        op.tensor("x"),
        *_scale_and_shift(op, op.array("mean").size),
        op.tensor("mean"),
        op.tensor("variance"),
        epsilon=op.number("epsilon", _EPSILON),
    )


def _instance_norm(op: Lowering) -> str:
    channels = op.type().shape[1]
    if not isinstance(channels, int):
        raise op.error("has an unknown number of channels")
    return op.emit(
        "InstanceNormalization",
        op.tensor("x"),
        *_scale_and_shift(op, channels),
        epsilon=op.number("epsilon", _EPSILON),
    )


def _layer_norm(op: Lowering) -> str:
    rank = op.type().rank
    axes = sorted(axis % rank for axis in op.integers("axes", range(rank)))
    epsilon = op.number("epsilon", _EPSILON)
    trailing = axes == list(range(axes[0], rank))
    if trailing and op.has("gamma"):
        return op.emit(
            "LayerNormalization",
            op.tensor("x"),
            op.tensor("gamma"),
            *op.given("beta"),
            axis=axes[0],
            epsilon=epsilon,
        )
    x, over = op.tensor("x"), op.constant(axes)
    centred = op.emit("Sub", x, op.emit("ReduceMean", x, over))
    variance = op.emit("ReduceMean", op.emit("Mul", centred, centred), over)
    result = op.emit("Div", centred, op.emit("Sqrt", op.emit("Add", variance, op.like(epsilon))))
    for parameter, kind in (("gamma", "Mul"), ("beta", "Add")):
        if op.has(parameter):
            sizes = iter(op.array(parameter).shape)
            shape = [next(sizes) if axis in axes else 1 for axis in range(rank)]
            result = op.emit(kind, result, op.like(op.array(parameter).reshape(shape)))
    return result


def _l2_norm(op: Lowering) -> str:
    # Over the last three axes, whatever the rank.
    x = op.tensor("x")
    total = op.emit("ReduceSumSquare", x, op.constant([-3, -2, -1]))
    shifted = op.emit("Add", total, op.like(op.number("epsilon", _L2_EPSILON)))
    return op.emit("Div", x, op.emit("Sqrt", shifted))


def _local_response_norm(op: Lowering) -> str:
    # Not ONNX's LRN: OpenVINO 2026.4 computes something else. The mean of squares over `size`
    # neighbouring channels (zeros beyond the first and last) as a pooling over channels.
    x, size, spatial = op.tensor("x"), op.integer("size"), op.type().rank - 2
    squares = op.emit("Unsqueeze", op.emit("Mul", x, x), op.constant([1]))
    # Padded apart: ONNX Runtime before 1.24 miscounts padded elements of an uneven pooling.
    before = [0, 0, (size - 1) // 2, *[0] * spatial]
    after = [0, 0, size // 2, *[0] * spatial]
    padded = op.emit("Pad", squares, op.constant([*before, *after]))
    mean = op.emit("AveragePool", padded, kernel_shape=[size, *[1] * spatial])
    scaled = op.emit(
        "Mul", op.emit("Squeeze", mean, op.constant([1])), op.like(op.number("alpha", 1e-4))
    )
    base = op.emit("Add", scaled, op.like(op.number("k", 1.0)))
    return op.emit("Div", x, op.emit("Pow", base, op.like(op.number("beta", 0.75))))


TABLE: dict[str, LoweringFunction] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "local_response_norm": _local_response_norm,
}
