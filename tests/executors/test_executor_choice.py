"""Which executor runs: explicit requests are honoured or refused, ``auto`` takes the best."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fluidaudio_cli.errors import ExecutorUnavailableError, UsageError
from fluidaudio_cli.executors import cuda as cuda_module
from fluidaudio_cli.executors import machine
from fluidaudio_cli.executors import openvino as openvino_module
from fluidaudio_cli.executors.base import Availability, Executor, ExecutorOptions
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.executors.cuda import CudaExecutor
from fluidaudio_cli.executors.onnxruntime import OnnxRuntimeExecutor
from fluidaudio_cli.executors.openvino import OpenVinoExecutor
from fluidaudio_cli.executors.select import availabilities, executor, select_executor

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="what Linux answers")


def without(monkeypatch: pytest.MonkeyPatch, kind: type, reason: str) -> None:
    monkeypatch.setattr(kind, "availability", lambda _: Availability(False, reason, "install it"))


def test_every_executor_has_its_name() -> None:
    for name in ("coreml", "openvino", "onnxruntime", "cuda"):
        assert executor(name).name == name
        assert isinstance(executor(name), Executor)


def test_availability_tells_version_and_precisions() -> None:
    states = availabilities()
    assert list(states) == ["coreml", "openvino", "onnxruntime", "cuda"]
    assert states["onnxruntime"].ok
    assert states["onnxruntime"].precisions == ("fp32",)
    assert states["openvino"].precisions[0] == "fp32"


@linux_only
def test_coreml_on_linux_says_why_not() -> None:
    assert availabilities()["coreml"] == Availability(
        False,
        "Core ML runs on macOS only, and this is Linux",
        "use --executor openvino or onnxruntime",
    )
    with pytest.raises(ExecutorUnavailableError) as caught:
        select_executor("coreml")
    assert str(caught.value) == (
        "executor coreml is not available: Core ML runs on macOS only, and this is Linux: "
        "use --executor openvino or onnxruntime (available here: openvino, onnxruntime)"
    )
    with pytest.raises(ExecutorUnavailableError, match="executor coreml is not available"):
        executor("coreml").load(Path("any.mlpackage"), ExecutorOptions())


@linux_only
def test_auto_prefers_openvino_and_falls_to_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    assert select_executor("auto").name == "openvino"
    without(monkeypatch, OpenVinoExecutor, "no AVX2")
    assert select_executor("auto").name == "onnxruntime"
    without(monkeypatch, OnnxRuntimeExecutor, "not installed")
    with pytest.raises(ExecutorUnavailableError) as caught:
        select_executor("auto")
    assert str(caught.value) == (
        "no executor is available: coreml: Core ML runs on macOS only, and this is Linux; "
        "openvino: no AVX2; onnxruntime: not installed; cuda: not installed: "
        "reinstall fluidaudio"
    )


def test_explicit_request_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, OpenVinoExecutor, "no AVX2")
    with pytest.raises(ExecutorUnavailableError, match=r"no AVX2: install it \(available here:"):
        select_executor("openvino")


def test_cuda_says_what_it_lacks_and_never_goes_on_with_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Against a stand-in of ONNX Runtime's build for CUDA: no GPU is there to run it on."""
    import onnxruntime

    cuda = executor("cuda")
    assert isinstance(cuda, CudaExecutor)
    assert cuda.availability().reason == "this onnxruntime was built without CUDA"
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(cuda_module, "_devices", lambda: 0)
    assert cuda.availability().reason == "no NVIDIA GPU, or no driver for it"
    monkeypatch.setattr(cuda_module, "_devices", lambda: 1)
    assert (cuda.availability().ok, cuda.availability().precisions) == (True, ("fp32",))
    asked = {}

    class Session:
        def __init__(self, path: str, settings: Any, providers: Any, enable_fallback: int) -> None:
            assert not enable_fallback
            asked[path] = providers

        def get_providers(self) -> list[str]:
            return started

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(cuda_module, "_preload", lambda: None)
    for started in (providers, providers[1:]):
        fails = started == providers[1:]
        with (
            pytest.raises(ExecutorUnavailableError, match="could not start CUDA")
            if fails
            else (contextlib.nullcontext())
        ):
            cuda._session(tmp_path, onnxruntime.SessionOptions())
    ((name, settings), cpu) = asked[str(tmp_path / "optimized.onnx")]
    assert (name, settings["use_tf32"], cpu) == (providers[0], "0", providers[1])


def test_cuda_takes_its_libraries_where_pip_put_them_and_names_the_missing_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    def absent(name: str) -> None:
        raise OSError(f"{name}: no such file")

    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("not found"), raising=False)  # noqa: T201
    monkeypatch.setattr("ctypes.CDLL", absent)
    cuda_module._preload.cache_clear()
    with pytest.raises(
        ExecutorUnavailableError, match=r"cuDNN 9 cannot be loaded: \S*cudnn"
    ) as told:
        cuda_module._preload()
    assert "fluidaudio[cuda]" in str(told.value.remedy)
    assert capfd.readouterr().out == ""  # where turns go
    monkeypatch.setattr("ctypes.CDLL", lambda name: name)
    cuda_module._preload()


def test_unknown_executor() -> None:
    with pytest.raises(UsageError) as caught:
        select_executor("tensorrt")
    assert str(caught.value) == (
        "there is no executor 'tensorrt': use auto, coreml, openvino, onnxruntime, cuda"
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("precision", "int4", "precision 'int4' is not known: use auto, fp32, bf16, fp16"),
        ("compute_units", "gpu", "compute units 'gpu' are not known: use all, cpu-only"),
        ("threads", 0, "threads is 0: give a whole number of at least 1"),
        ("streams", -1, "streams is -1"),
        ("batch", 0, "batch is 0"),
    ],
)
def test_options_no_executor_can_honour(field: str, value: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ExecutorOptions(**{field: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_auto_precision_is_bf16_only_where_that_is_fast(
    package: Callable[[str], Path], cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, folder = executor("openvino", cache), package("affine")
    monkeypatch.setattr(openvino_module, "has_fast_bf16", lambda: False)
    assert engine.load(folder, ExecutorOptions()).ran.precision == "fp32"
    if "bf16" not in engine.availability().precisions:
        pytest.skip("OpenVINO has no bf16 on this processor")
    monkeypatch.setattr(openvino_module, "has_fast_bf16", lambda: True)
    model = engine.load(folder, ExecutorOptions())
    assert (model.asked.precision, model.ran.precision) == ("auto", "bf16")


def test_precision_the_processor_lacks_is_refused(
    package: Callable[[str], Path], cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_module, "_support", lambda: ("2026.1", ("fp32",)))
    with pytest.raises(ExecutorUnavailableError) as caught:
        executor("openvino", cache).load(package("affine"), ExecutorOptions(precision="bf16"))
    assert str(caught.value) == (
        "openvino does not run bf16 on this processor: use --precision fp32"
    )


def test_precision_that_ran_is_read_back(
    package: Callable[[str], Path], cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that quietly computes in something else is found out."""
    if "bf16" not in executor("openvino").availability().precisions:
        pytest.skip("OpenVINO has no bf16 on this processor")
    honest = openvino_module._config
    monkeypatch.setattr(openvino_module, "_config", lambda _, *rest: honest("bf16", *rest))
    with pytest.raises(ExecutorUnavailableError, match="asked for fp32 and runs bf16"):
        executor("openvino", cache).load(package("affine"), ExecutorOptions(precision="fp32"))


def test_threads_and_streams_that_run_are_reported(
    package: Callable[[str], Path], cache: CompileCache
) -> None:
    folder = package("affine")
    for name in ("openvino", "onnxruntime"):
        ran = executor(name, cache).load(folder, ExecutorOptions("fp32", threads=2, streams=2)).ran
        assert (ran.threads, ran.streams) == (2, 2)
        ran = executor(name, cache).load(folder, ExecutorOptions("fp32")).ran
        assert (ran.threads, ran.streams) == (machine.processors(), 1)


def test_cpu_facts_of_this_machine() -> None:
    assert machine.processors() >= 1
    assert sys.platform in machine.cpu_identity()
    assert machine.has_amx_bf16() == ("amx_bf16" in machine.cpu_flags())


@pytest.mark.parametrize(
    ("flags", "fast"),
    [({"avx512f"}, False), ({"avx512f", "avx512_bf16"}, True), ({"amx_bf16"}, True)],
)
def test_bf16_is_fast_with_instructions_for_it(
    flags: set[str], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    assert machine.has_fast_bf16() is fast


@pytest.mark.parametrize(
    ("flags", "fast"),
    [({"avx512f", "avx512_bf16"}, False), ({"avx512_vnni"}, True), ({"avx2", "avx_vnni"}, True)],
)
def test_integers_are_fast_with_instructions_for_them(
    flags: set[str], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    assert machine.has_fast_integers() is fast
    availability = executor("openvino").availability()
    assert availability.integers is fast
