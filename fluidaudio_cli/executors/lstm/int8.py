"""The same layers in 8-bit integers, for processors with AVX-512 VNNI, AVX2 or ARM's dotprod.

``int8.h`` says how numbers lie; here weights are packed for it. States and weights are rounded to
bytes, which changes 0.2 % of the segmentation network's decisions: a mode must ask for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.executors.buffers import aligned_copy, aligned_empty
from fluidaudio_cli.executors.lstm.kernel import (
    HIDDEN,
    MAX_ROWS,
    Int8Layer,
    forms_here,
    kernel,
    lacking,
)
from fluidaudio_cli.executors.lstm.layers import (
    GATES,
    SCALES,
    Floats,
    LstmLayer,
    LstmRun,
    PackedStack,
)
from fluidaudio_cli.executors.machine import cpu_flags

_UNITS, _GATES, _QUAD = 16, 4, 4
_BLOCKS = HIDDEN // _UNITS
# A byte of 128 is a state of 0.
_ZERO, _STEPS = 128, 127
# Of a gate's largest weight: where its range may end, for the least squared error.
_RANGES = np.linspace(0.75, 1.0, 11)


@lru_cache(maxsize=1)
def unavailable() -> str:
    """Why the kernel cannot run here; empty when it can."""
    forms = forms_here()
    return lacking(forms[fastest_form()]) if forms else "it is for Linux on x86-64 or 64-bit ARM"


def fastest_form() -> str:
    """Of those that the processor has the instructions for; the least demanding if of none."""
    *better, least = forms_here().items()
    return next((form for form, needed in better if needed <= cpu_flags()), least[0])


@dataclass(frozen=True, eq=False)
class Int8Direction:
    """One direction's weights as the kernel reads them.

    ``weights``: (8, quads, 4, 16, 4) int8; ``float_weights``: (8, width, 4, 16), no width where
    bytes are read; ``scale`` and ``bias``: (8, 4, 16).
    """

    weights: NDArray[np.int8]
    float_weights: Floats
    scale: Floats
    bias: Floats


class Int8Stack(PackedStack[Int8Direction]):
    """Layers packed for integers; only the first reads floats."""

    arithmetic = "int8"
    direction = Int8Direction

    @classmethod
    def packed(cls, layer: LstmLayer, side: int, number: int) -> Int8Direction:
        """Round to bytes, and arrange by blocks of units."""

        def ordered(weights: Floats) -> NDArray[np.float64]:
            """(512, depth), gates as the kernel has them and scaled."""
            gates = weights.astype(np.float64).reshape(_GATES, HIDDEN, -1)[GATES]
            scaled: NDArray[np.float64] = gates * SCALES[:, None, None]
            return scaled.reshape(_GATES * HIDDEN, -1)

        def by_block(values: NDArray[Any]) -> NDArray[Any]:
            """(512, …) to (8, …, 4, 16), what is between counting along a row."""
            apart = values.reshape(_GATES, _BLOCKS, _UNITS, -1)
            return np.asarray(apart.transpose(1, 3, 0, 2))

        inputs, states = ordered(layer.input_weights[side]), ordered(layer.state_weights[side])
        bias = ordered(layer.bias[side].reshape(2, -1).sum(axis=0)[:, None])[:, 0]
        rounded, steps = _rounded(np.concatenate([inputs, states], axis=1) if number else states)
        scale = steps / _STEPS
        offset = bias - _ZERO * rounded.sum(axis=1) * scale
        floats = np.zeros((_GATES * HIDDEN, 0)) if number else inputs
        quads = rounded.reshape(_GATES, _BLOCKS, _UNITS, -1, _QUAD).transpose(1, 3, 0, 2, 4)
        return Int8Direction(
            aligned_copy(quads.astype(np.int8)),
            aligned_copy(by_block(floats).astype(np.float32)),
            aligned_copy(by_block(scale)[:, 0].astype(np.float32)),
            aligned_copy(by_block(offset)[:, 0].astype(np.float32)),
        )

    @classmethod
    def shapes(cls, number: int, width: int) -> dict[str, tuple[Any, ...]]:
        """As in :class:`Int8Direction`."""
        quads = (3 * HIDDEN if number else HIDDEN) // _QUAD
        block = (_BLOCKS, _GATES, _UNITS)
        return {
            "weights": ("int8", _BLOCKS, quads, _GATES, _UNITS, _QUAD),
            "float_weights": ("float32", _BLOCKS, 0 if number else width, _GATES, _UNITS),
            "scale": ("float32", *block),
            "bias": ("float32", *block),
        }

    def runner(self) -> Int8Run:
        """A run with buffers of its own."""
        return Int8Run(self)


class Int8Run(LstmRun):
    """Runs a stack in integers; for one caller at a time.

    ``form``: of the kernel, by default the fastest one. The windows that a call takes at a time
    are few enough that what one direction reads and writes of them stays in the cache.
    """

    def __init__(self, stack: Int8Stack, form: str = "") -> None:
        super().__init__(stack)
        self._function = getattr(kernel(), f"fluidaudio_int8_lstm_{form or fastest_form()}")
        self._cells = [aligned_empty((MAX_ROWS * HIDDEN,), np.float32) for _ in range(2)]
        # The output of one layer is the input of the next.
        self._states = [aligned_empty((0,), np.uint8)] * 2

    def _begin(self, sequences: Floats, output: Floats) -> Callable[[int, int], None]:
        rows, steps, width = sequences.shape
        size = MAX_ROWS * steps * 2 * HIDDEN
        if self._states[0].size < size:
            self._states = [aligned_empty((size,), np.uint8) for _ in range(2)]
        last = len(self._layers) - 1

        def direction(number: int, side: int) -> None:
            weights = vars(self._layers[number].directions[side])
            it = Int8Layer(
                bytes=self._states[(number - 1) % 2].ctypes.data if number else None,
                floats=None if number else sequences.ctypes.data,
                width=0 if number else width,
                steps=steps,
                rows=rows,
                reverse=side,
                output=self._states[number % 2].ctypes.data,
                exact=output.ctypes.data if number == last else None,
                cells=self._cells[side].ctypes.data,
                **{part: array.ctypes.data for part, array in weights.items()},
            )
            self._function(ctypes.byref(it))

        return direction

    def _end(self, output: Floats) -> None:
        """The last layer has written it."""


def _rounded(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows as whole numbers within 127, and their steps."""
    most = np.maximum(np.abs(weights).max(axis=1), np.finfo(np.float32).tiny)
    choices = most * _RANGES[:, None] / _STEPS

    def whole(steps: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.clip(np.rint(weights / steps[:, None]), -_STEPS, _STEPS))

    errors = [((whole(steps) * steps[:, None] - weights) ** 2).sum(axis=1) for steps in choices]
    best = choices[np.argmin(errors, axis=0), np.arange(len(weights))]
    return whole(best), np.asarray(best)
