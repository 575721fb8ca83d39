"""ONNX Runtime and OpenVINO behind one interface: figures, zero-copy, overlapping runs, errors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError

from fluidaudio_cli.errors import (
    ExecutorUnavailableError,
    ModelFormatError,
    UsageError,
)
from fluidaudio_cli.executors import openvino
from fluidaudio_cli.executors.base import (
    CompiledModel,
    ExecutorOptions,
    InferRequest,
    OperatorTime,
    TensorSpec,
)
from fluidaudio_cli.executors.buffers import aligned_empty
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.executors.lowering import lower_package, serialised
from fluidaudio_cli.executors.onnxruntime import OnnxRuntimeRequest
from fluidaudio_cli.executors.openvino import OpenVinoRequest
from fluidaudio_cli.executors.openvino_faults import spared
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.executors.selftest import check
from fluidaudio_cli.models.registry import bundled_models

RUNTIMES = ("onnxruntime", "openvino")
FP32 = ExecutorOptions(precision="fp32", threads=1)
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]], dtype=np.float32)
# Row 1: (1 + 4, max(0, -1 + 1 - 9)); row 2: (-1 + 1, 1 + 0.25).
Y = np.array([[5.0, 0.0], [0.0, 1.25]], dtype=np.float32)

Package = Callable[[str], Path]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(runtime: str, package: Package, cache: CompileCache) -> CompiledModel:
    return executor(runtime, cache).load(package("affine"), FP32)


def buffer_like(array: np.ndarray) -> np.ndarray:
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def test_result_and_description(model: CompiledModel, runtime: str) -> None:
    assert model.inputs == (TensorSpec("x", (None, 3), "float32"),)
    assert model.outputs == (TensorSpec("y", (None, 2), "float32"),)
    np.testing.assert_array_equal(model.request().run({"x": X})["y"], Y)
    assert model.asked == FP32
    ran = model.ran
    assert (ran.executor, ran.precision, ran.device, ran.threads, ran.streams) == (
        runtime,
        "fp32",
        "CPU",
        1,
        1,
    )
    assert ran.version[0].isdigit()


def test_runtime_reads_and_writes_our_memory(model: CompiledModel) -> None:
    """Only the runtime runs here: no line of ours could carry the values across."""
    request = model.request()
    x = buffer_like(X)
    request.run({"x": x})
    y = request.run({"x": x})["y"]
    copied = request.copied_bytes
    x[0] = (0.0, 1.0, 0.0)
    y[...] = np.nan
    _execute_once_more(request)
    np.testing.assert_array_equal(y, [[2.0, 0.5], [0.0, 1.25]])
    assert request.copied_bytes == copied


def _execute_once_more(request: InferRequest) -> None:
    """Run the runtime's own request as it stands, past all of our code."""
    if isinstance(request, OnnxRuntimeRequest):
        request._model.session.run_with_iobinding(request._binding)
    else:
        assert isinstance(request, OpenVinoRequest)
        request._request.infer()


def test_output_buffer_is_aligned_reused_and_written_in_place(model: CompiledModel) -> None:
    request = model.request()
    request.run({"x": X.copy()})
    copied = request.copied_bytes
    first = request.run({"x": X.copy()})["y"]
    address = first.ctypes.data
    assert first.ctypes.data % 64 == 0
    second = request.run({"x": -X})["y"]
    assert second.ctypes.data == address
    # Row 1 of -X: (-5, 1 - 1 + 9); row 2: (0, -1.25). The earlier view shows it: same memory.
    np.testing.assert_array_equal(first, [[0.0, 9.0], [0.0, 0.0]])
    assert request.copied_bytes == copied


def test_results_land_in_the_callers_array(model: CompiledModel) -> None:
    request = model.request()
    store = np.full((5, 2), np.nan, dtype=np.float32)
    for row in (0, 2):
        results = request.run({"x": X.copy()}, {"y": store[row : row + 2]})
        assert results["y"].ctypes.data == store[row:].ctypes.data
    np.testing.assert_array_equal(store[:4], np.concatenate([Y, Y]))
    assert np.isnan(store[4]).all()


def test_array_passes_between_networks_without_a_copy(
    runtime: str, package: Package, cache: CompileCache
) -> None:
    engine = executor(runtime, cache)
    first = engine.load(package("flatten"), FP32).request()
    second = engine.load(package("affine"), FP32).request()
    between = aligned_empty((2, 3))
    x = buffer_like(X)
    for _ in range(2):  # the first run learns the shape, the second writes in place
        first.run({"x": x}, {"flat": between.reshape(6)})
        result = second.run({"x": between})["y"]
    np.testing.assert_array_equal(result, [[0.0, 9.0], [0.0, 0.0]])
    before = (first.copied_bytes, second.copied_bytes)
    first.run({"x": x}, {"flat": between.reshape(6)})
    second.run({"x": between})
    assert (first.copied_bytes, second.copied_bytes) == before


def test_batches_of_any_size_share_one_request(model: CompiledModel) -> None:
    request = model.request()
    for size in (1, 4, 2, 1, 4):
        x = np.tile(X[:1], (size, 1))
        np.testing.assert_array_equal(request.run({"x": x})["y"], np.tile(Y[:1], (size, 1)))


def test_output_size_that_is_not_the_batch(
    runtime: str, package: Package, cache: CompileCache
) -> None:
    request = executor(runtime, cache).load(package("flatten"), FP32).request()
    for size in (2, 1, 2):
        flat = request.run({"x": X[:size].copy()})["flat"]
        np.testing.assert_array_equal(flat, -X[:size].ravel())


@pytest.mark.parametrize("batch", [None, 2])
def test_an_input_that_nobody_reads_is_taken(
    batch: int | None, runtime: str, package: Package, cache: CompileCache
) -> None:
    folder, options = package("unread"), ExecutorOptions(precision="fp32", batch=batch)
    for _ in range(2):  # compiled, then from the cache
        model = executor(runtime, cache).load(folder, options)
        assert [str(spec) for spec in model.inputs] == [
            "x float32[*, 3]",
            "unread int32[*, 2]",
        ]
        feeds = {"x": np.ones((2, 3), np.float32), "unread": np.zeros((2, 2), np.int32)}
        assert model.request().run(feeds)["y"].tolist() == [[3.0, 0.0]] * 2


def test_input_that_is_not_contiguous_is_copied_and_counted(model: CompiledModel) -> None:
    request = model.request()
    request.run({"x": X.copy()})
    before = request.copied_bytes
    wide = np.zeros((2, 6), dtype=np.float32)
    wide[:, ::2] = X
    np.testing.assert_array_equal(request.run({"x": wide[:, ::2]})["y"], Y)
    assert request.copied_bytes == before + X.nbytes


def test_unaligned_and_read_only_inputs_are_right(model: CompiledModel) -> None:
    request = model.request()
    raw = np.zeros(X.size + 1, dtype=np.float32)
    unaligned = raw[1:].reshape(X.shape)
    unaligned[...] = X
    np.testing.assert_array_equal(request.run({"x": unaligned})["y"], Y)
    frozen = X.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(request.run({"x": frozen})["y"], Y)


def test_requests_overlap_and_keep_their_own_results(model: CompiledModel) -> None:
    one, two = model.request(), model.request()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            running = pool.submit(one.run, {"x": X.copy()}), pool.submit(two.run, {"x": -X})
            left, right = (each.result()["y"] for each in running)
            np.testing.assert_array_equal(left, Y)
            np.testing.assert_array_equal(right, [[0.0, 9.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'x' is missing: give x float32[*, 3]"),
        ({"x": X, "z": X}, "the model has no input 'z': its inputs are x"),
        (
            {"x": X.astype(np.float64)},
            "input 'x' is float64[2, 3]: the model takes x float32[*, 3]",
        ),
        ({"x": X[:, :2]}, "input 'x' is float32[2, 2]: the model takes x float32[*, 3]"),
        ({"x": X[:0]}, "input 'x' is empty: the model takes x float32[*, 3]"),
    ],
)
def test_wrong_feeds_are_refused(
    model: CompiledModel, feeds: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        model.request().run(feeds)
    assert str(caught.value) == message


def test_wrong_outputs_are_refused(model: CompiledModel) -> None:
    request = model.request()
    request.run({"x": X.copy()})
    with pytest.raises(UsageError, match=r"no output 'q': its outputs are y"):
        request.run({"x": X.copy()}, {"q": Y.copy()})
    with pytest.raises(UsageError, match=r"output 'y' is float32\[1, 2\].*float32\[2, 2\]"):
        request.run({"x": X.copy()}, {"y": Y[:1].copy()})
    with pytest.raises(UsageError, match="'y' is not contiguous and writable"):
        request.run({"x": X.copy()}, {"y": np.zeros((2, 4), np.float32)[:, ::2]})


def test_operator_times_name_the_layers(
    runtime: str, package: Package, cache: CompileCache
) -> None:
    model = executor(runtime, cache).load(
        package("affine"), ExecutorOptions(precision="fp32", threads=1, profile=True)
    )
    request = model.request()
    for _ in range(3):
        request.run({"x": np.tile(X, (500, 1))})
    times = {each.kind: each for each in model.operator_times()}
    product = times["MatMul"] if runtime == "onnxruntime" else times["FullyConnected"]
    assert product.calls == 3
    assert product.layer == "linear_0"
    assert 0 < product.seconds < 1


def test_operator_times_need_the_profile_option(model: CompiledModel) -> None:
    with pytest.raises(UsageError, match="not recorded: load with profile=True"):
        model.operator_times()


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
def test_fixed_batch_takes_any_number_of_rows(
    runtime: str, package: Package, cache: CompileCache, rows: int
) -> None:
    model = executor(runtime, cache).load(
        package("affine"), ExecutorOptions(precision="fp32", batch=2)
    )
    assert model.ran.batch == 2
    assert model.inputs[0].shape == (None, 3)
    given, expected = np.tile(X, (3, 1))[:rows].copy(), np.tile(Y, (3, 1))[:rows]
    request = model.request()
    np.testing.assert_array_equal(request.run({"x": given})["y"], expected)
    # The rows beyond the last whole batch are copied, the others used where they lie.
    assert request.copied_bytes == (rows % 2) * given[0].nbytes
    own = np.full((rows, 2), np.nan, np.float32)
    results = request.run({"x": given}, {"y": own})
    assert results["y"] is own
    np.testing.assert_array_equal(own, expected)
    with pytest.raises(UsageError, match=r"float32\[2, 2\]: the model takes x float32\[\*, 3\]"):
        request.run({"x": np.zeros((2, 2), np.float32)})


def test_a_batch_beside_other_free_sizes_is_any_number_of_rows(
    runtime: str, package: Package, cache: CompileCache
) -> None:
    options = ExecutorOptions(precision="fp32", batch=2)
    model = executor(runtime, cache).load(package("steps"), options)
    assert (model.inputs[0].shape, model.ran.batch) == ((None, None, 3), None)
    for rows in (1, 2, 3):
        given, expected = np.tile(X, (rows, 1, 1)), np.tile(Y, (rows, 1, 1))
        np.testing.assert_array_equal(model.request().run({"x": given})["y"], expected)


def test_precision_that_is_not_there_is_refused(package: Package, cache: CompileCache) -> None:
    with pytest.raises(ExecutorUnavailableError) as caught:
        executor("onnxruntime", cache).load(package("affine"), ExecutorOptions(precision="bf16"))
    assert str(caught.value) == (
        "onnxruntime does not run bf16 on the CPU: use --precision fp32, or --executor openvino"
    )


def test_openvino_runs_each_precision_it_claims(package: Package, cache: CompileCache) -> None:
    engine = executor("openvino", cache)
    folder = package("affine")
    for precision in engine.availability().precisions:
        model = engine.load(folder, ExecutorOptions(precision=precision))  # type: ignore[arg-type]
        assert model.ran.precision == precision
        # Small whole numbers and quarters are exact in every precision.
        np.testing.assert_array_equal(model.request().run({"x": X.copy()})["y"], Y)


def test_integers_beside_fp16_are_refused_before_they_are_compiled(
    cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(openvino, "_support", lambda: ("1", ("fp32", "bf16", "fp16")))
    quantized = bundled_models()["embedding-int8"].package
    with pytest.raises(ExecutorUnavailableError) as caught:
        executor("openvino", cache).load(quantized, ExecutorOptions(precision="fp16"))
    assert str(caught.value) == (
        "openvino does not run the 8-bit integers of embedding-int8.mlpackage beside fp16: "
        "use --precision fp32 or bf16, or another --executor"
    )
    assert not list(cache.root.rglob("*.blob"))


def test_integers_are_refused_on_arm_whatever_is_beside_them(
    cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    quantized = bundled_models()["embedding-int8"].package
    with pytest.raises(ExecutorUnavailableError) as caught:
        executor("openvino", cache).load(quantized, FP32)
    assert str(caught.value) == (
        "openvino does not run the 8-bit integers of embedding-int8.mlpackage on ARM: "
        "use another --executor"
    )


def test_transposed_convolutions_over_one_axis_go_over_two_on_arm(
    cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = bundled_models()["segmentation-student"]
    graph = onnx.load_from_string(lower_package(student.package))

    def kernels(model: Any) -> list[list[int]]:
        """Sizes of the kernels of transposed convolutions."""
        return [
            list(attribute.ints)
            for node in model.graph.node
            if node.op_type == "ConvTranspose"
            for attribute in node.attribute
            if attribute.name == "kernel_shape"
        ]

    assert {len(kernel) for kernel in kernels(graph)} == {1}
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    wide = spared(copy.deepcopy(graph), student.package, "fp32", ("fp32",))
    assert kernels(wide) == [[1, *kernel] for kernel in kernels(graph)]
    # Here either form is right.
    loaded = executor("openvino", cache).load(student.package, FP32)
    assert check(loaded, student.selftest()).agreements[0].max_abs < 0.05


def test_graph_the_runtime_refuses(
    runtime: str, package: Package, cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package("affine")
    monkeypatch.setattr("fluidaudio_cli.executors.lowering.lower_package", lambda _: b"nonsense")
    with pytest.raises(ModelFormatError, match=f"{runtime} refuses the lowered form of"):
        executor(runtime, cache).load(folder, FP32)


@pytest.mark.parametrize("words", ["plugin.cpp:54: can't alloc", "std::bad_alloc"])
def test_too_little_memory_is_no_fault_of_the_package(
    words: str, package: Package, cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr("fluidaudio_cli.executors.openvino.keep_inputs", full)
    with pytest.raises(MemoryError):
        executor("openvino", cache).load(package("affine"), FP32)


def test_a_model_that_finds_no_room_to_be_written_is_no_fault_of_the_program() -> None:
    class Model:
        def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
            raise EncodeError("Failed to serialize proto")

    with pytest.raises(MemoryError):
        serialised(Model())


def test_package_that_is_missing(runtime: str, cache: CompileCache, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"no model package at .*nothing\.mlpackage"):
        executor(runtime, cache).load(tmp_path / "nothing.mlpackage", FP32)


def test_layer_of_an_operator() -> None:
    names = ("conv_1_nchwc", "conv_1/WithoutBiases", "lstm_0/LSTM_1", "conv_1", "Reorder_7")
    layers = [OperatorTime(name, "", "", 1, 0.0).layer for name in names]
    assert layers == ["conv_1", "conv_1", "lstm_0", "conv_1", "Reorder_7"]
