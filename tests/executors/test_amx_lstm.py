"""The LSTM kernel against the definition in fp64; independence of windows; packed weights.

bf16 keeps 8 bits: rounding to it changes a value by at most 2^-8 of itself (``ROUNDING``).
"""

from __future__ import annotations

import _ctypes
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lstm_models import HIDDEN, Doubles, Floats, plain_lstm, random_layers

from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.lstm import kernel
from fluidaudio_cli.executors.lstm.layers import LstmLayer
from fluidaudio_cli.executors.lstm.tiles import TileRun, TileStack

needs_tiles = pytest.mark.skipif(
    bool(kernel.unavailable()), reason=f"the LSTM kernel cannot run: {kernel.unavailable()}"
)
ROUNDING = 2.0**-8
# Reciprocals of 14 bits in the cell and in the output, and powers of two to 3e-6.
ACTIVATIONS = 2 * 2.0**-14 + 4 * 3e-6
# What remains of zero: the polynomial gives 1 + 2.6e-6 for 2^0.
NOTHING = 3e-6
LOG2E = np.log2(np.e)
# ONNX's order.
GATES = ("input", "output", "forget", "cell")


def run(
    layers: list[LstmLayer], sequences: Floats, helper: ThreadPoolExecutor | None = None
) -> Floats:
    output = np.full((*sequences.shape[:2], 2 * HIDDEN), np.nan, np.float32)
    TileRun(TileStack.of(layers))(sequences, output, helper)
    return output


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(0.0, 1.0, shape).astype(np.float32)


def constant_layer(**gates: float) -> LstmLayer:
    """No weights; each gate's bias, half of it in either part of the ONNX bias."""
    bias = np.concatenate([np.full(HIDDEN, gates.get(name, 0.0) / 2) for name in GATES])
    both = np.tile(np.concatenate([bias, bias]), (2, 1)).astype(np.float32)
    inputs, states = (np.zeros((2, 4 * HIDDEN, depth), np.float32) for depth in (1, HIDDEN))
    return LstmLayer("constant", inputs, states, both)


@needs_tiles
@pytest.mark.parametrize("width", [1, 31, 32, 33, 60, 256])
def test_one_step_is_off_by_the_rounding_of_its_weights_and_result(width: int) -> None:
    """Inputs that bf16 holds, so that what is rounded are weights and the result.

    An argument is then off by at most ROUNDING times the sum S of its products' sizes. The
    slope of sigmoid is at most 1/4, of tanh 1, and all factors are at most 1:
    h = o tanh(i g) is off by (S_o / 4 + S_i / 4 + S_g + |h|) ROUNDING and the activations' own.
    """
    (layer,) = random_layers(width, width, 1)
    sequences = (np.random.default_rng(1).integers(-16, 17, (5, 1, width)) / 8).astype(np.float32)
    expected = plain_lstm([layer], sequences)[:, 0]
    products = np.abs(sequences[:, 0].astype(np.float64)) @ np.abs(
        layer.input_weights.reshape(2 * 512, width).astype(np.float64).T
    )
    enter, show, _, candidate = np.moveaxis(products.reshape(5, 2, 4, HIDDEN), 2, 0)
    argument = (enter / 4 + show / 4 + candidate).reshape(5, 2 * HIDDEN)
    bound = ROUNDING * (argument + np.abs(expected)) + ACTIVATIONS
    assert (np.abs(run([layer], sequences)[:, 0] - expected) <= bound).all()


@needs_tiles
@pytest.mark.parametrize(("windows", "width"), [(1, 1), (3, 32), (17, 60)])
def test_one_step_of_weights_that_bf16_holds_is_off_by_the_rounding_of_its_result(
    windows: int, width: int
) -> None:
    """Weights are scaled by log2 e before they are rounded; these are small fractions then."""
    rng = np.random.default_rng(2)
    fractions = rng.integers(-8, 9, (2, 512, width)) / 64
    layer = replace(
        random_layers(2, width, 1)[0], input_weights=(fractions / LOG2E).astype(np.float32)
    )
    sequences = (rng.integers(-16, 17, (windows, 1, width)) / 8).astype(np.float32)
    expected = plain_lstm([layer], sequences)
    error = np.abs(run([layer], sequences) - expected)
    assert (error <= ROUNDING * np.abs(expected) + ACTIVATIONS).all()


@needs_tiles
@pytest.mark.parametrize(
    ("windows", "steps", "width", "layers"),
    [
        (1, 1, 60, 1),
        (2, 2, 31, 2),
        (5, 3, 1, 1),
        (8, 64, 33, 1),
        (16, 64, 32, 2),
        (17, 3, 256, 4),
        (33, 2, 60, 1),
        (3, 589, 60, 4),
    ],
)
def test_layers_stay_near_fp64(windows: int, steps: int, width: int, layers: int) -> None:
    """Over layers and steps errors neither grow without bound nor lean to one side.

    With weights of this size a state forgets within a few steps and results are small: roundings
    of many products average out, and stay below one rounding of a value of 1.
    """
    stack = random_layers(windows, width, layers)
    sequences = normal(steps, windows, steps, width)
    error = run(stack, sequences) - plain_lstm(stack, sequences)
    assert np.abs(error).max() <= ROUNDING
    assert np.abs(error).mean() <= ROUNDING / 8
    assert abs(error.mean()) <= ROUNDING / 64


@needs_tiles
def test_known_values_step_by_step() -> None:
    """i = o = f = 1/2 and g = tanh(ln 3 / 2) = 1/2, so c is 1/4, then 3/8, then 7/16."""
    output = run([constant_layer(cell=0.5 * np.log(3.0))], np.zeros((2, 3, 1), np.float32))
    expected = 0.5 * np.tanh([1 / 4, 3 / 8, 7 / 16])
    for window in output:
        ends = (window[:, 0], window[::-1, 255]), (window[:, 127], window[::-1, 128])
        for forward, backward in ends:
            np.testing.assert_allclose(forward, expected, rtol=ROUNDING, atol=ACTIVATIONS)
            np.testing.assert_array_equal(forward, backward)


@needs_tiles
def test_nothing_in_gives_nothing() -> None:
    output = run([constant_layer()], np.zeros((3, 20, 1), np.float32))
    assert np.abs(output).max() <= NOTHING


@needs_tiles
@pytest.mark.parametrize("large", [1e2, 1e10, 1e30])
@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        # A cell that counts: tanh(1), tanh(2), ..., which is 1 in bf16 from the fourth step on.
        ({"input": 1, "output": 1, "forget": 1, "cell": 1}, np.tanh([1.0, 2, 3, 4, 5, 6])),
        ({"input": 1, "output": 1, "forget": 1, "cell": -1}, -np.tanh([1.0, 2, 3, 4, 5, 6])),
        # Forgotten at each step; never let in; never shown.
        ({"input": 1, "output": 1, "forget": -1, "cell": 1}, np.tanh([1.0] * 6)),
        ({"input": -1, "output": 1, "forget": 1, "cell": 1}, np.zeros(6)),
        ({"input": 1, "output": -1, "forget": 1, "cell": 1}, np.zeros(6)),
    ],
)
def test_gates_saturate(large: float, signs: dict[str, int], expected: Doubles) -> None:
    layer = constant_layer(**{gate: sign * large for gate, sign in signs.items()})
    output = run([layer], np.zeros((1, 6, 1), np.float32))[0]
    for column in (0, 127):
        np.testing.assert_allclose(output[:, column], expected, rtol=ROUNDING, atol=NOTHING)
    assert (np.abs(output[3:6, 0]) == 1.0).all() or np.abs(expected).max() < 0.999


@needs_tiles
@pytest.mark.parametrize("value", [1e30, -1e37, 1e-30, 1e-40, -1e-45])
def test_extreme_inputs_give_numbers(value: float) -> None:
    stack = random_layers(4, 40, 2)
    sequences = np.full((3, 10, 40), value, np.float32)
    output = run(stack, sequences)
    assert (np.abs(output) <= 1.0).all()
    if abs(value) < 1:
        np.testing.assert_array_equal(output, run(stack, np.zeros_like(sequences)))
    else:
        # Large arguments saturate as they do in fp64, whichever their size.
        np.testing.assert_allclose(output, plain_lstm(stack, sequences), rtol=0, atol=4 * ROUNDING)


@needs_tiles
def test_what_is_not_a_number_shows_in_its_window_only() -> None:
    stack = random_layers(5, 60, 2)
    sequences = normal(5, 9, 20, 60)
    expected = run(stack, sequences)
    sequences[3, 11, 7] = np.nan
    output = run(stack, sequences)
    assert np.isnan(output[3]).all()
    np.testing.assert_array_equal(np.delete(output, 3, 0), np.delete(expected, 3, 0))


@needs_tiles
@pytest.mark.parametrize("steps", [1, 7, 70])
def test_a_window_depends_on_no_other(steps: int) -> None:
    """The same bits in every place, beside anything, in batches of every size."""
    stack = random_layers(6, 60, 2)
    sequences = normal(6, 33, steps, 60)
    together = run(stack, sequences)
    for first, last in ((0, 1), (32, 33), (3, 5), (5, 10), (1, 9), (7, 23), (16, 33)):
        np.testing.assert_array_equal(run(stack, sequences[first:last]), together[first:last])
    np.testing.assert_array_equal(run(stack, sequences[::-1].copy()), together[::-1])


@needs_tiles
def test_helper_thread_and_threads_side_by_side_change_no_bit() -> None:
    packed = TileStack.of(random_layers(7, 60, 3))
    sequences = normal(7, 18, 40, 60)
    expected = np.empty((18, 40, 256), np.float32)
    TileRun(packed)(sequences, expected)

    def once_more(pool: ThreadPoolExecutor | None) -> Floats:
        output = np.empty_like(expected)
        TileRun(packed)(sequences, output, pool)
        return output

    with ThreadPoolExecutor(1) as helper, ThreadPoolExecutor(4) as callers:
        for output in callers.map(once_more, [helper, None] * 4):
            np.testing.assert_array_equal(output, expected)


@needs_tiles
def test_helper_runs_one_direction_of_each_layer() -> None:
    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            self.submitted += 1
            return super().submit(*args, **kwargs)

    with Counting(1) as helper:
        # Two layers, twice: sixteen windows, then one.
        run(random_layers(7, 60, 2), normal(7, 17, 4, 60), helper)
        assert helper.submitted == 4


@needs_tiles
def test_a_run_with_buffers_used_before_is_as_a_first_one() -> None:
    packed = TileStack.of(random_layers(8, 33, 2))
    used = TileRun(packed)
    for windows, steps in ((16, 30), (1, 1), (3, 100), (17, 5), (2, 64)):
        sequences = normal(windows, windows, steps, 33)
        output, expected = (np.empty((windows, steps, 256), np.float32) for _ in range(2))
        used(sequences, output)
        TileRun(packed)(sequences, expected)
        np.testing.assert_array_equal(output, expected)


@needs_tiles
def test_layers_are_recorded_once_for_each_sixteen_windows() -> None:
    recorded: list[tuple[str, float]] = []
    sequences = normal(9, 17, 4, 60)
    TileRun(TileStack.of(random_layers(9, 60, 2)))(
        sequences,
        np.empty((17, 4, 256), np.float32),
        record=lambda name, seconds: recorded.append((name, seconds)),
    )
    assert [name for name, _ in recorded] == ["l0", "l1", "l0", "l1"]
    assert all(seconds > 0 for _, seconds in recorded)


@needs_tiles
def test_forked_child_may_use_the_tiles() -> None:
    code = """
import os
import numpy as np
from lstm_models import random_layers
from fluidaudio_cli.executors.lstm import kernel, tiles

assert kernel.unavailable() == ""
packed = tiles.TileStack.of(random_layers(0, 60, 1))
sequences, output = np.ones((2, 3, 60), np.float32), np.empty((2, 3, 256), np.float32)
child = os.fork()
tiles.TileRun(packed)(sequences, output)
if child:
    assert os.waitpid(child, 0)[1] == 0
print(output.tobytes().hex())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert (done.returncode, done.stderr) == (0, "")
    of_child, of_parent = done.stdout.split()
    expected = run(random_layers(0, 60, 1), np.ones((2, 3, 60), np.float32))
    assert of_child == of_parent == expected.tobytes().hex()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "lstm.npz"
    TileStack.of(random_layers(10, 60, 2)).save(path)
    return path


def test_saved_weights_are_read_back(saved: Path) -> None:
    made, read = TileStack.of(random_layers(10, 60, 2)), TileStack.load(saved)
    assert (read.width, [layer.name for layer in read.layers]) == (60, ["l0", "l1"])
    assert [layer.directions[0].depth_tiles for layer in read.layers] == [2, 8]
    for ours, theirs in zip(made.layers, read.layers, strict=True):
        for one, other in zip(ours.directions, theirs.directions, strict=True):
            for part in ("input_weights", "state_weights", "bias"):
                np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
                assert getattr(other, part).ctypes.data % 64 == 0


def test_packed_weights_are_the_nearest_bf16_and_padded_with_zeros() -> None:
    """Column 0 of the tiles is the input gate of unit 0; pairs of inputs lie side by side."""
    (layer,) = random_layers(11, 33, 1)
    packed = TileStack.of([layer]).layers[0].directions[0].input_weights
    values = (packed.astype(np.uint32) << 16).view(np.float32)
    row = np.concatenate([values[0, tile, :, 0, :].ravel() for tile in range(2)])
    exact = -layer.input_weights[0, 0].astype(np.float64) * LOG2E
    np.testing.assert_allclose(row[:33], exact, rtol=ROUNDING)
    np.testing.assert_array_equal(row[33:], 0.0)
    # The cell gate, third in the kernel and last in ONNX, is doubled.
    exact = -2 * layer.input_weights[0, 3 * HIDDEN].astype(np.float64) * LOG2E
    np.testing.assert_allclose(values[2, 0, :, 0, :].ravel(), exact[:32], rtol=ROUNDING)


def _without(path: Path, key: str) -> None:
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != key}
    np.savez(path, **kept)


def _with(path: Path, key: str, array: np.ndarray) -> None:
    with np.load(path) as arrays:
        kept: dict[str, Any] = {**arrays, key: array}
    np.savez(path, **kept)


def _flip_a_byte(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("0.0.bias.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b""), "No data left in file"),
        (lambda path: path.write_bytes(b"text"), "pickled"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "not a zip file"),
        (_flip_a_byte, "Bad CRC-32 for file '0.0.bias.npy'"),
        (lambda path: np.save(path.open("wb"), np.zeros(3)), "context manager"),
        (lambda path: _without(path, "1.1.bias"), "1.1.bias"),
        (lambda path: _without(path, "width"), "width"),
        (lambda path: _with(path, "width", np.zeros(2)), "only "),
        (lambda path: _with(path, "width", np.array(70)), r"0.0.input_weights is uint16\[32, 2,"),
        (lambda path: _with(path, "names", np.array([], str)), "no layers"),
        (
            lambda path: _with(path, "1.0.state_weights", np.zeros((32, 3, 16, 16, 2), np.uint16)),
            r"1.0.state_weights is uint16\[32, 3, 16, 16, 2\]",
        ),
        (
            lambda path: _with(path, "0.1.bias", np.zeros((8, 4, 16))),
            r"0.1.bias is float64\[8, 4, 16\]",
        ),
    ],
)
def test_damaged_or_foreign_weights_are_one_line(
    saved: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(saved)
    with pytest.raises(HostError, match=message) as caught:
        TileStack.load(saved)
    assert caught.value.message.startswith(f"cannot read the packed LSTM {saved}: ")
    assert caught.value.remedy == "delete the file"


ALL_FLAGS = frozenset(
    ("amx_tile", "amx_bf16", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_bf16")
)


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """What was found out about the kernel before is forgotten, and so is what a test finds."""
    remembered = kernel.unavailable, kernel.kernel
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


@pytest.mark.usefixtures("asked_anew")
def test_reasons_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "has_amx_bf16", lambda: False)
    assert kernel.unavailable() == "the processor has no AMX tiles for bf16"
    kernel.unavailable.cache_clear()
    monkeypatch.setattr(kernel, "has_amx_bf16", lambda: True)
    monkeypatch.setattr(kernel, "cpu_flags", lambda: ALL_FLAGS - {"avx512_bf16", "avx512f"})
    assert kernel.unavailable() == "the processor lacks avx512_bf16, avx512f"


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it was not built: no fitting C compiler was found when fluidaudio was installed"),
        (b"not a library", "it does not load: "),
        # Another library, without the functions.
        (Path(_ctypes.__file__).read_bytes(), "it does not load: "),
    ],
)
def test_reasons_of_a_library(
    content: bytes | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "has_amx_bf16", lambda: True)
    monkeypatch.setattr(kernel, "cpu_flags", lambda: ALL_FLAGS)
    monkeypatch.setattr(kernel, "__file__", str(tmp_path / "kernel.py"))
    if content is not None:
        (tmp_path / kernel.LIBRARY_NAME).write_bytes(content)
    assert kernel.unavailable().startswith(reason)


@needs_tiles
@pytest.mark.usefixtures("asked_anew")
def test_reason_of_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = SimpleNamespace(fluidaudio_request_tiles=lambda: -1)
    monkeypatch.setattr(kernel, "kernel", lambda: refusing)
    assert kernel.unavailable() == "the system does not grant the use of AMX tiles"
