"""The same layers in 8-bit integers, for processors with AVX-512 VNNI and without tiles.

``int8.c`` says how numbers lie; here weights are packed for it. States and weights are rounded to
bytes, which changes 0.2 % of the segmentation network's decisions: a mode must ask for it.
"""

from __future__ import annotations

import ctypes
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.buffers import aligned_empty
from fluidaudio_cli.executors.lstm import kernel
from fluidaudio_cli.executors.lstm.kernel import HIDDEN, LIBRARY_NAME
from fluidaudio_cli.executors.lstm.stack import Floats, LstmLayer, Record
from fluidaudio_cli.executors.machine import cpu_flags

_UNITS, _GATES, _GROUP, _QUAD = 16, 4, 4, 4
_BLOCKS = HIDDEN // _UNITS
# ONNX orders gates input, output, forget, cell; the kernel input, forget, cell, output.
_ORDER = (0, 2, 3, 1)
_LOG2E = 1.4426950408889634
# So that every activation begins with a plain power of two; tanh's argument counts twice.
_SCALES = np.array([-_LOG2E, -_LOG2E, -2.0 * _LOG2E, -_LOG2E])
# A byte of 128 is a state of 0.
_ZERO, _STEPS = 128, 127
# Windows at a time: what one direction reads and writes of them stays in the cache.
_MOST_ROWS = 16
# Of a gate's largest weight: where its range may end, for the least squared error.
_RANGES = np.linspace(0.75, 1.0, 11)
_NEEDED_FLAGS = frozenset(("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni"))

Bytes = NDArray[np.uint8]
Direction = Callable[[Any], None]


class _Layer(ctypes.Structure):
    """``layer`` of int8.c."""

    _fields_ = [
        ("bytes", ctypes.c_void_p),
        ("floats", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("width", "steps", "rows", "reverse")),
        *(
            (name, ctypes.c_void_p)
            for name in ("weights", "float_weights", "scale", "bias", "output", "exact", "cells")
        ),
    ]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The library; calls release the interpreter's lock. ``OSError`` where it was not built."""
    loaded = ctypes.CDLL(str(Path(__file__).with_name(LIBRARY_NAME)))
    for name in ("fluidaudio_int8_lstm_portable", "fluidaudio_int8_lstm_vnni"):
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.POINTER(_Layer)], None
    return loaded


@lru_cache(maxsize=1)
def unavailable() -> str:
    """Why the kernel cannot run here; empty when it can."""
    missing = sorted(_NEEDED_FLAGS - cpu_flags())
    if missing:
        return f"the processor lacks {', '.join(missing)}"
    if not Path(__file__).with_name(LIBRARY_NAME).is_file():
        return kernel.NOT_BUILT
    try:
        library()
    except (OSError, AttributeError) as error:
        # Without a function: the library of another version.
        return f"it does not load: {error}"
    return ""


@dataclass(frozen=True, eq=False)
class PackedDirection:
    """One direction's weights as the kernel reads them.

    ``weights``: (8, quads, 4, 16, 4) int8; ``float_weights``: (8, width, 4, 16), no width where
    bytes are read; ``scale`` and ``bias``: (8, 4, 16).
    """

    weights: NDArray[np.int8]
    float_weights: Floats
    scale: Floats
    bias: Floats


_PARTS = tuple(field.name for field in fields(PackedDirection))


@dataclass(frozen=True)
class Int8Stack:
    """Packed layers by name, forward direction first; the first reads ``width`` floats."""

    width: int
    layers: tuple[tuple[str, tuple[PackedDirection, PackedDirection]], ...]

    arithmetic = "vnni_int8"

    @classmethod
    def of(cls, layers: Sequence[LstmLayer]) -> Int8Stack:
        """Round and pack weights."""
        return cls(
            layers[0].input_weights.shape[2],
            tuple(
                (layer.name, (_packed(layer, 0, not number), _packed(layer, 1, not number)))
                for number, layer in enumerate(layers)
            ),
        )

    def save(self, path: Path) -> None:
        """Write to an ``.npz`` that :meth:`load` reads."""
        arrays: dict[str, Any] = {"width": self.width, "names": [name for name, _ in self.layers]}
        for number, (_, directions) in enumerate(self.layers):
            for side, packed in enumerate(directions):
                arrays |= {f"{number}.{side}.{part}": getattr(packed, part) for part in _PARTS}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Int8Stack:
        """Read what :meth:`save` wrote. Raises ``HostError`` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                width = int(arrays["width"])
                return cls(
                    width,
                    tuple(
                        (
                            str(name),
                            (_read(arrays, number, 0, width), _read(arrays, number, 1, width)),
                        )
                        for number, name in enumerate(arrays["names"])
                    ),
                )
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise HostError(
                f"cannot read the packed LSTM {path}: {error}", "delete the file"
            ) from error

    def runner(self) -> Int8Run:
        """A run with buffers of its own."""
        return Int8Run(self)


class Int8Run:
    """Runs a stack with buffers of its own; for one caller at a time.

    ``direction``: a function of the library, by default the fast one.
    """

    def __init__(self, stack: Int8Stack, direction: Direction | None = None) -> None:
        self._stack = stack
        self._direction = direction or library().fluidaudio_int8_lstm_vnni
        self._cells = [aligned_empty((_MOST_ROWS * HIDDEN,), np.float32) for _ in range(2)]
        # The output of one layer is the input of the next.
        self._even = self._odd = aligned_empty((0,), np.uint8)

    def __call__(
        self,
        sequences: Floats,
        output: Floats,
        helper: Executor | None = None,
        record: Record | None = None,
    ) -> None:
        """Run on ``sequences`` (windows, steps, width); write ``output`` (windows, steps, 256).

        Both C-contiguous. A window's result depends neither on those beside it nor on
        ``helper``, which runs the backward directions beside the forward ones. ``record`` gets
        each layer's name and seconds.
        """
        size = _MOST_ROWS * sequences.shape[1] * 2 * HIDDEN
        if self._even.size < size:
            self._even, self._odd = (aligned_empty((size,), np.uint8) for _ in range(2))
        for first in range(0, len(sequences), _MOST_ROWS):
            part = slice(first, first + _MOST_ROWS)
            self._run(sequences[part], output[part], helper, record)

    def _run(
        self, sequences: Floats, output: Floats, helper: Executor | None, record: Record | None
    ) -> None:
        rows, steps, width = sequences.shape
        source, target = self._even, self._odd
        last = len(self._stack.layers) - 1

        def direction(number: int, side: int, packed: PackedDirection) -> None:
            it = _Layer(
                bytes=source.ctypes.data if number else None,
                floats=None if number else sequences.ctypes.data,
                width=0 if number else width,
                steps=steps,
                rows=rows,
                reverse=side,
                output=target.ctypes.data,
                exact=output.ctypes.data if number == last else None,
                cells=self._cells[side].ctypes.data,
                **{part: getattr(packed, part).ctypes.data for part in _PARTS},
            )
            self._direction(ctypes.byref(it))

        for number, (name, (forward, backward)) in enumerate(self._stack.layers):
            began = perf_counter()
            beside = helper.submit(direction, number, 1, backward) if helper else None
            direction(number, 0, forward)
            if beside is None:
                direction(number, 1, backward)
            else:
                beside.result()
            if record is not None:
                record(name, perf_counter() - began)
            source, target = target, source


def _packed(layer: LstmLayer, side: int, first: bool) -> PackedDirection:
    def ordered(weights: Floats) -> NDArray[np.float64]:
        """(512, depth), gates as the kernel has them and scaled."""
        gates = weights.astype(np.float64).reshape(_GATES, HIDDEN, -1)[list(_ORDER)]
        scaled: NDArray[np.float64] = gates * _SCALES[:, None, None]
        return scaled.reshape(_GATES * HIDDEN, -1)

    def by_block(values: NDArray[Any]) -> NDArray[Any]:
        """(512, …) to (8, …, 4, 16), what is between counting along a row."""
        apart = values.reshape(_GATES, _BLOCKS, _UNITS, -1)
        return np.asarray(apart.transpose(1, 3, 0, 2))

    inputs, states = ordered(layer.input_weights[side]), ordered(layer.state_weights[side])
    bias = ordered(layer.bias[side].reshape(2, -1).sum(axis=0)[:, None])[:, 0]
    rounded, steps = _rounded(states if first else np.concatenate([inputs, states], axis=1))
    scale = steps / _STEPS
    floats = inputs if first else np.zeros((_GATES * HIDDEN, 0))
    quads = rounded.reshape(_GATES, _BLOCKS, _UNITS, -1, _QUAD).transpose(1, 3, 0, 2, 4)
    return PackedDirection(
        _aligned(quads.astype(np.int8)),
        _aligned(by_block(floats).astype(np.float32)),
        _aligned(by_block(scale)[:, 0].astype(np.float32)),
        _aligned(by_block(bias - _ZERO * rounded.sum(axis=1) * scale)[:, 0].astype(np.float32)),
    )


def _rounded(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows as whole numbers within 127, and their steps."""
    most = np.maximum(np.abs(weights).max(axis=1), np.finfo(np.float32).tiny)
    choices = most * _RANGES[:, None] / _STEPS

    def whole(steps: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.clip(np.rint(weights / steps[:, None]), -_STEPS, _STEPS))

    errors = [((whole(steps) * steps[:, None] - weights) ** 2).sum(axis=1) for steps in choices]
    best = choices[np.argmin(errors, axis=0), np.arange(len(weights))]
    return whole(best), np.asarray(best)


def _read(
    arrays: Mapping[str, NDArray[Any]], number: int, side: int, width: int
) -> PackedDirection:
    """One direction. Raises ``ValueError`` for another shape or dtype: the kernel trusts both."""
    quads = (HIDDEN if number == 0 else 3 * HIDDEN) // _QUAD
    block = (_BLOCKS, _GATES, _UNITS)
    wanted = {
        "weights": ("int8", (_BLOCKS, quads, _GATES, _UNITS, _QUAD)),
        "float_weights": ("float32", (_BLOCKS, 0 if number else width, _GATES, _UNITS)),
        "scale": ("float32", block),
        "bias": ("float32", block),
    }
    found = {}
    for part, (dtype, shape) in wanted.items():
        array = arrays[f"{number}.{side}.{part}"]
        if (array.dtype.name, array.shape) != (dtype, shape):
            raise ValueError(f"{number}.{side}.{part} is {array.dtype}{list(array.shape)}")
        found[part] = _aligned(array)
    return PackedDirection(**found)


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy
