"""Reading packages: contents, hashes, and refusal of damaged ones."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import fixtures

from fluidaudio_cli.coreml.ir import iterate_operations
from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.package import package_sha256, read_program
from fluidaudio_cli.coreml.protos import mil_messages, model_messages
from fluidaudio_cli.errors import ModelFormatError

SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return fixtures()["sequence_flexible"].unpack(tmp_path)


def test_program_of_a_flexible_package(package: Path) -> None:
    program = read_program(package)
    (feature,) = program.inputs
    assert (feature.name, str(feature.type)) == ("x", "fp32[batch, 7, 5]")
    assert feature.ranges == ((1, 8), (7, 7), (5, 5))
    assert program.main.inputs[0].type.shape == ("batch", 7, 5)
    assert program.main.opset == "CoreML8"
    lstm = [one for one in program.main.block.operations if one.kind == "lstm"]
    assert [one.inputs["weight_ih"][0].type.shape for one in lstm] == [(16, 5), (16, 8)]
    assert not any(one.kind == "const" for one in iterate_operations(program.main.block))


def test_constants_are_views_of_the_mapped_weight_file(package: Path) -> None:
    program = read_program(package)
    weight = next(
        one.inputs["weight_ih"][0].data
        for one in program.main.block.operations
        if one.kind == "lstm"
    )
    assert weight is not None
    base = weight
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_hash_depends_on_names_and_bytes_only(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "other-name.mlpackage"
    shutil.copytree(package, copy)
    assert package_sha256(copy) == package_sha256(package)
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (copy / WEIGHTS).write_bytes(data)
    changed = package_sha256(copy)
    assert changed != package_sha256(package)
    (copy / WEIGHTS).rename(copy / "Data/weight.bin")
    assert package_sha256(copy) not in (changed, package_sha256(package))


def damage_manifest_missing(package: Path) -> str:
    (package / "Manifest.json").unlink()
    return "has no Manifest.json"


def damage_manifest_text(package: Path) -> str:
    (package / "Manifest.json").write_text("{")
    return "Manifest.json is damaged"


def damage_manifest_entry(package: Path) -> str:
    (package / "Manifest.json").write_text('{"rootModelIdentifier": "x", "itemInfoEntries": {}}')
    return "names no root model"


def damage_manifest_escape(package: Path) -> str:
    entries = {"x": {"path": "../../../etc/passwd"}}
    (package / "Manifest.json").write_text(
        json.dumps({"rootModelIdentifier": "x", "itemInfoEntries": entries})
    )
    return "outside the package"


def damage_specification_missing(package: Path) -> str:
    (package / SPECIFICATION).unlink()
    return "model file model.mlmodel is missing"


def damage_specification_garbage(package: Path) -> str:
    (package / SPECIFICATION).write_bytes(b"\xff\xffnot a protobuf")
    return "is not a Core ML specification"


def damage_specification_empty(package: Path) -> str:
    (package / SPECIFICATION).write_bytes(b"")
    return "holds no model, not an ML Program"


def damage_specification_data_type(package: Path) -> str:
    """Found by fuzzing: a number that no data type has."""
    model = model_messages().Model.FromString((package / SPECIFICATION).read_bytes())
    (function,) = model.mlProgram.functions.values()
    function.inputs[0].type.tensorType.dataType = 19
    (package / SPECIFICATION).write_bytes(model.SerializeToString())
    return "the data type numbered 19 is not known"


def damage_weights_missing(package: Path) -> str:
    (package / WEIGHTS).unlink()
    return "weight file is missing"


def damage_weights_truncated(package: Path) -> str:
    data = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).write_bytes(data[: len(data) // 2])
    return "weight file: "


def damage_weights_empty(package: Path) -> str:
    (package / WEIGHTS).write_bytes(b"")
    return "0 bytes are too few for a header"


def damage_weights_version(package: Path) -> str:
    data = bytearray((package / WEIGHTS).read_bytes())
    data[4:8] = struct.pack("<I", 1)
    (package / WEIGHTS).write_bytes(data)
    return "storage version 1, expected 2"


def damage_weights_sentinel(package: Path) -> str:
    data = bytearray((package / WEIGHTS).read_bytes())
    data[64:68] = b"\0\0\0\0"
    (package / WEIGHTS).write_bytes(data)
    return "no record at offset 64"


def damage_weights_size(package: Path) -> str:
    data = bytearray((package / WEIGHTS).read_bytes())
    data[72:80] = struct.pack("<Q", 2)
    (package / WEIGHTS).write_bytes(data)
    return "record at offset 64 holds 2 bytes, expected"


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_package_is_refused_in_one_line(package: Path, damage: object) -> None:
    expected = damage(package)  # type: ignore[operator]
    with pytest.raises(ModelFormatError) as caught:
        read_program(package)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert package.name in str(caught.value)


def wrong_constant(operation: Any) -> None:
    for value in operation.attributes.values():
        if value.immediateValue.tensor.ints.values:
            value.type.tensorType.dataType = mil_messages().DataType.Value("UINT8")
            value.immediateValue.tensor.ints.values[0] = -1


def argument_of_nothing(operation: Any) -> None:
    if operation.type.startswith("constexpr_"):
        del operation.inputs["indices"].arguments[:]


def kernel_without_sizes(operation: Any) -> None:
    value = operation.attributes["val"]
    if "kernel_sizes" in operation.attributes["name"].immediateValue.tensor.strings.values[0]:
        value.type.tensorType.dimensions[0].constant.size = 0
        del value.immediateValue.tensor.ints.values[:]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("sizes_flexible", wrong_constant, "a constant of type uint8 holds others"),
        ("weights_palette_int8", argument_of_nothing, "is damaged: 'indices'"),
        ("pool", kernel_without_sizes, "has parameters that do not fit"),
    ],
)
def test_parts_that_do_not_fit_are_named(
    name: str, damage: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    """Found by fuzzing."""
    package = fixtures()[name].unpack(tmp_path)
    model = model_messages().Model.FromString((package / SPECIFICATION).read_bytes())
    (function,) = model.mlProgram.functions.values()
    for operation in function.block_specializations[function.opset].operations:
        damage(operation)
    (package / SPECIFICATION).write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match=message):
        lower_to_onnx(read_program(package))


def test_random_damage_never_escapes_as_another_error(package: Path) -> None:
    path = package / SPECIFICATION
    good = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        data = np.frombuffer(good, np.uint8).copy()
        data[generator.integers(len(data), size=3)] = generator.integers(256, size=3)
        path.write_bytes(data.tobytes())
        try:
            lower_to_onnx(read_program(package))
        except ModelFormatError:
            refused += 1
    assert 0 < refused <= 100


def test_missing_package(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"model package not found: .*none\.mlpackage"):
        read_program(tmp_path / "none.mlpackage")


def test_file_instead_of_package(tmp_path: Path) -> None:
    path = tmp_path / "model.mlmodel"
    path.write_bytes(b"x")
    with pytest.raises(ModelFormatError, match="is a file, not a model package"):
        read_program(path)


def test_compiled_neural_network_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "old.mlmodelc"
    folder.mkdir()
    (folder / "model.espresso.net").write_text("{}")
    with pytest.raises(
        ModelFormatError, match=r"has no model\.mil: it is not a compiled ML Program"
    ):
        read_program(folder)


def test_neural_network_specification_is_refused(package: Path) -> None:
    from fluidaudio_cli.coreml.protos import model_messages

    model = model_messages().Model()
    model.specificationVersion = 4
    model.neuralNetwork.SetInParent()
    (package / SPECIFICATION).write_bytes(model.SerializeToString())
    with pytest.raises(ModelFormatError, match="a model of type neuralNetwork, not an ML Program"):
        read_program(package)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loop", "while_loop 'while_loop_0' (operation 3 of 7 in 'main') is not supported"),
        ("image", "input 'x' is of kind image, which is not supported"),
        ("state", "input 'total' is of kind state, which is not supported"),
    ],
)
def test_what_cannot_be_lowered_is_named(name: str, message: str, tmp_path: Path) -> None:
    program = read_program(fixtures("refusals")[name].unpack(tmp_path))
    with pytest.raises(ModelFormatError) as caught:
        lower_to_onnx(program)
    assert message in str(caught.value)


def test_reading_does_not_import_coremltools_and_is_silent(package: Path) -> None:
    # The whole of coremltools takes ten seconds to import and prints warnings.
    script = (
        "import sys; from pathlib import Path\n"
        "from fluidaudio_cli.coreml.package import read_program\n"
        f"read_program(Path({str(package)!r}))\n"
        "print([name for name in sys.modules if name.startswith('coremltools')])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")
