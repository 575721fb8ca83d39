"""A model compiled for one batch size that takes any number of rows.

Runtimes are fastest when every shape is known, and in bf16 the size of a batch shows in the last
digits. With one size a row's result depends neither on the rows beside it nor on their number,
so that batches may be filled from wherever rows come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.base import (
    Array,
    CompiledModel,
    Feeds,
    InferRequest,
    OperatorTime,
    TensorSpec,
)
from fluidaudio_cli.executors.feeds import PaddedRows, ResultBuffers, checked
from fluidaudio_cli.executors.loaded import LoadedModel


def has_batch(specs: Iterable[TensorSpec], batch: int) -> bool:
    """Whether each of a model's inputs and outputs has ``batch`` rows and known sizes."""
    return all(spec.shape[:1] == (batch,) and None not in spec.shape for spec in specs)


class FixedBatchModel(LoadedModel):
    """A compiled model; see :class:`~fluidaudio_cli.executors.base.CompiledModel`.

    ``inner``: a model for which :func:`has_batch` holds; ``parts``: those that the runtime holds.
    """

    def __init__(self, inner: CompiledModel, batch: int) -> None:
        inputs, outputs = (
            tuple(replace(spec, shape=(None, *spec.shape[1:])) for spec in specs)
            for specs in (inner.inputs, inner.outputs)
        )
        super().__init__(inner.asked, inner.ran, inputs, outputs, inner.cache_hit)
        self.inner, self.batch, self.parts = inner, batch, (inner,)

    def request(self) -> FixedBatchRequest:
        """A new request with buffers of its own."""
        return FixedBatchRequest(self, self.inner.request())

    def operator_times(self) -> Sequence[OperatorTime]:
        """Times of all runs so far, slowest first."""
        return self.inner.operator_times()

    def close(self) -> None:
        """Free the compiled model."""
        self.inner.close()


class FixedBatchRequest:
    """One inference at a time; see :class:`~fluidaudio_cli.executors.base.InferRequest`.

    Whole batches are run where they lie; the rows of a last, short one are copied beside rows
    whose results are thrown away.
    """

    def __init__(self, model: FixedBatchModel, inner: InferRequest) -> None:
        self.copied_bytes = 0
        self._model = model
        self._inner = inner
        self._buffers = ResultBuffers(model.outputs)
        self._padded = PaddedRows(model.batch)
        self._padding_bytes = 0

    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        """Run batch by batch."""
        model = self._model
        arrays = checked(feeds, model.inputs)
        rows = len(next(iter(arrays.values())))
        for name, array in arrays.items():
            if len(array) != rows:
                raise UsageError(
                    f"input {name!r} has {len(array)} rows, {model.inputs[0].name!r} has {rows}",
                    "give every input as many",
                )
        shapes = {spec.name: (rows, *spec.shape[1:]) for spec in model.outputs}
        results = self._buffers.of(shapes, outputs)  # type: ignore[arg-type]
        for first in range(0, rows, model.batch):
            last = first + model.batch
            part = {name: array[first:last] for name, array in arrays.items()}
            target = {name: array[first:last] for name, array in results.items()}
            if last <= rows:
                self._inner.run(part, target)
                continue
            made = self._inner.run(self._padded.of(part))
            self._padding_bytes += sum(array.nbytes for array in part.values())
            for name, array in target.items():
                array[...] = made[name][: len(array)]
        self.copied_bytes = self._inner.copied_bytes + self._padding_bytes
        return results
