"""Kernels of this project: plug-ins that run a part of a model faster than the runtimes do.

An executor that can run a model in parts asks :func:`kernel_for` and knows no kernel by name. A
kernel cuts its layers out of the lowered model; the executor compiles what lies before and after,
and the kernel joins the three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from fluidaudio_cli.executors.base import CompiledModel, Kernels

# Precision of kernels that compute in 8-bit integers, whatever the rest of a model computes in.
NARROW = "int8"


@dataclass(frozen=True)
class Cut:
    """Parts of a lowered model (ONNX): ``before`` gives one tensor, ``after`` takes one.

    ``save`` writes what the kernel keeps of the layers between them into a folder of the cache.
    """

    before: Any
    after: Any
    save: Callable[[Path], None]


class Kernel(Protocol):
    """A part of a network on one kind of processor."""

    @property
    def name(self) -> str:
        """As in a plan: ``amx_lstm``."""

    @property
    def title(self) -> str:
        """For people: what it runs, and on what."""

    @property
    def precision(self) -> str:
        """What it computes in; models in others are left to the runtime."""

    def unavailable(self) -> str:
        """Why it cannot run here; empty when it can."""

    def remedy(self) -> str:
        """What would help where it cannot run."""

    def version(self) -> str:
        """Changes with the kernel and with what prepares its weights."""

    def cut(self, model: Any) -> Cut | None:
        """Cut a lowered model at its layers; None where it has none."""

    def restore(self, folder: Path) -> Any:
        """What :attr:`Cut.save` wrote, or None where nothing was cut out."""

    def join(self, before: CompiledModel, restored: Any, after: CompiledModel) -> CompiledModel:
        """The three parts as one model."""


@lru_cache(maxsize=1)
def kernels() -> tuple[Kernel, ...]:
    """Every kernel there is, whether or not it runs here."""
    from fluidaudio_cli.executors.lstm.plugin import AMX_LSTM, INT8_LSTM

    return (AMX_LSTM, INT8_LSTM)


def kernel_for(precision: str, allowed: Kernels) -> Kernel | None:
    """The kernel that runs here in ``precision`` or, if that is allowed, in integers."""
    wanted = {"auto": (precision,), "narrow": (precision, NARROW), "runtime": ()}[allowed]
    return next(
        (
            each
            for own in wanted
            for each in kernels()
            if each.precision == own and not each.unavailable()
        ),
        None,
    )
