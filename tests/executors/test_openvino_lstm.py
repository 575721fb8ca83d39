"""OpenVINO with the LSTM kernel between its parts: who runs, the cache, results, times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from lstm_models import Floats, LstmGraph, lstm_model

from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors import lowering
from fluidaudio_cli.executors.base import CompiledModel, ExecutorOptions, InferRequest
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.executors.lstm import kernel
from fluidaudio_cli.executors.machine import cpu_flags
from fluidaudio_cli.executors.operator_origins import operator_layers
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.executors.selftest import check
from fluidaudio_cli.models.registry import BundledModel, bundled_models
from fluidaudio_cli.profiling.models import layer_names

needs_bf16 = pytest.mark.skipif(
    "bf16" not in executor("openvino").availability().precisions,
    reason="OpenVINO has no bf16 on this processor",
)
needs_tiles = pytest.mark.skipif(
    bool(kernel.unavailable()), reason=f"the LSTM kernel cannot run: {kernel.unavailable()}"
)
BF16 = ExecutorOptions("bf16", threads=1)
RUNTIME = ExecutorOptions("bf16", threads=1, kernels="runtime")
Make = Callable[[onnx.ModelProto], Path]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A stand-in package whose lowered form is the model given."""

    def lower(path: Path) -> bytes:
        return (path / "model.onnx").read_bytes()

    monkeypatch.setattr(lowering, "lower_package", lower)

    def make(model: onnx.ModelProto) -> Path:
        folder = tmp_path / "made.mlpackage"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        return folder

    return make


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> CompileCache:
    """The bundled network's parts, compiled once for this file."""
    return CompileCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def segmentation() -> BundledModel:
    return bundled_models()["segmentation"]


def result(model: CompiledModel, x: Floats) -> Floats:
    return np.array(values(model.request(), x), np.float32)


def values(request: InferRequest, x: Floats) -> Floats:
    return cast(Floats, request.run({"x": x})["y"])


def noise(*shape: int) -> Floats:
    return np.random.default_rng(0).normal(0.0, 1.0, shape).astype(np.float32)


@needs_bf16
@pytest.mark.parametrize(
    "why",
    [
        "the processor lacks amx_tile",
        kernel.NOT_BUILT,
        "the system does not grant the use of AMX tiles",
    ],
)
def test_without_the_kernel_the_runtime_does_its_work(
    why: str, package: Make, cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(lstm_model())
    monkeypatch.setattr(kernel, "unavailable", lambda: why)
    monkeypatch.setattr(kernel, "kernel_version", lambda: pytest.fail("there is no kernel"))
    model = executor("openvino", cache).load(folder, BF16)
    assert (model.ran.kernel, model.asked.kernels) == ("runtime", "auto")
    assert not list(cache.root.rglob("lstm.npz"))


@needs_tiles
def test_kernel_and_runtime_agree_and_share_no_entry(package: Make, cache: CompileCache) -> None:
    folder = package(lstm_model())
    engine = executor("openvino", cache)
    x = noise(3, 12, 6)
    exact = result(engine.load(folder, ExecutorOptions("fp32", threads=1)), x)
    results: dict[str, Floats] = {}
    for options, lstm in ((BF16, kernel.kernel_version()), (RUNTIME, "runtime")) * 2:
        model = engine.load(folder, options)
        assert model.ran.kernel == lstm
        assert model.cache_hit == (lstm in results)
        found = result(model, x)
        np.testing.assert_array_equal(found, results.setdefault(lstm, found))
        # Weights within 0.1, 256 states within 0.3 and a head within 0.3.
        np.testing.assert_allclose(found, exact, rtol=0, atol=0.02)
    kinds = {
        entry["key"]["options"]["kernel"]: set(entry["files"])
        for entry in map(_content, (cache.root / "models").glob("openvino-*/entry.json"))
        if entry["key"]["options"]["precision"] == "bf16"
    }
    assert kinds == {
        kernel.kernel_version(): {"before.blob", "after.blob", "lstm.npz"},
        "runtime": {"model.blob"},
    }


def _content(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    content: dict[str, dict[str, dict[str, str]]] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_fp32_stays_with_the_runtime(package: Make, cache: CompileCache) -> None:
    model = executor("openvino", cache).load(
        package(lstm_model()), ExecutorOptions("fp32", threads=1)
    )
    assert model.ran.kernel == "runtime"


@needs_bf16
def test_model_without_such_layers_stays_with_the_runtime(
    package: Make, cache: CompileCache
) -> None:
    graph = LstmGraph()
    graph.after(graph.layer(graph.before(), "l0", graph.width, direction="forward"), 128)
    model = executor("openvino", cache).load(package(graph.model()), BF16)
    assert model.ran.kernel == "runtime"


@needs_tiles
def test_a_changed_kernel_is_compiled_for_anew(
    package: Make, cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(lstm_model())
    engine = executor("openvino", cache)
    engine.load(folder, BF16)
    monkeypatch.setattr(kernel, "kernel_version", lambda: "kernel 0")
    changed = engine.load(folder, BF16)
    assert (changed.cache_hit, changed.ran.kernel) == (False, "kernel 0")


@needs_tiles
def test_any_number_of_windows_beside_any_other(package: Make, cache: CompileCache) -> None:
    folder = package(lstm_model())
    x = noise(19, 12, 6)
    engine = executor("openvino", cache)
    expected = result(engine.load(folder, BF16), x)
    for options in (
        ExecutorOptions("bf16", threads=2),
        ExecutorOptions("bf16", threads=2, streams=2),
        ExecutorOptions("bf16", threads=1, batch=4),
    ):
        model = engine.load(folder, options)
        assert model.inputs[0].shape == (None, 12, 6)
        for first, last in ((0, 19), (0, 1), (7, 12), (3, 19)):
            np.testing.assert_array_equal(result(model, x[first:last].copy()), expected[first:last])
        model.close()


@needs_tiles
def test_sizes_that_are_not_known_beforehand(package: Make, cache: CompileCache) -> None:
    """A free number of steps leaves the parts free, for any number of windows as well."""
    made = lstm_model()
    for port in (made.graph.input[0], made.graph.output[0]):
        port.type.tensor_type.shape.dim[1].dim_param = "steps"
    folder = package(made)
    engine = executor("openvino", cache)
    model = engine.load(folder, BF16)
    exact = engine.load(folder, ExecutorOptions("fp32", threads=1))
    assert model.ran.kernel == kernel.kernel_version()
    request = model.request()
    for windows, steps in ((1, 12), (5, 3), (2, 40), (5, 3)):
        x = noise(windows, steps, 6)
        np.testing.assert_allclose(values(request, x), result(exact, x), rtol=0, atol=0.02)


@needs_tiles
def test_requests_write_where_they_are_told(package: Make, cache: CompileCache) -> None:
    model = executor("openvino", cache).load(package(lstm_model()), BF16)
    x = noise(4, 12, 6)
    expected = result(model, x)
    requests = [model.request() for _ in range(2)]
    outputs = [np.full((2, 12, 3), np.nan, np.float32) for _ in requests]
    for number, request in enumerate(requests):
        given = {"x": x[2 * number : 2 * number + 2]}
        assert request.run(given, {"y": outputs[number]})["y"] is outputs[number]
        np.testing.assert_array_equal(outputs[number], expected[2 * number : 2 * number + 2])
        assert request.copied_bytes == 0
    with pytest.raises(UsageError, match=r"input 'x' is float32\[2, 12, 5\]"):
        requests[0].run({"x": noise(2, 12, 5)})
    with pytest.raises(UsageError, match="the model has no output 'z': its outputs are y"):
        requests[0].run({"x": x}, {"z": outputs[0]})


@needs_tiles
def test_times_need_the_profile_option(package: Make, cache: CompileCache) -> None:
    model = executor("openvino", cache).load(package(lstm_model()), BF16)
    with pytest.raises(UsageError, match="not recorded: load with profile=True"):
        model.operator_times()


@needs_bf16
@pytest.mark.parametrize("options", [BF16, RUNTIME])
def test_bundled_segmentation_passes_its_self_test(
    options: ExecutorOptions, segmentation: BundledModel, compiled: CompileCache
) -> None:
    model = executor("openvino", compiled).load(segmentation.package, options)
    with_kernel = options.kernels == "auto" and not kernel.unavailable()
    assert model.ran.kernel == (kernel.kernel_version() if with_kernel else "runtime")
    report = check(model, segmentation.selftest())
    assert [agreement.output for agreement in report.agreements] == ["log_probabilities"]


@needs_tiles
def test_operator_times_are_mapped_to_the_layers_of_the_package(
    segmentation: BundledModel, compiled: CompileCache
) -> None:
    options = ExecutorOptions("bf16", threads=1, profile=True)
    model = executor("openvino", compiled).load(segmentation.package, options)
    request = model.request()
    audio = 0.1 * noise(2, 1, 160_000)
    for _ in range(2):
        request.run({"audio": audio})
    times = model.operator_times()
    assert list(times) == sorted(times, key=lambda each: each.seconds, reverse=True)
    layers = [each for each in times if each.kernel == "amx_bf16"]
    assert [(each.kind, each.calls) for each in layers] == [("LSTM", 2)] * 4
    program = read_program(segmentation.package)
    origins = operator_layers(model, times, layer_names(program))
    lstms = [each.name for each in program.main.block.operations if each.kind == "lstm"]
    assert sorted(origins[each.name][0] for each in layers) == sorted(lstms)
    mapped = sum(each.seconds for each in times if each.name in origins)
    assert mapped >= 0.98 * sum(each.seconds for each in times)


@pytest.fixture
def flags_missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor with tiles and without one of the vector instructions."""
    flags = cpu_flags() - {"avx512_bf16"}
    monkeypatch.setattr(kernel, "cpu_flags", lambda: flags)
    kernel.unavailable.cache_clear()
    yield
    kernel.unavailable.cache_clear()


@needs_bf16
@pytest.mark.usefixtures("flags_missing")
def test_processor_without_an_instruction_runs_the_runtimes_layers(
    package: Make, cache: CompileCache
) -> None:
    assert kernel.unavailable()
    model = executor("openvino", cache).load(package(lstm_model()), BF16)
    assert model.ran.kernel == "runtime"
    assert np.isfinite(result(model, noise(2, 12, 6))).all()
