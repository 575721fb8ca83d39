"""Reader of textual MIL: the ``model.mil`` of a compiled ``.mlmodelc``.

Apple publishes no grammar; this one is drawn from compiled models of program versions 1.0
(every constant a ``tensor<...>``) and 1.3 (scalars written plainly, as in ``int32(1)``)::

    program  := "program" "(" version ")" attributes? "{" function* "}"
    function := "func" name "<" opset ">" "(" (type name),* ")" attributes? block ";"?
    block    := "{" operation* "}" "->" "(" name,* ")"
    operation:= (type name),+ "=" kind "(" (name "=" argument),* ")" attributes? block* ";"
    attributes := "[" (name "=" value),* "]"
    value    := type "(" literal ")"
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluidaudio_cli.coreml.assemble import BlockAssembler, WeightFiles
from fluidaudio_cli.coreml.dtypes import NUMPY_TYPES
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
from fluidaudio_cli.coreml.mil_tokens import Source, Tokens
from fluidaudio_cli.coreml.package import COPY_AGAIN, choose_function, read_json
from fluidaudio_cli.errors import ModelFormatError, os_errors

# MIL text calls opsets by the system; the protobuf form calls them CoreMLn.
_OPSETS = {"ios15": "CoreML5", "ios16": "CoreML6", "ios17": "CoreML7", "ios18": "CoreML8"}
_KINDS = {"MultiArray": "tensor", "Image": "image", "State": "state"}
_ARRAY_TYPES = {"Float16": "fp16", "Float32": "fp32", "Double": "fp64", "Int32": "int32"}


def read_compiled(package: Path, function: str | None = None) -> Program:
    """The program of a compiled model. ``ModelFormatError`` names file and line."""
    path = package / "model.mil"
    refused = f"{path} is not textual MIL", COPY_AGAIN, ModelFormatError
    with os_errors(*refused, UnicodeDecodeError):
        text = path.read_text(encoding="utf-8")
    functions = _Parser(Source(path, text), WeightFiles(package)).program()
    described = package / "metadata.json"
    metadata = read_json(described) if described.is_file() else [{}]
    try:
        facts = metadata[0]
        default = str(facts.get("defaultFunctionName") or "")
        main = choose_function(path, functions, function, default)
        # Of several functions each has a description of its own.
        own = [one for one in facts.get("functions") or () if one.get("name") == main.name]
        return _describe(functions, main, {**facts, **(own[0] if own else {})})
    except ModelFormatError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelFormatError(f"{described} is damaged ({error})", COPY_AGAIN) from error


def _describe(functions: dict[str, Function], main: Function, data: dict[str, Any]) -> Program:
    return Program(
        functions=functions,
        main=main,
        specification_version=int(data.get("specificationVersion", 0)),
        inputs=_features(data.get("inputSchema"), main.inputs),
        outputs=_features(data.get("outputSchema"), main.block.outputs),
        states=_features(data.get("stateSchema"), ()),
        metadata=metadata_of(
            [data.get(key, "") for key in ("shortDescription", "version", "author", "license")],
            data.get("userDefinedMetadata", {}),
        ),
    )


def _features(
    schema: Sequence[dict[str, Any]] | None, values: Sequence[Value]
) -> tuple[Feature, ...]:
    """As ``metadata.json`` has them; where it has none, as the program has."""
    shapes = {value.name: value.type.shape for value in values}
    return tuple(
        Feature(
            name := str(one.get("name", "")),
            _KINDS.get(str(one.get("type")), "other"),
            TensorType(_ARRAY_TYPES.get(str(one.get("dataType")), "unknown"), shapes.get(name, ())),
            str(one.get("shortDescription", "")),
        )
        for one in schema or ()
    ) or tuple(Feature(value.name, "tensor", value.type) for value in values)


class _Parser:
    def __init__(self, source: Source, weights: WeightFiles) -> None:
        self._tokens = Tokens(source)
        self._weights = weights

    def program(self) -> dict[str, Function]:
        tokens = self._tokens
        tokens.expect("program")
        tokens.expect("(")
        tokens.take()
        tokens.expect(")")
        self._attributes()
        tokens.expect("{")
        functions = {}
        while not tokens.accept("}"):
            function = self._function()
            functions[function.name] = function
        if not tokens.is_class("end"):
            raise tokens.error("text after the end of the program")
        return functions

    def _function(self) -> Function:
        tokens = self._tokens
        tokens.expect("func")
        name = tokens.name()
        tokens.expect("<")
        opset = tokens.name()
        tokens.expect(">")
        inputs = tuple(_with_symbols(value) for value in self._parameters())
        self._attributes()
        block = self._block(BlockAssembler(inputs))
        tokens.accept(";")
        return Function(name, _OPSETS.get(opset.lower(), opset), inputs, block)

    def _parameters(self) -> list[Value]:
        tokens = self._tokens
        tokens.expect("(")
        values = []
        for _ in tokens.until(")"):
            kind = self._type()
            values.append(Value(tokens.name(), kind))
        return values

    def _block(self, assembler: BlockAssembler) -> Block:
        tokens = self._tokens
        tokens.expect("{")
        while not tokens.accept("}"):
            self._operation(assembler)
        tokens.expect("->")
        tokens.expect("(")
        return assembler.finish([tokens.name() for _ in tokens.until(")")])

    def _operation(self, assembler: BlockAssembler) -> None:
        tokens = self._tokens
        start = tokens.position()
        outputs = []
        for _ in tokens.until("="):
            kind = self._type()
            outputs.append(Value(tokens.name(), kind))
        kind_name = tokens.name()
        arguments = self._arguments()
        attributes = self._attributes()
        name = attributes.pop("name", None)
        nested = []
        for _ in tokens.until(";"):
            if tokens.is_class("name"):
                tokens.take()
            inputs = self._parameters() if tokens.peek() == "(" else []
            nested.append(self._block(BlockAssembler(inputs, assembler)))
        try:
            assembler.add(
                kind_name,
                "" if name is None else str(name.data),
                arguments,
                attributes,
                outputs,
                nested,
            )
        except ModelFormatError as error:
            raise tokens.source.error(start, error.message) from error

    def _arguments(self) -> dict[str, list[str | Value]]:
        tokens = self._tokens
        tokens.expect("(")
        arguments: dict[str, list[str | Value]] = {}
        for _ in tokens.until(")"):
            key = tokens.name()
            tokens.expect("=")
            if tokens.accept("("):
                arguments[key] = [self._argument() for _ in tokens.until(")")]
            else:
                arguments[key] = [self._argument()]
        return arguments

    def _argument(self) -> str | Value:
        """A name, or a constant written in place (which starts with its type)."""
        tokens = self._tokens
        if tokens.peek() in NUMPY_TYPES or tokens.peek() in ("tensor", "list", "tuple", "dict"):
            return self._value()
        return tokens.name()

    def _attributes(self) -> dict[str, Value]:
        tokens = self._tokens
        attributes = {}
        if tokens.accept("["):
            for _ in tokens.until("]"):
                key = tokens.name()
                tokens.expect("=")
                attributes[key] = self._value()
        return attributes

    def _value(self) -> Value:
        tokens = self._tokens
        start = tokens.position()
        kind = self._type()
        tokens.expect("(")
        if tokens.accept("BLOBFILE"):
            data = self._blob(kind, start)
        else:
            items: list[Any] = []
            while tokens.peek() != ")":
                self._literal(items)
                tokens.accept(",")
            data = None
            if kind.dtype in NUMPY_TYPES:
                data = self._array(kind, items, start)
        tokens.expect(")")
        return Value("", kind, data, kind.dtype)

    def _blob(self, kind: TensorType, start: int) -> Any:
        arguments = self._arguments()
        shape = kind.static_shape
        path, offset = (arguments.get(key, [None])[0] for key in ("path", "offset"))
        if shape is None or not isinstance(path, Value) or not isinstance(offset, Value):
            raise self._tokens.source.error(start, "BLOBFILE needs a path, an offset and a shape")
        try:
            start_byte = int(np.asarray(offset.data).item())
            return self._weights.read(str(path.data), start_byte, kind.dtype, shape)
        except ModelFormatError as error:
            raise self._tokens.source.error(start, error.message) from error

    def _array(self, kind: TensorType, items: list[Any], start: int) -> Any:
        shape = kind.static_shape
        if shape is None:
            # Attributes such as default shapes leave their length open.
            shape = (len(items),)
        try:
            if kind.dtype == "string" and not shape and len(items) == 1:
                return np.array(items[0])
            return np.array(items, NUMPY_TYPES[kind.dtype]).reshape(shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise self._tokens.source.error(
                start, f"a constant of type {kind} cannot hold {len(items)} values ({error})"
            ) from error

    def _literal(self, items: list[Any]) -> None:
        """Append the scalars of a literal in order; lists, tuples and dicts are flattened."""
        tokens = self._tokens
        closing = {"[": "]", "(": ")", "{": "}"}.get(tokens.peek())
        if closing and not tokens.is_class("string"):
            tokens.take()
            for _ in tokens.until(closing):
                self._literal(items)
        elif tokens.is_class("string"):
            items.append(tokens.string())
        elif tokens.is_class("number"):
            items.append(self._number())
        elif tokens.peek() in ("true", "false"):
            items.append(tokens.take() == "true")
        elif tokens.is_class("name"):
            items.append(self._value())  # a typed value inside a tuple or dictionary
        else:
            raise tokens.error(f"expected a value, found '{tokens.peek()}'")

    def _number(self) -> int | float:
        start, text = self._tokens.position(), self._tokens.take()
        lowered = text.lower()
        if "0x" in lowered:
            try:
                return float.fromhex(text)
            except (ValueError, OverflowError) as error:
                raise self._tokens.source.error(start, f"'{text}': {error}") from error
        if lowered.lstrip("+-") in ("inf", "nan") or any(mark in lowered for mark in ".e"):
            return float(text)
        return int(text)

    def _type(self) -> TensorType:
        tokens = self._tokens
        start = tokens.position()
        name = tokens.name()
        if not tokens.accept("<"):
            if name not in NUMPY_TYPES:
                raise tokens.source.error(start, f"unknown type '{name}'")
            return TensorType(name)
        if name == "tensor":
            dtype = tokens.name()
            shape: tuple[Dimension, ...] = self._shape() if tokens.accept(",") else ()
            tokens.expect(">")
            return TensorType(dtype, shape)
        inner = []
        for _ in tokens.until(">"):
            if tokens.is_class("number") or tokens.peek() == "?":
                tokens.take()  # the length of a list
            else:
                inner.append(self._type())
        if name == "state" and inner:
            return TensorType(f"state<{inner[0].dtype}>", inner[0].shape)
        return TensorType(name)

    def _shape(self) -> tuple[Dimension, ...]:
        tokens = self._tokens
        tokens.expect("[")
        sizes: list[Dimension] = []
        for _ in tokens.until("]"):
            if tokens.is_class("number"):
                if not tokens.peek().isdecimal():
                    raise tokens.error(f"'{tokens.peek()}' is no size")
                sizes.append(int(tokens.take()))
            else:
                tokens.take()  # "?" or a symbol: a size known at run time
                sizes.append(None)
        return tuple(sizes)


def _with_symbols(value: Value) -> Value:
    shape = tuple(
        flexible_symbol(value.name, axis) if size is None else size
        for axis, size in enumerate(value.type.shape)
    )
    return Value(value.name, TensorType(value.type.dtype, shape))
