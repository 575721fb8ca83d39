"""Changes of shape and order."""

from __future__ import annotations

import numpy as np

from fluidaudio_cli.coreml.graph import SLICE_END, SLICE_START, Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction


def _shape(op: Lowering) -> str:
    known = op.type().static_shape
    return op.emit("Shape", op.tensor("x")) if known is None else op.constant(list(known))


def _reshape(op: Lowering) -> str:
    shape, sizes = op.optional_array("shape"), op.type().shape
    if shape is None or 0 not in shape or shape.size == len(sizes):
        return op.emit("Reshape", op.tensor("x"), op.tensor("shape"))
    # A 0 keeps a size, counted from the last (iOS 17); ONNX counts from the first.
    counted = [1] * (shape.size - len(sizes)) + list(sizes[-shape.size :])
    wanted = [int(new) or old for new, old in zip(shape, counted, strict=True)]
    known = [size for size in wanted if isinstance(size, int)]
    if len(known) < len(wanted):
        raise op.error("keeps an unknown size at another place, which is not supported")
    return op.reshape(op.tensor("x"), known)


def _reshape_like(op: Lowering) -> str:
    parts = []
    references = op.tensors("ref_tensors")
    inputs = op.operation.inputs
    for index, reference in enumerate(references):
        begin, end, masked = (inputs[key][index].data for key in ("begins", "ends", "end_masks"))
        if begin is None or end is None or masked is None:
            raise op.error("computes its ranges at run time, which is not supported")
        stop = {} if bool(masked) else {"end": int(end)}
        parts.append(op.emit("Shape", reference, start=int(begin), **stop))
    shape = parts[0] if len(parts) == 1 else op.emit("Concat", *parts, axis=0)
    return op.emit("Reshape", op.tensor("x"), shape)


def _squeeze(op: Lowering) -> str:
    shape = op.type().shape
    axes = op.integers("axes", range(len(shape)))
    # MIL leaves axes of another size alone.
    single = [axis % len(shape) for axis in axes if shape[axis] == 1]
    return op.emit("Squeeze", op.tensor("x"), op.constant(single)) if single else op.tensor("x")


def _concat(op: Lowering) -> str:
    values = op.operation.inputs.get("values", ())
    tensors = op.tensors("values")
    if not values:
        raise op.error("has no values")
    rank = values[0].type.rank
    if rank == 0:
        tensors = [op.emit("Unsqueeze", tensor, op.constant([0])) for tensor in tensors]
        return op.emit("Concat", *tensors, axis=0)
    axis = op.integer("axis") % rank
    if not op.flag("interleave"):
        return op.emit("Concat", *tensors, axis=axis) if len(tensors) > 1 else tensors[0]
    after = values[0].type.shape[axis + 1 :]
    if any(not isinstance(size, int) for size in after):
        raise op.error("interleaves tensors of unknown size, which is not supported")
    apart = [op.emit("Unsqueeze", tensor, op.constant([axis + 1])) for tensor in tensors]
    merged = op.emit("Concat", *apart, axis=axis + 1)
    return op.reshape(merged, [*[0] * axis, -1, *(int(size or 0) for size in after)])


def _split(op: Lowering) -> list[str]:
    x, axis, count = op.tensor("x"), op.axis(), len(op.operation.outputs)
    if op.has("split_sizes"):
        sizes = op.constant(op.integers("split_sizes"))
        return op.emit_many("Split", x, sizes, outputs=count, axis=axis)
    return op.emit_many("Split", x, outputs=count, axis=axis, num_outputs=count)


def _stack(op: Lowering) -> str:
    rank = op.operation.inputs["values"][0].type.rank
    axis = op.integer("axis") % (rank + 1)
    apart = [op.emit("Unsqueeze", one, op.constant([axis])) for one in op.tensors("values")]
    return op.emit("Concat", *apart, axis=axis) if len(apart) > 1 else apart[0]


def _reverse(op: Lowering) -> str:
    rank = op.type().rank
    axes = op.integers("axes", range(rank))
    count = len(axes)
    bounds = ([SLICE_END] * count, [SLICE_START] * count, axes, [-1] * count)
    return op.emit("Slice", op.tensor("x"), *map(op.constant, bounds))


def _reverse_sequence(op: Lowering) -> str:
    # ONNX takes batch and time on the first two axes only.
    batch, time = op.axis("batch_axis", 0), op.axis("seq_axis", 0)
    front = [batch, time, *(axis for axis in range(op.type().rank) if axis not in (batch, time))]
    moved = op.transpose(op.tensor("x"), front)
    result = op.emit("ReverseSequence", moved, op.tensor("lengths"), batch_axis=0, time_axis=1)
    return op.transpose(result, np.argsort(front).tolist())


def _sliding_windows(op: Lowering) -> str:
    axis, size, stride = op.axis(), op.integer("size"), op.integer("stride", 1)
    length = op.type().shape[axis]
    if not isinstance(length, int):
        raise op.error("slides over an axis of unknown size, which is not supported")
    starts = np.arange((length - size) // stride + 1) * stride
    windows = op.constant(starts[:, None] + np.arange(size))
    return op.emit("Gather", op.tensor("x"), windows, axis=axis)


def _pixel_unshuffle(op: Lowering) -> str:
    factor = op.integer("downscale_factor")
    known = [size for size in op.type().shape[1:] if isinstance(size, int)]
    if len(known) != 3:
        raise op.error("rearranges an image of unknown size, which is not supported")
    channels, height, width = known[0], known[1] // factor, known[2] // factor
    apart = op.reshape(op.tensor("x"), [0, channels, height, factor, width, factor])
    moved = op.transpose(apart, [0, 1, 3, 5, 2, 4])
    return op.reshape(moved, [0, channels * factor * factor, height, width])


TABLE: dict[str, LoweringFunction] = {
    "concat": _concat,
    "depth_to_space": lambda op: op.emit(
        "DepthToSpace", op.tensor("x"), blocksize=op.integer("block_size"), mode="DCR"
    ),
    "expand_dims": lambda op: op.emit(
        "Unsqueeze", op.tensor("x"), op.constant(op.integers("axes"))
    ),
    "flatten2d": lambda op: op.emit("Flatten", op.tensor("x"), axis=op.integer("axis", 1)),
    "identity": lambda op: op.tensor("x"),
    "pixel_shuffle": lambda op: op.emit(
        "DepthToSpace", op.tensor("x"), blocksize=op.integer("upscale_factor"), mode="CRD"
    ),
    "pixel_unshuffle": _pixel_unshuffle,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "reverse": _reverse,
    "reverse_sequence": _reverse_sequence,
    "shape": _shape,
    "sliding_windows": _sliding_windows,
    "space_to_depth": lambda op: op.emit(
        "SpaceToDepth", op.tensor("x"), blocksize=op.integer("block_size")
    ),
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": lambda op: op.emit("Tile", op.tensor("x"), op.tensor("reps")),
    "transpose": lambda op: op.transpose(
        op.tensor("x"), [axis % op.type().rank for axis in op.integers("perm")]
    ),
}
