"""Inspection, costs, the shape of the lowered graph, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from bundles import fixtures

from fluidaudio_cli.coreml.costs import operation_costs, total_flops
from fluidaudio_cli.coreml.inspect import inspect_package
from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.errors import UsageError
from tests import forked


def unpacked(name: str, folder: Path) -> Path:
    found = fixtures().get(name) or fixtures("refusals")[name]
    return found.unpack(folder)


def test_report_of_a_plain_package(tmp_path: Path) -> None:
    report = inspect_package(unpacked("sequence_flexible_fp16", tmp_path))
    assert (report.kind, report.opset, report.functions) == ("mlpackage", "CoreML7", ("main",))
    assert report.operations["lstm"] == 2
    assert report.slice_by_index == 0
    # Two layers, two directions, 4 gates of 4 units: input (5, then 8), recurrent, bias; head.
    lstm = sum(2 * (16 * size + 16 * 4 + 16) for size in (5, 8))
    assert report.parameters == lstm + 8 * 3 + 3
    assert sum(report.weights.values()) == report.parameters
    assert report.size_bytes > 0
    assert [one.name for one in report.outputs] == ["y"]
    assert report.unsupported == ()


@pytest.mark.parametrize(
    ("name", "storage"),
    [
        ("weights_affine_int8", "int8 affine"),
        ("weights_affine_uint8", "uint8 affine"),
        ("weights_block_int4", "int4 blockwise"),
        ("weights_block_uint4", "uint4 blockwise"),
        ("weights_palette4", "uint4 palette"),
        ("weights_palette3_ios18", "uint3 palette"),
        ("weights_sparse", "fp16 sparse"),
        ("weights_sparse_affine", "int8 blockwise sparse"),
        ("weights_sparse_palette", "uint3 palette sparse"),
    ],
)
def test_storage_of_compressed_weights(name: str, storage: str, tmp_path: Path) -> None:
    report = inspect_package(unpacked(name, tmp_path))
    assert report.weights[storage] == 16 * 8 * 4 + 24 * 16
    assert report.weights["fp16"] == 16 + 24  # biases


def test_report_names_what_cannot_be_lowered(tmp_path: Path) -> None:
    assert inspect_package(unpacked("loop", tmp_path)).unsupported == ("while_loop",)
    state = inspect_package(unpacked("state", tmp_path))
    assert [one.name for one in state.states] == ["total"]
    assert "read_state" in state.unsupported
    assert [one.kind for one in inspect_package(unpacked("image", tmp_path)).inputs] == ["image"]


def test_costs_of_convolution_and_projection(tmp_path: Path) -> None:
    program = read_program(unpacked("weights_affine_int8", tmp_path))
    costs = {cost.kind: cost for cost in operation_costs(program)}
    # x [2, 8, 12] * kernel [16, 8, 4] -> [2, 16, 9]; multiply-adds count twice, bias once.
    conv = costs["conv"]
    assert conv.flops == 2 * 16 * 9 * (2 * 8 * 4 + 1)
    assert conv.read_bytes == 2 * 8 * 12 * 4
    assert conv.written_bytes == 2 * 16 * 9 * 4
    assert conv.weight_bytes >= (16 * 8 * 4 + 16) * 4
    assert conv.moved_bytes == conv.read_bytes + conv.written_bytes + conv.weight_bytes
    assert costs["linear"].flops == 2 * 9 * 24 * (2 * 16 + 1)
    assert costs["transpose"].flops == 0
    assert costs["relu"].flops == 2 * 16 * 9


def test_costs_grow_with_the_flexible_batch(tmp_path: Path) -> None:
    program = read_program(unpacked("sequence_flexible", tmp_path))
    one, three = (operation_costs(program, {"batch": size}) for size in (1, 3))
    assert total_flops(three) == 3 * total_flops(one)
    lstm = next(cost for cost in one if cost.kind == "lstm")
    # 7 steps, 2 directions, 4 units: 8 * (5 + 4) for the gates, 13 element-wise.
    assert lstm.flops == 7 * 2 * 4 * (8 * 9 + 13)
    assert sum(cost.weight_bytes for cost in one) == sum(cost.weight_bytes for cost in three)
    with pytest.raises(UsageError, match="the size 'batch' of input 'x' is not given"):
        operation_costs(program)


def test_nodes_lead_back_to_the_package(tmp_path: Path) -> None:
    program = read_program(unpacked("sequence_flexible_fp16", tmp_path))
    model = lower_to_onnx(program)
    names = {operation.name: operation.kind for operation in program.main.block.operations}
    for node in model.graph.node:
        origin = {entry.key: entry.value for entry in node.metadata_props}
        if origin["mil.op"] not in ("identity", "cast"):
            assert names[origin["mil.name"]] == origin["mil.op"]
    kinds = {node.name: node.op_type for node in model.graph.node}
    lstm = next(one for one in program.main.block.operations if one.kind == "lstm")
    assert kinds[lstm.name] == "Reshape"  # yields the operation's first result
    assert len(kinds) == len(model.graph.node)
    (batch, *_) = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param == "batch"


def test_zero_initial_state_leaves_no_shape_arithmetic(tmp_path: Path) -> None:
    program = read_program(unpacked("sequence_flexible", tmp_path))
    assert "fill" in {operation.kind for operation in program.main.block.operations}
    kinds = {node.op_type for node in lower_to_onnx(program).graph.node}
    assert not kinds & {"Shape", "ConstantOfShape", "Gather"}


def test_float_types(tmp_path: Path) -> None:
    program = read_program(unpacked("sincs_fp16", tmp_path))
    wide = {one.data_type for one in lower_to_onnx(program).graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in wide
    faithful = lower_to_onnx(program, "fp16")
    onnx.checker.check_model(faithful, full_check=True)
    assert onnx.TensorProto.FLOAT16 in {one.data_type for one in faithful.graph.initializer}


def run(*arguments: str) -> forked.Done:
    return forked.run("models", *arguments, env={"NO_COLOR": "1"})


def test_inspect_command(tmp_path: Path) -> None:
    package = unpacked("sequence_flexible", tmp_path)
    table = run("inspect", str(package))
    assert (table.returncode, table.stderr) == (0, "")
    for fact in (
        "batch \u00d7 7 \u00d7 5",
        "1\u20268",
        "lstm",
        "runs off the Mac",
        "slice_by_index",
    ):
        assert fact in table.stdout
    plain = run("inspect", str(package), "--format", "json")
    report = json.loads(plain.stdout)
    assert report["inputs"][0]["shape"] == ["batch", 7, 5]
    assert report["operations"]["lstm"] == 2


def test_lower_command(tmp_path: Path) -> None:
    target = tmp_path / "out" / "model.onnx"
    result = run("lower", str(unpacked("sincs", tmp_path)), "--output", str(target))
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == f"wrote {target} ({target.stat().st_size} bytes)\n"
    onnx.checker.check_model(str(target), full_check=True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["inspect", "no-such-model"], 3, "fluidaudio: model package not found: no-such-model"),
        (["lower", "LOOP", "--output", "x.onnx"], 3, "loop.mlpackage: while_loop 'while_loop_0'"),
        (["lower", "LOOP", "--output", "x.onnx", "--float-type", "int8"], 2, "fluidaudio: --float"),
        (["lower", "LOOP"], 2, "Missing option '--output'"),
    ],
)
def test_command_errors(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    package = str(unpacked("loop", tmp_path))
    result = run(*(package if one == "LOOP" else one for one in arguments))
    assert result.returncode == code
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
