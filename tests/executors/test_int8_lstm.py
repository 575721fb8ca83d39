"""The LSTM in 8-bit integers: its portable form by the definition, the fast one by that."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lstm_models import Floats, plain_lstm, random_layers

from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors import kernels
from fluidaudio_cli.executors.lstm import int8, kernel
from fluidaudio_cli.executors.lstm.int8 import Int8Run, Int8Stack

needs_library = pytest.mark.skipif(
    not Path(kernel.__file__).with_name(kernel.LIBRARY_NAME).is_file(), reason=kernel.NOT_BUILT
)
LAYERS = random_layers(3, 60, 3)
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
COMPARISON = Path(__file__).parent / "data" / "compare_int8.c"


def forms(*names: str) -> pytest.MarkDecorator:
    """Parametrize by forms of the kernel; those that this processor cannot run are skipped."""
    needed = {"portable": frozenset[str](), **kernel.forms_here()}
    reasons = {name: kernel.lacking(needed[name]) for name in names}
    return pytest.mark.parametrize(
        "form",
        [
            pytest.param(
                name,
                marks=pytest.mark.skipif(
                    bool(reason), reason=f"the LSTM kernel cannot run: {reason}"
                ),
            )
            for name, reason in reasons.items()
        ],
    )


fast_forms, every_form = forms(*kernel.forms_here()), forms("portable", *kernel.forms_here())


@pytest.fixture(scope="module")
def stack() -> Int8Stack:
    return Int8Stack.of(LAYERS)


def noise(*shape: int) -> Floats:
    return np.random.default_rng(5).normal(0.0, 1.0, shape).astype(np.float32)


def run(stack: Int8Stack, x: Floats, form: str = "portable", helper: Any = None) -> Floats:
    y = np.full((*x.shape[:2], 256), np.nan, np.float32)
    Int8Run(stack, form)(x, y, helper)
    return y


@needs_library
def test_portable_form_is_an_lstm_but_for_rounding(stack: Int8Stack) -> None:
    x = noise(3, 23, 60)
    difference = run(stack, x) - plain_lstm(LAYERS, x)
    # Half a step of a byte is 0.004; errors of weights and of three layers come upon it.
    assert np.abs(difference).max() < 0.02
    assert float(np.sqrt((difference**2).mean())) < 0.003


@fast_forms
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 19])
def test_fast_forms_give_the_same(rows: int, form: str, stack: Int8Stack) -> None:
    x = noise(rows, 17, 60)
    fast, portable = run(stack, x, form), run(stack, x)
    # A sum near the middle of two bytes may be rounded either way, which later steps hear.
    assert np.abs(fast - portable).max() < 0.01
    assert float(np.abs(fast - portable).mean()) < 5e-4
    # Before anything was rounded they differ by their powers of two only.
    one = Int8Stack.of(LAYERS[:1])
    assert np.abs(run(one, x[:, :1], form) - run(one, x[:, :1])).max() < 5e-5


@fast_forms
def test_a_window_depends_neither_on_others_nor_on_a_helper(form: str, stack: Int8Stack) -> None:
    x = noise(6, 11, 60)
    together = run(stack, x, form)
    for row in range(6):
        assert np.array_equal(run(stack, x[row : row + 1], form)[0], together[row])
    with ThreadPoolExecutor(1) as helper:
        assert np.array_equal(run(stack, x, form, helper), together)


@every_form
def test_great_values_stay_within_bounds(form: str, stack: Int8Stack) -> None:
    y = run(stack, noise(2, 5, 60) * np.float32(1e4), form)
    assert np.isfinite(y).all()
    assert np.abs(y).max() <= 1.0


def test_saved_and_read_back(stack: Int8Stack, tmp_path: Path) -> None:
    path = tmp_path / "packed.npz"
    stack.save(path)
    again = Int8Stack.load(path)
    assert (again.width, [layer.name for layer in again.layers]) == (60, ["l0", "l1", "l2"])
    for before, after in zip(stack.layers, again.layers, strict=True):
        for one, other in zip(before.directions, after.directions, strict=True):
            assert np.array_equal(one.weights, other.weights)
            assert other.weights.ctypes.data % 64 == 0


def _cut_short(arrays: dict[str, Any]) -> None:
    arrays["1.0.weights"] = arrays["1.0.weights"][:, :-1]


def _of_another_type(arrays: dict[str, Any]) -> None:
    arrays["0.1.scale"] = arrays["0.1.scale"].astype(np.float64)


def _without_a_part(arrays: dict[str, Any]) -> None:
    del arrays["2.1.bias"]


@pytest.mark.parametrize("spoil", [_cut_short, _of_another_type, _without_a_part])
def test_what_does_not_fit_is_refused(
    spoil: Callable[[dict[str, Any]], None], stack: Int8Stack, tmp_path: Path
) -> None:
    path = tmp_path / "packed.npz"
    stack.save(path)
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    spoil(arrays)
    np.savez(path, **arrays)
    with pytest.raises(HostError, match=r"cannot read the packed LSTM .*: delete the file"):
        Int8Stack.load(path)


def test_integers_only_where_allowed_and_no_tiles_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    amx, narrow = kernels.kernels()
    missing = {amx.name: "no tiles", narrow.name: ""}
    for each in (amx, narrow):
        monkeypatch.setattr(type(each), "unavailable", lambda self: missing[self.name])
    assert kernels.kernel_for("bf16", "auto") is None
    assert kernels.kernel_for("bf16", "narrow") is narrow
    assert kernels.kernel_for("fp32", "narrow") is narrow
    assert kernels.kernel_for("bf16", "runtime") is None
    missing[amx.name] = ""
    assert kernels.kernel_for("bf16", "narrow") is amx
    assert kernels.kernel_for("fp32", "auto") is None


@pytest.mark.parametrize(
    ("machine", "flags", "form", "reason"),
    [
        ("x86_64", {"avx2"}, "avx2", "the processor lacks fma"),
        ("x86_64", {"avx2", "fma", "avx512f", "avx512_vnni"}, "avx2", ""),
        ("x86_64", {"avx2", "fma", *kernel.FORMS["x86_64"]["vnni"]}, "vnni", ""),
        ("aarch64", {"fp", "asimd"}, "neon", "the processor lacks asimddp"),
        ("aarch64", {"fp", "asimd", "asimddp"}, "neon", ""),
    ],
)
def test_the_fastest_form_that_a_processor_has(
    machine: str, flags: set[str], form: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(kernel, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(int8, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(kernel, "kernel", lambda: None)
    assert int8.fastest_form() == form
    found = int8.unavailable.__wrapped__()
    assert found == reason or (not reason and found == kernel.NOT_BUILT)


def test_processors_of_other_kinds_have_no_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert int8.unavailable.__wrapped__() == "it is for Linux on x86-64 or 64-bit ARM"


@pytest.mark.skipif(
    not (shutil.which(CROSS_COMPILER) and shutil.which(EMULATOR)),
    reason="the cross compiler or qemu-aarch64 is not installed",
)
def test_the_form_for_arm_gives_the_same_in_emulation(tmp_path: Path) -> None:
    sources = Path(kernel.__file__).parent
    program = tmp_path / "compare"
    subprocess.run(
        [CROSS_COMPILER, "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-DFORM=neon"]
        + [f"-I{sources}", "-o", str(program), str(COMPARISON)]
        + [str(sources / name) for name in ("int8.c", "int8_neon.c")]
        + ["-lm"],
        check=True,
    )
    said = subprocess.run(
        [EMULATOR, str(program)], check=True, capture_output=True, text=True
    ).stdout
    first_step, byte, later = map(float, said.split())
    assert 0.0 < first_step < 5e-5
    assert byte <= 1
    assert later < 0.01
