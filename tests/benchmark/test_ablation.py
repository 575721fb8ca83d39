"""Each ablated mode differs from its base in one optimisation, and in nothing that decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fluidaudio_cli.benchmark.ablation import OPTIMISATIONS, write_ablated_modes
from fluidaudio_cli.diarization.modes import load_mode, read_mode


def _differences(left: dict[str, Any], right: dict[str, Any]) -> set[str]:
    return {
        f"{section}.{key}"
        for section, values in left.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value != right[section][key]
    }


EXPECTED = {
    "balanced-without-window-batches": ("balanced", {"windows.batch"}),
    "balanced-without-crop-batches": ("balanced", {"embedding.batch"}),
    "balanced-without-workers": ("balanced", {"execution.workers"}),
    "balanced-without-executor": ("balanced", {"execution.executor", "execution.precision"}),
    "balanced-without-precision": ("balanced", {"execution.precision"}),
    "balanced-without-narrow": ("balanced", {"embedding.narrow"}),
    "balanced-without-kernels": ("balanced", {"execution.kernels"}),
    "reference-with-window-batches": ("reference", {"windows.batch"}),
    "reference-with-crop-batches": ("reference", {"embedding.batch"}),
    "reference-with-workers": ("reference", {"execution.workers"}),
    "reference-with-executor": ("reference", {"execution.executor"}),
    "reference-with-precision": ("reference", {"execution.executor", "execution.precision"}),
    "reference-with-narrow": (
        "reference",
        {"execution.executor", "execution.precision", "embedding.narrow"},
    ),
    "reference-with-kernels": (
        "reference",
        {"execution.executor", "execution.precision", "execution.kernels"},
    ),
}


def test_every_optimisation_is_ablated_both_ways(tmp_path: Path) -> None:
    ways = ("balanced-without", "reference-with")
    names = {f"{way}-{each.name}" for each in OPTIMISATIONS for way in ways}
    assert set(write_ablated_modes(tmp_path)) == names == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_mode_differs_in_its_optimisation_alone(name: str, tmp_path: Path) -> None:
    base, keys = EXPECTED[name]
    mode = read_mode(write_ablated_modes(tmp_path)[name])
    assert _differences(mode.as_dict(), load_mode(base).as_dict()) == keys


def test_reference_decides_as_balanced_does() -> None:
    reference, balanced = load_mode("reference"), load_mode("balanced")
    assert reference.crops == balanced.crops
    assert reference.reconstruction == balanced.reconstruction
    assert reference.calibration == balanced.calibration
    assert reference.windows.step_seconds == balanced.windows.step_seconds
