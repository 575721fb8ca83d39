"""Slicing, gathering and scattering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fluidaudio_cli.coreml.graph import SLICE_END, SLICE_START, Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction

# MIL's scatter mode -> ONNX's reduction; sub and div go through the opposite.
_REDUCTIONS = {
    "update": "none",
    "add": "add",
    "sub": "add",
    "mul": "mul",
    "div": "mul",
    "max": "max",
    "min": "min",
}


def _mask(op: Lowering, parameter: str, rank: int) -> list[bool]:
    given = op.optional_array(parameter)
    return [False] * rank if given is None else [bool(one) for one in given.ravel()]


def _slice_by_index(op: Lowering) -> str:
    rank = op.type().rank
    begin_mask, end_mask, squeeze_mask = (
        _mask(op, f"{part}_mask", rank) for part in ("begin", "end", "squeeze")
    )
    strides = op.integers("stride", [1] * rank)
    begin, end = op.optional_array("begin"), op.optional_array("end")
    if begin is None or (end is None and not all(np.logical_or(end_mask, squeeze_mask))):
        sliced = _dynamic_slice(op, begin_mask, end_mask, squeeze_mask, strides)
    else:
        axes, starts, stops, steps = [], [], [], []
        for axis in range(rank):
            step = 1 if squeeze_mask[axis] else strides[axis]
            forward = step > 0
            start = int(begin.ravel()[axis])
            if begin_mask[axis]:
                start = 0 if forward else SLICE_END
            if squeeze_mask[axis]:
                stop = SLICE_END if start == -1 else start + 1
            elif end_mask[axis] or end is None:
                stop = SLICE_END if forward else SLICE_START
            else:
                stop = int(end.ravel()[axis])
            whole = start == 0 and step == 1 and stop in (SLICE_END, op.type().shape[axis])
            if not whole:
                axes.append(axis)
                starts.append(start)
                stops.append(stop)
                steps.append(step)
        sliced = op.tensor("x")
        if axes:
            sliced = op.emit("Slice", sliced, *map(op.constant, (starts, stops, axes, steps)))
    squeezed = [axis for axis in range(rank) if squeeze_mask[axis]]
    return op.emit("Squeeze", sliced, op.constant(squeezed)) if squeezed else sliced


def _dynamic_slice(
    op: Lowering,
    begin_mask: list[bool],
    end_mask: list[bool],
    squeeze_mask: list[bool],
    strides: list[int],
) -> str:
    """A slice whose bounds are computed at run time; masks become choices between tensors."""
    rank = len(strides)
    steps = [1 if squeeze_mask[axis] else strides[axis] for axis in range(rank)]
    first = [0 if step > 0 else SLICE_END for step in steps]
    last = [SLICE_END if step > 0 else SLICE_START for step in steps]
    starts = op.tensor("begin")
    if any(begin_mask):
        starts = op.emit("Where", op.constant(begin_mask, "bool"), op.constant(first), starts)
    stops = op.tensor("end")
    if any(squeeze_mask):
        following = op.emit("Add", starts, op.constant([1]))
        # One past -1 is the end, not 0.
        is_end = op.emit("Equal", following, op.constant([0]))
        following = op.emit("Where", is_end, op.constant([SLICE_END]), following)
        stops = op.emit("Where", op.constant(squeeze_mask, "bool"), following, stops)
    masked = [end and not squeeze for end, squeeze in zip(end_mask, squeeze_mask, strict=True)]
    if any(masked):
        stops = op.emit("Where", op.constant(masked, "bool"), op.constant(last), stops)
    axes = op.constant(list(range(rank)))
    return op.emit("Slice", op.tensor("x"), starts, stops, axes, op.constant(steps))


def crop(op: Lowering, tensor: str, before: Sequence[int], after: Sequence[int]) -> str:
    """``tensor`` without what stands ``before`` and ``after`` on its last axes."""
    stops = [-size if size else SLICE_END for size in after]
    axes = list(range(-len(before), 0))
    return op.emit("Slice", tensor, *map(op.constant, (list(before), stops, axes)))


def _crop(op: Lowering) -> str:
    bounds = [op.integers(f"crop_{axis}") for axis in ("height", "width")]
    return crop(op, op.tensor("x"), *zip(*bounds, strict=True))


def _slice_by_size(op: Lowering) -> str:
    begin, size = op.optional_array("begin"), op.optional_array("size")
    axes = op.constant(list(range(op.type().rank)))
    if begin is not None and size is not None:
        stops = [
            SLICE_END if n == -1 or (b < 0 and b + n >= 0) else b + n
            for b, n in zip(begin.ravel().tolist(), size.ravel().tolist(), strict=True)
        ]
        return op.emit("Slice", op.tensor("x"), op.tensor("begin"), op.constant(stops), axes)
    starts, sizes = op.tensor("begin"), op.tensor("size")
    to_end = op.emit("Less", sizes, op.constant([0]))
    summed = op.emit("Add", starts, sizes)
    stopped = op.emit("Where", to_end, op.emit("Shape", op.tensor("x")), summed)
    return op.emit("Slice", op.tensor("x"), starts, stopped, axes)


def _gather(op: Lowering) -> str:
    axis, batch = op.axis(default=0), op.integer("batch_dims", 0)
    if batch == 0:
        return op.emit("Gather", op.tensor("x"), op.tensor("indices"), axis=axis)
    if axis != batch:
        raise op.error(f"has batch_dims {batch} with axis {axis}, which is not supported")
    points = op.emit("Unsqueeze", op.tensor("indices"), op.constant([-1]))
    return op.emit("GatherND", op.tensor("x"), points, batch_dims=batch)


def _updates(op: Lowering) -> tuple[str, str]:
    """The updates and the ONNX reduction that together do what MIL's mode asks."""
    mode, updates = op.text("mode", "add"), op.tensor("updates")
    if mode not in _REDUCTIONS:
        raise op.error(f"has unknown mode '{mode}'")
    if mode == "sub":
        updates = op.emit("Neg", updates)
    elif mode == "div":
        updates = op.emit("Reciprocal", updates)
    return updates, _REDUCTIONS[mode]


def _scatter(op: Lowering) -> str:
    # Whole slices along one axis: bring the axis to the front, scatter, bring it back.
    rank, axis = op.type("data").rank, op.axis(default=0, of="data")
    if op.type("indices").rank != 1:
        raise op.error("has indices that are not a vector")
    front = [axis, *(one for one in range(rank) if one != axis)]
    updates, reduction = _updates(op)
    points = op.emit("Unsqueeze", op.tensor("indices"), op.constant([-1]))
    scattered = op.emit(
        "ScatterND",
        op.transpose(op.tensor("data"), front),
        points,
        op.transpose(updates, front),
        reduction=reduction,
    )
    return op.transpose(scattered, np.argsort(front).tolist())


def _scatter_along_axis(op: Lowering) -> str:
    updates, reduction = _updates(op)
    return op.emit(
        "ScatterElements",
        op.tensor("data"),
        op.tensor("indices"),
        updates,
        axis=op.axis(default=0, of="data"),
        reduction=reduction,
    )


def _scatter_nd(op: Lowering) -> str:
    updates, reduction = _updates(op)
    return op.emit(
        "ScatterND", op.tensor("data"), op.tensor("indices"), updates, reduction=reduction
    )


TABLE: dict[str, LoweringFunction] = {
    "crop": _crop,
    "gather": _gather,
    "gather_along_axis": lambda op: op.emit(
        "GatherElements", op.tensor("x"), op.tensor("indices"), axis=op.axis(default=0)
    ),
    "gather_nd": lambda op: op.emit(
        "GatherND", op.tensor("x"), op.tensor("indices"), batch_dims=op.integer("batch_dims", 0)
    ),
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
}
