"""Layer by layer: how far rounded results are from fp32, and what leaves the format's range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.coreml.taps import Tap
from fluidaudio_cli.profiling.records import LayerError


@dataclass(frozen=True)
class Range:
    """A format's largest number, smallest normal one, and smallest that is not zero."""

    largest: float
    normal: float
    smallest: float


# IEEE 754 binary16, and bfloat16, which has fp32's exponent and 8 bits of fraction.
RANGES = {
    "fp16": Range(65504.0, 2.0**-14, 2.0**-24),
    "bf16": Range(float(np.finfo(np.float32).max), 2.0**-126, 2.0**-133),
}


class ErrorCounter:
    """Collects one layer's differences over several runs; ``largest`` is absolute."""

    def __init__(self, limits: Range) -> None:
        self._limits = limits
        self.largest = 0.0
        self._square_error = 0.0
        self._square = 0.0
        self.numbers = 0
        self.overflow = self.underflow = self.subnormal = 0

    def add(self, exact: NDArray[Any], rounded: NDArray[Any]) -> None:
        """Take in one result and its rounded counterpart, of equal shape."""
        exact = exact.astype(np.float64)
        size = np.abs(exact)
        limits = self._limits
        # A number rounds to zero below half the smallest one.
        self.overflow += int(np.count_nonzero(size > limits.largest))
        self.underflow += int(np.count_nonzero((size > 0) & (size <= limits.smallest / 2)))
        self.subnormal += int(
            np.count_nonzero((size > limits.smallest / 2) & (size < limits.normal))
        )
        self.numbers += exact.size
        with np.errstate(invalid="ignore"):
            difference = np.abs(rounded.astype(np.float64) - exact)
        # An infinity or a NaN is an error without bound.
        difference[~np.isfinite(difference)] = math.inf
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self._square_error += float(np.square(difference).sum())
        self._square += float(np.square(size).sum())

    @property
    def rms(self) -> float:
        """Root of the mean squared difference."""
        return math.sqrt(self._square_error / self.numbers) if self.numbers else 0.0

    @property
    def relative(self) -> float:
        """RMS difference over RMS of the exact numbers; of zeros, 0 or infinite."""
        if self._square_error == 0.0:
            return 0.0
        return math.sqrt(self._square_error / self._square) if self._square else math.inf


def layer_errors(
    taps: Sequence[Tap], counters: Mapping[str, ErrorCounter]
) -> tuple[LayerError, ...]:
    """A row per layer in order; ``counters`` by tensor."""
    rows = []
    for tap in taps:
        counter = counters[tap.tensor]
        before = max((counters[source].relative for source in tap.sources), default=0.0)
        # Once everything is lost, a later layer adds nothing that could be told.
        added = 0.0 if math.isinf(before) else max(0.0, counter.relative - before)
        rows.append(
            LayerError(
                layer=tap.layer,
                op=tap.op,
                max_error=counter.largest,
                rms_error=counter.rms,
                relative=counter.relative,
                added=added,
                overflow=counter.overflow,
                underflow=counter.underflow,
                subnormal=counter.subnormal,
                numbers=counter.numbers,
            )
        )
    return tuple(rows)


def entry_layer(layers: Sequence[LayerError]) -> str:
    """The layer that adds most error, the first of equals; empty when none adds any."""
    worst = max(layers, key=lambda layer: layer.added, default=None)
    return worst.layer if worst is not None and worst.added > 0 else ""
