"""The small intermediate representation that a Core ML ML Program is read into.

A faithful, typed picture of MIL (the language inside ``.mlpackage`` and ``.mlmodelc``) with the
constants already resolved: ``const`` and ``constexpr_*`` operations do not appear, the values
they define carry a NumPy array instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# A size known when the model was built, or None where it is known only at run time. Sizes of
# function inputs that are flexible have a symbol (a name) instead of None.
Dimension = int | str | None


@dataclass(frozen=True)
class TensorType:
    """Element type (MIL name: ``fp16``, ``int32``, ``bool``, ``string`` ...) and shape."""

    dtype: str
    shape: tuple[Dimension, ...] = ()

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape when every size is known, else None."""
        known = tuple(size for size in self.shape if isinstance(size, int))
        return known if len(known) == len(self.shape) else None

    def __str__(self) -> str:
        """``fp16[batch, 589, 7]``; an unnamed unknown size is ``?``."""
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype}[{sizes}]"


@dataclass(frozen=True, eq=False)
class Quantized:
    """Weights as integers: ``data`` times ``scale`` (channels,) along the first axis."""

    data: NDArray[np.int8]
    scale: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Value:
    """One single-assignment tensor: a function input, an operation's output, or a constant.

    ``data`` is the constant's array in the NumPy type of ``type.dtype`` (sub-byte integers as
    int8/uint8, strings as ``str_``), None for values computed at run time. ``storage`` says how
    a constant's numbers lie in the package: its own type, or for example ``uint4 palette``.
    ``quantized``: the integers of 8-bit weights, for arithmetic on these.
    """

    name: str
    type: TensorType
    data: NDArray[np.generic] | None = None
    storage: str = ""
    quantized: Quantized | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the value is known when the model is loaded."""
        return self.data is not None


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation: ``kind`` is MIL's operation type, ``inputs`` its arguments by parameter.

    Most parameters bind one value; variadic ones (``concat``'s ``values``) bind several.
    """

    kind: str
    name: str
    inputs: Mapping[str, tuple[Value, ...]]
    outputs: tuple[Value, ...]
    blocks: tuple[Block, ...] = ()

    def __str__(self) -> str:
        """``conv 'conv_1'``."""
        return f"{self.kind} '{self.name}'"


@dataclass(frozen=True, eq=False)
class Block:
    """Operations in execution order, and the values handed back."""

    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Function:
    """A named entry point; ``opset`` is ``CoreML5`` (iOS 15) and later."""

    name: str
    opset: str
    inputs: tuple[Value, ...]
    block: Block


@dataclass(frozen=True)
class Feature:
    """What the package says of one model input, output or state.

    ``kind`` is ``tensor``, ``image``, ``state`` or ``other``; ``ranges`` gives (smallest,
    largest) per dimension of a flexible input (-1: unbounded) and is empty otherwise.
    """

    name: str
    kind: str
    type: TensorType
    description: str = ""
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Program:
    """A whole ML Program. ``main`` is the function that a plain prediction runs."""

    functions: Mapping[str, Function]
    main: Function
    specification_version: int
    inputs: tuple[Feature, ...] = ()
    outputs: tuple[Feature, ...] = ()
    states: tuple[Feature, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def flexible_symbol(input_name: str, axis: int) -> str:
    """Name of a flexible size of a model input; the package itself gives none.

    By the convention of speech models the first axis is the batch, common to all inputs.
    """
    return "batch" if axis == 0 else f"{input_name}_{axis}"


def metadata_of(named: Sequence[str], others: Mapping[str, str]) -> dict[str, str]:
    """Description, version, author and licence (``named``) unless empty, then ``others``."""
    keys = ("description", "version", "author", "license")
    known = {key: text for key, text in zip(keys, named, strict=True) if text}
    return {**known, **dict(sorted(others.items()))}


def iterate_operations(block: Block) -> Iterator[Operation]:
    """Every operation of ``block``, those of nested blocks after the one that holds them."""
    for operation in block.operations:
        yield operation
        for nested in operation.blocks:
            yield from iterate_operations(nested)
