"""Convolution and transposed convolution, one to three spatial dimensions."""

from __future__ import annotations

import numpy as np

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.indexing import crop
from fluidaudio_cli.coreml.ops.padding import spatial_padding
from fluidaudio_cli.coreml.ops.quantization import quantized_weight
from fluidaudio_cli.coreml.ops.table import LoweringFunction


def _conv(op: Lowering) -> str:
    shape = op.type("weight").static_shape
    if shape is None:
        raise op.error("has a kernel of unknown size")
    kernel = list(shape[2:])
    ones = [1] * len(kernel)
    strides, dilations = op.integers("strides", ones), op.integers("dilations", ones)
    return op.emit(
        "Conv",
        op.tensor("x"),
        quantized_weight(op),
        *op.given("bias"),
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=op.integer("groups", 1),
        **spatial_padding(op, kernel, strides, dilations).attributes(),
    )


def _conv_transpose(op: Lowering) -> str:
    kernel = np.array(op.array("weight").shape[2:])
    spatial = len(kernel)
    strides = np.array(op.integers("strides", [1] * spatial))
    dilations = np.array(op.integers("dilations", [1] * spatial))
    reach = (kernel - 1) * dilations + 1
    kind = op.text("pad_type", "valid").lower()
    before = after = np.zeros(spatial, np.int64)
    if kind == "custom":
        pad = np.array(op.integers("pad", [0] * (2 * spatial)))
        before, after = pad[0::2], pad[1::2]
    elif kind in ("same", "same_lower"):
        # Output size = input size * stride.
        total = reach - strides
        before = np.maximum(total, 0) // 2 if kind == "same" else -(-np.maximum(total, 0) // 2)
        after = total - before
    elif kind != "valid":
        raise op.error(f"has unknown pad_type '{kind}'")
    if op.has("output_shape"):
        wanted = np.array(op.integers("output_shape")[-spatial:])
        sizes = op.type().shape[2:]
        if any(not isinstance(size, int) for size in sizes):
            raise op.error("has an output_shape for an input of unknown size")
        full = (np.array(sizes, np.int64) - 1) * strides + reach
        after = full - before - wanted
    # What cannot be cropped at the end because it was never there is added.
    cropped, added = np.maximum(after, 0), np.maximum(-after, 0)
    x = op.tensor("x")
    # OpenVINO 2026.4 merges padding in front of it with pads, and crops too much.
    apart = any(node.kind == "Pad" and x in node.outputs for node in op.graph.nodes)
    result = op.emit(
        "ConvTranspose",
        x,
        op.tensor("weight"),
        *op.given("bias"),
        kernel_shape=kernel.tolist(),
        strides=strides.tolist(),
        dilations=dilations.tolist(),
        group=op.integer("groups", 1),
        pads=[0] * (2 * spatial) if apart else [*before.tolist(), *cropped.tolist()],
        output_padding=added.tolist(),
    )
    return crop(op, result, before.tolist(), cropped.tolist()) if apart else result


TABLE: dict[str, LoweringFunction] = {"conv": _conv, "conv_transpose": _conv_transpose}
