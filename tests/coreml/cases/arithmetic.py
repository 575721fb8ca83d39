"""Element-wise operations, activations and reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from coremltools.converters.mil import Builder as mb  # noqa: N813

from cases.case import Array, BuiltCase, Pair, random

Build = Callable[..., Any]


def _float(boolean: torch.Tensor) -> torch.Tensor:
    return boolean.to(torch.float32)


def _truth(build: Build) -> Build:
    return lambda *args: mb.cast(x=build(*args), dtype="fp32")


UNIT = BuiltCase(
    "unary_unit_interval",
    {"x": random(2, 3, 4, low=-0.9, high=0.9)},
    [
        (lambda x: mb.acos(x=x), torch.acos),
        (lambda x: mb.asin(x=x), torch.asin),
        (lambda x: mb.atan(x=x), torch.atan),
        (lambda x: mb.atanh(x=x), torch.atanh),
        (lambda x: mb.tan(x=x), torch.tan),
    ],
)

REAL = BuiltCase(
    "unary_real",
    {"x": np.concatenate([random(40), np.array([0, -0.5, 0.5, 1.5, 2.5, -1.5], np.float32)])},
    [
        (lambda x: mb.abs(x=x), torch.abs),
        (lambda x: mb.ceil(x=x), torch.ceil),
        (lambda x: mb.clip(x=x, alpha=-0.7, beta=1.1), lambda x: torch.clamp(x, -0.7, 1.1)),
        (lambda x: mb.cos(x=x), torch.cos),
        (lambda x: mb.cosh(x=x), torch.cosh),
        (lambda x: mb.erf(x=x), torch.erf),
        (lambda x: mb.exp(x=x), torch.exp),
        (lambda x: mb.exp2(x=x), torch.exp2),
        (lambda x: mb.floor(x=x), torch.floor),
        (lambda x: mb.round(x=x), torch.round),
        (lambda x: mb.sign(x=x), torch.sign),
        (lambda x: mb.sin(x=x), torch.sin),
        (lambda x: mb.sinh(x=x), torch.sinh),
        (lambda x: mb.square(x=x), torch.square),
        (lambda x: mb.tanh(x=x), torch.tanh),
        (lambda x: mb.threshold(x=x, alpha=0.25), lambda x: torch.clamp(x, min=0.25)),
        (lambda x: mb.cast(x=x, dtype="int32"), lambda x: x.to(torch.int32)),
        (
            lambda x: mb.cast(x=mb.cast(x=x, dtype="bool"), dtype="fp32"),
            lambda x: _float(x.to(torch.bool)),
        ),
    ],
)

POSITIVE = BuiltCase(
    "unary_positive",
    {"x": random(3, 5, low=0.05, high=4)},
    [
        (lambda x: mb.inverse(x=x, epsilon=0.01), lambda x: 1 / (x + 0.01)),
        (lambda x: mb.log(x=x, epsilon=0.125), lambda x: torch.log(x + 0.125)),
        (lambda x: mb.log(x=x), torch.log),
        (lambda x: mb.rsqrt(x=x, epsilon=0.02), lambda x: torch.rsqrt(x + 0.02)),
        (lambda x: mb.sqrt(x=x), torch.sqrt),
    ],
)

BINARY = BuiltCase(
    "binary",
    {"x": random(2, 3, 4, seed=1), "y": random(3, 1, seed=2)},
    [
        (lambda x, y: mb.add(x=x, y=y), torch.add),
        (lambda x, y: mb.sub(x=x, y=y), torch.sub),
        (lambda x, y: mb.mul(x=x, y=y), torch.mul),
        (lambda x, y: mb.real_div(x=x, y=y), torch.div),
        (lambda x, y: mb.floor_div(x=x, y=y), lambda x, y: torch.div(x, y, rounding_mode="floor")),
        (lambda x, y: mb.mod(x=x, y=y), torch.remainder),
        (lambda x, y: mb.maximum(x=x, y=y), torch.maximum),
        (lambda x, y: mb.minimum(x=x, y=y), torch.minimum),
        (lambda x, y: mb.pow(x=mb.abs(x=x), y=y), lambda x, y: torch.pow(x.abs(), y)),
    ],
    # (a / b) and floor amplify the last bit of a division near whole numbers; none here is near.
)

_INTEGERS = {
    "x": np.array([[7, -7, 6], [-6, 5, 0]], np.int32),
    "y": np.array([2, 3, -4], np.int32),
}
INTEGER = BuiltCase(
    "binary_integer",
    _INTEGERS,
    [
        (lambda x, y: mb.floor_div(x=x, y=y), torch.floor_divide),
        (lambda x, y: mb.mod(x=x, y=y), torch.remainder),
        (lambda x, y: mb.add(x=x, y=y), torch.add),
        (lambda x, y: mb.cast(x=x, dtype="fp32"), lambda x, y: x.to(torch.float32)),
        (_truth(lambda x, y: mb.equal(x=x, y=y)), lambda x, y: _float(torch.eq(x, y))),
        (_truth(lambda x, y: mb.not_equal(x=x, y=y)), lambda x, y: _float(torch.ne(x, y))),
        (_truth(lambda x, y: mb.greater(x=x, y=y)), lambda x, y: _float(torch.gt(x, y))),
        (_truth(lambda x, y: mb.greater_equal(x=x, y=y)), lambda x, y: _float(torch.ge(x, y))),
        (_truth(lambda x, y: mb.less(x=x, y=y)), lambda x, y: _float(torch.lt(x, y))),
        (_truth(lambda x, y: mb.less_equal(x=x, y=y)), lambda x, y: _float(torch.le(x, y))),
    ],
)


def _logic(kind: str) -> Build:
    def build(x: Any, y: Any) -> Any:
        left, right = mb.cast(x=x, dtype="bool"), mb.cast(x=y, dtype="bool")
        return mb.cast(x=getattr(mb, kind)(x=left, y=right), dtype="fp32")

    return build


_BITS = {"x": np.array([0, 0, 1, 1], np.int32), "y": np.array([0, 1, 0, 1], np.int32)}
LOGICAL = BuiltCase(
    "logical",
    _BITS,
    [
        (_logic("logical_and"), lambda x, y: _float(torch.logical_and(x, y))),
        (_logic("logical_or"), lambda x, y: _float(torch.logical_or(x, y))),
        (_logic("logical_xor"), lambda x, y: _float(torch.logical_xor(x, y))),
        (
            _truth(lambda x, y: mb.logical_not(x=mb.cast(x=x, dtype="bool"))),
            lambda x, y: _float(torch.logical_not(x)),
        ),
        (
            lambda x, y: mb.select(cond=mb.cast(x=x, dtype="bool"), a=y, b=mb.add(x=y, y=5)),
            lambda x, y: torch.where(x.bool(), y, y + 5),
        ),
    ],
)

_ALPHA = random(3, seed=5, low=0.1, high=0.9)
_BETA = random(3, seed=6, low=0.5, high=1.5)


def _channels(vector: Array) -> torch.Tensor:
    return torch.from_numpy(vector).reshape(1, -1, 1, 1)


ACTIVATION = BuiltCase(
    "activation",
    {"x": random(2, 3, 4, 5, seed=7, low=-4, high=8)},
    [
        (
            lambda x: mb.clamped_relu(x=x, alpha=0.2, beta=5.0),
            lambda x: torch.clamp(F.leaky_relu(x, 0.2), max=5.0),
        ),
        (lambda x: mb.elu(x=x, alpha=0.7), lambda x: F.elu(x, 0.7)),
        (lambda x: mb.gelu(x=x, mode="EXACT"), F.gelu),
        (
            lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
            lambda x: F.gelu(x, approximate="tanh"),
        ),
        (
            lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
            lambda x: x * torch.sigmoid(1.702 * x),
        ),
        (lambda x: mb.leaky_relu(x=x, alpha=0.1), lambda x: F.leaky_relu(x, 0.1)),
        (lambda x: mb.linear_activation(x=x, alpha=1.5, beta=-0.5), lambda x: 1.5 * x - 0.5),
        (lambda x: mb.prelu(x=x, alpha=_ALPHA), lambda x: F.prelu(x, torch.from_numpy(_ALPHA))),
        (lambda x: mb.relu(x=x), F.relu),
        (lambda x: mb.relu6(x=x), F.relu6),
        (
            lambda x: mb.scaled_tanh(x=x, alpha=1.3, beta=0.4),
            lambda x: 1.3 * torch.tanh(0.4 * x),
        ),
        (lambda x: mb.sigmoid(x=x), torch.sigmoid),
        (
            lambda x: mb.sigmoid_hard(x=x, alpha=0.15, beta=0.4),
            lambda x: torch.clamp(0.15 * x + 0.4, 0, 1),
        ),
        (lambda x: mb.silu(x=x), F.silu),
        (lambda x: mb.softmax(x=x, axis=1), lambda x: torch.softmax(x, 1)),
        (lambda x: mb.softmax(x=x), lambda x: torch.softmax(x, -1)),
        (lambda x: mb.softplus(x=x), F.softplus),
        (
            lambda x: mb.softplus_parametric(x=x, alpha=_ALPHA, beta=_BETA),
            lambda x: _channels(_ALPHA) * F.softplus(x * _channels(_BETA)),
        ),
        (lambda x: mb.softsign(x=x), F.softsign),
        (
            lambda x: mb.thresholded_relu(x=x, alpha=1.25),
            lambda x: torch.where(x >= 1.25, x, torch.zeros_like(x)),
        ),
    ],
)


def _reduction(kind: str, expected: Build) -> list[Pair]:
    """Over two axes kept, over the last one dropped, and over all."""
    build = getattr(mb, f"reduce_{kind}")
    return [
        (
            lambda x: build(x=x, axes=[1, -1], keep_dims=True),
            lambda x: expected(x, (1, -1), True),
        ),
        (
            lambda x: build(x=x, axes=[-1], keep_dims=False),
            lambda x: expected(x, (-1,), False),
        ),
        (
            lambda x: build(x=x, keep_dims=True),
            lambda x: expected(x, (0, 1, 2), True),
        ),
    ]


def _product(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


REDUCTION = BuiltCase(
    "reduction",
    {"x": random(2, 3, 4, seed=8, low=0.2, high=2)},
    [
        *_reduction("l1_norm", lambda x, a, k: torch.sum(x.abs(), a, k)),
        *_reduction("l2_norm", lambda x, a, k: torch.linalg.vector_norm(x, 2, a, k)),
        *_reduction("log_sum", lambda x, a, k: torch.log(torch.sum(x, a, k))),
        *_reduction("log_sum_exp", torch.logsumexp),
        *_reduction("max", torch.amax),
        *_reduction("mean", torch.mean),
        *_reduction("min", torch.amin),
        *_reduction("prod", _product),
        *_reduction("sum", torch.sum),
        *_reduction("sum_square", lambda x, a, k: torch.sum(x * x, a, k)),
        (
            lambda x: mb.reduce_argmax(x=x, axis=1, keep_dims=False),
            lambda x: torch.argmax(x, 1).to(torch.int32),
        ),
        (
            lambda x: mb.reduce_argmin(x=x, axis=-1, keep_dims=True),
            lambda x: torch.argmin(x, -1, True).to(torch.int32),
        ),
    ],
)

CASES = [UNIT, REAL, POSITIVE, BINARY, INTEGER, LOGICAL, ACTIVATION, REDUCTION]
