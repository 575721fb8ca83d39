"""Convolution, pooling, normalization, matrix products, recurrent layers, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from coremltools.converters.mil import Builder as mb  # noqa: N813

from cases.case import Array, BuiltCase, random


def _t(array: Array) -> torch.Tensor:
    return torch.from_numpy(array)


_KERNEL = random(6, 2, 3, 2, seed=40)
_BIAS = random(6, seed=41)
_LINE = random(4, 3, 5, seed=42)
_CUBE = random(2, 3, 2, 2, 2, seed=43)


def _same(x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], lower: bool) -> Any:
    """``x`` padded with zeros so that outputs number ``ceil(size / stride)``."""
    pads: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(0, (-(-size // step) - 1) * step + width - size)
        less, more = total // 2, total - total // 2
        pads = [more, less, *pads] if lower else [less, more, *pads]
    return F.pad(x, pads)


CONV = BuiltCase(
    "conv",
    {
        "x": random(2, 4, 9, 8, seed=44),
        "line": random(2, 3, 20, seed=45),
        "cube": random(1, 3, 4, 4, 4, seed=46),
    },
    [
        (
            lambda x, line, cube: mb.conv(
                x=x, weight=_KERNEL, bias=_BIAS, strides=[2, 1], pad_type="valid", groups=2
            ),
            lambda x, line, cube: F.conv2d(x, _t(_KERNEL), _t(_BIAS), (2, 1), groups=2),
        ),
        (
            lambda x, line, cube: mb.conv(
                x=x, weight=_KERNEL, strides=[2, 3], pad_type="same", groups=2
            ),
            lambda x, line, cube: F.conv2d(
                _same(x, (3, 2), (2, 3), False), _t(_KERNEL), stride=(2, 3), groups=2
            ),
        ),
        (
            lambda x, line, cube: mb.conv(
                x=x,
                weight=_KERNEL,
                pad_type="custom",
                pad=[1, 2, 0, 3],
                dilations=[2, 1],
                groups=2,
            ),
            lambda x, line, cube: F.conv2d(
                F.pad(x, (0, 3, 1, 2)), _t(_KERNEL), dilation=(2, 1), groups=2
            ),
        ),
        (
            lambda x, line, cube: mb.conv(
                x=line, weight=_LINE, strides=[2], pad_type="custom", pad=[2, 2]
            ),
            lambda x, line, cube: F.conv1d(line, _t(_LINE), stride=2, padding=2),
        ),
        (
            lambda x, line, cube: mb.conv(x=cube, weight=_CUBE, pad_type="valid"),
            lambda x, line, cube: F.conv3d(cube, _t(_CUBE)),
        ),
        (  # a kernel computed at run time
            lambda x, line, cube: mb.conv(
                x=line, weight=mb.slice_by_index(x=line, begin=[0, 0, 0], end=[2, 3, 4])
            ),
            lambda x, line, cube: F.conv1d(line, line[:, :, :4]),
        ),
    ],
    tolerance=3e-5,
)

CONV_IOS16 = BuiltCase(
    "conv_same_lower_ios16",
    {"x": random(2, 4, 9, 8, seed=47)},
    [
        (
            lambda x: mb.conv(x=x, weight=_KERNEL, strides=[2, 1], pad_type="same_lower", groups=2),
            lambda x: F.conv2d(
                _same(x, (3, 2), (2, 1), True), _t(_KERNEL), stride=(2, 1), groups=2
            ),
        ),
        (
            lambda x: mb.max_pool(x=x, kernel_sizes=[2, 4], strides=[1, 3], pad_type="same_lower"),
            lambda x: _max_same(x, (2, 4), (1, 3), True),
        ),
    ],
    opset="iOS16",
    tolerance=3e-5,
)


def _max_same(x: torch.Tensor, kernel: Any, stride: Any, lower: bool) -> torch.Tensor:
    return F.max_pool2d(_same(x + 100, kernel, stride, lower), kernel, stride) - 100


_UP = random(4, 3, 3, 2, seed=48)
_UP_GROUPED = random(4, 3, 3, seed=49)
CONV_TRANSPOSE = BuiltCase(
    "conv_transpose",
    {"x": random(2, 4, 5, 6, seed=50), "line": random(2, 4, 7, seed=51)},
    [
        (
            lambda x, line: mb.conv_transpose(x=x, weight=_UP, strides=[2, 3], pad_type="valid"),
            lambda x, line: F.conv_transpose2d(x, _t(_UP), stride=(2, 3)),
        ),
        (
            lambda x, line: mb.conv_transpose(
                x=x,
                weight=_UP,
                bias=_BIAS[:3],
                strides=[2, 1],
                pad_type="custom",
                pad=[1, 1, 0, 0],
                dilations=[1, 2],
            ),
            lambda x, line: F.conv_transpose2d(
                x, _t(_UP), _t(_BIAS[:3]), (2, 1), (1, 0), dilation=(1, 2)
            ),
        ),
        (
            lambda x, line: mb.conv_transpose(
                x=line,
                weight=_UP_GROUPED,
                strides=[3],
                groups=2,
                pad_type="custom",
                pad=[1, 1],
                output_shape=[2, 6, 21],
            ),
            lambda x, line: F.conv_transpose1d(
                line, _t(_UP_GROUPED), stride=3, padding=1, output_padding=2, groups=2
            ),
        ),
        (
            lambda x, line: mb.conv_transpose(
                x=line, weight=_UP_GROUPED, strides=[2], groups=2, pad_type="same"
            ),
            lambda x, line: F.conv_transpose1d(line, _t(_UP_GROUPED), stride=2, groups=2)[
                :, :, :14
            ],
        ),
    ],
    tolerance=3e-5,
)
# As coremltools writes what PyTorch calls output_padding: padded, convolved, cropped.
CONV_TRANSPOSE_PADDED = BuiltCase(
    "conv_transpose_padded",
    {"x": random(2, 4, 5, 6, seed=52), "line": random(2, 4, 7, seed=53)},
    [
        (
            lambda x, line: mb.crop(
                x=mb.conv_transpose(
                    x=mb.pad(x=x, pad=[0, 0, 0, 0, 0, 1, 0, 1]),
                    weight=_UP,
                    strides=[2, 2],
                    pad_type="custom",
                    pad=[0, 1, 0, 0],
                ),
                crop_height=[1, 0],
                crop_width=[2, 1],
            ),
            lambda x, line: F.conv_transpose2d(x, _t(_UP), stride=2, output_padding=1)[..., 1:, 2:],
        ),
        (
            lambda x, line: mb.conv_transpose(
                x=mb.pad(x=line, pad=[0, 0, 0, 0, 1, 0]),
                weight=_UP_GROUPED,
                strides=[2],
                groups=2,
                pad_type="custom",
                pad=[3, 1],
            ),
            lambda x, line: F.conv_transpose1d(
                line, _t(_UP_GROUPED), stride=2, padding=1, groups=2
            ),
        ),
    ],
    tolerance=3e-5,
)


def _ceil(kind: str, **extra: Any) -> Any:
    def build(x: Any, line: Any) -> Any:
        return getattr(mb, kind)(
            x=x,
            kernel_sizes=[3, 2],
            strides=[2, 2],
            pad_type="custom",
            pad=[1, 1, 1, 1],
            ceil_mode=True,
            **extra,
        )

    return build


POOL = BuiltCase(
    "pool",
    {"x": random(2, 3, 10, 9, seed=52), "line": random(2, 3, 11, seed=53)},
    [
        (
            lambda x, line: mb.max_pool(x=line, kernel_sizes=[3], strides=[2], pad_type="valid"),
            lambda x, line: F.max_pool1d(line, 3, 2),
        ),
        (
            lambda x, line: mb.max_pool(
                x=line, kernel_sizes=[4], strides=[3], pad_type="valid", ceil_mode=True
            ),
            lambda x, line: F.max_pool1d(line, 4, 3, ceil_mode=True),
        ),
        (_ceil("max_pool"), lambda x, line: F.max_pool2d(x, (3, 2), 2, 1, ceil_mode=True)),
        (
            lambda x, line: mb.max_pool(x=x, kernel_sizes=[3, 4], strides=[2, 3], pad_type="same"),
            lambda x, line: _max_same(x, (3, 4), (2, 3), False),
        ),
        (
            lambda x, line: mb.avg_pool(
                x=x, kernel_sizes=[3, 2], strides=[2, 1], pad_type="custom", pad=[1, 1, 1, 1]
            ),
            lambda x, line: F.avg_pool2d(x, (3, 2), (2, 1), 1),
        ),
        (
            lambda x, line: mb.avg_pool(
                x=x,
                kernel_sizes=[3, 2],
                strides=[2, 1],
                pad_type="custom",
                pad=[1, 1, 1, 1],
                exclude_padding_from_average=True,
            ),
            lambda x, line: F.avg_pool2d(x, (3, 2), (2, 1), 1, count_include_pad=False),
        ),
        (_ceil("avg_pool"), lambda x, line: F.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True)),
        (
            _ceil("avg_pool", exclude_padding_from_average=True),
            lambda x, line: F.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True, count_include_pad=False),
        ),
        (
            lambda x, line: mb.avg_pool(
                x=line, kernel_sizes=[4], strides=[3], pad_type="valid", ceil_mode=True
            ),
            lambda x, line: F.avg_pool1d(line, 4, 3, ceil_mode=True),
        ),
        (
            lambda x, line: mb.l2_pool(x=x, kernel_sizes=[2, 3], strides=[2, 2], pad_type="valid"),
            lambda x, line: F.lp_pool2d(x, 2, (2, 3), 2),
        ),
    ],
)

_MEAN, _VARIANCE = random(3, seed=54), random(3, seed=55, low=0.5, high=2)
_GAMMA, _BETA = random(3, seed=56), random(3, seed=57)
_GAMMA2 = random(4, 5, seed=58)
NORM = BuiltCase(
    "normalization",
    {"x": random(2, 3, 4, 5, seed=59), "line": random(2, 3, 11, seed=60)},
    [
        (
            lambda x, line: mb.batch_norm(
                x=x, mean=_MEAN, variance=_VARIANCE, gamma=_GAMMA, beta=_BETA, epsilon=1e-3
            ),
            lambda x, line: F.batch_norm(
                x, _t(_MEAN), _t(_VARIANCE), _t(_GAMMA), _t(_BETA), eps=1e-3
            ),
        ),
        (
            lambda x, line: mb.batch_norm(x=line, mean=_MEAN, variance=_VARIANCE),
            lambda x, line: F.batch_norm(line, _t(_MEAN), _t(_VARIANCE)),
        ),
        (
            lambda x, line: mb.instance_norm(x=line, gamma=_GAMMA, beta=_BETA, epsilon=1e-4),
            lambda x, line: F.instance_norm(line, weight=_t(_GAMMA), bias=_t(_BETA), eps=1e-4),
        ),
        (lambda x, line: mb.instance_norm(x=x), lambda x, line: F.instance_norm(x)),
        (
            lambda x, line: mb.layer_norm(x=x, axes=[2, 3], gamma=_GAMMA2, epsilon=1e-4),
            lambda x, line: F.layer_norm(x, (4, 5), _t(_GAMMA2), eps=1e-4),
        ),
        (
            lambda x, line: mb.layer_norm(x=x, axes=[-1]),
            lambda x, line: F.layer_norm(x, (5,)),
        ),
        (  # not the last axes
            lambda x, line: mb.layer_norm(x=x, axes=[1], gamma=_GAMMA, beta=_BETA),
            lambda x, line: F.layer_norm(x.movedim(1, -1), (3,), _t(_GAMMA), _t(_BETA)).movedim(
                -1, 1
            ),
        ),
        (
            lambda x, line: mb.l2_norm(x=x, epsilon=1e-3),
            lambda x, line: x / torch.sqrt((x * x).sum((1, 2, 3), True) + 1e-3),
        ),
        (
            lambda x, line: mb.local_response_norm(x=x, size=3, alpha=0.2, beta=0.6, k=1.5),
            lambda x, line: F.local_response_norm(x, 3, 0.2, 0.6, 1.5),
        ),
    ],
    tolerance=2e-5,
)

_WEIGHT, _OFFSET = random(5, 4, seed=61), random(5, seed=62)
_RIGHT = random(6, 4, seed=63)
LINEAR = BuiltCase(
    "linear",
    {
        "x": random(2, 3, 4, seed=64),
        "y": random(2, 6, 4, seed=65),
        "flat": random(3, 4, seed=66),
        "a": random(2, 3, 1, 4, seed=67),
        "b": random(2, 4, 5, 6, seed=68),
    },
    [
        (
            lambda x, y, flat, a, b: mb.linear(x=x, weight=_WEIGHT, bias=_OFFSET),
            lambda x, y, flat, a, b: F.linear(x, _t(_WEIGHT), _t(_OFFSET)),
        ),
        (
            lambda x, y, flat, a, b: mb.linear(x=flat, weight=_WEIGHT),
            lambda x, y, flat, a, b: F.linear(flat, _t(_WEIGHT)),
        ),
        (
            lambda x, y, flat, a, b: mb.matmul(x=x, y=y, transpose_y=True),
            lambda x, y, flat, a, b: x @ y.mT,
        ),
        (
            lambda x, y, flat, a, b: mb.matmul(x=x, y=x, transpose_x=True),
            lambda x, y, flat, a, b: x.mT @ x,
        ),
        (
            lambda x, y, flat, a, b: mb.matmul(x=x, y=_RIGHT, transpose_y=True),
            lambda x, y, flat, a, b: x @ _t(_RIGHT).T,
        ),
        (
            lambda x, y, flat, a, b: mb.einsum(values=(a, b), equation="nchw,nwhu->nchu"),
            lambda x, y, flat, a, b: torch.einsum("nchw,nwhu->nchu", a.expand(2, 3, 5, 4), b),
        ),
        (
            lambda x, y, flat, a, b: mb.einsum(
                values=(
                    mb.squeeze(x=mb.slice_by_size(x=a, begin=[0] * 4, size=[1, 3, 1, 4]), axes=[0]),
                    mb.squeeze(x=mb.slice_by_size(x=b, begin=[0] * 4, size=[1, 4, 1, 6]), axes=[0]),
                ),
                equation="chw,whr->chr",
            ),
            lambda x, y, flat, a, b: torch.einsum("chw,whr->chr", a[0], b[0, :, :1]),
        ),
    ],
    tolerance=2e-5,
)

_BOOL_MASK = np.tril(np.ones((5, 7), bool), 2)
ATTENTION = BuiltCase(
    "attention_ios18",
    {
        "q": random(2, 3, 5, 8, seed=69),
        "k": random(2, 3, 7, 8, seed=70),
        "v": random(2, 3, 7, 4, seed=71),
        "mask": random(5, 7, seed=72),
    },
    [
        (
            lambda q, k, v, mask: mb.scaled_dot_product_attention(query=q, key=k, value=v),
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v),
        ),
        (
            lambda q, k, v, mask: mb.scaled_dot_product_attention(
                query=q, key=k, value=v, attn_mask=mask
            ),
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask),
        ),
        (
            lambda q, k, v, mask: mb.scaled_dot_product_attention(
                query=q, key=k, value=v, attn_mask=_BOOL_MASK
            ),
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, _t(_BOOL_MASK)),
        ),
    ],
    opset="iOS18",
)

_IN, _HIDDEN = 3, 4


def _gated(gates: int, seed: int) -> tuple[Array, Array, Array]:
    return (
        random(gates * _HIDDEN, _IN, seed=seed),
        random(gates * _HIDDEN, _HIDDEN, seed=seed + 1),
        random(gates * _HIDDEN, seed=seed + 2),
    )


def _blocks(array: Array, order: Sequence[int]) -> Array:
    parts = np.split(array, len(order))
    return np.concatenate([parts[index] for index in order])


# MIL: input, forget, output, cell; PyTorch: input, forget, cell, output.
_TO_TORCH_LSTM = (0, 1, 3, 2)
_FORWARD, _BACKWARD = _gated(4, 80), _gated(4, 90)


def _torch_lstm(reverse: bool, both: bool) -> Any:
    def run(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        layer = torch.nn.LSTM(_IN, _HIDDEN, bidirectional=both)
        for suffix, weights in (("", _FORWARD), ("_reverse", _BACKWARD))[: 1 + both]:
            state = [_t(_blocks(part, _TO_TORCH_LSTM)) for part in weights]
            for name, value in zip(("weight_ih", "weight_hh", "bias_ih"), state, strict=True):
                getattr(layer, f"{name}_l0{suffix}").data = value
            getattr(layer, f"bias_hh_l0{suffix}").data.zero_()
        start = tuple(s.reshape(-1, 1 + both, _HIDDEN).transpose(0, 1).contiguous() for s in (h, c))
        y, ends = layer(x.flip(0) if reverse else x, start)
        merged = [end.transpose(0, 1).reshape(end.shape[1], -1) for end in ends]
        return (y.flip(0) if reverse else y, *merged)

    return run


def _mil_lstm(direction: str, sequence: bool = True) -> Any:
    back = dict(zip(("weight_ih_back", "weight_hh_back", "bias_back"), _BACKWARD, strict=True))

    def build(x: Any, h: Any, c: Any) -> Any:
        return mb.lstm(
            x=x,
            initial_h=h,
            initial_c=c,
            weight_ih=_FORWARD[0],
            weight_hh=_FORWARD[1],
            bias=_FORWARD[2],
            direction=direction,
            output_sequence=sequence,
            **(back if direction == "bidirectional" else {}),
        )

    return build


def _last(outputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return outputs[1][None], outputs[1], outputs[2]


def _first(array: Any, count: int = _HIDDEN) -> Any:
    return mb.slice_by_size(x=array, begin=[0, 0], size=[-1, count])


LSTM = BuiltCase(
    "lstm",
    {
        "x": random(6, 2, _IN, seed=73),
        "h": random(2, 2 * _HIDDEN, seed=74),
        "c": random(2, 2 * _HIDDEN, seed=75),
    },
    [
        (
            lambda x, h, c: _mil_lstm("forward")(x, _first(h), _first(c)),
            lambda x, h, c: _torch_lstm(False, False)(x, h[:, :_HIDDEN], c[:, :_HIDDEN]),
        ),
        (
            lambda x, h, c: _mil_lstm("reverse")(x, _first(h), _first(c)),
            lambda x, h, c: _torch_lstm(True, False)(x, h[:, :_HIDDEN], c[:, :_HIDDEN]),
        ),
        (_mil_lstm("bidirectional"), _torch_lstm(False, True)),
        (
            _mil_lstm("bidirectional", sequence=False),
            lambda x, h, c: _last(_torch_lstm(False, True)(x, h, c)),
        ),
        (  # constant initial state
            lambda x, h, c: _mil_lstm("forward")(
                x, random(2, _HIDDEN, seed=76), np.zeros((2, _HIDDEN), np.float32)
            ),
            lambda x, h, c: _torch_lstm(False, False)(
                x, _t(random(2, _HIDDEN, seed=76)), torch.zeros(2, _HIDDEN)
            ),
        ),
    ],
)

_GRU, _RNN = _gated(3, 100), _gated(1, 110)


def _torch_gru(x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, ...]:
    # By hand: PyTorch's layer has the reset gate behind the recurrent product, Core ML before it.
    weight_ih, weight_hh, bias = (_t(part) for part in _GRU)
    reset_hh, new_hh, update_hh = weight_hh.chunk(3)
    steps = []
    for given in x:
        reset, new, update = (given @ weight_ih.T + bias).chunk(3, dim=-1)
        reset, update = (
            torch.sigmoid(reset + h @ reset_hh.T),
            torch.sigmoid(update + h @ update_hh.T),
        )
        h = (1 - update) * torch.tanh(new + (reset * h) @ new_hh.T) + update * h
        steps.append(h)
    return torch.stack(steps), h


def _torch_rnn(x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, ...]:
    layer = torch.nn.RNN(_IN, _HIDDEN, nonlinearity="relu")
    for name, part in zip(("weight_ih", "weight_hh", "bias_ih"), _RNN, strict=True):
        getattr(layer, f"{name}_l0").data = _t(part)
    layer.bias_hh_l0.data.zero_()
    y, end = layer(x.flip(0), h[None])
    return y.flip(0), end[0]


def _named(weights: tuple[Array, Array, Array]) -> dict[str, Array]:
    return dict(zip(("weight_ih", "weight_hh", "bias"), weights, strict=True))


RECURRENT = BuiltCase(
    "gru_rnn",
    {"x": random(5, 2, _IN, seed=77), "h": random(2, _HIDDEN, seed=78)},
    [
        (
            lambda x, h: mb.gru(x=x, initial_h=h, output_sequence=True, **_named(_GRU)),
            _torch_gru,
        ),
        (
            lambda x, h: mb.rnn(
                x=x,
                initial_h=h,
                output_sequence=True,
                direction="reverse",
                activation="relu",
                **_named(_RNN),
            ),
            _torch_rnn,
        ),
    ],
    tolerance=1e-4,  # outputs of the ReLU network reach 100
)


def _interpolate(mode: str, **options: Any) -> Any:
    return lambda x: F.interpolate(x, mode=mode, **options)


def _asymmetric(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear with corners at ``i * size_in / size_out`` (TensorFlow's old default)."""
    for axis, size in ((2, height), (3, width)):
        at = torch.arange(size) * (x.shape[axis] / size)
        below = at.floor().long()
        above = torch.clamp(below + 1, max=x.shape[axis] - 1)
        part = (at - below).reshape([-1 if one == axis else 1 for one in range(4)])
        x = x.index_select(axis, below) * (1 - part) + x.index_select(axis, above) * part
    return x


_PICTURE = {"x": random(1, 2, 4, 5, seed=79)}
RESIZE = BuiltCase(
    "resize",
    _PICTURE,
    [
        (
            lambda x: mb.upsample_nearest_neighbor(
                x=x, scale_factor_height=2, scale_factor_width=3
            ),
            _interpolate("nearest", scale_factor=(2, 3)),
        ),
        (
            lambda x: mb.upsample_bilinear(
                x=x, scale_factor_height=2, scale_factor_width=3, align_corners=True
            ),
            _interpolate("bilinear", scale_factor=(2, 3), align_corners=True),
        ),
        (
            lambda x: mb.upsample_bilinear(
                x=x, scale_factor_height=2.5, scale_factor_width=1.2, align_corners=False
            ),
            _interpolate("bilinear", size=(10, 6), align_corners=False),
        ),
        (
            lambda x: mb.resize_bilinear(
                x=x, target_size_height=7, target_size_width=3, sampling_mode="ALIGN_CORNERS"
            ),
            _interpolate("bilinear", size=(7, 3), align_corners=True),
        ),
        (
            lambda x: mb.resize_bilinear(
                x=x, target_size_height=8, target_size_width=10, sampling_mode="DEFAULT"
            ),
            lambda x: _asymmetric(x, 8, 10),
        ),
        (
            lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=8, target_size_width=15),
            _interpolate("nearest", size=(8, 15)),
        ),
    ],
)

IOS17 = BuiltCase(
    "resize_quantize_ios17",
    _PICTURE,
    [
        (
            lambda x: mb.resize(
                x=x,
                shape=[9, 0],
                resized_dims=np.uint32(2),
                interpolation_mode="LINEAR",
                sampling_mode="UNALIGN_CORNERS",
            ),
            _interpolate("bilinear", size=(9, 5), align_corners=False),
        ),
        (
            lambda x: mb.dequantize(
                input=mb.quantize(
                    input=x, scale=np.float32(0.05), zero_point=np.int8(3), output_dtype="int8"
                ),
                scale=np.float32(0.05),
                zero_point=np.int8(3),
            ),
            lambda x: (torch.clamp(torch.round(x / 0.05) + 3, -128, 127) - 3) * 0.05,
        ),
    ],
    opset="iOS17",
)

CASES: list[BuiltCase] = [
    CONV,
    CONV_IOS16,
    CONV_TRANSPOSE,
    CONV_TRANSPOSE_PADDED,
    POOL,
    NORM,
    LINEAR,
    ATTENTION,
    LSTM,
    RECURRENT,
    RESIZE,
    IOS17,
]
