"""A lowered program that also gives out every layer's result, rounded to a format or not.

For looking at where precision is lost: with rounding, every floating-point result is converted
to the format and back before the next layer reads it, which is what arithmetic in that format
does at best (sums inside an operation stay exact). An LSTM's inner states are not rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fluidaudio_cli.coreml.dtypes import FLOAT_TYPES
from fluidaudio_cli.coreml.ir import Operation, Program, Value
from fluidaudio_cli.coreml.lower import lower_to_onnx

# ``package``: what the program itself computes in fp16, and nothing else.
Rounding = Literal["none", "package", "fp16", "bf16"]
_ONNX_FORMAT = {
    "package": TensorProto.FLOAT16,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class Tap:
    """A layer whose result can be had: MIL name and type, the tensor, and those it is made of."""

    layer: str
    op: str
    tensor: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class TappedModel:
    """A serialised ONNX model whose outputs are the taps' tensors, all fp32."""

    model: bytes
    taps: tuple[Tap, ...]


def rounds_anything(program: Program, rounding: Rounding) -> bool:
    """Whether the program computes anything that ``rounding`` changes."""
    if rounding != "package":
        return rounding != "none"
    return any(
        value.type.dtype == "fp16"
        for operation in program.main.block.operations
        for value in operation.outputs
    )


def tapped_model(program: Program, rounding: Rounding = "none") -> TappedModel:
    """The program's main function with a tap at every layer that has a tensor of its own.

    Layers that lowering does without (casts between float types) have none.
    Raises ``ModelFormatError`` as lowering does.
    """
    model = lower_to_onnx(program)
    made = {name for node in model.graph.node for name in node.output}
    taps = _taps(program.main.block.operations, made)
    by_tensor = {tap.tensor: tap for tap in taps}
    if rounding != "none":
        types = {
            value.name: value.type.dtype
            for operation in program.main.block.operations
            for value in operation.outputs
        }
        chosen = {
            tensor for tensor in by_tensor if rounding != "package" or types[tensor] == "fp16"
        }
        _round_results(model, chosen, _ONNX_FORMAT[rounding])
        if rounding != "package":
            _round_given(model, _ONNX_FORMAT[rounding])
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in by_tensor
    )
    return TappedModel(model.SerializeToString(), taps)


def _taps(operations: tuple[Operation, ...], made: set[str]) -> tuple[Tap, ...]:
    # Which tapped tensors a value is, or is made of where it has no tensor of its own.
    known: dict[Value, tuple[str, ...]] = {}
    taps = []
    for operation in operations:
        inputs = [value for values in operation.inputs.values() for value in values]
        sources = tuple(
            dict.fromkeys(
                tensor for value in inputs if value.data is None for tensor in known.get(value, ())
            )
        )
        for value in operation.outputs:
            if value.type.dtype in FLOAT_TYPES and value.name in made:
                known[value] = (value.name,)
                taps.append(Tap(operation.name, operation.kind, value.name, sources))
            else:
                known[value] = sources
    return tuple(taps)


def _round_results(model: onnx.ModelProto, tensors: set[str], target: int) -> None:
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in tensors:
                node.output[index] = f"{name}/exact"
                nodes.extend(_there_and_back(f"{name}/exact", name, target))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _round_given(model: onnx.ModelProto, target: int) -> None:
    """Round inputs and weights as well."""
    nodes: list[onnx.NodeProto] = []
    for given in model.graph.input:
        if given.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        rounded = f"{given.name}/rounded"
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                if name == given.name:
                    node.input[index] = rounded
        nodes.extend(_there_and_back(given.name, rounded, target))
    nodes.extend(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for index, weight in enumerate(model.graph.initializer):
        if weight.data_type == TensorProto.FLOAT:
            numbers = rounded_to(numpy_helper.to_array(weight), target)
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(numbers, weight.name))


def rounded_to(numbers: np.ndarray[Any, np.dtype[Any]], target: int) -> Any:
    """fp32 numbers as they are after a conversion to ONNX type ``target`` and back."""
    if target == TensorProto.FLOAT16:
        with np.errstate(over="ignore"):
            return numbers.astype(np.float16).astype(np.float32)
    # bf16 is the upper half of an fp32; to nearest, ties to even.
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).reshape(numbers.shape)


def _there_and_back(source: str, result: str, target: int) -> list[onnx.NodeProto]:
    between = f"{result}/narrow"
    return [
        helper.make_node("Cast", [source], [between], name=f"{result}/Narrow", to=target),
        helper.make_node(
            "Cast", [between], [result], name=f"{result}/Widen", to=int(TensorProto.FLOAT)
        ),
    ]
