"""Packages made by coremltools' builder as a test needs them, and what a runtime computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its usual name
from coremltools.converters.mil.mil import types

from fluidaudio_cli.coreml.inspect import inspect_package
from fluidaudio_cli.executors.lowering import lower_checked


def tensor(*shape: Any, dtype: Any = types.fp32) -> Any:
    """An input of the builder; it has the name of the function's argument."""
    return mb.TensorSpec(shape=shape, dtype=dtype)


def package(
    folder: Path,
    function: Callable[..., Any],
    *inputs: Any,
    opset: Any = ct.target.iOS17,
    **options: Any,
) -> Path:
    """A package of ``function``, its operations as they are written; ``options`` of ``convert``."""
    program = mb.program(input_specs=list(inputs), opset_version=opset)(function)
    path = folder / "model.mlpackage"
    ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=opset,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
        **options,
    ).save(str(path))
    return path


def run(path: Path, **feeds: Any) -> list[Any]:
    """What ONNX Runtime makes of a package, which must be one that can be lowered."""
    import onnxruntime

    assert inspect_package(path).refusal is None
    session = onnxruntime.InferenceSession(lower_checked(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))
