"""Bidirectional LSTM layers as both kernels have them: their weights packed and kept, their run."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import HostError, os_errors
from fluidaudio_cli.executors.buffers import aligned_copy
from fluidaudio_cli.executors.lstm.kernel import MAX_ROWS

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

_LOG2E = 1.4426950408889634
# ONNX orders gates input, output, forget, cell; the kernels input, forget, cell, output.
GATES = [0, 2, 3, 1]
# So that every activation begins with a plain power of two; tanh's argument counts twice.
SCALES = np.array([-_LOG2E, -_LOG2E, -2.0 * _LOG2E, -_LOG2E])

Floats = NDArray[np.float32]
Record = Callable[[str, float], None]
Direction = TypeVar("Direction")


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
class PackedLayer(Generic[Direction]):
    """A layer's two directions, forward first; ``name`` as in :class:`LstmLayer`."""

    name: str
    directions: tuple[Direction, Direction]


@dataclass(frozen=True)
class PackedStack(ABC, Generic[Direction]):
    """Packed layers, each reading the 256 outputs of the one before; the first reads ``width``.

    ``arithmetic``: as in a profile; ``direction``: the arrays of one direction, by name.
    """

    width: int
    layers: tuple[PackedLayer[Direction], ...]

    arithmetic: ClassVar[str]
    direction: ClassVar[type[Any]]

    @classmethod
    def of(cls, layers: Sequence[LstmLayer]) -> Self:
        """Pack weights."""
        return cls(
            layers[0].input_weights.shape[2],
            tuple(
                PackedLayer(each.name, (cls.packed(each, 0, number), cls.packed(each, 1, number)))
                for number, each in enumerate(layers)
            ),
        )

    def save(self, path: Path) -> None:
        """Write to an ``.npz`` that :meth:`load` reads."""
        arrays: dict[str, Any] = {"width": self.width, "names": [each.name for each in self.layers]}
        for number, layer in enumerate(self.layers):
            for side, packed in enumerate(layer.directions):
                for part in fields(self.direction):
                    arrays[f"{number}.{side}.{part.name}"] = getattr(packed, part.name)
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote. Raises ``HostError`` for anything else."""
        refused = f"cannot read the packed LSTM {path}", "delete the file", HostError
        kinds = ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile
        with os_errors(*refused, *kinds), np.load(path, allow_pickle=False) as arrays:
            width = int(arrays["width"])
            layers = []
            for number, name in enumerate(arrays["names"]):
                wanted = cls.shapes(number, width)
                sides = (cls._read(arrays, f"{number}.{side}", wanted) for side in range(2))
                layers.append(PackedLayer(str(name), (next(sides), next(sides))))
            if not layers:
                raise ValueError("it has no layers")
            return cls(width, tuple(layers))

    @classmethod
    def _read(
        cls, arrays: Mapping[str, NDArray[Any]], key: str, wanted: Mapping[str, tuple[Any, ...]]
    ) -> Direction:
        """One direction. Raises ``ValueError`` for another shape or dtype: kernels trust both."""
        found = {}
        for part, (dtype, *shape) in wanted.items():
            array = arrays[f"{key}.{part}"]
            if (array.dtype.name, list(array.shape)) != (dtype, shape):
                raise ValueError(f"{key}.{part} is {array.dtype}{list(array.shape)}")
            found[part] = aligned_copy(array)
        made: Direction = cls.direction(**found)
        return made

    @classmethod
    @abstractmethod
    def packed(cls, layer: LstmLayer, side: int, number: int) -> Direction:
        """One direction of the layer with that number."""

    @classmethod
    @abstractmethod
    def shapes(cls, number: int, width: int) -> dict[str, tuple[Any, ...]]:
        """Dtype and sizes of the arrays of a direction."""

    @abstractmethod
    def runner(self) -> LstmRun:
        """A run with buffers of its own."""


class LstmRun(ABC):
    """Runs a stack with buffers of its own; for one caller at a time."""

    def __init__(self, stack: PackedStack[Any]) -> None:
        self._layers = stack.layers

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
            part = slice(first, first + MAX_ROWS)
            direction = self._begin(sequences[part], output[part])
            for number, layer in enumerate(self._layers):
                began = perf_counter()
                beside = helper.submit(direction, number, 1) if helper else None
                direction(number, 0)
                if beside is None:
                    direction(number, 1)
                else:
                    beside.result()
                if record is not None:
                    record(layer.name, perf_counter() - began)
            self._end(output[part])

    @abstractmethod
    def _begin(self, sequences: Floats, output: Floats) -> Callable[[int, int], None]:
        """Take in at most 16 windows; what then runs one direction: of which layer, which side."""

    @abstractmethod
    def _end(self, output: Floats) -> None:
        """Write what the last layer gave."""
