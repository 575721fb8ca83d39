"""The type of a lowering function, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fluidaudio_cli.coreml.graph import Lowering

# Returns the ONNX tensor of the operation's output, or one per output.
LoweringFunction = Callable[[Lowering], str | Sequence[str]]


def unary(kind: str) -> LoweringFunction:
    """An operation on ``x`` that ONNX has under the name ``kind``."""
    return lambda op: op.emit(kind, op.tensor("x"))


def binary(kind: str) -> LoweringFunction:
    """A broadcasting operation on ``x`` and ``y`` that ONNX has under the name ``kind``."""
    return lambda op: op.emit(kind, op.tensor("x"), op.tensor("y"))
