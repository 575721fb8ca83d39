"""Shape, order, slicing, gathering, scattering, padding and made-up tensors."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from coremltools.converters.mil import Builder as mb  # noqa: N813

from cases.case import BuiltCase, random


def _int(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.int32)


SLICE = BuiltCase(
    "slice",
    {"x": random(4, 5, 6, seed=21)},
    [
        (
            lambda x: mb.slice_by_index(x=x, begin=[1, 0, 2], end=[3, 5, 6], stride=[1, 2, 3]),
            lambda x: x[1:3, 0:5:2, 2:6:3],
        ),
        (
            lambda x: mb.slice_by_index(
                x=x, begin=[-3, 0, 0], end=[-1, 0, 0], end_mask=[False, True, True]
            ),
            lambda x: x[-3:-1],
        ),
        (  # backwards, from the end and to the start
            lambda x: mb.slice_by_index(
                x=x,
                begin=[0, 4, 0],
                end=[4, 0, 0],
                stride=[1, -2, -1],
                begin_mask=[False, False, True],
                end_mask=[False, False, True],
            ),
            lambda x: x[:, [4, 2]].flip(2),
        ),
        (
            lambda x: mb.slice_by_index(
                x=x,
                begin=[-1, 0, 2],
                end=[0, 5, 0],
                end_mask=[False, True, False],
                squeeze_mask=[True, False, True],
            ),
            lambda x: x[-1, :, 2],
        ),
        (
            lambda x: mb.slice_by_size(x=x, begin=[1, 0, 3], size=[2, -1, 2]),
            lambda x: x[1:3, :, 3:5],
        ),
        (
            lambda x: mb.slice_by_size(x=x, begin=[-2, 0, 0], size=[2, 5, 6]),
            lambda x: x[-2:],
        ),
        (lambda x: mb.reverse(x=x, axes=[0, 2]), lambda x: x.flip(0, 2)),
        (lambda x: mb.sliding_windows(x=x, axis=1, size=3, stride=2), lambda x: _windows(x)),
    ],
)


def _windows(x: torch.Tensor) -> torch.Tensor:
    return x.unfold(1, 3, 2).permute(0, 1, 3, 2)


RUNTIME_SLICE = BuiltCase(
    "slice_at_run_time",
    {
        "x": random(4, 5, 6, seed=22),
        "begin": np.array([1, 2, -1], np.int32),
        "end": np.array([3, 5, 0], np.int32),
        "size": np.array([2, -1, 1], np.int32),
    },
    [
        (
            lambda x, begin, end, size: mb.slice_by_index(
                x=x,
                begin=begin,
                end=end,
                begin_mask=[False, True, False],
                squeeze_mask=[False, False, True],
            ),
            lambda x, begin, end, size: x[1:3, :5, -1],
        ),
        (
            lambda x, begin, end, size: mb.slice_by_size(x=x, begin=[1, 2, 3], size=size),
            lambda x, begin, end, size: x[1:3, 2:, 3:4],
        ),
    ],
)

SHAPE = BuiltCase(
    "shape",
    {"x": random(2, 3, 4, seed=23), "y": random(2, 3, 4, seed=24), "one": random(1, 3, 1, 2)},
    [
        (lambda x, y, one: mb.reshape(x=x, shape=[6, -1]), lambda x, y, one: x.reshape(6, 4)),
        (
            lambda x, y, one: mb.reshape(x=x, shape=[0, 2, -1]),
            lambda x, y, one: x.reshape(2, 2, 6),
        ),
        (
            lambda x, y, one: mb.transpose(x=x, perm=[-1, 0, 1]),
            lambda x, y, one: x.permute(2, 0, 1),
        ),
        (
            lambda x, y, one: mb.expand_dims(x=x, axes=[0, -1]),
            lambda x, y, one: x[None, ..., None],
        ),
        (lambda x, y, one: mb.squeeze(x=one, axes=[0, -2]), lambda x, y, one: one[0, :, 0]),
        (lambda x, y, one: mb.squeeze(x=one), lambda x, y, one: one.squeeze()),
        (
            lambda x, y, one: mb.concat(values=[x, y], axis=-2),
            lambda x, y, one: torch.cat([x, y], -2),
        ),
        (
            lambda x, y, one: mb.concat(values=[x, y], axis=1, interleave=True),
            lambda x, y, one: torch.stack([x, y], 2).reshape(2, 6, 4),
        ),
        (
            lambda x, y, one: mb.split(x=x, num_splits=2, axis=2),
            lambda x, y, one: torch.split(x, 2, 2),
        ),
        (
            lambda x, y, one: mb.split(x=x, split_sizes=[1, 3], axis=-1),
            lambda x, y, one: torch.split(x, [1, 3], -1),
        ),
        (
            lambda x, y, one: mb.stack(values=[x, y], axis=-1),
            lambda x, y, one: torch.stack([x, y], -1),
        ),
        (lambda x, y, one: mb.tile(x=x, reps=[2, 1, 3]), lambda x, y, one: x.repeat(2, 1, 3)),
        (lambda x, y, one: mb.flatten2d(x=x, axis=2), lambda x, y, one: x.reshape(6, 4)),
        (lambda x, y, one: mb.identity(x=x), lambda x, y, one: x),
        (
            lambda x, y, one: mb.reverse_sequence(x=x, lengths=[1, 3], seq_axis=1, batch_axis=0),
            lambda x, y, one: torch.stack([x[0], x[1].flip(0)]),
        ),
    ],
)

_IMAGE = {"x": random(2, 8, 4, 6, seed=25)}
REARRANGE = BuiltCase(
    "rearrange",
    _IMAGE,
    [
        (lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2)),
        (
            lambda x: mb.depth_to_space(x=x, block_size=2),
            lambda x: x.reshape(2, 2, 2, 2, 4, 6).permute(0, 3, 4, 1, 5, 2).reshape(2, 2, 8, 12),
        ),
        (
            lambda x: mb.space_to_depth(x=x, block_size=2),
            lambda x: x.reshape(2, 8, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 32, 2, 3),
        ),
    ],
)

REARRANGE_IOS16 = BuiltCase(
    "rearrange_ios16",
    {**_IMAGE, "y": random(4, 12, seed=26)},
    [
        (
            lambda x, y: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
            lambda x, y: F.pixel_unshuffle(x, 2),
        ),
        (
            lambda x, y: mb.reshape_like(
                x=y, ref_tensors=(x, x), begins=(1, 3), ends=(2, 0), end_masks=(False, True)
            ),
            lambda x, y: y.reshape(8, 6),
        ),
        (
            lambda x, y: mb.fill_like(ref_tensor=x, value=1.5),
            lambda x, y: torch.full_like(x, 1.5),
        ),
    ],
    opset="iOS16",
)

GATHER = BuiltCase(
    "gather",
    {
        "x": random(3, 4, 5, seed=27),
        "indices": np.array([2, 0, -1, 1], np.int32),
        "along": np.array([[[1, 3, 0, 2, 1]], [[0, 0, 3, 3, 1]], [[2, 1, 1, 0, 0]]], np.int32),
        "points": np.array([[0, 1], [2, 3]], np.int32),
    },
    [
        (
            lambda x, indices, along, points: mb.gather(x=x, indices=indices, axis=1),
            lambda x, indices, along, points: x[:, indices.long()],
        ),
        (
            lambda x, indices, along, points: mb.gather_along_axis(x=x, indices=along, axis=1),
            lambda x, indices, along, points: torch.gather(x, 1, along.long()),
        ),
        (
            lambda x, indices, along, points: mb.gather_nd(x=x, indices=points),
            lambda x, indices, along, points: x[[0, 2], [1, 3]],
        ),
    ],
)

GATHER_BATCH = BuiltCase(
    "gather_batch_ios16",
    {"x": random(2, 4, 3, seed=28), "indices": np.array([[3, 0], [1, 2]], np.int32)},
    [
        (
            lambda x, indices: mb.gather(x=x, indices=indices, axis=1, batch_dims=1),
            lambda x, indices: torch.stack([x[0, [3, 0]], x[1, [1, 2]]]),
        ),
        (
            lambda x, indices: mb.gather_nd(
                x=x, indices=mb.reshape(x=indices, shape=[2, 2, 1]), batch_dims=1
            ),
            lambda x, indices: torch.stack([x[0, [3, 0]], x[1, [1, 2]]]),
        ),
    ],
    opset="iOS16",
)

_SCATTER = {
    "x": random(3, 4, seed=29, low=1, high=3),
    "updates": random(3, 2, seed=30, low=1, high=2),
    "indices": np.array([3, 1], np.int32),
    "along": np.array([[3, 0], [1, 2], [0, 3]], np.int32),
    "points": np.array([[0], [2]], np.int32),
}


def _scattered(x: torch.Tensor, updates: torch.Tensor, mode: str) -> torch.Tensor:
    out = x.clone()
    for column, update in zip([3, 1], updates.T, strict=True):
        out[:, column] = {
            "update": update,
            "add": out[:, column] + update,
            "sub": out[:, column] - update,
            "mul": out[:, column] * update,
            "div": out[:, column] / update,
            "max": torch.maximum(out[:, column], update),
            "min": torch.minimum(out[:, column], update),
        }[mode]
    return out


SCATTER = BuiltCase(
    "scatter",
    _SCATTER,
    [
        *(
            (
                lambda x, updates, indices, along, points, mode=mode: mb.scatter(
                    data=x, indices=indices, updates=updates, axis=1, mode=mode
                ),
                lambda x, updates, indices, along, points, mode=mode: _scattered(x, updates, mode),
            )
            for mode in ("update", "add", "sub", "mul", "div", "max", "min")
        ),
        (
            lambda x, updates, indices, along, points: mb.scatter_along_axis(
                data=x, indices=along, updates=updates, axis=1, mode="add"
            ),
            lambda x, updates, indices, along, points: torch.scatter_add(
                x, 1, along.long(), updates
            ),
        ),
        (
            lambda x, updates, indices, along, points: mb.scatter_nd(
                data=x,
                indices=points,
                updates=mb.slice_by_index(x=x, begin=[1, 0], end=[3, 4]),
                mode="update",
            ),
            lambda x, updates, indices, along, points: torch.stack([x[1], x[1], x[2]]),
        ),
    ],
)

PAD = BuiltCase(
    "pad",
    {"x": random(2, 3, 4, 5, seed=31), "amounts": np.array([0, 0, 1, 0, 2, 1, 0, 3], np.int32)},
    [
        (
            lambda x, amounts: mb.pad(x=x, pad=[1, 2, 0, 3], mode="constant", constant_val=0.5),
            lambda x, amounts: F.pad(x, (0, 3, 1, 2), value=0.5),
        ),
        (
            lambda x, amounts: mb.pad(x=x, pad=[2, 1, 1, 3], mode="reflect"),
            lambda x, amounts: F.pad(x, (1, 3, 2, 1), mode="reflect"),
        ),
        (
            lambda x, amounts: mb.pad(x=x, pad=[2, 1, 0, 4], mode="replicate"),
            lambda x, amounts: F.pad(x, (0, 4, 2, 1), mode="replicate"),
        ),
        (
            lambda x, amounts: mb.pad(x=x, pad=amounts, mode="constant"),
            lambda x, amounts: F.pad(x, (0, 3, 2, 1, 1, 0)),
        ),
    ],
)

MADE = BuiltCase(
    "made",
    {
        "x": random(3, 4, seed=32),
        "sizes": np.array([2, 3], np.int32),
        "n": np.array([7], np.int32),
    },
    [
        (
            lambda x, sizes, n: mb.fill(shape=sizes, value=2.5),
            lambda x, sizes, n: torch.full((2, 3), 2.5),
        ),
        (
            lambda x, sizes, n: mb.fill(shape=sizes, value=3),
            lambda x, sizes, n: torch.full((2, 3), 3, dtype=torch.int32),
        ),
        (
            lambda x, sizes, n: mb.range_1d(start=1, end=mb.squeeze(x=n, axes=[0]), step=2),
            lambda x, sizes, n: torch.arange(1, 7, 2, dtype=torch.int32),
        ),
        (
            lambda x, sizes, n: mb.one_hot(
                indices=sizes, one_hot_vector_size=5, axis=0, on_value=4.0, off_value=-1.0
            ),
            lambda x, sizes, n: F.one_hot(sizes.long(), 5).T * 5.0 - 1.0,
        ),
        (
            lambda x, sizes, n: mb.topk(x=x, k=2, axis=0, ascending=False),
            lambda x, sizes, n: (
                torch.topk(x, 2, 0).values,
                _int(torch.topk(x, 2, 0).indices),
            ),
        ),
        (
            lambda x, sizes, n: mb.topk(x=x, k=3, axis=-1, ascending=True),
            lambda x, sizes, n: (
                torch.topk(x, 3, -1, largest=False).values,
                _int(torch.topk(x, 3, -1, largest=False).indices),
            ),
        ),
        (
            lambda x, sizes, n: mb.argsort(x=x, axis=1, ascending=True),
            lambda x, sizes, n: _int(torch.argsort(x, 1)),
        ),
        (
            lambda x, sizes, n: mb.cumsum(x=x, axis=1, reverse=False, exclusive=False),
            lambda x, sizes, n: torch.cumsum(x, 1),
        ),
        (
            lambda x, sizes, n: mb.cumsum(x=x, axis=0, reverse=True, exclusive=True),
            lambda x, sizes, n: torch.cumsum(x.flip(0), 0).flip(0) - x,
        ),
        (lambda x, sizes, n: mb.band_part(x=x, lower=1, upper=0), lambda x, sizes, n: _band(x)),
        (
            lambda x, sizes, n: mb.band_part(x=x, lower=-1, upper=1),
            lambda x, sizes, n: torch.tril(x, 1),
        ),
        (
            lambda x, sizes, n: mb.non_zero(x=mb.relu(x=x)),
            lambda x, sizes, n: _int(torch.nonzero(F.relu(x))),
        ),
    ],
)


def _band(x: torch.Tensor) -> torch.Tensor:
    return torch.triu(torch.tril(x, 0), -1)


CASES = [
    SLICE,
    RUNTIME_SLICE,
    SHAPE,
    REARRANGE,
    REARRANGE_IOS16,
    GATHER,
    GATHER_BATCH,
    SCATTER,
    PAD,
    MADE,
]
