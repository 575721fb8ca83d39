"""What each optimisation is worth: switched off alone, and on alone over ``reference``.

An optimisation is a change of a mode's values and nothing else, so that every ablated mode is
run by the same benchmark as the modes that ship.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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


def _value(section: str, key: str) -> Callable[[ModeConfig, ModeConfig], ModeConfig]:
    """Takes one value of a mode."""

    def take(mode: ModeConfig, source: ModeConfig) -> ModeConfig:
        value = getattr(getattr(source, section), key)
        changed: dict[str, Any] = {section: replace(getattr(mode, section), **{key: value})}
        return replace(mode, **changed)

    return take


_executor, _precision = _value("execution", "executor"), _value("execution", "precision")
_narrow, _kernels = _value("embedding", "narrow"), _value("execution", "kernels")

OPTIMISATIONS = (
    Optimisation("window-batches", "segmentation windows in batches", _value("windows", "batch")),
    Optimisation("crop-batches", "embedding crops in batches", _value("embedding", "batch")),
    Optimisation("workers", "blocks side by side, one thread each", _value("execution", "workers")),
    Optimisation("executor", "the fastest executor instead of ONNX Runtime", _executor),
    Optimisation("precision", "bf16 where the processor has it", _precision),
    Optimisation("narrow", "the embedding in 8-bit integers where they are faster", _narrow),
    Optimisation("kernels", "LSTM layers by the AMX kernel", _kernels),
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
        if each.name in ("precision", "narrow", "kernels"):
            on = _executor(on, full)
        if each.name in ("narrow", "kernels"):
            # The kernel computes in bf16; integers are taken where no precision was asked for.
            on = _precision(on, full)
        modes[f"{PLAIN_MODE}-with-{each.name}"] = on
    paths = {}
    for name, mode in modes.items():
        # All else is the base's, whatever model card it is read with.
        sections = {section: asdict(getattr(mode, section)) for section in _SECTIONS}
        paths[name] = folder / f"{name}.yaml"
        write_text_atomic(paths[name], yaml.safe_dump({"extends": mode.name, **sections}))
    return paths
