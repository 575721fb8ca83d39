"""A stand-in for coremltools' native module ``libcoremlpython``, which exists on macOS only.

Same entry points, other engine: "compiling" wraps the package in a folder, and predictions run
its lowered form on ONNX Runtime, in the types of the program. As the real one (coremlpython in
coremltools' repository) it takes the shapes of the package and no others, arrays that are writable
and of fp32, fp64 or int32, and gives fp16 results as fp32.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.package import read_program

_TAKEN = ("float32", "float64", "int32")


class _MLModelProxy:  # the name coremltools imports
    """Counts what it is asked, for the tests to read; ``fail`` makes the next steps raise."""

    compiled: list[str] = []  # noqa: RUF012
    loaded: list[tuple[str, str]] = []  # noqa: RUF012
    predictions: list[dict[str, np.ndarray]] = []  # noqa: RUF012
    fail: set[str] = set()  # noqa: RUF012

    @classmethod
    def reset(cls) -> None:
        cls.compiled, cls.loaded, cls.predictions, cls.fail = [], [], [], set()

    @staticmethod
    def compileModel(path: str) -> str:  # noqa: N802
        if "compile" in _MLModelProxy.fail:
            raise RuntimeError("Error compiling model:\n unsupported op")
        _MLModelProxy.compiled.append(path)
        # Where coremltools compiles by itself it swallows this ("the very verbose coremlcompiler").
        os.write(1, b"espresso: compiling\n")
        folder = Path(tempfile.mkdtemp()) / "model.mlmodelc"
        shutil.copytree(path, folder / "source.mlpackage")
        return str(folder)

    def __init__(
        self, path: str, units: str, function: str, hints: dict[str, str], asset: object
    ) -> None:
        if "load" in self.fail:
            raise RuntimeError("Error creating Core ML model:\n no Neural Engine")
        assert (function, hints, asset) == ("", {}, None)
        assert path.endswith(".mlmodelc")
        self.loaded.append((path, units))
        program = read_program(Path(path) / "source.mlpackage")
        self._shapes = {feature.name: feature.type.shape for feature in program.inputs}
        self._session = onnxruntime.InferenceSession(
            lower_to_onnx(program, "fp16").SerializeToString()
        )

    def predict(self, data: dict[str, np.ndarray], state: object) -> dict[str, np.ndarray]:
        assert state is None
        if "predict" in self.fail:
            raise RuntimeError("Failed to evaluate model 0 in pipeline")
        self.predictions.append(data)
        for name, value in data.items():
            if not value.flags.writeable or value.dtype.name not in _TAKEN:
                raise RuntimeError("value type not convertible")
            if value.shape != self._shapes[name]:
                raise RuntimeError(f"MultiArray shape {value.shape} does not match {name}")
        feeds = {
            one.name: data[one.name].astype(np.float16) if "16" in one.type else data[one.name]
            for one in self._session.get_inputs()
        }
        names = [output.name for output in self._session.get_outputs()]
        results = self._session.run(names, feeds)
        return {
            name: value.astype(np.float32) if value.dtype == np.float16 else value
            for name, value in zip(names, results, strict=True)
        }
