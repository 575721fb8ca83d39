"""OpenVINO: the fast executor on x86 and ARM; bf16 where the processor has it.

What OpenVINO compiled is exported once and imported at a warm start, after its checksum was
verified: a damaged blob can crash the process. Inputs and outputs are shared tensors, so that no
array is copied. The precision that runs is read back from the compiled model.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
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
    TensorSpec,
    Traits,
)
from fluidaudio_cli.executors.cache import CacheKey
from fluidaudio_cli.executors.digest import package_digest
from fluidaudio_cli.executors.feeds import OutputShapes, ResultBuffers, taken
from fluidaudio_cli.executors.fixed_batch import FixedBatchModel, has_batch
from fluidaudio_cli.executors.kernels import kernel_for
from fluidaudio_cli.executors.loaded import CachingExecutor, LoadedModel, imported_without
from fluidaudio_cli.executors.lowering import lowered_model, lowering_version, serialised
from fluidaudio_cli.executors.machine import (
    cpu_identity,
    has_fast_bf16,
    has_fast_integers,
    processors,
)
from fluidaudio_cli.executors.openvino_faults import faults_version, keep_inputs, spared
from fluidaudio_cli.files import folder_files

NAME = "openvino"
_DEVICE = "CPU"
# OpenVINO's names of the precisions: in its capability list, as a hint, and as a C++ type.
_CAPABILITY = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}
_HINT = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "i64": "int64",
    "i32": "int32",
    "i8": "int8",
    "u8": "uint8",
    "boolean": "bool",
}
_IMPORT_LOCK = threading.Lock()


class OpenVinoExecutor(CachingExecutor):
    """Runs lowered packages with OpenVINO's CPU plugin."""

    name = NAME
    traits = Traits(joins_kernels=True)

    def availability(self) -> Availability:
        """Whether OpenVINO supports this processor, and the precisions it computes in."""
        try:
            version, precisions = _support()
        except ExecutorUnavailableError as error:
            return Availability(False, error.message, error.remedy)
        return Availability(
            True,
            version=version,
            precisions=precisions,
            fastest=_fastest(precisions),
            integers=has_fast_integers(),
        )

    def load(self, package: Path, options: ExecutorOptions) -> CompiledModel:
        """Load a package; precision ``auto`` means bf16 where that is fast, else fp32."""
        openvino, core = runtime()
        version, precisions = _support()
        precision = _fastest(precisions) if options.precision == "auto" else options.precision
        if precision not in precisions:
            raise ExecutorUnavailableError(
                f"openvino does not run {precision} on this processor",
                f"use --precision {' or '.join(precisions)}",
            )
        cache = self._cache
        digest = package_digest(package, cache)
        threads = options.threads or processors()
        streams = min(options.streams, threads)
        config = _config(precision, threads, streams, options.profile)
        kernel = kernel_for(precision, options.kernels)
        part = kernel.version() if kernel else "runtime"
        # Threads, streams and profiling are settled at import: the blob is the same for all.
        key = CacheKey(
            digest,
            NAME,
            f"openvino {version}, {lowering_version()}, {faults_version()}",
            {
                "cpu": cpu_identity(),
                "batch": str(options.batch),
                "precision": precision,
                "kernel": part,
            },
        )

        def build(folder: Path) -> Mapping[str, Any]:
            lowered = _lowered(lowered_model(package, digest, cache), package)
            model = spared(lowered, package, precision, precisions)
            cut = kernel.cut(model) if kernel else None
            wholes = {"model": model} if cut is None else {"before": cut.before, "after": cut.after}
            # Around the kernel one window at a time: its data stay in the cache.
            batch = options.batch if cut is None else 1
            for name, whole in wholes.items():
                compiled = _compile(core, whole, package, batch, config)
                ports = (*compiled.inputs, *compiled.outputs)
                if batch is not None and not has_batch(map(_spec, ports), batch):
                    # Other sizes are free, too: for any number of rows.
                    compiled = _compile(core, whole, package, None, config)
                (folder / f"{name}.blob").write_bytes(compiled.export_model().getbuffer())
            if kernel and cut is not None:
                kernel.save(cut, folder)
            return {}

        def load(folder: Path) -> _Parts:
            try:
                # Mapped, not read: the checksum has just brought the pages in.
                compiled = {
                    path.stem: core.import_model(
                        openvino.tensor_from_file(str(path)), _DEVICE, config
                    )
                    for path in folder_files(folder)
                    if path.suffix == ".blob"
                }
            except RuntimeError as error:
                raise HostError(f"openvino cannot load {package}: {error}") from error
            return _Parts(compiled, kernel.restore(folder) if kernel else None)

        parts, entry = cache.load(key, build, load)
        first = next(iter(parts.compiled.values()))
        batch = options.batch if parts.between is None else None
        if batch and not has_batch(map(_spec, (*first.inputs, *first.outputs)), batch):
            batch = None
        ran = ExecutorRun(
            NAME,
            version,
            _compiled_precision(first, precision),
            _DEVICE,
            int(first.get_property("INFERENCE_NUM_THREADS")),
            int(first.get_property("NUM_STREAMS")),
            batch,
            "runtime" if parts.between is None else part,
        )

        def model(name: str, batch: int | None) -> CompiledModel:
            compiled = parts.compiled[name]
            whole = OpenVinoModel(
                options,
                ran,
                tuple(map(_spec, compiled.inputs)),
                tuple(map(_spec, compiled.outputs)),
                entry.hit,
                openvino.Tensor,
                compiled,
            )
            if batch is not None and has_batch((*whole.inputs, *whole.outputs), batch):
                return FixedBatchModel(whole, batch)
            return whole

        if kernel is None or parts.between is None:
            return model("model", batch)
        return kernel.join(model("before", 1), parts.between, model("after", 1))


@dataclass(eq=False)
class OpenVinoModel(LoadedModel):
    """A compiled model; ``tensor``: OpenVINO's class."""

    tensor: Any
    compiled: Any

    def __post_init__(self) -> None:
        """Nothing is known yet of sizes that are free."""
        self.output_shapes = OutputShapes(self.outputs)

    def request(self) -> OpenVinoRequest:
        """A new request with buffers of its own."""
        return OpenVinoRequest(self)

    def record(self, profile: Sequence[Any]) -> None:
        """Add the operator times of one run; operators fused into others took no time."""
        for item in profile:
            if seconds := item.real_time.total_seconds():
                self.totals.add((item.node_name, item.node_type, item.exec_type), seconds)

    def close(self) -> None:
        """Free the compiled model."""
        self.compiled = None


class OpenVinoRequest:
    """One inference at a time; see :class:`~fluidaudio_cli.executors.base.InferRequest`."""

    def __init__(self, model: OpenVinoModel) -> None:
        self._model = model
        self._request = model.compiled.create_infer_request()
        self._buffers = ResultBuffers(model.outputs)
        self._shared: dict[str, Array] = {}
        self.copied_bytes = 0

    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        """Run on one of the model's streams, and wait."""
        arrays, copied = taken(feeds, self._model.inputs, writable=True)
        self.copied_bytes += copied
        shapes = self._model.output_shapes.known(arrays)
        results = None if shapes is None else self._buffers.of(shapes, outputs)
        try:
            if results is None and not self._shared.keys().isdisjoint(self._output_names()):
                # Outputs bound to buffers of another size: let OpenVINO allocate afresh.
                self._request = self._model.compiled.create_infer_request()
                self._shared.clear()
            for name, array in (arrays | (results or {})).items():
                self._share(name, array)
            self._request.start_async()
            self._request.wait()
        except RuntimeError as error:
            raise HostError(f"openvino failed: {error}") from error
        if self._model.asked.profile:
            self._model.record(self._request.profiling_info)
        return self._learnt(arrays, outputs) if results is None else results

    def _share(self, name: str, array: Array) -> None:
        # Kept for the address and for life: a tensor made for the same array still stands.
        if self._shared.get(name) is not array:
            self._request.set_tensor(name, self._model.tensor(array, shared_memory=True))
            self._shared[name] = array

    def _learnt(self, arrays: dict[str, Array], outputs: Feeds | None) -> Mapping[str, Array]:
        """Results of the first run with some input shapes, copied out of OpenVINO's memory."""
        found = {name: self._request.get_tensor(name).data for name in self._output_names()}
        self._model.output_shapes.learn(arrays, found)
        results, copied = self._buffers.copied(found, outputs)
        self.copied_bytes += copied
        return results

    def _output_names(self) -> list[str]:
        return [spec.name for spec in self._model.outputs]


def _config(precision: str, threads: int, streams: int, profile: bool) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": _HINT[precision],
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": str(streams),
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "PERF_COUNT": "YES" if profile else "NO",
        # Pinned, the first streams of two models share a core while another idles.
        "ENABLE_CPU_PINNING": "NO",
    }


@dataclass(frozen=True)
class _Parts:
    """Compiled models by file name: ``model``, or ``before`` and ``after`` a kernel's part."""

    compiled: dict[str, Any]
    between: Any


def _lowered(path: Path, package: Path) -> Any:
    """The lowered package (ONNX)."""
    # Imported here: a warm start builds nothing and need not pay for it.
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except DecodeError as error:
        raise _refusal(package, error) from error


def _refusal(package: Path, error: Exception) -> ModelFormatError | MemoryError:
    # OpenVINO has no kind of error for it, and oneDNN says "could not create a memory object".
    if any(word in str(error) for word in ("can't alloc", "bad_alloc", "create a memory object")):
        return MemoryError(str(error))
    return ModelFormatError(
        f"openvino refuses the lowered form of {package}: {error}",
        "use --executor onnxruntime and report the package",
    )


def _compile(
    core: Any, lowered: Any, package: Path, batch: int | None, config: Mapping[str, str]
) -> Any:
    try:
        model = core.read_model(io.BytesIO(serialised(lowered)))
        keep_inputs(runtime()[0], model, lowered)
        if batch is not None:
            shapes = {}
            for port in model.inputs:
                shape = port.get_partial_shape()
                if shape.rank.get_length() and shape[0].is_dynamic:
                    shape[0] = batch
                shapes[port] = shape
            model.reshape(shapes)
        return core.compile_model(model, _DEVICE, dict(config))
    except RuntimeError as error:
        raise _refusal(package, error) from error


def _compiled_precision(compiled: Any, wanted: str) -> str:
    """The precision read back from the compiled model; another than ``wanted`` is an error."""
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    actual = next((name for name, value in _HINT.items() if value == hint), str(hint))
    if actual != wanted:
        raise ExecutorUnavailableError(
            f"openvino was asked for {wanted} and runs {actual}", f"use --precision {actual}"
        )
    return actual


@lru_cache(maxsize=1)
def runtime() -> tuple[Any, Any]:
    """OpenVINO and its core, imported without its model converter.

    ``import openvino`` also imports the converter (``openvino.tools.ovc``), which this package
    never uses, takes as long as the rest, and reports the import over the network. OpenVINO
    treats the converter as optional; ``None`` in ``sys.modules`` makes it absent while importing.
    """
    try:
        with _IMPORT_LOCK, imported_without("openvino", "openvino.tools.ovc"):
            import openvino

            return openvino, openvino.Core()
    except (ImportError, RuntimeError) as error:
        raise ExecutorUnavailableError(
            f"openvino cannot be imported: {error}",
            "install it with: pip install openvino, or use --executor onnxruntime",
        ) from error


def _fastest(precisions: tuple[str, ...]) -> str:
    """bf16 where the processor multiplies it faster, else fp32."""
    return "bf16" if has_fast_bf16() and "bf16" in precisions else "fp32"


@lru_cache(maxsize=1)
def _support() -> tuple[str, tuple[str, ...]]:
    """OpenVINO's version and the precisions of its CPU plugin here."""
    openvino, core = runtime()
    try:
        capabilities = core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        raise ExecutorUnavailableError(
            f"openvino does not support this processor: {error}",
            "use --executor onnxruntime",
        ) from error
    precisions = tuple(name for name, word in _CAPABILITY.items() if word in capabilities)
    return str(openvino.get_version()).split("-", 1)[0], precisions


def _spec(port: Any) -> TensorSpec:
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return TensorSpec(port.any_name, shape, _DTYPES[port.element_type.get_type_name()])
