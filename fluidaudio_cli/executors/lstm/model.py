"""A model in three parts: a runtime before and after the LSTM layers, the kernel between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np

from fluidaudio_cli.executors.base import Array, CompiledModel, Feeds, OperatorTime
from fluidaudio_cli.executors.buffers import aligned_empty
from fluidaudio_cli.executors.loaded import LoadedModel
from fluidaudio_cli.executors.lstm.kernel import HIDDEN
from fluidaudio_cli.executors.lstm.layers import Floats, PackedStack


class LstmModel(LoadedModel):
    """A compiled model; see :class:`~fluidaudio_cli.executors.base.CompiledModel`.

    ``before`` has one output and ``after`` one input, both (windows, steps, features).
    """

    def __init__(
        self, before: CompiledModel, stack: PackedStack[Any], after: CompiledModel
    ) -> None:
        super().__init__(before.asked, before.ran, before.inputs, after.outputs, before.cache_hit)
        self.parts = (before, after)
        self.stack = stack
        # One stream with several threads is meant to answer soon: the directions run side by
        # side. With several streams every processor has a sequence of its own.
        side_by_side = self.ran.streams == 1 and (self.ran.threads or 1) > 1
        self.helper = ThreadPoolExecutor(1, "lstm") if side_by_side else None

    def request(self) -> LstmRequest:
        """A new request with buffers of its own."""
        return LstmRequest(self)

    def operator_times(self) -> Sequence[OperatorTime]:
        """Times of all runs so far, slowest first."""
        return self.totals.times([one for part in self.parts for one in part.operator_times()])

    def record(self, layer: str, seconds: float) -> None:
        """Add one run of one LSTM layer."""
        self.totals.add((layer, "LSTM", self.stack.arithmetic), seconds)

    def close(self) -> None:
        """Free the compiled parts."""
        if self.helper is not None:
            self.helper.shutdown()
        for part in self.parts:
            part.close()


class LstmRequest:
    """One inference at a time; see :class:`~fluidaudio_cli.executors.base.InferRequest`."""

    def __init__(self, model: LstmModel) -> None:
        self.copied_bytes = 0
        self._model = model
        before, after = model.parts
        self._before, self._after = before.request(), after.request()
        self._between = before.outputs[0].name, after.inputs[0].name
        self._lstm = model.stack.runner()
        self._states: Floats = np.empty(0, np.float32)

    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        """Run the three parts one after the other."""
        model = self._model
        given, taken = self._between
        sequences = self._before.run(feeds)[given]
        states = self._states_for(sequences)
        record = model.record if model.asked.profile else None
        self._lstm(cast(Floats, sequences), states, model.helper, record)
        results = self._after.run({taken: states}, outputs)
        self.copied_bytes = self._before.copied_bytes + self._after.copied_bytes
        return results

    def _states_for(self, sequences: Array) -> Floats:
        shape = (*sequences.shape[:2], 2 * HIDDEN)
        size = math.prod(shape)
        if self._states.size < size:
            self._states = cast(Floats, aligned_empty((size,), np.float32))
        return self._states[:size].reshape(shape)
