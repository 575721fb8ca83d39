"""Slicing, gathering and scattering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.coreml.graph import SLICE_END, SLICE_START, Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction

Flags = NDArray[np.bool_]
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


def _mask(op: Lowering, parameter: str, rank: int) -> Flags:
    given = op.optional_array(parameter)
    return np.zeros(rank, bool) if given is None else given.ravel().astype(bool)


def _slice_by_index(op: Lowering) -> str:
    rank = op.type().rank
    from_first, to_last, squeeze = (
        _mask(op, f"{part}_mask", rank) for part in ("begin", "end", "squeeze")
    )
    steps = np.where(squeeze, 1, op.integers("stride", [1] * rank))
    first = np.where(steps > 0, 0, SLICE_END)
    last = np.where(steps > 0, SLICE_END, SLICE_START)
    begin, end = op.optional_array("begin"), op.optional_array("end")
    axes = list(range(rank))
    if begin is None or (end is None and not (to_last | squeeze).all()):
        # Masks become choices between tensors.
        start, stop = op.tensor("begin"), op.tensor("end")
        if from_first.any():
            start = op.emit("Where", op.constant(from_first, "bool"), op.constant(first), start)
        if squeeze.any():
            following = op.emit("Add", start, op.constant([1]))
            # One past -1 is the end, not 0.
            is_end = op.emit("Equal", following, op.constant([0]))
            following = op.emit("Where", is_end, op.constant([SLICE_END]), following)
            stop = op.emit("Where", op.constant(squeeze, "bool"), following, stop)
        masked = to_last & ~squeeze
        if masked.any():
            stop = op.emit("Where", op.constant(masked, "bool"), op.constant(last), stop)
        sliced = op.emit(
            "Slice", op.tensor("x"), start, stop, op.constant(axes), op.constant(steps)
        )
    else:
        starts = np.where(from_first, first, begin.ravel())
        stops = np.where(to_last, last, last if end is None else end.ravel())
        stops = np.where(squeeze, np.where(starts == -1, SLICE_END, starts + 1), stops)
        sizes = op.type().shape
        whole = [
            stop in (SLICE_END, size) for stop, size in zip(stops.tolist(), sizes, strict=True)
        ]
        cut = np.flatnonzero(~((starts == 0) & (steps == 1) & whole))
        sliced = op.tensor("x")
        if cut.size:
            bounds = (starts[cut], stops[cut], cut, steps[cut])
            sliced = op.emit("Slice", sliced, *map(op.constant, bounds))
    squeezed = np.flatnonzero(squeeze)
    return op.emit("Squeeze", sliced, op.constant(squeezed)) if squeezed.size else sliced


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
    zero, whole = op.constant([0]), op.emit("Shape", op.tensor("x"))
    # Counted from the end, a start and its stop may stand on both sides of 0.
    counted = op.emit("Add", starts, whole)
    starts = op.emit("Where", op.emit("Less", starts, zero), counted, starts)
    summed = op.emit("Add", starts, sizes)
    stopped = op.emit("Where", op.emit("Less", sizes, zero), whole, summed)
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
