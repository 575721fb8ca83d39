"""ONNX Runtime: the proven reference, fp32 on any processor.

The lowered model is optimised once and kept; a warm start loads it with optimisation off, which
takes a third of the time. Inputs are bound by pointer and outputs written to the request's
buffers (I/O binding), so that no array is copied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fluidaudio_cli.errors import (
    ExecutorUnavailableError,
    HostError,
    ModelFormatError,
)
from fluidaudio_cli.executors.base import (
    Array,
    Availability,
    CompiledModel,
    ExecutorOptions,
    ExecutorRun,
    Feeds,
    OperatorTime,
    TensorSpec,
    Traits,
)
from fluidaudio_cli.executors.cache import CacheKey
from fluidaudio_cli.executors.digest import package_digest
from fluidaudio_cli.executors.feeds import OutputShapes, ResultBuffers, fits, taken
from fluidaudio_cli.executors.fixed_batch import FixedBatchModel, has_batch
from fluidaudio_cli.executors.loaded import CachingExecutor, LoadedModel, OperatorTotals
from fluidaudio_cli.executors.lowering import lowered_model, lowering_version
from fluidaudio_cli.executors.machine import cpu_identity, processors
from fluidaudio_cli.files import temporary_folder

NAME = "onnxruntime"
OPTIMIZED_NAME = "optimized.onnx"
ERRORS_ONLY = 3  # ONNX Runtime's log severity
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class OnnxRuntimeExecutor(CachingExecutor):
    """Runs lowered packages with ONNX Runtime's CPU provider; others are subclasses."""

    name = NAME
    device = "CPU"
    traits = Traits(sums_follow_threads=True, computes_in_caller=True, operator_times_once=True)

    def availability(self) -> Availability:
        """ONNX Runtime runs wherever its wheel installs."""
        try:
            version = str(runtime().__version__)
        except ExecutorUnavailableError as error:
            return Availability(False, error.message, error.remedy)
        return Availability(True, version=version, precisions=("fp32",), fastest="fp32")

    def load(self, package: Path, options: ExecutorOptions) -> CompiledModel:
        """Load a package; precision ``auto`` means fp32, the only one offered."""
        version = str(runtime().__version__)
        if options.precision not in ("auto", "fp32"):
            raise ExecutorUnavailableError(
                f"onnxruntime does not run {options.precision} on the {self.device}",
                "use --precision fp32, or --executor openvino",
            )
        cache = self._cache
        digest = package_digest(package, cache)
        # The optimiser lays weights out for the instruction set it finds.
        key = CacheKey(
            digest,
            self.name,
            f"onnxruntime {version}, {lowering_version()}",
            {"cpu": cpu_identity()},
        )

        def build(folder: Path) -> Mapping[str, Any]:
            lowered = lowered_model(package, digest, cache)
            self._optimize(lowered, folder / OPTIMIZED_NAME, package)
            return {}

        threads = options.threads or processors()
        streams = min(options.streams, threads)
        settings = _session_options(threads, streams)
        scratch = ExitStack()
        if options.profile:
            settings.enable_profiling = True
            settings.profile_file_prefix = str(scratch.enter_context(temporary_folder()) / "ops")

        def load(folder: Path) -> Any:
            try:
                return self._session(folder, settings)
            except _errors() as error:
                raise HostError(f"onnxruntime cannot load {package}: {error}") from error

        session, entry = cache.load(key, build, load)
        batch, ports = options.batch, (*session.get_inputs(), *session.get_outputs())
        if batch is not None and not has_batch((_spec(node, batch) for node in ports), batch):
            batch = None  # other sizes are free, too: any number of rows
        ran = ExecutorRun(self.name, version, "fp32", self.device, threads, streams, batch)
        model = OnnxRuntimeModel(
            options,
            ran,
            tuple(_spec(node, batch) for node in session.get_inputs()),
            tuple(_spec(node, batch) for node in session.get_outputs()),
            entry.hit,
            session,
            scratch,
        )
        return model if batch is None else FixedBatchModel(model, batch)

    def _optimize(self, lowered: Path, target: Path, package: Path) -> None:
        """Write what is kept of a lowered model."""
        settings = _session_options(1, 1)
        settings.optimized_model_filepath = str(target)
        try:
            cpu_session(str(lowered), settings)
        except _errors() as error:
            raise ModelFormatError(
                f"onnxruntime refuses the lowered form of {package}: {error}",
                "report the package: its lowering is not valid here",
            ) from error
        if not target.is_file():
            raise OSError(f"onnxruntime could not write {target}")

    def _session(self, folder: Path, settings: Any) -> Any:
        """Load what was kept."""
        settings.graph_optimization_level = runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
        return cpu_session(str(folder / OPTIMIZED_NAME), settings)


@dataclass(eq=False)
class OnnxRuntimeModel(LoadedModel):
    """A loaded session; ``scratch`` holds the record of a profile."""

    session: Any
    scratch: ExitStack

    def __post_init__(self) -> None:
        """Nothing is known yet of sizes that are free, nor of times."""
        self.output_shapes = OutputShapes(self.outputs)
        self._times: tuple[OperatorTime, ...] | None = None

    def request(self) -> OnnxRuntimeRequest:
        """A new request with buffers of its own."""
        return OnnxRuntimeRequest(self)

    def operator_times(self) -> Sequence[OperatorTime]:
        """Times so far; the first call ends the profile, later runs are not counted."""
        if not self.asked.profile:
            return super().operator_times()
        if self._times is None:
            record = Path(self.session.end_profiling())
            self._times = read_profile(json.loads(record.read_text(encoding="utf-8")))
            self.scratch.close()
        return self._times

    def close(self) -> None:
        """Free the session."""
        if self.asked.profile and self._times is None:
            self.operator_times()
        self.session = None


class OnnxRuntimeRequest:
    """One inference at a time; see :class:`~fluidaudio_cli.executors.base.InferRequest`."""

    def __init__(self, model: OnnxRuntimeModel) -> None:
        self.copied_bytes = 0
        self._model = model
        self._binding = model.session.io_binding()
        self._buffers = ResultBuffers(model.outputs)
        self._bound: dict[str, Array] = {}

    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        """Run and wait."""
        arrays, copied = taken(feeds, self._model.inputs)
        self.copied_bytes += copied
        # The arrays are kept: the binding knows their addresses only.
        self._bound = arrays
        for name, array in arrays.items():
            self._bind(self._binding.bind_input, name, array)
        shapes = self._model.output_shapes.known(arrays)
        if shapes is None:
            return self._first_run(arrays, outputs)
        results = self._buffers.of(shapes, outputs)
        for name, array in results.items():
            self._bind(self._binding.bind_output, name, array)
        self._execute()
        return results

    @staticmethod
    def _bind(bind: Any, name: str, array: Array) -> None:
        bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def _first_run(self, arrays: dict[str, Array], outputs: Feeds | None) -> Mapping[str, Array]:
        for spec in self._model.outputs:
            self._binding.bind_output(spec.name, "cpu")
        self._execute()
        names = [spec.name for spec in self._model.outputs]
        values = [value.numpy() for value in self._binding.get_outputs()]
        found = dict(zip(names, values, strict=True))
        self._model.output_shapes.learn(arrays, found)
        results, copied = self._buffers.copied(found, outputs)
        self.copied_bytes += copied
        return results

    def _execute(self) -> None:
        try:
            self._model.session.run_with_iobinding(self._binding)
        except _errors() as error:
            raise HostError(f"onnxruntime failed: {error}") from error


def read_profile(events: Sequence[Mapping[str, Any]]) -> tuple[OperatorTime, ...]:
    """Operator times from ONNX Runtime's profile (a Chrome trace), slowest first."""
    totals = OperatorTotals()
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        kind = str(event["args"]["op_name"])
        label = (name.removesuffix("_kernel_time"), kind, str(event["args"].get("provider", "")))
        totals.add(label, float(event["dur"]) * 1e-6)
    return totals.times()


@lru_cache(maxsize=1)
def runtime() -> Any:
    """ONNX Runtime; raises ``ExecutorUnavailableError`` where it is not."""
    # It reports what it runs to its maker, since 1.29 not on Windows only, and leaves an identity
    # of this machine in the user's home as soon as it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise ExecutorUnavailableError(
            f"onnxruntime cannot be imported: {error}",
            "install it with: pip install onnxruntime",
        ) from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime


@lru_cache(maxsize=1)
def _errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions, which share no base but ``Exception``."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [
        kind
        for kind in vars(state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    return (*own, RuntimeError, ValueError)


def cpu_session(model: str | bytes, settings: Any) -> Any:
    """A session on the processor, of a file or of a serialised model."""
    return runtime().InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def plain_options(severity: int) -> Any:
    """For a graph that is run as it is; ``severity``: of what is logged."""
    settings = runtime().SessionOptions()
    settings.graph_optimization_level = runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = severity
    return settings


class LayerRunner:
    """A tapped model (``coreml/taps.py``), loaded as it is: no layer fused, no rounding undone.

    Raises ``ExecutorUnavailableError`` without ONNX Runtime.
    """

    def __init__(self, model: bytes) -> None:
        self._session = cpu_session(model, plain_options(ERRORS_ONLY))
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> Mapping[str, Array]:
        """Every output for ``feeds``, by name."""
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))


def _session_options(threads: int, streams: int) -> Any:
    settings = runtime().SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    settings.inter_op_num_threads = 1
    # Each concurrent caller works too, beside the pool they share: pool + callers = threads.
    settings.intra_op_num_threads = threads - streams + 1
    if streams > 1:
        # A worker that spins while waiting takes the processor from the other stream.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return settings


def _spec(node: Any, batch: int | None) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    if batch is not None and shape and fits((batch,), shape[:1]):
        shape = (batch, *shape[1:])
    return TensorSpec(node.name, shape, _DTYPES[node.type])
