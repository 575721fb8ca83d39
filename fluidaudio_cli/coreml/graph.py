"""An ONNX graph under construction, and what a lowering function sees of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from fluidaudio_cli.coreml.dtypes import FLOAT_TYPES
from fluidaudio_cli.coreml.ir import Operation, TensorType, Value
from fluidaudio_cli.errors import ModelFormatError

FloatType = Literal["fp32", "fp16"]

# Every integer becomes int64: ONNX wants int64 for shapes and indices, and one common type saves
# a Cast at each crossing. Model inputs and outputs keep their own type at the edge.
_ONNX_TYPES = {
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "bool": TensorProto.BOOL,
    **dict.fromkeys(
        ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        TensorProto.INT64,
    ),
}
NARROW_TYPES = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "uint16": TensorProto.UINT16,
}
"""Integers that hold less than MIL's usual int32: a cast to them drops what does not fit."""
# "To the end" and "to the start" of a slice. Of int32, because OpenVINO narrows to it.
SLICE_END = int(np.iinfo(np.int32).max)
SLICE_START = int(np.iinfo(np.int32).min)


@dataclass
class Node:
    """An ONNX node before its outputs have their final names."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    operation: Operation
    name: str = ""

    def to_onnx(self) -> onnx.NodeProto:
        """The node, marked with the MIL operation it comes from."""
        try:
            node = helper.make_node(
                self.kind,
                self.inputs,
                self.outputs,
                name=self.name,
                doc_string=str(self.operation),
                **self.attributes,
            )
        except ValueError as error:  # a list that is empty
            raise ModelFormatError(
                f"{self.operation} has parameters that do not fit: {error}"
            ) from error
        for key, text in (("mil.op", self.operation.kind), ("mil.name", self.operation.name)):
            entry = node.metadata_props.add()
            entry.key, entry.value = key, text
        return node


def rename(nodes: list[Node], names: dict[str, str]) -> None:
    """Call tensors otherwise wherever ``nodes`` make or use them."""
    for node in nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        node.outputs = [names.get(name, name) for name in node.outputs]


@dataclass
class Graph:
    """Nodes and constants so far, and which ONNX tensor stands for which MIL value."""

    float_type: FloatType = "fp32"
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    # Values known to be one number throughout, such as an LSTM's zero state built by `fill`.
    uniform: dict[Value, float] = field(default_factory=dict)
    # Values that are another one rearranged, to that one (see `recurrent`).
    origins: dict[Value, Value] = field(default_factory=dict)
    # Results of `quantize` as the 8-bit tensors they are, and values that `dequantize` made of
    # such: so that quantization stands beside its reversal, where runtimes look for it.
    narrow: dict[Value, str] = field(default_factory=dict)
    dequantized: set[Value] = field(default_factory=set)
    recurrent_readers: Counter[Value] = field(default_factory=Counter)
    _names: dict[Value, str] = field(default_factory=dict)
    _shared: dict[tuple[str, bytes, tuple[int, ...]], str] = field(default_factory=dict)

    def onnx_type(self, dtype: str) -> int:
        """ONNX element type for MIL type ``dtype``."""
        if dtype == "fp16":
            return int(TensorProto.FLOAT if self.float_type == "fp32" else TensorProto.FLOAT16)
        if dtype not in _ONNX_TYPES:
            raise ModelFormatError(f"type {dtype} has no counterpart in ONNX")
        return int(_ONNX_TYPES[dtype])

    def numpy_type(self, dtype: str) -> np.dtype[Any]:
        """NumPy type of the ONNX element type for ``dtype``."""
        kind: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(self.onnx_type(dtype))
        return kind

    def bind(self, value: Value, name: str) -> None:
        """Let the ONNX tensor ``name`` stand for ``value``."""
        self._names[value] = name

    def name_of(self, value: Value, hint: str = "constant") -> str:
        """ONNX tensor that stands for ``value``; a constant becomes an initializer here."""
        if value not in self._names:
            if value.data is None:
                raise ModelFormatError(f"'{value.name}' is used before it is computed")
            array = value.data.astype(self.numpy_type(value.type.dtype), copy=False)
            name = value.name or hint
            if name in self.constants:
                name = f"{name}/{len(self.constants)}"
            self.constants[name] = array
            self._names[value] = name
        return self._names[value]

    def rename(self, old: str, new: str) -> str:
        """Call the tensor ``old`` ``new``, wherever it is made or used; ``new``."""
        if old in self.constants:
            self.constants[new] = self.constants.pop(old)
        rename(self.nodes, {old: new})
        self._names.update({value: new for value, name in self._names.items() if name == old})
        return new

    def constant(self, array: NDArray[np.generic]) -> str:
        """An initializer of our own; equal small ones are shared."""
        key = (array.dtype.str, array.tobytes() if array.size <= 64 else b"", array.shape)
        if array.size > 64 or key not in self._shared:
            name = f"constant/{len(self.constants)}"
            self.constants[name] = array
            if array.size > 64:
                return name
            self._shared[key] = name
        return self._shared[key]

    def initializers(self, used: set[str]) -> list[onnx.TensorProto]:
        """The constants that ``used`` names."""
        return [
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            for name, array in self.constants.items()
            if name in used
        ]


class Lowering:
    """One MIL operation being lowered: typed access to its parameters, and ``emit``.

    A lowering function returns the ONNX tensor of each output; the caller gives the tensors
    their MIL names.
    """

    def __init__(self, graph: Graph, operation: Operation) -> None:
        self.graph = graph
        self.operation = operation
        self.nodes: list[Node] = []

    # Parameters

    def has(self, parameter: str) -> bool:
        """Whether an optional parameter was given."""
        return bool(self.operation.inputs.get(parameter))

    def value(self, parameter: str) -> Value:
        """The single value of a parameter."""
        values = self.operation.inputs.get(parameter)
        if not values:
            raise self.error(f"has no '{parameter}'")
        return values[0]

    def tensor(self, parameter: str) -> str:
        """ONNX tensor of a parameter."""
        return self.graph.name_of(self.value(parameter), f"{self.operation.name}/{parameter}")

    def tensors(self, parameter: str) -> list[str]:
        """ONNX tensors of a variadic parameter."""
        return [
            self.graph.name_of(value, f"{self.operation.name}/{parameter}_{index}")
            for index, value in enumerate(self.operation.inputs.get(parameter, ()))
        ]

    def given(self, parameter: str) -> list[str]:
        """ONNX tensor of an optional parameter, none where it is not given."""
        return [self.tensor(parameter)] if self.has(parameter) else []

    def type(self, parameter: str = "x") -> TensorType:
        """MIL type of a parameter."""
        return self.value(parameter).type

    def array(self, parameter: str) -> NDArray[Any]:
        """A parameter that must be constant."""
        data = self.value(parameter).data
        if data is None:
            raise self.error(f"computes '{parameter}' at run time, which is not supported")
        return data

    def optional_array(self, parameter: str) -> NDArray[Any] | None:
        """A constant parameter, or None if it is not given or not constant."""
        return self.value(parameter).data if self.has(parameter) else None

    def floats(self, parameter: str) -> NDArray[np.floating[Any]]:
        """A constant tensor in the float type of the lowered graph."""
        return self.array(parameter).astype(self.graph.numpy_type("fp16"), copy=False)

    def integer(self, parameter: str, default: int | None = None) -> int:
        """A constant integer."""
        return int(self._scalar(parameter, default))

    def number(self, parameter: str, default: float | None = None) -> float:
        """A constant number."""
        return float(self._scalar(parameter, default))

    def flag(self, parameter: str, default: bool = False) -> bool:
        """A constant boolean."""
        return bool(self._scalar(parameter, default))

    def text(self, parameter: str, default: str | None = None) -> str:
        """A constant string."""
        return str(self._scalar(parameter, default))

    def integers(self, parameter: str, default: Sequence[int] | None = None) -> list[int]:
        """A constant list of integers."""
        if not self.has(parameter) and default is not None:
            return list(default)
        return [int(one) for one in self.array(parameter).ravel()]

    def axis(self, parameter: str = "axis", default: int | None = None, of: str = "x") -> int:
        """A constant axis, counted from the front."""
        axis, rank = self.integer(parameter, default), self.type(of).rank
        if not -rank <= axis < max(rank, 1):
            raise self.error(f"has axis {axis} for a tensor of rank {rank}")
        return axis % rank if rank else 0

    def _scalar(self, parameter: str, default: Any) -> Any:
        if not self.has(parameter):
            if default is None:
                raise self.error(f"has no '{parameter}'")
            return default
        array = self.array(parameter)
        if array.size != 1:
            raise self.error(f"has {array.size} values for '{parameter}', expected one")
        return array.reshape(-1)[0]

    # Building

    def emit(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; the name of that."""
        return self.emit_many(kind, *inputs, outputs=1, **attributes)[0]

    def emit_many(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node; the names of all its outputs."""
        stem = f"{self.operation.name}/{kind}_{len(self.nodes)}"
        names = [stem if index == 0 else f"{stem}.{index}" for index in range(outputs)]
        self.nodes.append(Node(kind, list(inputs), names, attributes, self.operation))
        return names

    def constant(self, value: ArrayLike, dtype: str = "int32") -> str:
        """A constant of ours in the graph's counterpart of MIL type ``dtype``."""
        return self.graph.constant(np.asarray(value, self.graph.numpy_type(dtype)))

    def like(self, value: ArrayLike, parameter: str = "x") -> str:
        """A constant of ours in the type of ``parameter``."""
        return self.constant(value, self.type(parameter).dtype)

    def transpose(self, tensor: str, order: Sequence[int]) -> str:
        """``tensor`` with its axes in ``order``."""
        if list(order) == sorted(order):
            return tensor
        return self.emit("Transpose", tensor, perm=list(order))

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        """``tensor`` with a new shape; 0 keeps a size, -1 is computed."""
        return self.emit("Reshape", tensor, self.constant(list(shape)))

    def is_float(self, parameter: str = "x") -> bool:
        """Whether a parameter holds floating-point numbers."""
        return self.type(parameter).dtype in FLOAT_TYPES

    def error(self, what: str) -> ModelFormatError:
        """An error about this operation."""
        return ModelFormatError(f"{self.operation} {what}")
