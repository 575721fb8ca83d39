"""Maximum, average and L2 pooling."""

from __future__ import annotations

import math

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.padding import SpatialPadding, spatial_padding
from fluidaudio_cli.coreml.ops.table import LoweringFunction


def _window(op: Lowering) -> tuple[list[int], list[int], SpatialPadding, list[int]]:
    """Kernel, strides, padding, and what ceil mode adds behind the padding.

    With ``ceil_mode`` the last window may reach beyond the padded input, unless it would start
    there; the excess is neither input nor padding.
    """
    kernel = op.integers("kernel_sizes")
    strides = op.integers("strides", [1] * len(kernel))
    padding = spatial_padding(op, kernel, strides, [1] * len(kernel))
    excess = [0] * len(kernel)
    if op.flag("ceil_mode"):
        sizes = op.type().shape[2:]
        for axis, size in enumerate(sizes):
            if not isinstance(size, int):
                raise op.error("rounds its output size up for an input of unknown size")
            before, after = padding.before[axis], padding.after[axis]
            padded = size + before + after
            count = -(-(padded - kernel[axis]) // strides[axis]) + 1
            if (count - 1) * strides[axis] >= size + before:
                count -= 1
            excess[axis] = max(0, (count - 1) * strides[axis] + kernel[axis] - padded)
    return kernel, strides, padding, excess


def _max_pool(op: Lowering) -> str:
    kernel, strides, padding, excess = _window(op)
    if any(excess):
        padding = padding.reaching(excess)
    return op.emit(
        "MaxPool", op.tensor("x"), kernel_shape=kernel, strides=strides, **padding.attributes()
    )


def _average(op: Lowering, x: str, exclude_padding: bool) -> str:
    kernel, strides, padding, excess = _window(op)
    if any(excess) and not exclude_padding:
        # The average counts padding but not the excess: pad with real zeros first.
        zeros = [0, 0]
        if any((*padding.before, *padding.after)):
            x = op.emit(
                "Pad", x, op.constant([*zeros, *padding.before, *zeros, *padding.after]), op.like(0)
            )
        padding = SpatialPadding((0,) * len(kernel), tuple(excess))
        exclude_padding = True
    elif any(excess):
        padding = padding.reaching(excess)
    return op.emit(
        "AveragePool",
        x,
        kernel_shape=kernel,
        strides=strides,
        count_include_pad=0 if exclude_padding else 1,
        **padding.attributes(),
    )


def _l2_pool(op: Lowering) -> str:
    # The root of the sum of squares, as a mean times the window's size.
    if op.flag("ceil_mode"):
        raise op.error("rounds its output size up, which is not supported for L2")
    squares = op.emit("Mul", op.tensor("x"), op.tensor("x"))
    count = math.prod(op.integers("kernel_sizes"))
    total = op.emit("Mul", _average(op, squares, exclude_padding=False), op.like(count))
    return op.emit("Sqrt", total)


TABLE: dict[str, LoweringFunction] = {
    "avg_pool": lambda op: _average(op, op.tensor("x"), op.flag("exclude_padding_from_average")),
    "l2_pool": _l2_pool,
    "max_pool": _max_pool,
}
