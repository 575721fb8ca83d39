"""ONNX Runtime on an NVIDIA GPU, fp32; run by us on one H100 (docs/jobs.md).

``auto`` does not choose it, and the self-test that travels with each package judges it as any
other executor. Needs the extra ``cuda``, whose package takes the place of ``onnxruntime``.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import shutil
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from fluidaudio_cli.errors import ExecutorUnavailableError
from fluidaudio_cli.executors.base import Availability, Traits
from fluidaudio_cli.executors.onnxruntime import OPTIMIZED_NAME, OnnxRuntimeExecutor, runtime

_PROVIDER = "CUDAExecutionProvider"
_OPTIONS = {
    # Ten bits of mantissa are not fp32.
    "use_tf32": "0",
    # The other way to choose times the candidates: another choice, other last bits, each time.
    "cudnn_conv_algo_search": "HEURISTIC",
}
_REMEDY = (
    "pip install 'fluidaudio[cuda]'; pip uninstall onnxruntime; "
    "pip install --force-reinstall --no-deps onnxruntime-gpu"
)


class CudaExecutor(OnnxRuntimeExecutor):
    """Runs lowered packages with ONNX Runtime's CUDA provider."""

    name = "cuda"
    traits = Traits(compute_units=("all",), loads_side_by_side=False, operator_times_once=True)
    device = "CUDA"

    def availability(self) -> Availability:
        """It takes ONNX Runtime's build for CUDA, and a GPU whose driver answers."""
        state = super().availability()
        if not state.ok:
            return state
        if _PROVIDER not in runtime().get_available_providers():
            return Availability(False, "this onnxruntime was built without CUDA", _REMEDY)
        if not _devices():
            return Availability(False, "no NVIDIA GPU, or no driver for it", "use another executor")
        return state

    def _optimize(self, lowered: Path, target: Path, package: Path) -> None:
        # Its provider optimises for the GPU that is there, when the session is made.
        shutil.copyfile(lowered, target)

    def _session(self, folder: Path, settings: Any) -> Any:
        onnxruntime = runtime()
        _preload()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.use_deterministic_compute = True
        session = onnxruntime.InferenceSession(
            str(folder / OPTIMIZED_NAME),
            settings,
            providers=[(_PROVIDER, _OPTIONS), "CPUExecutionProvider"],
            # Else a failure is printed to stdout, among the turns, and the CPU is tried.
            enable_fallback=0,
        )
        # ONNX Runtime goes on with the CPU where CUDA does not start, and only logs it.
        if session.get_providers()[0] != _PROVIDER:
            raise ExecutorUnavailableError("onnxruntime could not start CUDA", _REMEDY)
        return session


@lru_cache(maxsize=1)
def _preload() -> None:
    """Load CUDA and cuDNN where pip put them, which the system's loader does not search.

    Recent versions start without cuDNN, and fail at the first convolution.
    """
    load = getattr(runtime(), "preload_dlls", None)
    if load is not None:
        # It prints what it does not find; where that lies elsewhere the provider finds it yet.
        with contextlib.redirect_stdout(io.StringIO()):
            load()
    try:
        ctypes.CDLL("cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9")
    except OSError as error:
        raise ExecutorUnavailableError(f"cuDNN 9 cannot be loaded: {error}", _REMEDY) from error


def _devices() -> int:
    """GPUs that the driver offers; 0 where there is none, or no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
