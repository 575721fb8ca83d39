"""What each optimisation is worth: switched off alone, and on alone over ``reference``.

An optimisation is a change of a mode's values and nothing else, so that every ablated mode is
run by the same benchmark as the modes that ship.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from fluidaudio_cli.diarization.modes import ModeConfig, load_mode
from fluidaudio_cli.files import write_text_atomic

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


# Sections of a mode that optimisations change.
_SECTIONS = ("windows", "embedding", "execution")


def write_ablated_modes(folder: Path) -> dict[str, Path]:
    """Write every mode of the ablation but the two bases as a file into ``folder``; by name."""
    full, plain = load_mode(BASE_MODE), load_mode(PLAIN_MODE)
    modes: dict[str, ModeConfig] = {}
    for each in OPTIMISATIONS:
        off = each.take(full, plain)
        if each.name == "executor":
            # Precision means nothing without an executor that has it, so it is judged beside one.
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
        # All else is the base's, whatever model card it is read with.
        sections = {section: asdict(getattr(mode, section)) for section in _SECTIONS}
        paths[name] = folder / f"{name}.yaml"
        write_text_atomic(paths[name], yaml.safe_dump({"extends": mode.name, **sections}))
    return paths
