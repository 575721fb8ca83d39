"""Which executor runs: the one asked for, or the best this machine has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Literal, get_args

from fluidaudio_cli.errors import ExecutorUnavailableError, UsageError
from fluidaudio_cli.executors.base import Availability, Executor, Traits
from fluidaudio_cli.executors.cache import CompileCache

ExecutorName = Literal["auto", "coreml", "openvino", "onnxruntime", "cuda"]
EXECUTOR_NAMES: tuple[str, ...] = get_args(ExecutorName)
# Fastest first: Core ML reaches the Neural Engine, OpenVINO the tiles of recent processors, and
# ONNX Runtime runs everywhere, so that CUDA, of which we saw one card, is never chosen for anybody.
_CLASSES = {
    "coreml": "CoreMLExecutor",
    "openvino": "OpenVinoExecutor",
    "onnxruntime": "OnnxRuntimeExecutor",
    "cuda": "CudaExecutor",
}


def executor(name: str, cache: CompileCache | None = None) -> Executor:
    """The executor called ``name``, whether or not it runs here.

    Each module is imported only when asked for: a runtime not used is not paid for.

    Raises:
        UsageError: there is no such executor.
    """
    if name not in _CLASSES:
        raise UsageError(f"there is no executor {name!r}", f"use {', '.join(EXECUTOR_NAMES)}")
    made: Executor = getattr(import_module(f"{__package__}.{name}"), _CLASSES[name])(cache)
    return made


def select_executor(name: str = "auto") -> Executor:
    """The executor asked for; for ``auto`` the fastest that is available here.

    ``auto`` is Core ML on macOS, else OpenVINO where it supports the processor, else ONNX
    Runtime. Precision ``auto`` is settled by the executor when it loads a model.

    Raises:
        UsageError: there is no such executor.
        ExecutorUnavailableError: it does not run here; the message names those that do.
    """
    return executor(choose(name, Availabilities()))


class Availabilities(Mapping[str, Availability]):
    """Every executor's availability by name, fastest first; each is found out when looked up."""

    def __getitem__(self, name: str) -> Availability:
        """Imports the runtime."""
        return executor(name).availability()

    def __iter__(self) -> Iterator[str]:
        """Names, fastest first."""
        return iter(_CLASSES)

    def __len__(self) -> int:
        """How many there are."""
        return len(_CLASSES)


def availabilities() -> dict[str, Availability]:
    """Every executor's availability by name, fastest first."""
    return dict(Availabilities())


def choose(name: str, states: Mapping[str, Availability]) -> str:
    """The executor ``name``, or for ``auto`` the first of ``states`` that is available.

    Raises as :func:`select_executor`.
    """
    if name == "auto":
        reasons = []
        for candidate, state in states.items():
            if state.ok:
                return candidate
            reasons.append(f"{candidate}: {state.reason}")
        raise ExecutorUnavailableError(
            f"no executor is available: {'; '.join(reasons)}", "reinstall fluidaudio"
        )
    if name not in EXECUTOR_NAMES:
        raise UsageError(f"there is no executor {name!r}", f"use {', '.join(EXECUTOR_NAMES)}")
    if not states[name].ok:
        present = [other for other, state in states.items() if state.ok]
        raise ExecutorUnavailableError(
            f"executor {name} is not available: {states[name].reason}",
            f"{states[name].remedy} (available here: {', '.join(present) or 'none'})",
        )
    return name


def traits_of(name: str) -> Traits:
    """The traits of the executor called ``name``; its runtime is not imported."""
    return executor(name).traits
