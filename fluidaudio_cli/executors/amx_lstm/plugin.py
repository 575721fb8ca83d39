"""The kernel as the executors know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fluidaudio_cli.executors.amx_lstm import kernel
from fluidaudio_cli.executors.amx_lstm.cut import cut_at_lstm
from fluidaudio_cli.executors.amx_lstm.model import LstmModel
from fluidaudio_cli.executors.amx_lstm.stack import LstmStack
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.executors.kernels import Cut

_STACK_NAME = "lstm.npz"


class AmxLstm:
    """See :class:`~fluidaudio_cli.executors.kernels.Kernel`."""

    name = "amx_lstm"
    title = "LSTM on AMX tiles"
    precision = "bf16"

    def unavailable(self) -> str:
        """Why it cannot run here; empty when it can."""
        return kernel.unavailable()

    def remedy(self) -> str:
        """A compiler where there was none; nothing helps a processor without tiles."""
        if self.unavailable() == kernel.NOT_BUILT:
            return "install a C compiler (GCC 11 or later), then reinstall fluidaudio"
        return "none needed: the executor runs LSTM layers itself, more slowly"

    def version(self) -> str:
        """Of the compiled library and of what prepares its weights."""
        return kernel.kernel_version()

    def cut(self, model: Any) -> Cut | None:
        """Cut at the bidirectional layers of 128 units."""
        found = cut_at_lstm(model)
        if found is None:
            return None
        stack = LstmStack.of(found.layers)
        return Cut(found.before, found.after, lambda folder: stack.save(folder / _STACK_NAME))

    def restore(self, folder: Path) -> LstmStack | None:
        """The packed weights."""
        path = folder / _STACK_NAME
        return LstmStack.load(path) if path.is_file() else None

    def join(self, before: CompiledModel, restored: Any, after: CompiledModel) -> CompiledModel:
        """The layers between the two parts that the runtime runs."""
        return LstmModel(before, restored, after)
