"""Arguments that few packages have, against NumPy or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from building import package, run, tensor
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its usual name
from coremltools.converters.mil.mil import types
from numpy.typing import NDArray

from fluidaudio_cli.coreml.inspect import inspect_package
from fluidaudio_cli.errors import ExecutorUnavailableError
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.executors.select import executor

Array = NDArray[Any]
HIDDEN, GIVEN, STEPS, BATCH = 4, 3, 5, 2


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(-2, 2, shape).astype(np.float32)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "scaled_tanh": lambda x: 1.7159 * np.tanh(2 / 3 * x),
}
WEIGHTS = {"weight_ih": random(4 * HIDDEN, GIVEN), "weight_hh": random(4 * HIDDEN, HIDDEN)}
PEEPHOLE = random(3 * HIDDEN)


def lstm(names: tuple[str, str, str], peephole: Array, x: Array, h: Array, c: Array) -> Array:
    """Core ML's equations (NeuralNetwork.proto), the gates in MIL's order."""
    gates, candidate, result = (ACTIVATIONS[name] for name in names)
    of_input, of_forget, of_output = np.split(peephole, 3)
    steps = []
    for given in x:
        row = given @ WEIGHTS["weight_ih"].T + h @ WEIGHTS["weight_hh"].T
        i, f, o, z = np.split(row, 4, axis=-1)
        i, f = gates(i + of_input * c), gates(f + of_forget * c)
        c = f * c + i * candidate(z)
        h = gates(o + of_output * c) * result(c)
        steps.append(h)
    return np.stack(steps)


def lstm_package(folder: Path, names: tuple[str, str, str], **more: Any) -> Path:
    def program(x: Any, h: Any, c: Any) -> Any:
        return mb.lstm(
            x=x,
            initial_h=h,
            initial_c=c,
            output_sequence=True,
            recurrent_activation=names[0],
            cell_activation=names[1],
            activation=names[2],
            **WEIGHTS,
            **more,
        )[0]

    states = (tensor(BATCH, HIDDEN), tensor(BATCH, HIDDEN))
    return package(folder, program, tensor(STEPS, BATCH, GIVEN), *states)


FEEDS = {
    "x": random(STEPS, BATCH, GIVEN),
    "h": random(BATCH, HIDDEN, seed=1),
    "c": random(BATCH, HIDDEN, seed=2),
}


@pytest.mark.parametrize(
    "names",
    [
        ("hard_sigmoid", "relu", "linear"),
        ("tanh", "scaled_tanh", "sigmoid"),
        ("sigmoid", "linear", "hard_sigmoid"),
    ],
)
@pytest.mark.parametrize("peephole", [PEEPHOLE, 0 * PEEPHOLE], ids=["peephole", "plain"])
def test_activations_and_peepholes_of_an_lstm(
    names: tuple[str, str, str], peephole: Array, tmp_path: Path
) -> None:
    path = lstm_package(tmp_path, names, peephole=peephole)
    expected = lstm(names, peephole, **FEEDS)
    np.testing.assert_allclose(run(path, **FEEDS)[0], expected, rtol=1e-3, atol=1e-4)


def test_peepholes_are_not_for_openvino(tmp_path: Path) -> None:
    path = lstm_package(tmp_path, ("sigmoid", "tanh", "tanh"), peephole=PEEPHOLE)
    with pytest.raises(ExecutorUnavailableError, match=r"peepholes of the LSTM in model\.mlpack"):
        executor("openvino", CompileCache(tmp_path)).load(path, ExecutorOptions(precision="fp32"))


def test_linear_of_integers(tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.int32).reshape(2, 3)

    def program(x: Any) -> Any:
        return mb.linear(x=x, weight=weight)

    x = np.array([[1, -2, 3], [4, 5, -6]], np.int32)
    path = package(tmp_path, program, tensor(2, 3, dtype=types.int32))
    np.testing.assert_array_equal(run(path, x=x)[0], x @ weight.T)


def test_choice_between_booleans(tmp_path: Path) -> None:
    def program(x: Any) -> Any:
        chosen = mb.select(
            cond=mb.greater(x=x, y=np.float32(0)),
            a=mb.less(x=x, y=np.float32(1)),
            b=mb.less(x=x, y=np.float32(-1)),
        )
        return mb.cast(x=chosen, dtype="int32")

    x = random(3, 4)
    path = package(tmp_path, program, tensor(3, 4))
    np.testing.assert_array_equal(run(path, x=x)[0], np.where(x > 0, x < 1, x < -1))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [([0, -1, 5], (6, 8, 5)), ([1, 0, -1, 0], (1, 1, 48, 5)), ([2, 0, 0, -1], (2, 6, 4, 5))],
)
def test_kept_sizes_count_from_the_last(
    shape: list[int], expected: tuple[int, ...], tmp_path: Path
) -> None:
    rank = 2 if len(shape) == 4 and shape[0] == 1 else 4
    x = random(2, 6, 4, 5).reshape((48, 5) if rank == 2 else (2, 6, 4, 5))

    def program(x: Any) -> Any:
        return mb.reshape(x=x, shape=shape)

    path = package(tmp_path, program, tensor(*x.shape))
    np.testing.assert_array_equal(run(path, x=x)[0], x.reshape(expected))


def test_starts_counted_from_the_end_at_run_time(tmp_path: Path) -> None:
    x = random(3, 4, 5)

    def program(x: Any, begin: Any) -> Any:
        return mb.slice_by_size(x=x, begin=begin, size=[2, 1, -1])

    path = package(tmp_path, program, tensor(3, 4, 5), tensor(3, dtype=types.int32))
    for begin, expected in (([-2, -1, -3], x[1:, 3:, 2:]), ([0, -3, 1], x[:2, 1:2, 1:])):
        results = run(path, x=x, begin=np.array(begin, np.int32))
        np.testing.assert_array_equal(results[0], expected)


@pytest.mark.parametrize(("batch", "time"), [(1, 2), (2, 0), (0, 2)])
def test_sequences_reversed_over_any_axes(batch: int, time: int, tmp_path: Path) -> None:
    x = random(3, 4, 5)
    lengths = np.arange(1, x.shape[batch] + 1, dtype=np.int32) % x.shape[time]

    def program(x: Any, lengths: Any) -> Any:
        return mb.reverse_sequence(x=x, lengths=lengths, seq_axis=time, batch_axis=batch)

    expected = x.copy()
    rows = np.moveaxis(expected, (batch, time), (0, 1))
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    path = package(tmp_path, program, tensor(3, 4, 5), tensor(len(lengths), dtype=types.int32))
    np.testing.assert_array_equal(run(path, x=x, lengths=lengths)[0], expected)


@pytest.mark.parametrize("length", [9, 16])
@pytest.mark.parametrize("kind", ["same", "same_lower"])
def test_dilated_convolution_keeps_an_unknown_length(
    kind: str, length: int, tmp_path: Path
) -> None:
    weight, dilation = random(3, 6, 4), 3

    def program(x: Any) -> Any:
        return mb.conv(x=x, weight=weight, dilations=[dilation], pad_type=kind)

    size = mb.TensorSpec(shape=(1, 6, ct.converters.mil.mil.get_new_symbol()), dtype=types.fp32)
    flexible = ct.TensorType(name="x", shape=(1, 6, ct.RangeDim(1, 32, default=9)))
    path = package(tmp_path, program, size, inputs=[flexible])
    x, total = random(1, 6, length), 3 * dilation
    before = total // 2 if kind == "same" else total - total // 2
    padded = np.pad(x, [(0, 0), (0, 0), (before, total - before)])
    expected = np.stack(
        [
            np.einsum("bck,ock->bo", padded[:, :, i : i + total + 1 : dilation], weight)
            for i in range(length)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(run(path, x=x)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda x: mb.resize_bilinear(
                x=x, target_size_height=1, target_size_width=4, sampling_mode="ALIGN_CORNERS"
            ),
            "resizes an axis to 1 by ALIGN_CORNERS",
        ),
        (
            lambda x: mb.resize(
                x=x,
                shape=[8, 8],
                resized_dims=np.uint32(2),
                interpolation_mode="NEAREST_NEIGHBOR",
                sampling_mode="UNALIGN_CORNERS",
            ),
            "sampling_mode 'UNALIGN_CORNERS', which is not supported for nearest",
        ),
    ],
)
def test_places_that_onnx_has_not(
    build: Callable[[Any], Any], message: str, tmp_path: Path
) -> None:
    path = package(tmp_path, build, tensor(1, 2, 4, 4))
    refusal = inspect_package(path).refusal
    assert refusal is not None
    assert message in refusal
