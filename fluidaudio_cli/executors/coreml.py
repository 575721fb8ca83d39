"""Core ML, on macOS: the package as it is, on the compute units allowed.

The Neural Engine refuses flexible shapes, so a flexible batch is materialised to a fixed one, of
one where none is asked for.
The compiled model is kept in the cache: coremltools recompiles a ``.mlpackage`` at every load.

coremltools 9 wraps writable float32 inputs without a copy, refuses read-only ones, copies outputs,
and holds the interpreter lock while Core ML runs; so requests do not overlap here, and outputs
count as copied bytes.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidaudio_cli.errors import (
    ExecutorUnavailableError,
    FluidAudioError,
    HostError,
    ModelFormatError,
)
from fluidaudio_cli.executors.base import (
    COMPUTE_UNITS,
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
from fluidaudio_cli.executors.feeds import ResultBuffers, taken
from fluidaudio_cli.executors.fixed_batch import FixedBatchModel, has_batch
from fluidaudio_cli.executors.loaded import CachingExecutor, LoadedModel, imported_without
from fluidaudio_cli.files import temporary_folder

if TYPE_CHECKING:
    from fluidaudio_cli.coreml.ir import Program

NAME = "coreml"
_COMPILED_NAME = "model.mlmodelc"
# coremltools' names of what may be asked for.
UNITS = {
    "all": "ALL",
    "cpu-only": "CPU_ONLY",
    "cpu-and-gpu": "CPU_AND_GPU",
    "cpu-and-ne": "CPU_AND_NE",
}
_DTYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64", "int32": "int32"}
# Of what is kept in the cache. The first computed in fp16 what the package computes in fp32.
_FORM = "2"
# The bundled packages are of iOS 18's operations: specification version 9, which came with it.
_OLDEST_MACOS = 15
_OTHERS = "use --executor openvino or onnxruntime"


class CoreMLExecutor(CachingExecutor):
    """Runs packages with Apple's Core ML through coremltools."""

    name = NAME
    traits = Traits(
        compute_units=COMPUTE_UNITS,
        loads_side_by_side=False,  # not tried
        package_precision=True,
        says_device=False,
    )

    def availability(self) -> Availability:
        """Whether this is a macOS recent enough, with coremltools' native module."""
        problem = _host_problem()
        if problem is not None:
            return Availability(False, *problem)
        return Availability(True, version=_version(), precisions=("fp32", "fp16"))

    def load(self, package: Path, options: ExecutorOptions) -> CompiledModel:
        """Load a package; the precision is the package's own, another cannot be asked for."""
        problem = _host_problem()
        if problem is not None:
            raise ExecutorUnavailableError(
                f"executor coreml is not available: {problem[0]}", problem[1]
            )
        coremltools = _coremltools()
        cache = self._cache
        key = CacheKey(
            package_digest(package, cache),
            NAME,
            _version(),
            {"batch": str(options.batch), "form": _FORM},
        )
        entry = cache.fetch(key, lambda folder: _build(coremltools, package, options.batch, folder))
        details = entry.details
        precision = str(details["precision"])
        if options.precision not in ("auto", precision):
            raise ExecutorUnavailableError(
                f"{package} computes in {precision}, not {options.precision}",
                f"Core ML runs what the package holds: use --precision {precision} or auto",
            )
        compiled = entry.folder / _COMPILED_NAME if details["compiled"] else package
        units = getattr(coremltools.ComputeUnit, UNITS[options.compute_units])
        try:
            native = coremltools.models.CompiledMLModel(str(compiled), compute_units=units)
        except Exception as error:
            # coremltools raises plain Exception and what the native module throws.
            raise HostError(
                f"Core ML cannot load {package} on {options.compute_units}: {error}",
                "try other --compute-units",
            ) from error
        inputs, outputs = _specs(details["inputs"]), _specs(details["outputs"])
        batch = options.batch or (1 if details["flexible"] else None)
        if batch is not None and not has_batch((*inputs, *outputs), batch):
            batch = None  # the package has another one, and takes that
        ran = ExecutorRun(NAME, _version(), precision, options.compute_units, None, 1, batch)
        model = CoreMLModel(options, ran, inputs, outputs, entry.hit, native, compiled)
        return model if batch is None else FixedBatchModel(model, batch)


@dataclass(eq=False)
class CoreMLModel(LoadedModel):
    """A loaded model, and where its compiled form lies."""

    native: Any
    compiled_path: Path

    def request(self) -> CoreMLRequest:
        """A new request with buffers of its own."""
        return CoreMLRequest(self)

    def operator_times(self) -> Sequence[OperatorTime]:
        """Core ML measures no operators (``MLComputePlan`` estimates them)."""
        raise ExecutorUnavailableError("Core ML does not report operator times", _OTHERS)

    def close(self) -> None:
        """Free the native model."""
        self.native = None


class CoreMLRequest:
    """One inference at a time; see :class:`~fluidaudio_cli.executors.base.InferRequest`."""

    def __init__(self, model: CoreMLModel) -> None:
        self.copied_bytes = 0
        self._model = model
        self._buffers = ResultBuffers(model.outputs)

    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        """Run and wait."""
        arrays, copied = taken(feeds, self._model.inputs, writable=True)
        try:
            answer = self._model.native.predict(arrays)
        except Exception as error:
            raise HostError(
                f"Core ML failed on {self._model.ran.device}: {error}",
                "try other --compute-units",
            ) from error
        found = {
            spec.name: np.reshape(answer[spec.name], spec.shape)  # type: ignore[type-var]
            for spec in self._model.outputs
        }
        results, written = self._buffers.copied(found, outputs)
        self.copied_bytes += copied + written
        return results


def _build(coremltools: Any, package: Path, batch: int | None, folder: Path) -> Mapping[str, Any]:
    """Compile into ``folder``; what a warm start needs to know without reading the package."""
    from fluidaudio_cli.coreml.package import read_program
    from fluidaudio_cli.coreml.protos import quiet_coremltools

    program = read_program(package)
    flexible = any(value.type.static_shape is None for value in program.main.inputs)
    already_compiled = (package / "model.mil").is_file()
    _check(package, program, already_compiled)
    if flexible and already_compiled:
        raise ModelFormatError(
            f"{package} is compiled with flexible shapes", "give the .mlpackage it was made from"
        )
    rows = batch or 1
    try:
        with temporary_folder() as scratch, quiet_coremltools():
            source = package
            if flexible:
                source = scratch / "fixed.mlpackage"
                _materialize(coremltools, package, program, rows, source)
            if not already_compiled:
                with _nothing_printed():
                    coremltools.models.utils.compile_model(
                        str(source), str(folder / _COMPILED_NAME)
                    )
            fixed = read_program(source)
    except (FluidAudioError, OSError):
        raise
    except Exception as error:
        raise HostError(
            f"Core ML cannot compile {package}: {error}",
            "fluidaudio models inspect shows what the package needs",
        ) from error
    # The specification may leave an output's shape out; the program knows it.
    computed = {value.name: value.type.shape for value in fixed.main.block.outputs}
    for name, shape in computed.items():
        if flexible and shape[:1] != (rows,):
            raise ModelFormatError(
                f"{package}: the first axis of output '{name}' is not the batch", _OTHERS
            )
    return {
        "precision": _compute_precision(fixed),
        "flexible": flexible,
        "compiled": not already_compiled,
        "inputs": [
            _described(feature.name, feature.type.dtype, feature.type.shape)
            for feature in fixed.inputs
        ],
        "outputs": [
            _described(feature.name, feature.type.dtype, computed[feature.name])
            for feature in fixed.outputs
        ],
    }


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Keep what Core ML's compiler says from the process's standard output, as coremltools does
    where it compiles by itself.
    """
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _check(package: Path, program: Program, compiled: bool) -> None:
    """Refuse what this executor cannot feed, or Core ML not open."""
    suffix = ".mlmodelc" if compiled else ".mlpackage"
    if package.suffix != suffix:
        raise ModelFormatError(
            f"Core ML knows models by their names, and {package} is no *{suffix}", "rename it"
        )
    for feature in (*program.inputs, *program.outputs, *program.states):
        if feature.kind != "tensor" or feature.type.dtype not in _DTYPES:
            held = feature.type.dtype if feature.kind == "tensor" else feature.kind
            raise ModelFormatError(
                f"{package}: '{feature.name}' is of kind {held}, which is not supported",
                f"convert the model with tensors of {', '.join(_DTYPES)}",
            )
    for value in program.main.inputs:
        if not all(isinstance(size, int) for size in value.type.shape[1:]):
            raise ModelFormatError(
                f"{package}: sizes of '{value.name}' other than its batch are free", _OTHERS
            )


def _materialize(
    coremltools: Any, package: Path, program: Program, rows: int, target: Path
) -> None:
    """Write the package with ``rows`` for its batch.

    coremltools' ``materialize_dynamic_shape_mlmodel``, but for the two passes that make fp16 of
    all fp32 and 16-bit integers of others: it lets nobody leave them out.
    """
    from coremltools.converters.mil.converter import mil_convert
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager

    name, making = program.main.name, "common::materialize_symbolic_shape_program"
    shapes = {
        value.name: tuple(size if isinstance(size, int) else rows for size in value.type.shape)
        for value in program.main.inputs
    }
    pipeline = coremltools.PassPipeline.DEFAULT
    pipeline.remove_passes({"common::add_fp16_cast", "common::add_int16_cast"})
    pipeline.insert_pass(0, making)
    pipeline.set_options(
        making,
        {"function_name_to_materialization_map": {name: shapes}, "source_function_name": name},
    )
    model = coremltools.models.MLModel(str(package), skip_model_load=True)
    spec = model.get_spec()
    mil = load(spec, spec.specificationVersion, model.weights_dir)
    PassPipelineManager.apply_pipeline(mil, pipeline)
    mil.export_as_multifunction = list(mil.functions) != ["main"]
    mil.skip_all_passes = True
    mil_convert(
        mil,
        convert_from="milinternal",
        convert_to="mlprogram",
        specification_version=spec.specificationVersion,
        compute_units=coremltools.ComputeUnit.CPU_ONLY,
        skip_model_load=True,
    ).save(str(target))


def _described(name: str, dtype: str, shape: Sequence[Any]) -> dict[str, Any]:
    return {"name": name, "dtype": _DTYPES[dtype], "shape": [int(size) for size in shape]}


def _specs(described: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(each["name"], tuple(each["shape"]), each["dtype"]) for each in described
    )


def _compute_precision(program: Program) -> str:
    """The type most floating-point operations of the program compute in."""
    from fluidaudio_cli.coreml.ir import iterate_operations

    counts = Counter(
        value.type.dtype
        for operation in iterate_operations(program.main.block)
        for value in operation.outputs
    )
    return "fp16" if counts["fp16"] > counts["fp32"] else "fp32"


def _host_problem() -> tuple[str, str] | None:
    """Why Core ML cannot run here, and what to do instead; ``None`` where it can."""
    if sys.platform != "darwin":
        return f"Core ML runs on macOS only, and this is {platform.system()}", _OTHERS
    version = platform.mac_ver()[0]
    if int(version.split(".")[0] or 0) < _OLDEST_MACOS:
        return f"macOS {version} is too old", f"update to macOS 15, or {_OTHERS}"
    found = importlib.util.find_spec("coremltools")
    if found is None or found.origin is None:
        return "coremltools is not installed", "install it with: pip install coremltools"
    if not any(Path(found.origin).parent.glob("libcoremlpython*")):
        return (
            "coremltools lacks its native module libcoremlpython",
            "reinstall coremltools from a macOS wheel for this Python",
        )
    return None


def _version() -> str:
    # Imported here: off the Mac this module is imported only to say that it does not run.
    from importlib import metadata

    return f"coremltools {metadata.version('coremltools')}, macOS {platform.mac_ver()[0]}"


@lru_cache(maxsize=1)
def _coremltools() -> Any:
    """coremltools without its start-up messages, and without scikit-learn.

    Its converter for scikit-learn, which nothing here uses, costs seconds at import.
    """
    from fluidaudio_cli.coreml.protos import quiet_coremltools

    try:
        with quiet_coremltools(), imported_without("coremltools", "sklearn"):
            import coremltools

            return coremltools
    except ImportError as error:
        raise ExecutorUnavailableError(
            f"coremltools cannot be imported: {error}",
            "install it with: pip install coremltools",
        ) from error
