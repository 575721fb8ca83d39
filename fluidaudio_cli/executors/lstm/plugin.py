"""The kernels as the executors know them: one for tiles, one for 8-bit integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.executors.kernels import NARROW
from fluidaudio_cli.executors.lstm import int8, kernel
from fluidaudio_cli.executors.lstm.cut import CutModel, cut_at_lstm
from fluidaudio_cli.executors.lstm.int8 import Int8Stack
from fluidaudio_cli.executors.lstm.layers import PackedStack
from fluidaudio_cli.executors.lstm.model import LstmModel
from fluidaudio_cli.executors.lstm.tiles import TileStack


@dataclass(frozen=True)
class LstmKernel:
    """A part of a network on one kind of processor.

    ``name``: as in a plan; ``title``: for people, what it runs and on what; ``precision``: what it
    computes in, models in others being left to the runtime. ``stack`` packs the layers' weights,
    which are kept as ``file``; ``reason``: see :meth:`unavailable`.
    """

    name: str
    title: str
    precision: str
    stack: type[PackedStack[Any]]
    file: str
    reason: Callable[[], str]

    def unavailable(self) -> str:
        """Why it cannot run here; empty when it can."""
        return self.reason()

    def remedy(self) -> str:
        """A compiler where there was none; nothing helps a processor without the instructions."""
        if self.unavailable() == kernel.NOT_BUILT:
            return "install a C compiler (GCC 11 or later), then reinstall fluidaudio"
        return "none needed: the executor runs LSTM layers itself, more slowly"

    def version(self) -> str:
        """Of the compiled library and of what prepares its weights."""
        return kernel.kernel_version()

    def cut(self, model: Any) -> CutModel | None:
        """Cut a lowered model at its bidirectional layers of 128 units; None where it has none."""
        return cut_at_lstm(model)

    def save(self, cut: CutModel, folder: Path) -> None:
        """Pack the weights of the layers that were cut out, and write them."""
        self.stack.of(cut.layers).save(folder / self.file)

    def restore(self, folder: Path) -> PackedStack[Any] | None:
        """The packed weights that :meth:`save` wrote, or None where nothing was cut out."""
        path = folder / self.file
        return self.stack.load(path) if path.is_file() else None

    def join(self, before: CompiledModel, restored: Any, after: CompiledModel) -> CompiledModel:
        """The layers between the two parts that the runtime runs."""
        return LstmModel(before, restored, after)


# Asked anew each time, as a name of its module: tests stand in for processors.
AMX_LSTM = LstmKernel(
    "amx_lstm",
    "LSTM on AMX tiles",
    "bf16",
    TileStack,
    "lstm.npz",
    lambda: kernel.unavailable(),
)
INT8_LSTM = LstmKernel(
    "int8_lstm",
    "LSTM in 8-bit integers",
    NARROW,
    Int8Stack,
    "int8.npz",
    lambda: int8.unavailable(),
)
