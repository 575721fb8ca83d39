"""Reader of the protobuf form of an ML Program (``model.mlmodel`` in an ``.mlpackage``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.coreml.assemble import BlockAssembler, WeightFiles
from fluidaudio_cli.coreml.dtypes import NUMPY_TYPES, decode, stored_bytes
from fluidaudio_cli.coreml.ir import (
    Block,
    Dimension,
    Feature,
    Function,
    Program,
    TensorType,
    Value,
    flexible_symbol,
    metadata_of,
)
from fluidaudio_cli.coreml.package import choose_function
from fluidaudio_cli.coreml.protos import mil_messages, model_messages
from fluidaudio_cli.errors import ModelFormatError, named_errors

# Names of DataType in MIL.proto that differ from "lower case".
_FLOATS = {"FLOAT16": "fp16", "FLOAT32": "fp32", "FLOAT64": "fp64", "BFLOAT16": "bf16"}
# ArrayFeatureType.ArrayDataType of FeatureTypes.proto.
_ARRAY_TYPES = {
    65552: "fp16",
    65568: "fp32",
    65600: "fp64",
    131080: "int8",
    131104: "int32",
}


def read_spec(path: Path, weights_folder: Path, function: str | None = None) -> Program:
    """Parse the specification at ``path``.

    Raises ``ModelFormatError`` for bytes that are no specification, for models that are not
    ML Programs, and for anything in them that refers to nothing.
    """
    from google.protobuf.message import DecodeError

    model = model_messages().Model()
    try:
        with named_errors(path):
            model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelFormatError(
            f"{path} is not a Core ML specification", "copy or convert the package again"
        ) from error
    kind = model.WhichOneof("Type")
    if kind != "mlProgram":
        held = f"a model of type {kind}" if kind else "no model"
        raise ModelFormatError(
            f"{path} holds {held}, not an ML Program",
            'convert it again with convert_to="mlprogram"',
        )
    reader = _Reader(WeightFiles(weights_folder))
    try:
        functions = {
            name: reader.function(name, each) for name, each in model.mlProgram.functions.items()
        }
    except ModelFormatError as error:
        if str(path.parent) in error.message or str(weights_folder) in error.message:
            raise
        raise ModelFormatError(f"{path}: {error.message}", error.remedy) from error
    main = choose_function(path, functions, function, model.description.defaultFunctionName)
    description = next(
        (one for one in model.description.functions if one.name == main.name), model.description
    )
    told = model.description.metadata
    return Program(
        functions=functions,
        main=main,
        specification_version=model.specificationVersion,
        inputs=tuple(_feature(one) for one in description.input),
        outputs=tuple(_feature(one) for one in description.output),
        states=tuple(_feature(one) for one in description.state),
        metadata=metadata_of(
            (told.shortDescription, told.versionString, told.author, told.license),
            told.userDefined,
        ),
    )


class _Reader:
    def __init__(self, weights: WeightFiles) -> None:
        self._weights = weights

    def function(self, name: str, message: Any) -> Function:
        blocks = message.block_specializations
        if message.opset not in blocks:
            raise ModelFormatError(f"function '{name}' has no block for opset '{message.opset}'")
        inputs = tuple(
            Value(one.name, _tensor_type(one.type, symbols_of=one.name)) for one in message.inputs
        )
        block = self._block(blocks[message.opset], BlockAssembler(inputs))
        return Function(name, message.opset, inputs, block)

    def _block(self, message: Any, assembler: BlockAssembler) -> Block:
        for operation in message.operations:
            attributes = {key: self._value(value) for key, value in operation.attributes.items()}
            name = attributes.pop("name", None)
            nested = []
            for inner in operation.blocks:
                values = tuple(Value(one.name, _tensor_type(one.type)) for one in inner.inputs)
                nested.append(self._block(inner, BlockAssembler(values, assembler)))
            assembler.add(
                operation.type,
                "" if name is None else str(name.data),
                {
                    key: [
                        one.name if one.WhichOneof("binding") == "name" else self._value(one.value)
                        for one in argument.arguments
                    ]
                    for key, argument in operation.inputs.items()
                },
                attributes,
                [Value(one.name, _tensor_type(one.type)) for one in operation.outputs],
                nested,
            )
        return assembler.finish(message.outputs)

    def _value(self, message: Any) -> Value:
        kind = _tensor_type(message.type)
        if message.type.WhichOneof("type") != "tensorType":
            return Value("", kind)
        shape = kind.static_shape
        if shape is None or kind.dtype not in NUMPY_TYPES:
            raise ModelFormatError(f"a constant of type {kind} is not supported")
        if message.WhichOneof("value") == "blobFileValue":
            blob = message.blobFileValue
            data = self._weights.read(blob.fileName, blob.offset, kind.dtype, shape)
        else:
            data = _immediate(message.immediateValue.tensor, kind.dtype, shape)
        return Value("", kind, data, kind.dtype)


def _immediate(message: Any, dtype: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    field = message.WhichOneof("value")
    count = int(np.prod(shape, dtype=np.int64))
    if field is None:
        if count:
            raise ModelFormatError(f"a constant of type {dtype}{list(shape)} has no value")
        return np.empty(shape, NUMPY_TYPES[dtype])
    if field == "bytes":
        raw = np.frombuffer(message.bytes.values, np.uint8)
        if raw.size != stored_bytes(dtype, count):
            raise ModelFormatError(f"a constant of type {dtype}{list(shape)} has {raw.size} bytes")
        return decode(raw, dtype, count).reshape(shape)
    try:
        values = np.array(list(getattr(message, field).values), NUMPY_TYPES[dtype])
    except (ValueError, OverflowError) as error:
        raise ModelFormatError(f"a constant of type {dtype} holds others ({error})") from error
    if values.size != count:
        raise ModelFormatError(f"a constant of type {dtype}{list(shape)} has {values.size} values")
    return values.reshape(shape)


def _tensor_type(message: Any, symbols_of: str | None = None) -> TensorType:
    kind = message.WhichOneof("type")
    if kind == "stateType":
        inner = _tensor_type(message.stateType.wrappedType)
        return TensorType(f"state<{inner.dtype}>", inner.shape)
    if kind != "tensorType":
        return TensorType(str(kind).removesuffix("Type"))
    tensor = message.tensorType
    name = _type_names().get(tensor.dataType)
    if name is None:
        raise ModelFormatError(f"the data type numbered {tensor.dataType} is not known")
    return TensorType(
        name,
        tuple(_dimension(axis, one, symbols_of) for axis, one in enumerate(tensor.dimensions)),
    )


def _dimension(axis: int, message: Any, symbols_of: str | None) -> Dimension:
    if message.WhichOneof("dimension") == "constant":
        return int(message.constant.size)
    return None if symbols_of is None else flexible_symbol(symbols_of, axis)


@cache
def _type_names() -> Mapping[int, str]:
    return {
        number: _FLOATS.get(name, name.lower()) for name, number in mil_messages().DataType.items()
    }


def _feature(message: Any) -> Feature:
    kind = message.type.WhichOneof("Type")
    if kind == "imageType":
        image = message.type.imageType
        shape = (image.height, image.width)
        return Feature(message.name, "image", TensorType("pixel", shape), message.shortDescription)
    if kind == "stateType":
        array, label = message.type.stateType.arrayType, "state"
    elif kind == "multiArrayType":
        array, label = message.type.multiArrayType, "tensor"
    else:
        return Feature(message.name, "other", TensorType(str(kind)), message.shortDescription)
    ranges = _ranges(array)
    sizes: list[Dimension] = [int(size) for size in array.shape]
    for axis, (low, high) in enumerate(ranges):
        if low != high:
            sizes[axis] = flexible_symbol(message.name, axis)
    dtype = _ARRAY_TYPES.get(array.dataType, "unknown")
    return Feature(
        message.name, label, TensorType(dtype, tuple(sizes)), message.shortDescription, ranges
    )


def _ranges(array: Any) -> tuple[tuple[int, int], ...]:
    flexibility = array.WhichOneof("ShapeFlexibility")
    if flexibility == "shapeRange":
        return tuple(
            (int(one.lowerBound), int(one.upperBound)) for one in array.shapeRange.sizeRanges
        )
    if flexibility == "enumeratedShapes":
        shapes: Iterable[tuple[int, ...]] = [
            tuple(one.shape) for one in array.enumeratedShapes.shapes
        ]
        return tuple((min(sizes), max(sizes)) for sizes in zip(*shapes, strict=True))
    return ()
