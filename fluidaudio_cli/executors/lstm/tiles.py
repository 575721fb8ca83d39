"""Bidirectional LSTM layers, one upon the other, on the processor's tiles, in bf16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.executors.buffers import aligned_copy, aligned_empty
from fluidaudio_cli.executors.lstm.kernel import DEPTH, HIDDEN, SLACK_ROWS, kernel
from fluidaudio_cli.executors.lstm.layers import (
    GATES,
    SCALES,
    Floats,
    LstmLayer,
    LstmRun,
    PackedStack,
)

_UNITS = 16

Bf16 = NDArray[np.uint16]


@dataclass(frozen=True)
class TileDirection:
    """One direction's weights as the kernel reads them.

    ``input_weights``: (32, depth tiles, 16, 16, 2) bf16; ``state_weights``: (32, 4, 16, 16, 2)
    bf16; ``bias``: (8, 4, 16) float32.
    """

    input_weights: Bf16
    state_weights: Bf16
    bias: Floats

    @property
    def depth_tiles(self) -> int:
        """Tiles along the layer's input."""
        return int(self.input_weights.shape[1])


class TileStack(PackedStack[TileDirection]):
    """Layers packed for tiles."""

    arithmetic = "amx_bf16"
    direction = TileDirection

    @classmethod
    def packed(cls, layer: LstmLayer, side: int, number: int) -> TileDirection:
        """Round to bf16, and arrange as tiles."""
        return TileDirection(
            _tiles(layer.input_weights[side]),
            _tiles(layer.state_weights[side]),
            _bias(layer.bias[side]),
        )

    @classmethod
    def shapes(cls, number: int, width: int) -> dict[str, tuple[Any, ...]]:
        """As in :class:`TileDirection`."""
        depth = 2 * HIDDEN // DEPTH if number else -(-width // DEPTH)
        tiles = (_UNITS, DEPTH // 2, 2)
        columns = 4 * HIDDEN // _UNITS
        return {
            "input_weights": ("uint16", columns, depth, *tiles),
            "state_weights": ("uint16", columns, HIDDEN // DEPTH, *tiles),
            "bias": ("float32", HIDDEN // _UNITS, 4, _UNITS),
        }

    def runner(self) -> TileRun:
        """A run with buffers of its own."""
        return TileRun(self)


class TileRun(LstmRun):
    """Runs a stack on tiles; for one caller at a time."""

    def __init__(self, stack: TileStack) -> None:
        super().__init__(stack)
        floats = kernel().fluidaudio_lstm_scratch_floats()
        self._scratch = [aligned_empty((floats,), np.float32) for _ in range(2)]
        self._input = aligned_empty((0,), np.uint16)
        # The output of one layer is the input of the next.
        self._states = [self._input, self._input]

    def _begin(self, sequences: Floats, output: Floats) -> Callable[[int, int], None]:
        rows, steps, width = sequences.shape
        depth = self._layers[0].directions[0].depth_tiles * DEPTH
        self._reserve(rows * steps + SLACK_ROWS, depth)
        kernel().fluidaudio_lstm_pack_input(
            sequences.ctypes.data, steps, rows, width, depth, self._input.ctypes.data
        )

        def direction(number: int, side: int) -> None:
            packed = self._layers[number].directions[side]
            kernel().fluidaudio_lstm_direction(
                (self._states[(number - 1) % 2] if number else self._input).ctypes.data,
                steps,
                rows,
                packed.depth_tiles,
                packed.input_weights.ctypes.data,
                packed.state_weights.ctypes.data,
                packed.bias.ctypes.data,
                side,
                self._states[number % 2].ctypes.data,
                self._scratch[side].ctypes.data,
            )

        return direction

    def _end(self, output: Floats) -> None:
        rows, steps, _ = output.shape
        last = self._states[(len(self._layers) - 1) % 2]
        kernel().fluidaudio_lstm_unpack_output(last.ctypes.data, steps, rows, output.ctypes.data)

    def _reserve(self, rows: int, depth: int) -> None:
        if self._input.size < rows * depth:
            self._input = aligned_empty((rows * depth,), np.uint16)
        if self._states[0].size < rows * 2 * HIDDEN:
            self._states = [aligned_empty((rows * 2 * HIDDEN,), np.uint16) for _ in range(2)]


def _tiles(weights: Floats) -> Bf16:
    """(512, depth) as tiles: 32 columns of tiles, then depth, pairs of depth, unit, pair."""
    depth = weights.shape[1]
    tiles = -(-depth // DEPTH)
    gates = weights.astype(np.float64).reshape(4, HIDDEN // _UNITS, _UNITS, depth)[GATES]
    padded = np.zeros((4, HIDDEN // _UNITS, _UNITS, tiles * DEPTH))
    padded[..., :depth] = gates * SCALES[:, None, None, None]
    apart = padded.reshape(4, HIDDEN // _UNITS, _UNITS, tiles, DEPTH // 2, 2)
    # To (block of units, gate, depth tile, pair, unit, within the pair).
    ordered = apart.transpose(1, 0, 3, 4, 2, 5).reshape(-1, tiles, DEPTH // 2, _UNITS, 2)
    return aligned_copy(_to_bf16(ordered.astype(np.float32)))


def _bias(bias: Floats) -> Floats:
    """(1024,) as (8 blocks of units, 4 gates, 16), both halves summed."""
    summed = bias[: 4 * HIDDEN].astype(np.float64) + bias[4 * HIDDEN :]
    gates = summed.reshape(4, HIDDEN // _UNITS, _UNITS)[GATES] * SCALES[:, None, None]
    return aligned_copy(gates.transpose(1, 0, 2).astype(np.float32))


def _to_bf16(values: Floats) -> Bf16:
    """Bits of the nearest bf16, ties to even; values must be finite."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
