"""Textual MIL of compiled models: both spellings, literals, blobs, errors with lines."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from bundles import FIXTURES
from numpy.typing import NDArray

from fluidaudio_cli.coreml.inspect import inspect_package
from fluidaudio_cli.coreml.ir import Program, Value
from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.errors import ModelFormatError

# Written as program version 1.0 and 1.3 do.
OLD = (FIXTURES / "typed_tensors.mil").read_text(encoding="utf-8")
NEW = (FIXTURES / "plain_scalars.mil").read_text(encoding="utf-8")


def blob(values: NDArray[np.float64]) -> bytes:
    data = values.astype("<f4").tobytes()
    header = struct.pack("<II56x", 1, 2)
    return header + struct.pack("<IIQQ40x", 0xDEADBEEF, 2, len(data), 128) + data


def compiled(folder: Path, text: str) -> Path:
    package = folder / "model.mlmodelc"
    (package / "weights").mkdir(parents=True)
    (package / "model.mil").write_text(text, encoding="utf-8")
    (package / "weights" / "weight.bin").write_bytes(blob(np.arange(8.0)))
    return package


def array(value: Value) -> list[float]:
    assert value.data is not None
    return [float(one) for one in value.data.ravel()]


def read(folder: Path, text: str) -> Program:
    return read_program(compiled(folder, text))


def test_typed_tensor_spelling(tmp_path: Path) -> None:
    program = read(tmp_path, OLD)
    assert program.main.opset == "CoreML5"
    cast, mul = program.main.block.operations
    assert (cast.kind, cast.name) == ("cast", "to_half")
    assert str(cast.inputs["dtype"][0].data) == "fp16"
    assert array(mul.inputs["y"][0]) == [1.0, -0.75, 0.0, float("inf")]
    assert str(mul.outputs[0].type) == "fp16[1, 4]"
    assert [value.name for value in program.main.block.outputs] == ["y"]
    # No metadata.json: the signature describes the model.
    assert [(one.name, str(one.type)) for one in program.inputs] == [("x", "fp32[1, 4]")]


def test_plain_scalar_spelling_with_blobs_and_inline_values(tmp_path: Path) -> None:
    program = read(tmp_path, NEW)
    assert program.main.opset == "CoreML8"
    assert program.main.inputs[0].type.shape == ("batch", 4)
    first, concat, last = program.main.block.operations
    assert first.name == 'a "quoted" name'
    assert array(first.inputs["y"][0]) == list(range(8))
    assert bool(first.inputs["transpose_y"][0].data)
    assert [value.name for value in concat.inputs["values"]] == ["m", "m"]
    # (data - 1) * scale along axis 0
    assert array(last.inputs["y"][0]) == [0.0, -1.5, 4.0, 6.0]
    assert last.inputs["y"][0].storage == "int8 affine"


def test_text_program_runs(tmp_path: Path) -> None:
    import onnxruntime

    model = lower_to_onnx(read(tmp_path, NEW))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.array([[1, 0, 0, 0], [0, 1, 0, 1]], np.float32)
    joined, product = session.run(None, {"x": x})
    # Rows of w: [0 1 2 3] and [4 5 6 7].
    assert joined.tolist() == [[0, 4, 0, 4], [4, 12, 4, 12]]
    # times [[0, -1.5], [4, 6]]
    assert product.tolist() == [[16, 24], [48, 66]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mul(x = h", "mul(x = hh", "model.mil:8: 'hh' is used before it is defined"),
        ("program(1.0)", "module(1.0)", "model.mil:1: expected 'program', found 'module'"),
        ("cast(dtype", "cast{dtype", "model.mil:7: expected '(', found '{'"),
        ("[4]>([0x1p+0", "[5]>([0x1p+0", "model.mil:6: a constant of type fp16[5] cannot hold 4"),
        ("tensor<fp16, [1, 4]> h", "tensr<fp16, [1, 4]> h", "model.mil:7: expected"),
        ("-> (y);", "-> (yy);", "'yy' is used before it is defined"),
        ("fp16, [1, 4]> h", "fp16, [1, 0.5]> h", "model.mil:7: '0.5' is no size"),
        ("0x1p+0, -0x1.8p-1", "0x1p+9999, -0x1.8p-1", "model.mil:6: '0x1p+9999': hexadecimal"),
        ("0x1p+0, -0x1.8p-1", "0x, -0x1.8p-1", "model.mil:6: '0x': invalid hexadecimal"),
        ("inf])", "inf]) ~", "model.mil:6: unexpected character '~'"),
        ("        } -> (y);\n}\n", "", "model.mil:9: "),
    ],
)
def test_errors_name_the_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in OLD
    with pytest.raises(ModelFormatError) as caught:
        read(tmp_path, OLD.replace(old, new))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", [OLD, NEW])
def test_any_prefix_is_refused(text: str, tmp_path: Path) -> None:
    package = compiled(tmp_path, text)
    for end in range(0, len(text.rstrip()) - 1, 7):
        (package / "model.mil").write_text(text[:end], encoding="utf-8")
        with pytest.raises(ModelFormatError):
            read_program(package)


def test_weight_file_outside_the_package_is_not_opened(tmp_path: Path) -> None:
    text = NEW.replace("@model_path/weights/weight.bin", "@model_path/../secret")
    with pytest.raises(ModelFormatError, match="outside the package"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "content",
    [
        "[",
        "[]",
        "{}",
        '["main"]',
        '[{"inputSchema": 3}]',
        '[{"outputSchema": ["x"]}]',
        '[{"specificationVersion": "new"}]',
        '[{"userDefinedMetadata": []}]',
        '[{"functions": [1]}]',
    ],
)
def test_damaged_metadata(tmp_path: Path, content: str) -> None:
    package = compiled(tmp_path, OLD)
    (package / "metadata.json").write_text(content)
    with pytest.raises(ModelFormatError, match=r"metadata\.json is damaged"):
        read_program(package)


def test_functions_of_a_compiled_model(tmp_path: Path) -> None:
    start, end = OLD.index("func main"), OLD.rindex("}")
    body = OLD[start:end]
    other = body.replace("func main", "func length_8").replace("[1, 4]", "[8, 4]")
    text = OLD[:start] + body.replace("func main", "func length_1") + other + OLD[end:]
    package = compiled(tmp_path, text)
    with pytest.raises(ModelFormatError) as caught:
        read_program(package)
    assert str(caught.value).endswith(
        "model.mil has no function 'main': choose one with --function: length_1, length_8"
    )
    schema = [{"name": "x", "type": "MultiArray", "dataType": "Float32", "shortDescription": "8"}]
    facts = {
        "defaultFunctionName": "length_8",
        "functions": [{"name": "length_1"}, {"name": "length_8", "inputSchema": schema}],
    }
    (package / "metadata.json").write_text(json.dumps([facts]))
    program = read_program(package)
    assert (program.main.name, tuple(program.functions)) == ("length_8", ("length_1", "length_8"))
    assert program.inputs[0].description == "8"
    assert program.main.inputs[0].type.shape == (8, 4)
    assert read_program(package, "length_1").main.inputs[0].type.shape == (1, 4)
    report = inspect_package(package, "length_1")
    assert (report.function, report.functions, report.refusal) == (
        "length_1",
        ("length_1", "length_8"),
        None,
    )


def test_the_only_function_needs_no_name(tmp_path: Path) -> None:
    assert read(tmp_path, OLD.replace("func main", "func side")).main.name == "side"
