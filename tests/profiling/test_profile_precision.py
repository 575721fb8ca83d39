"""Rounding layer by layer: the simulation, the counts, and where error enters."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from fluidaudio_cli.coreml.ir import Program
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.coreml.taps import Tap, rounded_to, rounds_anything, tapped_model
from fluidaudio_cli.diarization.loading import load_pipeline
from fluidaudio_cli.diarization.plan import EXACT_EMBEDDING
from fluidaudio_cli.executors.onnxruntime import LayerRunner
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.profiling import precision
from fluidaudio_cli.profiling.layer_errors import (
    RANGES,
    ErrorCounter,
    entry_layer,
    layer_errors,
)
from fluidaudio_cli.profiling.passes import Options
from fluidaudio_cli.profiling.precision import (
    flipped_frames,
    largest_difference,
    lowest_cosine,
)


def test_bf16_keeps_eight_bits_and_ties_go_to_even() -> None:
    numbers = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-7, -3.1415927], np.float32)
    expected = [1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -3.140625]
    assert rounded_to(numbers, TensorProto.BFLOAT16).tolist() == expected
    assert rounded_to(np.array([1e5], np.float32), TensorProto.FLOAT16).tolist() == [math.inf]


def test_counter_by_hand() -> None:
    counter = ErrorCounter(RANGES["fp16"])
    exact = np.array([3.0, 70_000.0, 1e-9, 3e-5, 0.0], np.float32)
    counter.add(exact, np.array([3.5, 70_000.0, 1e-9, 3e-5, 0.0], np.float32))
    assert (counter.overflow, counter.underflow, counter.subnormal, counter.numbers) == (1, 1, 1, 5)
    assert counter.largest == 0.5
    assert counter.rms == pytest.approx(math.sqrt(0.25 / 5))
    assert counter.relative == pytest.approx(0.5 / math.sqrt(9 + 70_000.0**2))


def test_infinite_result_is_an_error_without_bound() -> None:
    counter = ErrorCounter(RANGES["fp16"])
    counter.add(np.array([1.0]), np.array([np.nan]))
    assert (counter.largest, counter.relative) == (math.inf, math.inf)


def test_error_enters_where_it_grows() -> None:
    counters = {}
    for tensor, off in (("a", 0.01), ("b", 0.012), ("c", 0.2)):
        counters[tensor] = ErrorCounter(RANGES["fp16"])
        counters[tensor].add(np.array([1.0]), np.array([1.0 + off]))
    taps = (Tap("one", "conv", "a", ()), Tap("two", "relu", "b", ("a",)),
            Tap("three", "softmax", "c", ("a", "b")))  # fmt: skip
    layers = layer_errors(taps, counters)
    assert [layer.added for layer in layers] == pytest.approx([0.01, 0.002, 0.188])
    assert entry_layer(layers) == "three"
    assert entry_layer(()) == ""


def test_taps_give_every_layer_and_the_same_output() -> None:
    program = read_program(bundled_models()["fbank"].package)
    exact = tapped_model(program)
    assert [tap.layer for tap in exact.taps] == [
        operation.name for operation in program.main.block.operations
    ]
    assert exact.taps[1].sources == (exact.taps[0].tensor,)
    size = int(program.main.inputs[0].type.shape[-1] or 0)
    audio = np.random.default_rng(1).normal(0, 0.1, (1, 1, size)).astype(np.float32)
    found = LayerRunner(exact.model).run({"audio": audio})
    rounded = LayerRunner(tapped_model(program, "fp16").model).run({"audio": audio})
    first = exact.taps[0].tensor
    # A rounded result is one that fp16 can hold, and near the exact one.
    with np.errstate(over="ignore"):
        again = np.asarray(rounded[first]).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rounded[first], again)
    assert not np.array_equal(found[first], rounded[first])
    # Powers of the spectrum exceed 65504: the reason that the filter bank stays in fp32.
    assert np.isinf(np.asarray(rounded[exact.taps[1].tensor])).any()


def test_package_rounding_is_what_the_package_computes_in_fp16() -> None:
    fbank = read_program(bundled_models()["fbank"].package)
    assert not rounds_anything(fbank, "package")
    assert rounds_anything(fbank, "fp16")
    assert not rounds_anything(fbank, "none")
    assert rounds_anything(read_program(bundled_models()["embedding"].package), "package")


def test_figures_by_hand() -> None:
    a = np.array([[[0.1, 0.9], [0.8, 0.2]]])
    b = np.array([[[0.6, 0.4], [0.8, 0.2]]])
    assert flipped_frames([a, a], [a, b]) == 0.25
    assert largest_difference([a], [b]) == pytest.approx(0.5)
    assert largest_difference([a], [b * np.nan]) == math.inf
    unit = np.array([[1.0, 0.0], [0.0, 2.0]])
    other = np.array([[2.0, 0.0], [1.0, 1.0]])
    assert lowest_cosine([unit], [other]) == pytest.approx(math.sqrt(0.5))


def test_what_runs_is_compared_integers_too_and_its_exact_copy_is_not(
    sample_wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = tmp_path / "mine.yaml"
    mode.write_text(
        "extends: accurate\nsegmentation: {distilled: true}\nembedding: {narrow: true}\n"
    )
    pipeline = load_pipeline(str(mode), executor="onnxruntime")
    assert {"embedding", EXACT_EMBEDDING} < set(pipeline.compiled)
    monkeypatch.setattr(precision, "_ROUNDINGS", ())
    monkeypatch.setattr(precision, "_error_rates", lambda *_: ())
    rounded = []

    def read_and_note(path: Path) -> Program:
        rounded.append(path.stem)
        return read_program(path)

    monkeypatch.setattr(precision, "read_program", read_and_note)
    report = precision.precision_report(sample_wav, Options(), pipeline, lambda _: None)
    pipeline.close()
    assert rounded == ["fbank", "segmentation-student", "fbank", "embedding"]
    (row,) = report.models
    assert (row.model, row.precision, row.figure_name) == (
        "embedding",
        "8-bit integers",
        "lowest cosine",
    )
    assert isinstance(row.executed, float)
    assert 0.98 < row.executed < 0.9999
