"""A fixture case: one small ML Program, its inputs, and PyTorch's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# (what MIL's builder makes of the inputs, what PyTorch makes of them); both may give a tuple.
Pair = tuple[Callable[..., Any], Callable[..., Any]]


@dataclass(frozen=True)
class BuiltCase:
    """A program written with MIL's builder, one output (or several) per pair."""

    name: str
    inputs: dict[str, Array]
    pairs: Sequence[Pair]
    opset: str = "iOS15"
    tolerance: float = 1e-5


@dataclass(frozen=True)
class TracedCase:
    """A PyTorch module traced and converted; ``batches`` are run, the first one traced."""

    name: str
    module: Any
    example: Array
    opset: str = "iOS16"
    precision: str = "fp32"
    flexible: bool = False
    batches: tuple[int, ...] = ()
    tolerance: float = 1e-5
    # Changes the converted model (compression); returns it and the module of the changed weights.
    transform: Callable[[Any, Any], tuple[Any, Any]] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def random(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Array:
    """Fixed pseudo-random float32 numbers, uniform in [low, high)."""
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape).astype(np.float32)
