"""Write a package whose convolutions multiply 8-bit integers (W8A8), with coremltools.

What the integers are is decided by ``narrow_embedding.py``; here a program gets
them: ``quantize`` and ``dequantize`` before each convolution, its weights as int8.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import ModelFormatError

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class QuantizedConvolution:
    """A convolution of an input that is never negative.

    The input counts in steps of ``input_scale`` from 0 to 255. ``weight`` (out, in, kernel …)
    int8 counts in steps of ``weight_scale`` (out,); ``bias`` (out,).
    """

    input_scale: float
    weight: NDArray[np.int8]
    weight_scale: Floats
    bias: Floats


def write_quantized(
    source: Path,
    target: Path,
    convolutions: Mapping[str, QuantizedConvolution],
    description: str,
    metadata: Mapping[str, str],
) -> None:
    """Copy the package ``source`` to ``target`` with ``convolutions``, by their MIL names.

    Raises ``ModelFormatError`` for names that the package does not have.
    """
    import coremltools as ct
    from coremltools.converters.mil.converter import mil_convert
    from coremltools.converters.mil.frontend.milproto.load import load

    model = ct.models.MLModel(str(source), skip_model_load=True)
    spec = model.get_spec()
    version = spec.specificationVersion
    program = load(spec, specification_version=version, file_weights_dir=model.weights_dir)
    function = program.functions["main"]
    found = {each.name: each for each in function.operations if each.op_type == "conv"}
    missing = sorted(convolutions.keys() - found)
    if missing:
        raise ModelFormatError(f"{source} has no {', '.join(missing)}", "give the package itself")
    integers: dict[str, Any] = {}
    for name, quantized in convolutions.items():
        _exchange(function, found[name], quantized, integers)
    result: Any = mil_convert(
        program,
        convert_to="mlprogram",
        convert_from="milinternal",
        specification_version=version,
        compute_units=ct.ComputeUnit.ALL,
        model_description=spec.description,
        skip_model_load=True,
    )
    result.short_description = description
    for key, value in {**model.user_defined_metadata, **metadata}.items():
        result.user_defined_metadata[key] = value
    if target.exists():
        shutil.rmtree(target)
    result.save(str(target))


def _exchange(
    function: Any, operation: Any, quantized: QuantizedConvolution, integers: dict[str, Any]
) -> None:
    """Put a convolution of integers in place of ``operation``.

    ``integers``: quantized tensors by the name of what they are made of; several convolutions may
    read one.
    """
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its usual name

    half = np.float16
    scale, zero = half(quantized.input_scale), np.uint8(0)
    spread = (-1, *(1,) * (quantized.weight.ndim - 1))
    x = operation.inputs["x"]
    inputs = {name: value for name, value in operation.inputs.items() if value is not None}
    with function:
        if x.name not in integers:
            integers[x.name] = mb.quantize(
                input=x, scale=scale, zero_point=zero, output_dtype="uint8", before_op=operation
            )
        inputs["x"] = mb.dequantize(
            input=integers[x.name], scale=scale, zero_point=zero, before_op=operation
        )
        inputs["weight"] = mb.constexpr_blockwise_shift_scale(
            data=quantized.weight,
            scale=quantized.weight_scale.astype(half).reshape(spread),
            before_op=operation,
        )
        inputs["bias"] = mb.const(val=quantized.bias.astype(half), before_op=operation)
        changed = mb.conv(**inputs, name=operation.name, before_op=operation)
        function.replace_uses_of_var_after_op(
            anchor_op=operation, old_var=operation.outputs[0], new_var=changed
        )
        function.remove_ops([operation])
