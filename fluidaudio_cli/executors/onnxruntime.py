"""ONNX Runtime: the proven reference, fp32 on any processor.

The lowered model is optimised once and kept; a warm start loads it with optimisation off, which
takes a third of the time. Inputs are bound by pointer and outputs written to the request's
buffers (I/O binding), so that no array is copied.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fluidaudio_cli.errors import (
    ExecutorUnavailableError,
    HostError,
    ModelFormatError,
    UsageError,
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
from fluidaudio_cli.executors.cache import CacheKey, CompileCache, shared_cache
from fluidaudio_cli.executors.digest import package_digest
from fluidaudio_cli.executors.feeds import OutputShapes, ResultBuffers, checked, fits
from fluidaudio_cli.executors.fixed_batch import FixedBatchModel, has_batch
from fluidaudio_cli.executors.lowering import lowered_model, lowering_version
from fluidaudio_cli.executors.machine import cpu_identity, processors
from fluidaudio_cli.files import temporary_folder

NAME = "onnxruntime"
OPTIMIZED_NAME = "optimized.onnx"
_ERRORS_ONLY = 3  # ONNX Runtime's log severity
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


class OnnxRuntimeExecutor:
    """Runs lowered packages with ONNX Runtime's CPU provider; others are subclasses."""

    name = NAME
    device = "CPU"
    traits = Traits(sums_follow_threads=True, computes_in_caller=True, operator_times_once=True)

    def __init__(self, cache: CompileCache | None = None) -> None:
        self._cache = cache

    def availability(self) -> Availability:
        """ONNX Runtime runs wherever its wheel installs."""
        try:
            runtime = _runtime()
        except ExecutorUnavailableError as error:
            return Availability(False, error.message, error.remedy)
        return Availability(
            True, version=str(runtime.__version__), precisions=("fp32",), fastest="fp32"
        )

    def load(self, package: Path, options: ExecutorOptions) -> CompiledModel:
        """Load a package; precision ``auto`` means fp32, the only one offered."""
        runtime = _runtime()
        if options.precision not in ("auto", "fp32"):
            raise ExecutorUnavailableError(
                f"onnxruntime does not run {options.precision} on the {self.device}",
                "use --precision fp32, or --executor openvino",
            )
        cache = shared_cache() if self._cache is None else self._cache
        digest = package_digest(package, cache)
        # The optimiser lays weights out for the instruction set it finds.
        key = CacheKey(
            digest,
            self.name,
            f"onnxruntime {runtime.__version__}, {lowering_version()}",
            {"cpu": cpu_identity()},
        )

        def build(folder: Path) -> Mapping[str, Any]:
            lowered = lowered_model(package, digest, cache)
            self._optimize(runtime, lowered, folder / OPTIMIZED_NAME, package)
            return {}

        threads = options.threads or processors()
        streams = min(options.streams, threads)
        settings = _session_options(runtime, threads, streams)
        scratch = ExitStack()
        if options.profile:
            settings.enable_profiling = True
            settings.profile_file_prefix = str(scratch.enter_context(temporary_folder()) / "ops")

        def load(folder: Path) -> Any:
            try:
                return self._session(runtime, folder, settings)
            except _errors() as error:
                raise HostError(f"onnxruntime cannot load {package}: {error}") from error

        session, entry = cache.load(key, build, load)
        ran = ExecutorRun(
            self.name,
            str(runtime.__version__),
            "fp32",
            self.device,
            threads,
            streams,
            options.batch,
        )
        model = OnnxRuntimeModel(
            session,
            options,
            ran,
            scratch,
            cache_hit=entry.hit,
        )
        if options.batch is not None and has_batch((*model.inputs, *model.outputs), options.batch):
            return FixedBatchModel(model, options.batch)
        return model

    def _optimize(self, runtime: Any, lowered: Path, target: Path, package: Path) -> None:
        """Write what is kept of a lowered model."""
        _optimize(runtime, lowered, target, package)

    def _session(self, runtime: Any, folder: Path, settings: Any) -> Any:
        """Load what was kept."""
        settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return runtime.InferenceSession(
            str(folder / OPTIMIZED_NAME), settings, providers=["CPUExecutionProvider"]
        )


class OnnxRuntimeModel:
    """A loaded session; see :class:`~fluidaudio_cli.executors.base.CompiledModel`."""

    def __init__(
        self,
        session: Any,
        asked: ExecutorOptions,
        ran: ExecutorRun,
        scratch: ExitStack,
        *,
        cache_hit: bool,
    ) -> None:
        self.session = session
        self.asked = asked
        self.ran = ran
        self._scratch = scratch
        self.cache_hit = cache_hit
        self.inputs = tuple(_spec(node, asked.batch) for node in session.get_inputs())
        self.outputs = tuple(_spec(node, asked.batch) for node in session.get_outputs())
        self.output_shapes = OutputShapes(self.outputs)
        self._times: tuple[OperatorTime, ...] | None = None

    def request(self) -> OnnxRuntimeRequest:
        """A new request with buffers of its own."""
        return OnnxRuntimeRequest(self)

    def operator_times(self) -> Sequence[OperatorTime]:
        """Times so far; the first call ends the profile, later runs are not counted."""
        if not self.asked.profile:
            raise UsageError("operator times were not recorded", "load with profile=True")
        if self._times is None:
            record = Path(self.session.end_profiling())
            self._times = read_profile(json.loads(record.read_text(encoding="utf-8")))
            self._scratch.close()
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
        arrays = checked(feeds, self._model.inputs)
        for name, array in arrays.items():
            if not array.flags.c_contiguous:
                arrays[name] = np.ascontiguousarray(array)
                self.copied_bytes += array.nbytes
            self._bind_input(name, arrays[name])
        shapes = self._model.output_shapes.known(arrays)
        if shapes is None:
            return self._first_run(arrays, outputs)
        results = self._buffers.of(shapes, outputs)
        for name, array in results.items():
            self._binding.bind_output(
                name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )
        self._execute()
        return results

    def _bind_input(self, name: str, array: Array) -> None:
        # The array is kept: the binding knows its address only.
        self._bound[name] = array
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def _first_run(self, arrays: dict[str, Array], outputs: Feeds | None) -> Mapping[str, Array]:
        for spec in self._model.outputs:
            self._binding.bind_output(spec.name, "cpu")
        self._execute()
        names = [spec.name for spec in self._model.outputs]
        values = [value.numpy() for value in self._binding.get_outputs()]
        found = dict(zip(names, values, strict=True))
        shapes = {name: tuple(value.shape) for name, value in found.items()}
        self._model.output_shapes.learn(arrays, shapes)
        results = self._buffers.of(shapes, outputs)
        for name, value in found.items():
            np.copyto(results[name], value)
            self.copied_bytes += value.nbytes
        return results

    def _execute(self) -> None:
        try:
            self._model.session.run_with_iobinding(self._binding)
        except _errors() as error:
            raise HostError(f"onnxruntime failed: {error}") from error


def read_profile(events: Sequence[Mapping[str, Any]]) -> tuple[OperatorTime, ...]:
    """Operator times from ONNX Runtime's profile (a Chrome trace), slowest first."""
    totals: dict[tuple[str, str, str], tuple[int, float]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        kind = str(event["args"]["op_name"])
        label = (name.removesuffix("_kernel_time"), kind, str(event["args"].get("provider", "")))
        calls, microseconds = totals.get(label, (0, 0.0))
        totals[label] = (calls + 1, microseconds + float(event["dur"]))
    times = [
        OperatorTime(*label, calls=calls, seconds=microseconds * 1e-6)
        for label, (calls, microseconds) in totals.items()
    ]
    return tuple(sorted(times, key=lambda each: each.seconds, reverse=True))


@lru_cache(maxsize=1)
def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ExecutorUnavailableError(
            f"onnxruntime cannot be imported: {error}",
            "install it with: pip install onnxruntime",
        ) from error
    if sys.platform == "win32":
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


def _session_options(runtime: Any, threads: int, streams: int) -> Any:
    settings = runtime.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    settings.inter_op_num_threads = 1
    # Each concurrent caller works too, beside the pool they share: pool + callers = threads.
    settings.intra_op_num_threads = threads - streams + 1
    if streams > 1:
        # A worker that spins while waiting takes the processor from the other stream.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return settings


def _optimize(runtime: Any, lowered: Path, target: Path, package: Path) -> None:
    settings = _session_options(runtime, 1, 1)
    settings.optimized_model_filepath = str(target)
    try:
        runtime.InferenceSession(str(lowered), settings, providers=["CPUExecutionProvider"])
    except _errors() as error:
        raise ModelFormatError(
            f"onnxruntime refuses the lowered form of {package}: {error}",
            "report the package: its lowering is not valid here",
        ) from error
    if not target.is_file():
        raise OSError(f"onnxruntime could not write {target}")


def _spec(node: Any, batch: int | None) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    if batch is not None and shape and fits((batch,), shape[:1]):
        shape = (batch, *shape[1:])
    return TensorSpec(node.name, shape, _DTYPES[node.type])
