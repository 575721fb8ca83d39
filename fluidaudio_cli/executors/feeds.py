"""Checks of what goes into a request, and the buffers its results are written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.base import Array, Feeds, TensorSpec
from fluidaudio_cli.executors.buffers import aligned_empty


def checked(feeds: Feeds, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """``feeds`` in the order of ``specs``.

    Raises:
        UsageError: an input is missing or unknown, or its dtype or shape does not fit.
    """
    names = [spec.name for spec in specs]
    unknown = sorted(set(feeds) - set(names))
    if unknown:
        raise UsageError(
            f"the model has no input {unknown[0]!r}", f"its inputs are {', '.join(names)}"
        )
    return {spec.name: _fitting(feeds.get(spec.name), spec, "input") for spec in specs}


def taken(
    feeds: Feeds, specs: Sequence[TensorSpec], writable: bool = False
) -> tuple[dict[str, Array], int]:
    """``feeds`` as :func:`checked`, and the bytes of those that had to be copied.

    An array is taken where it lies if it is C-contiguous and, where the runtime shares
    ``writable`` memory only, writable.
    """
    arrays, copied = checked(feeds, specs), 0
    for name, array in arrays.items():
        if not array.flags.c_contiguous or (writable and not array.flags.writeable):
            arrays[name] = np.array(array, order="C")
            copied += array.nbytes
    return arrays, copied


def _fitting(array: Array | None, spec: TensorSpec, role: str) -> Array:
    if array is None:
        raise UsageError(f"{role} {spec.name!r} is missing", f"give {spec}")
    if array.dtype.name != spec.dtype or not fits(array.shape, spec.shape):
        sizes = ", ".join(map(str, array.shape))
        raise UsageError(
            f"{role} {spec.name!r} is {array.dtype.name}[{sizes}]", f"the model takes {spec}"
        )
    if 0 in array.shape:
        raise UsageError(f"{role} {spec.name!r} is empty", f"the model takes {spec}")
    return array


def fits(shape: Sequence[int], pattern: Sequence[int | None]) -> bool:
    """Whether ``shape`` matches ``pattern``, in which ``None`` stands for any size."""
    return len(shape) == len(pattern) and all(
        want is None or have == want for have, want in zip(shape, pattern, strict=True)
    )


class ResultBuffers:
    """The arrays a request's results are written to: the caller's, or reused aligned ones."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._own: dict[str, Array] = {}

    def of(self, shapes: Mapping[str, tuple[int, ...]], given: Feeds | None) -> dict[str, Array]:
        """An array for every output in ``shapes``.

        Raises:
            UsageError: an array in ``given`` is for no output, or does not fit its output.
        """
        unknown = sorted(set(given or ()) - set(shapes))
        if unknown:
            raise UsageError(
                f"the model has no output {unknown[0]!r}", f"its outputs are {', '.join(shapes)}"
            )
        results = {}
        for name, shape in shapes.items():
            spec = TensorSpec(name, shape, self._specs[name].dtype)
            if given is not None and name in given:
                array = _fitting(given[name], spec, "output")
                if not (array.flags.c_contiguous and array.flags.writeable):
                    raise UsageError(
                        f"output {name!r} is not contiguous and writable",
                        "give an array that is, or none",
                    )
            else:
                array = self._own_buffer(name, shape, spec.dtype)
            results[name] = array
        return results

    def copied(
        self, found: Mapping[str, Array], given: Feeds | None
    ) -> tuple[dict[str, Array], int]:
        """What lies in a runtime's memory, copied to where :meth:`of` has it, and its bytes."""
        results = self.of({name: tuple(value.shape) for name, value in found.items()}, given)
        for name, value in found.items():
            np.copyto(results[name], value)
        return results, sum(value.nbytes for value in found.values())

    def _own_buffer(self, name: str, shape: tuple[int, ...], dtype: str) -> Array:
        # One allocation serves every batch up to the largest seen: a short last batch uses the
        # front of it.
        needed = int(np.prod(shape))
        store = self._own.get(name)
        if store is None or store.size < needed:
            store = self._own[name] = aligned_empty((needed,), dtype)
        return store[:needed].reshape(shape)


class PaddedRows:
    """Rows of a batch that is short, in buffers of a whole one; those beside them are zeros."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._buffers: dict[str, Array] = {}

    def of(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Each array's rows, copied."""
        for name, rows in arrays.items():
            if name not in self._buffers:
                shape = (self._batch, *rows.shape[1:])
                self._buffers[name] = aligned_empty(shape, rows.dtype)
            self._buffers[name][: len(rows)] = rows
            self._buffers[name][len(rows) :] = 0
        return {name: self._buffers[name] for name in arrays}


class OutputShapes:
    """Which shapes a model's outputs have for given input shapes, learnt at their first run.

    Fixed outputs are known from the start. A free size may depend on the inputs in any way, so it
    is not guessed: the first run with new input shapes lets the runtime allocate, and every later
    one writes straight into the request's buffers. Shared by a model's requests.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        sizes = {
            spec.name: tuple(size for size in spec.shape if size is not None) for spec in specs
        }
        free = any(None in spec.shape for spec in specs)
        self._fixed = None if free else sizes
        self._learnt: dict[tuple[tuple[int, ...], ...], dict[str, tuple[int, ...]]] = {}

    def known(self, arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]] | None:
        """Shape of every output for these inputs, or ``None`` before the first such run."""
        if self._fixed is not None:
            return self._fixed
        return self._learnt.get(tuple(array.shape for array in arrays.values()))

    def learn(self, arrays: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        """Remember of which shapes a run with these inputs gave its results."""
        shapes = {name: tuple(value.shape) for name, value in found.items()}
        self._learnt[tuple(array.shape for array in arrays.values())] = shapes
