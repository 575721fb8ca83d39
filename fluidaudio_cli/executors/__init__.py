"""Executors: one interface to Core ML, OpenVINO and ONNX Runtime.

``select_executor("auto").load(package, ExecutorOptions()).request().run({"audio": array})``
"""

from __future__ import annotations

from fluidaudio_cli.executors.base import (
    Availability,
    CompiledModel,
    Executor,
    ExecutorOptions,
    ExecutorRun,
    InferRequest,
    OperatorTime,
    TensorSpec,
)
from fluidaudio_cli.executors.select import availabilities, executor, select_executor

__all__ = [
    "Availability",
    "CompiledModel",
    "Executor",
    "ExecutorOptions",
    "ExecutorRun",
    "InferRequest",
    "OperatorTime",
    "TensorSpec",
    "availabilities",
    "executor",
    "select_executor",
]
