"""What each optimisation is worth: switched off alone, and on alone over ``reference``.

An optimisation is a change of a mode's values and nothing else, so that every ablated mode is
run by the same benchmark as the modes that ship.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fluidaudio_cli.diarization.modes import ModeConfig, load_mode, write_mode

BASE_MODE = "balanced"
PLAIN_MODE = "reference"


@dataclass(frozen=True)
class Optimisation:
    """One switch: ``take`` copies its values from one mode to another."""

    name: str
    what: str
    take: Callable[[ModeConfig, ModeConfig], ModeConfig]


def _windows(mode: ModeConfig, source: ModeConfig) -> ModeConfig:
    return replace(mode, windows=replace(mode.windows, batch=source.windows.batch))


def _crops(mode: ModeConfig, source: ModeConfig) -> ModeConfig:
    return replace(mode, embedding=source.embedding)


def _execution(key: str) -> Callable[[ModeConfig, ModeConfig], ModeConfig]:
    """Takes one key of the section ``execution``."""

    def take(mode: ModeConfig, source: ModeConfig) -> ModeConfig:
        value = getattr(source.execution, key)
        return replace(mode, execution=replace(mode.execution, **{key: value}))

    return take


_executor, _precision = _execution("executor"), _execution("precision")

OPTIMISATIONS = (
    Optimisation("window-batches", "segmentation windows in batches", _windows),
    Optimisation("crop-batches", "embedding crops in batches", _crops),
    Optimisation("workers", "blocks side by side, one thread each", _execution("workers")),
    Optimisation("executor", "the fastest executor instead of ONNX Runtime", _executor),
    Optimisation("precision", "bf16 where the processor has it", _precision),
    Optimisation("kernels", "LSTM layers by the AMX kernel", _execution("kernels")),
)


def write_ablated_modes(folder: Path) -> dict[str, Path]:
    """Write every mode of the ablation as a file into ``folder``; by name, the bases first."""
    full, plain = load_mode(BASE_MODE), load_mode(PLAIN_MODE)
    # Precision means nothing without an executor that has it, so it is judged beside one.
    modes = {BASE_MODE: full, PLAIN_MODE: plain}
    for each in OPTIMISATIONS:
        off = each.take(full, plain)
        if each.name == "executor":
            off = _precision(off, plain)
        modes[f"{BASE_MODE}-without-{each.name}"] = off
    for each in OPTIMISATIONS:
        on = each.take(plain, full)
        if each.name in ("precision", "kernels"):
            on = _executor(on, full)
        if each.name == "kernels":
            # The kernel computes in bf16.
            on = _precision(on, full)
        modes[f"{PLAIN_MODE}-with-{each.name}"] = on
    paths = {}
    for name, mode in modes.items():
        paths[name] = folder / f"{name}.yaml"
        write_mode(replace(mode, name=name), paths[name])
    return paths
