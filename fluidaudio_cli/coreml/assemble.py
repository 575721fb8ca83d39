"""From operations as written in a package to IR: names resolved, constants evaluated.

Shared by both readers (protobuf and textual MIL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.coreml.blob import BlobFile
from fluidaudio_cli.coreml.constexpr import SCHEMES
from fluidaudio_cli.coreml.ir import Block, Operation, Quantized, TensorType, Value
from fluidaudio_cli.errors import ModelFormatError

_MODEL_PATH = "@model_path/"


class WeightFiles:
    """Weight files of one model, opened when first referred to.

    ``folder`` is what MIL calls ``@model_path``; nothing outside it is ever opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, BlobFile] = {}

    def read(
        self, name: str, offset: int, dtype: str, shape: tuple[int, ...]
    ) -> NDArray[np.generic]:
        """The constant stored in weight file ``name`` (as MIL writes it) at ``offset``."""
        if name not in self._open:
            relative = PurePosixPath(name.removeprefix(_MODEL_PATH))
            if relative.is_absolute() or ".." in relative.parts:
                raise ModelFormatError(f"weight file '{name}' is outside the package")
            path = self._folder / relative
            if not path.is_file():
                raise ModelFormatError(
                    f"{path}: weight file is missing", "copy the whole package again"
                )
            self._open[name] = BlobFile(path)
        return self._open[name].read(offset, dtype, shape)


class BlockAssembler:
    """Collects one block's operations; a nested block sees the names of the outer ones."""

    def __init__(self, inputs: Sequence[Value], outer: BlockAssembler | None = None) -> None:
        self._inputs = tuple(inputs)
        self._scope: dict[str, Value] = dict(outer._scope) if outer else {}
        self._scope.update((value.name, value) for value in inputs)
        self._operations: list[Operation] = []

    def add(
        self,
        kind: str,
        name: str,
        arguments: Mapping[str, Sequence[str | Value]],
        attributes: Mapping[str, Value],
        outputs: Sequence[Value],
        blocks: Sequence[Block] = (),
    ) -> None:
        """Append one operation, or define its outputs when it is a constant.

        ``arguments`` are names or inline constants. iOS 16's constexpr operations carry their
        parameters as ``attributes``.
        """
        name = name or (outputs[0].name if outputs else kind)
        if kind == "const":
            self._define(kind, name, outputs, (attributes.get("val"),))
            return
        inputs = {key: tuple(self.resolve(one) for one in many) for key, many in arguments.items()}
        inputs.update({key: (value,) for key, value in attributes.items() if key not in inputs})
        if kind.startswith("constexpr_"):
            self._define(kind, name, outputs, _evaluate(kind, name, inputs))
            return
        self._scope.update((value.name, value) for value in outputs)
        self._operations.append(Operation(kind, name, inputs, tuple(outputs), tuple(blocks)))

    def resolve(self, argument: str | Value) -> Value:
        """The value called ``argument``; a value stands for itself."""
        if isinstance(argument, Value):
            return argument
        value = self._scope.get(argument)
        if value is None:
            raise ModelFormatError(f"'{argument}' is used before it is defined")
        return value

    def finish(self, outputs: Sequence[str]) -> Block:
        """The block, handing back the values named ``outputs``."""
        values = tuple(self.resolve(name) for name in outputs)
        return Block(self._inputs, tuple(self._operations), values)

    def _define(
        self, kind: str, name: str, outputs: Sequence[Value], results: Sequence[Value | None]
    ) -> None:
        if len(outputs) != len(results):
            raise ModelFormatError(f"{kind} '{name}' has {len(outputs)} outputs")
        for output, result in zip(outputs, results, strict=True):
            if result is None or result.data is None:
                raise ModelFormatError(f"{kind} '{name}' has no value")
            self._scope[output.name] = replace(
                output,
                data=result.data,
                storage=result.storage or output.type.dtype,
                quantized=result.quantized,
            )


def _evaluate(kind: str, name: str, inputs: Mapping[str, tuple[Value, ...]]) -> list[Value]:
    if kind not in SCHEMES:
        raise ModelFormatError(f"compressed weight '{name}' uses {kind}, which is not known")
    parameter, scheme, evaluate = SCHEMES[kind]
    arrays = {key: values[0].data for key, values in inputs.items() if values}
    try:
        results = evaluate({key: array for key, array in arrays.items() if array is not None})
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ModelFormatError(
            f"compressed weight '{name}' ({kind}) is damaged: {error}"
        ) from error
    stored = inputs[parameter][0].storage
    if kind == "constexpr_lut_to_dense" and "shape" in inputs:
        stored = f"uint{inputs['lut'][0].data.size.bit_length() - 1}"  # type: ignore[union-attr]
    storage = f"{stored} {scheme}".strip()
    quantized = _quantized(kind, arrays)
    return [
        Value("", TensorType("", tuple(result.shape)), result, storage, quantized)
        for result in results
    ]


def _quantized(kind: str, arrays: Mapping[str, NDArray[np.generic] | None]) -> Quantized | None:
    """The integers of weights that have one scale for each output channel."""
    data, scale = arrays.get("data"), arrays.get("scale")
    if kind != "constexpr_blockwise_shift_scale" or arrays.get("offset") is not None:
        return None
    if data is None or scale is None or data.dtype != np.int8 or not data.ndim:
        return None
    if scale.shape != (len(data), *(1,) * (data.ndim - 1)):
        return None
    return Quantized(data.astype(np.int8), scale.ravel().astype(np.float32))
