"""Lowered programs against PyTorch, on both executors' runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import Fixture, fixtures
from numpy.typing import NDArray

from fluidaudio_cli.coreml.ir import iterate_operations
from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.ops import LOWERINGS
from fluidaudio_cli.coreml.package import read_program

Arrays = dict[str, NDArray[Any]]


def run_onnxruntime(model: onnx.ModelProto, inputs: Arrays) -> list[NDArray[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, inputs))


def run_openvino(model: onnx.ModelProto, inputs: Arrays) -> list[NDArray[Any]]:
    import openvino

    core, config = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    network = core.read_model(model.SerializeToString())
    # Exported and imported, as the executor does: that loses some of what was compiled.
    exported = core.compile_model(network, "CPU", config).export_model()
    compiled = core.import_model(exported, "CPU", config)
    results = compiled(inputs)
    return [results[index] for index in range(len(compiled.outputs))]


RUNTIMES = {"onnxruntime": run_onnxruntime, "openvino": run_openvino}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", fixtures())
def test_outputs_match_pytorch(name: str, runtime: str, tmp_path: Path) -> None:
    fixture = fixtures()[name]
    model = lower_to_onnx(read_program(fixture.unpack(tmp_path)))
    onnx.checker.check_model(model, full_check=True)
    for run in fixture.runs:
        check(fixture, RUNTIMES[runtime](model, run.inputs), run.outputs)


def check(fixture: Fixture, actual: list[NDArray[Any]], expected: list[NDArray[Any]]) -> None:
    assert len(actual) == len(expected)
    for position, (have, want) in enumerate(zip(actual, expected, strict=True)):
        assert have.shape == want.shape, f"output {position}"
        np.testing.assert_allclose(
            have, want, rtol=fixture.tolerance, atol=fixture.tolerance, err_msg=f"{position}"
        )


def test_every_operation_in_the_table_has_a_numeric_fixture(tmp_path: Path) -> None:
    seen = set()
    for fixture in fixtures().values():
        program = read_program(fixture.unpack(tmp_path))
        seen |= {operation.kind for operation in iterate_operations(program.main.block)}
    assert set(LOWERINGS) - seen == set()
    assert len(LOWERINGS) >= 60
