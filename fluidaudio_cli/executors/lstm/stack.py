"""Bidirectional LSTM layers, one upon the other, run by the kernel."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.buffers import aligned_empty
from fluidaudio_cli.executors.lstm.kernel import (
    DEPTH,
    HIDDEN,
    MAX_ROWS,
    SLACK_ROWS,
    kernel,
)

_LOG2E = 1.4426950408889634
_UNITS = 16
# ONNX orders gates input, output, forget, cell; the kernel input, forget, cell, output.
_GATES = (0, 2, 3, 1)
# So that every activation begins with a plain power of two; tanh's argument counts twice.
_SCALES = np.array([-_LOG2E, -_LOG2E, -2.0 * _LOG2E, -_LOG2E])

Floats = NDArray[np.float32]
Bf16 = NDArray[np.uint16]
Record = Callable[[str, float], None]


@dataclass(frozen=True)
class LstmLayer:
    """Weights of one bidirectional layer as ONNX has them, gates in the order i, o, f, c.

    ``name``: of the operator in the lowered model. ``input_weights``: (2, 512, width);
    ``state_weights``: (2, 512, 128); ``bias``: (2, 1024), both biases side by side.
    """

    name: str
    input_weights: Floats
    state_weights: Floats
    bias: Floats


@dataclass(frozen=True)
class PackedDirection:
    """One direction's weights as the kernel reads them.

    ``input_weights``: (32, depth tiles, 16, 16, 2) bf16; ``state_weights``: (32, 4, 16, 16, 2)
    bf16; ``bias``: (8, 4, 16) float32.
    """

    input_weights: Bf16
    state_weights: Bf16
    bias: Floats


@dataclass(frozen=True)
class PackedLayer:
    """A layer's two directions, forward first; ``name`` as in :class:`LstmLayer`."""

    name: str
    directions: tuple[PackedDirection, PackedDirection]

    @property
    def depth_tiles(self) -> int:
        """Tiles along the layer's input."""
        return int(self.directions[0].input_weights.shape[1])


@dataclass(frozen=True)
class LstmStack:
    """Packed layers, each reading the 256 outputs of the one before; the first reads ``width``."""

    width: int
    layers: tuple[PackedLayer, ...]

    arithmetic = "amx_bf16"

    def runner(self) -> LstmRun:
        """A run with buffers of its own."""
        return LstmRun(self)

    @classmethod
    def of(cls, layers: Sequence[LstmLayer]) -> LstmStack:
        """Pack weights."""
        return cls(layers[0].input_weights.shape[2], tuple(_packed(layer) for layer in layers))

    def save(self, path: Path) -> None:
        """Write to an ``.npz`` that :meth:`load` reads."""
        arrays = {"width": np.array(self.width), "names": np.array([x.name for x in self.layers])}
        for number, layer in enumerate(self.layers):
            for side, packed in zip("fb", layer.directions, strict=True):
                for part in ("input_weights", "state_weights", "bias"):
                    arrays[f"{number}{side}.{part}"] = getattr(packed, part)
        np.savez(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> LstmStack:
        """Read what :meth:`save` wrote. Raises ``HostError`` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                width = int(arrays["width"])
                # The kernel trusts the sizes it is told.
                depths = [-(-width // DEPTH)] + [2 * HIDDEN // DEPTH] * (len(arrays["names"]) - 1)
                layers = tuple(
                    PackedLayer(
                        str(name),
                        (
                            _direction(arrays, f"{number}f", depth),
                            _direction(arrays, f"{number}b", depth),
                        ),
                    )
                    for number, (name, depth) in enumerate(
                        zip(arrays["names"], depths, strict=True)
                    )
                )
                return cls(width, layers)
        except (
            *(OSError, ValueError, TypeError, KeyError, EOFError),
            zipfile.BadZipFile,
        ) as error:
            raise HostError(
                f"cannot read the packed LSTM {path}: {error}", "delete the file"
            ) from error


class LstmRun:
    """Runs a stack with buffers of its own; for one caller at a time."""

    def __init__(self, stack: LstmStack) -> None:
        self._stack = stack
        floats = kernel().fluidaudio_lstm_scratch_floats()
        self._scratch = [_aligned(floats, np.float32) for _ in range(2)]
        # The packed input, and the output of one layer that is the input of the next.
        self._input = self._even = self._odd = _aligned(0, np.uint16)

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
        for first in range(0, len(sequences), MAX_ROWS):
            last = first + MAX_ROWS
            self._run(sequences[first:last], output[first:last], helper, record)

    def _run(
        self, sequences: Floats, output: Floats, helper: Executor | None, record: Record | None
    ) -> None:
        rows, steps, width = sequences.shape
        layers = self._stack.layers
        depth = layers[0].depth_tiles * DEPTH
        self._reserve(rows * steps + SLACK_ROWS, depth)
        kernel().fluidaudio_lstm_pack_input(
            sequences.ctypes.data, steps, rows, width, depth, self._input.ctypes.data
        )
        source, target, spare = self._input, self._even, self._odd
        for layer in layers:
            began = time.perf_counter()
            self._layer(layer, source, target, steps, rows, helper)
            if record is not None:
                record(layer.name, time.perf_counter() - began)
            source, target, spare = target, spare, target
        kernel().fluidaudio_lstm_unpack_output(source.ctypes.data, steps, rows, output.ctypes.data)

    def _layer(
        self,
        layer: PackedLayer,
        source: Bf16,
        target: Bf16,
        steps: int,
        rows: int,
        helper: Executor | None,
    ) -> None:
        def direction(number: int) -> None:
            packed = layer.directions[number]
            kernel().fluidaudio_lstm_direction(
                source.ctypes.data,
                steps,
                rows,
                layer.depth_tiles,
                packed.input_weights.ctypes.data,
                packed.state_weights.ctypes.data,
                packed.bias.ctypes.data,
                number,
                target.ctypes.data,
                self._scratch[number].ctypes.data,
            )

        if helper is None:
            direction(0)
            direction(1)
            return
        backward = helper.submit(direction, 1)
        direction(0)
        backward.result()

    def _reserve(self, rows: int, depth: int) -> None:
        if self._input.size < rows * depth:
            self._input = _aligned(rows * depth, np.uint16)
        if self._even.size < rows * 2 * HIDDEN:
            self._even = _aligned(rows * 2 * HIDDEN, np.uint16)
            self._odd = _aligned(rows * 2 * HIDDEN, np.uint16)


def _packed(layer: LstmLayer) -> PackedLayer:
    forward, backward = (
        PackedDirection(
            _tiles(layer.input_weights[side]),
            _tiles(layer.state_weights[side]),
            _bias(layer.bias[side]),
        )
        for side in range(2)
    )
    return PackedLayer(layer.name, (forward, backward))


def _tiles(weights: Floats) -> Bf16:
    """(512, depth) as tiles: 32 columns of tiles, then depth, pairs of depth, unit, pair."""
    depth = weights.shape[1]
    tiles = -(-depth // DEPTH)
    gates = weights.astype(np.float64).reshape(4, HIDDEN // _UNITS, _UNITS, depth)[list(_GATES)]
    padded = np.zeros((4, HIDDEN // _UNITS, _UNITS, tiles * DEPTH))
    padded[..., :depth] = gates * _SCALES[:, None, None, None]
    apart = padded.reshape(4, HIDDEN // _UNITS, _UNITS, tiles, DEPTH // 2, 2)
    # To (block of units, gate, depth tile, pair, unit, within the pair).
    ordered = apart.transpose(1, 0, 3, 4, 2, 5).reshape(-1, tiles, DEPTH // 2, _UNITS, 2)
    return _aligned_copy(_to_bf16(ordered.astype(np.float32)))


def _bias(bias: Floats) -> Floats:
    """(1024,) as (8 blocks of units, 4 gates, 16), both halves summed."""
    summed = bias[: 4 * HIDDEN].astype(np.float64) + bias[4 * HIDDEN :]
    gates = summed.reshape(4, HIDDEN // _UNITS, _UNITS)[list(_GATES)] * _SCALES[:, None, None]
    return _aligned_copy(gates.transpose(1, 0, 2).astype(np.float32))


def _to_bf16(values: Floats) -> Bf16:
    """Bits of the nearest bf16, ties to even; values must be finite."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def _direction(
    arrays: Mapping[str, NDArray[np.generic]], key: str, depth_tiles: int
) -> PackedDirection:
    """The arrays of one direction. Raises ``ValueError`` for another shape or dtype."""
    tiles = (_UNITS, DEPTH // 2, 2)
    columns = 4 * HIDDEN // _UNITS
    wanted = {
        "input_weights": ("uint16", (columns, depth_tiles, *tiles)),
        "state_weights": ("uint16", (columns, HIDDEN // DEPTH, *tiles)),
        "bias": ("float32", (HIDDEN // _UNITS, 4, _UNITS)),
    }
    found = {part: arrays[f"{key}.{part}"] for part in wanted}
    for part, array in found.items():
        if (array.dtype.name, array.shape) != wanted[part]:
            raise ValueError(f"{key}.{part} is {array.dtype}{list(array.shape)}")
    input_weights, state_weights, bias = (_aligned_copy(array) for array in found.values())
    return PackedDirection(cast(Bf16, input_weights), cast(Bf16, state_weights), cast(Floats, bias))


def _aligned(size: int, dtype: type) -> NDArray:  # type: ignore[type-arg]
    return aligned_empty((size,), dtype)


def _aligned_copy(array: NDArray) -> NDArray:  # type: ignore[type-arg]
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy
