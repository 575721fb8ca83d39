"""The numeric self-test that travels with each package: run it, and refuse what fails it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import ModelFormatError, SelfTestError, os_errors
from fluidaudio_cli.executors.base import Array, CompiledModel, ExecutorRun

_INPUT_PREFIX = "input:"
_OUTPUT_PREFIX = "output:"


@dataclass(frozen=True)
class Tolerance:
    """Limits on one precision's distance from the expected output; ``None`` sets no limit.

    Attributes:
        max_abs: largest absolute difference of any element.
        min_cosine: smallest cosine between rows (vectors along the last axis).
        min_argmax_agreement: smallest share (0..1) of rows with the same largest element.
    """

    max_abs: float | None = None
    min_cosine: float | None = None
    min_argmax_agreement: float | None = None


@dataclass(frozen=True)
class SelfTest:
    """Fixed inputs, what they must give, and how near for each precision.

    ``tolerances`` maps a precision (``fp32``, ``bf16``, ``fp16``) to the limits for all outputs.
    """

    name: str
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    tolerances: Mapping[str, Tolerance]


@dataclass(frozen=True)
class Agreement:
    """Measured distance of one output from what was expected."""

    output: str
    max_abs: float
    rms: float
    cosine: float
    argmax_agreement: float

    def __str__(self) -> str:
        """The figures on one line."""
        return (
            f"{self.output}: max difference {self.max_abs:.3g}, rms {self.rms:.3g}, "
            f"cosine {self.cosine:.7f}, argmax agreement {self.argmax_agreement:.2%}"
        )


@dataclass(frozen=True)
class SelfTestReport:
    """A self-test that passed: on what, and by how much."""

    name: str
    ran: ExecutorRun
    agreements: tuple[Agreement, ...]


def load_arrays(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and expected outputs from an ``.npz`` with keys ``input:NAME`` and ``output:NAME``.

    Raises:
        ModelFormatError: the file is missing, damaged, or lacks inputs or outputs.
    """
    refused = f"cannot read the self-test {path}", "reinstall the package", ModelFormatError
    kinds = ValueError, EOFError, BadZipFile
    with os_errors(*refused, *kinds), np.load(path, allow_pickle=False) as archive:
        arrays = {key: np.ascontiguousarray(archive[key]) for key in archive.files}
    inputs = _with_prefix(arrays, _INPUT_PREFIX)
    outputs = _with_prefix(arrays, _OUTPUT_PREFIX)
    if not inputs or not outputs:
        raise ModelFormatError(
            f"the self-test {path} has no {'inputs' if not inputs else 'outputs'}",
            f"name its arrays {_INPUT_PREFIX}NAME and {_OUTPUT_PREFIX}NAME",
        )
    return inputs, outputs


def save_arrays(path: Path, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Write what :func:`load_arrays` reads."""
    named = {f"{_INPUT_PREFIX}{name}": array for name, array in inputs.items()}
    named |= {f"{_OUTPUT_PREFIX}{name}": array for name, array in outputs.items()}
    np.savez_compressed(path, **named)  # type: ignore[arg-type]


def check(model: CompiledModel, selftest: SelfTest) -> SelfTestReport:
    """Run the self-test on a loaded model.

    Raises:
        SelfTestError: an output is not finite where it should be, has another shape, or is
            further off than the precision that runs allows; the figures are in the message.
    """
    ran = model.ran
    where = f"self-test of {selftest.name} failed on {ran.executor} {ran.version} ({ran.precision})"
    # A kernel of this project computes in bf16 or less, whatever is around it.
    limits = selftest.tolerances.get(ran.precision if ran.kernel == "runtime" else "bf16")
    if limits is None:
        raise SelfTestError(
            f"{where}: it has no tolerance for {ran.precision}",
            f"use --precision {' or '.join(selftest.tolerances)}",
        )
    results = model.request().run(selftest.inputs)
    agreements = []
    for name, expected in selftest.expected.items():
        actual = results.get(name)
        if actual is None or actual.shape != expected.shape:
            got = "is missing" if actual is None else f"has shape {actual.shape}"
            raise SelfTestError(f"{where}: output {name} {got}, expected {expected.shape}")
        agreement = compare(name, actual, expected)
        broken = _broken(agreement, limits)
        if broken:
            raise SelfTestError(
                f"{where}: {agreement}; required {broken}",
                "try another --executor or --precision fp32",
            )
        agreements.append(agreement)
    return SelfTestReport(selftest.name, ran, tuple(agreements))


def compare(name: str, actual: Array, expected: Array) -> Agreement:
    """Distance between two arrays of one shape; any NaN makes every figure fail."""
    left, right = actual.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(left).all():
        return Agreement(name, np.inf, np.inf, -1.0, 0.0)
    difference = left - right
    rows_left, rows_right = np.atleast_2d(left), np.atleast_2d(right)
    return Agreement(
        name,
        float(np.abs(difference).max()),
        float(np.sqrt(np.mean(difference**2))),
        float(_row_cosines(rows_left, rows_right).min()),
        float(np.mean(rows_left.argmax(-1) == rows_right.argmax(-1))),
    )


def _row_cosines(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    products = np.sum(left * right, axis=-1)
    norms = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    both_zero = (norms == 0) & (np.linalg.norm(left - right, axis=-1) == 0)
    cosines: NDArray[np.float64] = np.where(
        norms > 0, products / np.where(norms > 0, norms, 1.0), np.where(both_zero, 1.0, 0.0)
    )
    return cosines


def _broken(agreement: Agreement, limits: Tolerance) -> str:
    """The limits that were not met, or nothing."""
    broken = []
    if limits.max_abs is not None and not agreement.max_abs <= limits.max_abs:
        broken.append(f"difference at most {limits.max_abs:g}")
    if limits.min_cosine is not None and not agreement.cosine >= limits.min_cosine:
        broken.append(f"cosine at least {limits.min_cosine:g}")
    if limits.min_argmax_agreement is not None and not (
        agreement.argmax_agreement >= limits.min_argmax_agreement
    ):
        broken.append(f"argmax agreement at least {limits.min_argmax_agreement:.2%}")
    return ", ".join(broken)


def _with_prefix(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
