"""The Core ML executor through coremltools' own Python layer.

Apple's runtime is NOT tested here. coremltools' native module, absent off macOS, is replaced by
``native_stand_in`` (and its macOS version check satisfied); everything above it is real: the
materialisation of the flexible batch, ``compile_model``, ``CompiledMLModel`` and its checks,
single and batch predict, and this package's executor, cache and errors.
"""

from __future__ import annotations

import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from building import package, tensor
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its usual name
from coremltools.converters.mil.mil import get_new_symbol
from coremltools.converters.mil.mil import types as mil
from native_stand_in import _MLModelProxy

from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.errors import ExecutorUnavailableError, HostError, ModelFormatError, UsageError
from fluidaudio_cli.executors import coreml
from fluidaudio_cli.executors.base import (
    CompiledModel,
    Executor,
    ExecutorOptions,
    InferRequest,
    TensorSpec,
)
from fluidaudio_cli.executors.buffers import aligned_empty
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.executors.compute_plan import model_plan
from fluidaudio_cli.executors.coreml import CoreMLExecutor
from fluidaudio_cli.executors.selftest import check
from fluidaudio_cli.models.registry import bundled_models

DATA = Path(__file__).parent / "data"
FLEXIBLE = DATA / "affine-flexible.mlpackage"
FIXED = DATA / "affine-fixed.mlpackage"
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32)
Y = np.array([[5.0, 0.0], [0.0, 1.25], [2.0, 0.5]], dtype=np.float32)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_MLModelProxy]]:
    """coremltools as on macOS, its native module replaced."""
    coreml._coremltools()
    from coremltools.models import _compiled_model, utils

    module: Any = types.ModuleType("coremltools.libcoremlpython")
    module._MLModelProxy = _MLModelProxy
    monkeypatch.setitem(sys.modules, "coremltools.libcoremlpython", module)
    monkeypatch.setattr(_compiled_model, "_MLModelProxy", _MLModelProxy)
    for place in (_compiled_model, utils):
        monkeypatch.setattr(place, "_macos_version", lambda: (15, 0))
    monkeypatch.setattr(coreml, "_host_problem", lambda: None)
    _MLModelProxy.reset()
    yield _MLModelProxy
    _MLModelProxy.reset()


@pytest.fixture
def engine(native: type[_MLModelProxy], cache: CompileCache) -> CoreMLExecutor:
    return CoreMLExecutor(cache)


def test_it_is_an_executor_like_the_others(engine: CoreMLExecutor) -> None:
    model = engine.load(FLEXIBLE, ExecutorOptions())
    assert isinstance(engine, Executor)
    assert isinstance(model, CompiledModel)
    assert isinstance(model.request(), InferRequest)
    assert model.inputs == (TensorSpec("x", (None, 3), "float32"),)
    assert model.outputs == (TensorSpec("y", (None, 2), "float32"),)
    assert engine.availability().ok


def test_flexible_batch_becomes_one_given_again_and_again(
    engine: CoreMLExecutor, native: type[_MLModelProxy]
) -> None:
    request = engine.load(FLEXIBLE, ExecutorOptions()).request()
    np.testing.assert_array_equal(request.run({"x": X})["y"], Y)
    np.testing.assert_array_equal(request.run({"x": X[:1]})["y"], Y[:1])
    assert [data["x"].shape for data in native.predictions] == [(1, 3)] * 4


def test_short_last_batch_is_padded_and_trimmed(
    engine: CoreMLExecutor, native: type[_MLModelProxy]
) -> None:
    model = engine.load(FLEXIBLE, ExecutorOptions(batch=2))
    assert model.ran.batch == 2
    request = model.request()
    np.testing.assert_array_equal(request.run({"x": X})["y"], Y)
    assert [data["x"].tolist() for data in native.predictions] == [
        [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]],
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]],
    ]
    # One row copied into the padding, and the outputs of 4 rows out of coremltools.
    assert request.copied_bytes == 3 * 4 + 4 * 2 * 4


def test_full_batches_reach_the_native_module_without_a_copy(
    engine: CoreMLExecutor, native: type[_MLModelProxy]
) -> None:
    request = engine.load(FLEXIBLE, ExecutorOptions(batch=2)).request()
    x = aligned_empty((4, 3))
    x[...] = np.concatenate([X, X[:1]])
    request.run({"x": x})
    addresses = [data["x"].ctypes.data for data in native.predictions]
    assert addresses == [x.ctypes.data, x.ctypes.data + 2 * 3 * 4]


def test_read_only_arrays_are_copied(engine: CoreMLExecutor) -> None:
    """coremltools says "value type not convertible" of them."""
    request = engine.load(FIXED, ExecutorOptions()).request()
    x = X[:2].copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(request.run({"x": x})["y"], Y[:2])
    assert request.copied_bytes == x.nbytes + Y[:2].nbytes


@pytest.mark.parametrize("batch", [None, 2])
def test_a_fixed_batch_computes_in_the_packages_precision(
    batch: int | None, engine: CoreMLExecutor, native: type[_MLModelProxy]
) -> None:
    assert engine.load(FLEXIBLE, ExecutorOptions(batch=batch)).ran.precision == "fp32"
    block = read_program(Path(native.loaded[0][0]) / "source.mlpackage").main.block
    assert [(each.kind, str(each.outputs[0].type)) for each in block.operations] == [
        ("matmul", f"fp32[{batch or 1}, 2]"),
        ("relu", f"fp32[{batch or 1}, 2]"),
    ]


@pytest.mark.parametrize("name", ["fbank", "segmentation-student"])
def test_bundled_packages_pass_their_self_tests(name: str, engine: CoreMLExecutor) -> None:
    bundled = bundled_models()[name]
    check(engine.load(bundled.package, ExecutorOptions()), bundled.selftest())


def test_results_of_fp16_and_of_no_axes(engine: CoreMLExecutor, tmp_path: Path) -> None:
    def program(x: Any) -> Any:
        return mb.relu(x=x, name="rows"), mb.reduce_max(x=x, keep_dims=False, name="most")

    half = package(tmp_path, program, tensor(2, 3, dtype=mil.fp16))
    model = engine.load(half, ExecutorOptions())
    assert model.outputs == (
        TensorSpec("rows", (2, 3), "float16"),
        TensorSpec("most", (), "float16"),
    )
    results = model.request().run({"x": X[:2].astype(np.float16)})
    np.testing.assert_array_equal(results["rows"], np.maximum(X[:2], 0))
    np.testing.assert_array_equal(results["most"], np.float16(3), strict=True)


def flexible_package(folder: Path, build: Callable[..., Any], *fixed: int) -> Path:
    """Of an input ``x`` whose sizes before ``fixed`` are free."""
    free = 3 - len(fixed)
    spec = tensor(*(get_new_symbol() for _ in range(free)), *fixed)
    shape = (*(ct.RangeDim(1, 8, default=2) for _ in range(free)), *fixed)
    return package(folder, build, spec, inputs=[ct.TensorType(name="x", shape=shape)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda folder: flexible_package(folder, lambda x: mb.relu(x=x), 4),
            "sizes of 'x' other than its batch are free: use --executor openvino or onnxruntime",
        ),
        (
            lambda folder: flexible_package(
                folder, lambda x: mb.transpose(x=x, perm=[1, 0, 2], name="y"), 3, 4
            ),
            "the first axis of output 'y' is not the batch: use --executor openvino or",
        ),
        (
            lambda folder: package(
                folder,
                lambda x: mb.relu(x=x),
                tensor(1, 3, 4, 4),
                inputs=[ct.ImageType(name="x", shape=(1, 3, 4, 4))],
            ),
            "'x' is of kind image, which is not supported: convert the model with tensors of fp16,",
        ),
        (
            lambda folder: package(
                folder,
                lambda x, s: mb.add(x=x, y=mb.read_state(input=s)),
                tensor(2, 3, dtype=mil.fp16),
                mb.StateTensorSpec((2, 3), dtype=mil.fp16),
                opset=ct.target.iOS18,
            ),
            "'s' is of kind state, which is not supported",
        ),
        (
            lambda folder: shutil.copytree(FIXED, folder / "renamed"),
            "renamed is no *.mlpackage: rename it",
        ),
    ],
    ids=["free time", "batch elsewhere", "image", "state", "name"],
)
def test_packages_that_it_does_not_run(
    build: Callable[[Path], Path], message: str, engine: CoreMLExecutor, tmp_path: Path
) -> None:
    with pytest.raises(ModelFormatError) as caught:
        engine.load(build(tmp_path), ExecutorOptions())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("all", "ALL"),
        ("cpu-only", "CPU_ONLY"),
        ("cpu-and-gpu", "CPU_AND_GPU"),
        ("cpu-and-ne", "CPU_AND_NE"),
    ],
)
def test_compute_units(
    engine: CoreMLExecutor, native: type[_MLModelProxy], asked: Any, given: str
) -> None:
    model = engine.load(FLEXIBLE, ExecutorOptions(compute_units=asked))
    assert [units for _, units in native.loaded] == [given]
    assert (model.asked.compute_units, model.ran.device) == (asked, asked)
    assert model.ran.threads is None


def test_compiled_once_then_from_the_cache(
    engine: CoreMLExecutor, native: type[_MLModelProxy], cache: CompileCache
) -> None:
    hits = [engine.load(FLEXIBLE, ExecutorOptions()).cache_hit for _ in range(2)]
    assert (hits, len(native.compiled)) == ([False, True], 1)
    (first, _), (second, _) = native.loaded
    assert first == second
    assert Path(first).is_relative_to(cache.root)
    assert not engine.load(FLEXIBLE, ExecutorOptions(batch=2)).cache_hit
    shutil.rmtree(Path(first) / "source.mlpackage" / "Data")
    assert not engine.load(FLEXIBLE, ExecutorOptions()).cache_hit
    assert len(native.compiled) == 3


def test_the_compiler_writes_nothing_among_results(
    engine: CoreMLExecutor, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.load(FIXED, ExecutorOptions())
    os.write(1, b"turns\n")
    assert capfd.readouterr().out == "turns\n"


def test_package_of_fixed_shape_runs_as_it_is(
    engine: CoreMLExecutor, native: type[_MLModelProxy]
) -> None:
    model = engine.load(FIXED, ExecutorOptions())
    assert model.inputs == (TensorSpec("x", (2, 3), "float32"),)
    assert (model.ran.precision, model.ran.batch) == ("fp16", None)
    assert native.compiled == [str(FIXED)]
    np.testing.assert_array_equal(model.request().run({"x": X[:2].copy()})["y"], Y[:2])
    with pytest.raises(UsageError, match=r"float32\[1, 3\]: the model takes x float32\[2, 3\]"):
        model.request().run({"x": X[:1]})


def test_a_batch_that_the_package_fixes_is_filled_up(
    engine: CoreMLExecutor, native: type[_MLModelProxy]
) -> None:
    model = engine.load(FIXED, ExecutorOptions(batch=2))
    assert (model.inputs, model.ran.batch) == ((TensorSpec("x", (None, 3), "float32"),), 2)
    np.testing.assert_array_equal(model.request().run({"x": X})["y"], Y)
    assert [data["x"].shape for data in native.predictions] == [(2, 3)] * 2
    # Another one than is asked for is taken as it is.
    assert engine.load(FIXED, ExecutorOptions(batch=8)).ran.batch is None


def test_flexible_shapes_that_are_compiled_already(engine: CoreMLExecutor, tmp_path: Path) -> None:
    package = tmp_path / "free.mlmodelc"
    package.mkdir()
    (package / "model.mil").write_text(
        "program(1.0)\n{ func main<ios15>(tensor<fp32, [?, 2]> x) "
        '{ tensor<fp32, [?, 2]> y = relu(x = x)[name = string("y")]; } -> (y); }'
    )
    with pytest.raises(ModelFormatError, match=r"free\.mlmodelc is compiled with flexible shapes"):
        engine.load(package, ExecutorOptions())


def test_results_land_in_the_callers_array(engine: CoreMLExecutor) -> None:
    store = np.zeros((4, 2), np.float32)
    request = engine.load(FLEXIBLE, ExecutorOptions()).request()
    result = request.run({"x": X}, {"y": store[1:]})["y"]
    assert result.ctypes.data == store[1:].ctypes.data
    np.testing.assert_array_equal(store, np.concatenate([np.zeros((1, 2)), Y]))


def test_precision_is_the_packages_own(engine: CoreMLExecutor) -> None:
    assert engine.load(FIXED, ExecutorOptions("fp16")).ran.precision == "fp16"
    with pytest.raises(ExecutorUnavailableError) as caught:
        engine.load(FIXED, ExecutorOptions("fp32"))
    assert str(caught.value) == (
        f"{FIXED} computes in fp16, not fp32: "
        "Core ML runs what the package holds: use --precision fp16 or auto"
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            "compile",
            f"Core ML cannot compile {FLEXIBLE}: Error compiling model: unsupported op: "
            "fluidaudio models inspect shows what the package needs",
        ),
        (
            "load",
            f"Core ML cannot load {FLEXIBLE} on cpu-and-ne: Error creating Core ML model: "
            "no Neural Engine: try other --compute-units",
        ),
        (
            "predict",
            "Core ML failed on cpu-and-ne: Failed to evaluate model 0 in pipeline: "
            "try other --compute-units",
        ),
    ],
)
def test_native_errors_are_one_line(
    engine: CoreMLExecutor, native: type[_MLModelProxy], step: str, message: str
) -> None:
    native.fail = {step}
    with pytest.raises(HostError) as caught:
        engine.load(FLEXIBLE, ExecutorOptions(compute_units="cpu-and-ne")).request().run({"x": X})
    assert str(caught.value) == message


def test_checks_of_coremltools_itself_are_reached(
    engine: CoreMLExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its Python layer refuses comes out as our error, not as its bare exception."""
    from coremltools.models import _compiled_model

    engine.load(FLEXIBLE, ExecutorOptions())
    monkeypatch.setattr(_compiled_model, "_macos_version", lambda: (10, 12))
    with pytest.raises(HostError, match=r"only support on macOS 10\.13 or higher"):
        engine.load(FLEXIBLE, ExecutorOptions())


def test_operator_times_are_not_to_be_had(engine: CoreMLExecutor) -> None:
    model = engine.load(FLEXIBLE, ExecutorOptions(profile=True))
    with pytest.raises(ExecutorUnavailableError, match="does not report operator times"):
        model.operator_times()


@pytest.mark.parametrize("package", [FLEXIBLE, FIXED])
def test_the_plan_is_asked_of_what_was_compiled(
    package: Path,
    engine: CoreMLExecutor,
    native: type[_MLModelProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, asked = engine.load(package, ExecutorOptions(compute_units="cpu-and-ne")), []
    function = types.SimpleNamespace(block=types.SimpleNamespace(operations=[]))

    def load(path: str, compute_units: Any) -> Any:
        asked.append((path, compute_units.name))
        program = types.SimpleNamespace(functions={"main": function})
        return types.SimpleNamespace(model_structure=types.SimpleNamespace(program=program))

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(
        "coremltools.models.compute_plan.MLComputePlan.load_from_path", staticmethod(load)
    )
    assert model_plan(model) == ()
    assert asked == native.loaded == [(native.loaded[0][0], "CPU_AND_NE")]


def test_old_macos_and_missing_native_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.mac_ver", lambda: ("14.7.1", ("", "", ""), "arm64"))
    assert coreml._host_problem() == (
        "macOS 14.7.1 is too old",
        "update to macOS 15, or use --executor openvino or onnxruntime",
    )
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda _: types.SimpleNamespace(origin=str(DATA / "__init__.py")),
    )
    assert coreml._host_problem() == (
        "coremltools lacks its native module libcoremlpython",
        "reinstall coremltools from a macOS wheel for this Python",
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert coreml._host_problem() == (
        "coremltools is not installed",
        "install it with: pip install coremltools",
    )
