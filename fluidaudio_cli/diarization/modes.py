"""Performance modes: how much work is done, read from ``configs/<mode>.yaml``.

A mode file holds the values in which it differs from the one it ``extends``, each with its
reason above it. Values that are facts about networks come from the model card; a mode may replace
them, with a reason of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from fluidaudio_cli.diarization.frames import SAMPLE_RATE
from fluidaudio_cli.diarization.local_speakers import CropRules
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.turn_builder import ReconstructionRules
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.base import Kernels, Precision
from fluidaudio_cli.executors.select import ExecutorName
from fluidaudio_cli.models.card import ModelCard, load_card
from fluidaudio_cli.resources import configs_dir
from fluidaudio_cli.settings import (
    Place,
    build,
    check_keys,
    flattened,
    merged,
    read_settings,
)

# The modes that ship with the program, the proven one first.
MODE_NAMES = ("reference", "accurate", "balanced", "fast", "turbo")
DEFAULT_MODE = "balanced"
# Modes that extend each other further than this go in a circle.
_DEEPEST = 8
# A hundred looks at each moment; far less would be less than a sample, and never end.
_SHORTEST_STEP = 0.1
# Inputs of so many windows take 2.6 GB.
_LARGEST_BATCH = 4096
_BATCHES = f"must be from 1 to {_LARGEST_BATCH}"


@dataclass(frozen=True)
class WindowRules:
    """``step_seconds`` between windows, a divisor of 10; ``batch``: windows at a time.

    ``silence_dbfs``: a window whose peak stays below this level (dB re full scale) holds nobody
    and is not segmented.
    """

    step_seconds: float
    batch: int
    silence_dbfs: float

    @property
    def step_samples(self) -> int:
        """At 16 kHz."""
        return round(self.step_seconds * SAMPLE_RATE)


@dataclass(frozen=True)
class SegmentationRules:
    """``distilled``: by the smaller network, if the model card has one."""

    distilled: bool


@dataclass(frozen=True)
class EmbeddingRules:
    """``batch``: crops at a time.

    Voices with less clean speech than ``exact_below_seconds`` are embedded in
    ``exact_precision``; 0 is never. ``narrow``: by the network in 8-bit integers, if the model
    card has one; ``auto`` where the executor gains by it and precisions are left to ``auto``.
    """

    batch: int
    narrow: Literal[True, False, "auto"]
    exact_below_seconds: float
    exact_precision: Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class ExecutionRules:
    """What runs the networks, unless the command line says otherwise.

    ``executor`` and ``precision`` as in ``--executor`` and ``--precision``. ``kernels``: ``auto``
    uses this project's own where they run, ``narrow`` also those in 8-bit integers, ``runtime``
    none. ``workers``: windows worked on
    at the same time; 0 means one for each processor.
    """

    executor: ExecutorName
    precision: Precision
    kernels: Kernels
    workers: int


@dataclass(frozen=True, kw_only=True)
class ModeValues:
    """What the files of a mode, one upon the other, must come to."""

    windows: WindowRules
    segmentation: SegmentationRules
    crops: CropRules
    embedding: EmbeddingRules
    reconstruction: ReconstructionRules
    execution: ExecutionRules


_SECTIONS = tuple(each.name for each in fields(ModeValues))


@dataclass(frozen=True, kw_only=True)
class ModeConfig(ModeValues):
    """One performance mode with all its values.

    ``calibration``: what the networks' voices are worth, from their card. ``origins``: where each
    value stands, by its dotted name.
    """

    name: str
    calibration: Calibration
    origins: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, with the mode's name."""
        return {"name": self.name} | {name: asdict(getattr(self, name)) for name in _SECTIONS}

    def values(self) -> dict[str, Any]:
        """Every value by its dotted name, as in ``windows.step_seconds``."""
        return flattened({name: asdict(getattr(self, name)) for name in _SECTIONS})

    def for_low_latency(self) -> ModeConfig:
        """The mode for windows that come one at a time: batches of one, all processors on each."""
        return replace(
            self,
            windows=replace(self.windows, batch=1),
            embedding=replace(self.embedding, batch=1),
            execution=replace(self.execution, workers=1),
        )


def load_mode(name_or_path: str | Path, card: ModelCard | None = None) -> ModeConfig:
    """The mode of that name, or the one a YAML file describes, for the networks of ``card``.

    Without ``card``, for the bundled ones. Raises ``UsageError`` for an unknown mode, and for a
    key or value that does not belong.
    """
    return read_mode(_path_of(name_or_path), card)


def read_mode(path: Path, card: ModelCard | None = None) -> ModeConfig:
    """Read one mode file; its stem is the mode's name."""
    card = card or load_card()
    layers: list[Layer] = [
        # What a card leaves open is as with the bundled networks; the plan says so.
        (each.path, dict(each.thresholds), _of_thresholds(each.places))
        for each in dict.fromkeys((load_card(), card))
    ]
    layers += _extended(path)[::-1]
    content: dict[str, Any] = {}
    origins: dict[str, Place] = {}
    files: dict[str, Path] = {}
    for file, values, places in layers:
        check_keys(ModeValues, values, "", file, UsageError)
        content = merged(content, values)
        origins |= {name: places[name] for name in flattened(values) if name in places}
        files |= dict.fromkeys(flattened(values), file)
    for section in _SECTIONS:
        content.setdefault(section, {})
    mode = build(ModeValues, content, "", path, UsageError)
    _check_values(mode, files)
    calibration = calibration_of(card)
    return ModeConfig(name=path.stem, **vars(mode), calibration=calibration, origins=origins)


def calibration_of(card: ModelCard) -> Calibration:
    """That of ``card``; where it states none, of the bundled networks within one recording.

    Strangers are 0.05 alike to those networks and 0.36 to another: its names would go to anybody.
    """
    if card.calibration:
        return Calibration.of(card.calibration, str(card.path))
    bundled = load_card()
    return Calibration.of(bundled.calibration, str(bundled.path)).within_recordings()


def mode_title(name: str) -> str:
    """The comment that a shipped mode's file begins with: what the mode is for."""
    lines = _path_of(name).read_text(encoding="utf-8").splitlines()
    return " ".join(
        line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines)
    )


Layer = tuple[Path, dict[str, Any], Mapping[str, Place]]


def _path_of(name_or_path: str | Path, beside: Path | None = None) -> Path:
    text = str(name_or_path)
    if text in MODE_NAMES:
        return configs_dir() / f"{text}.yaml"
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path if beside is None else beside / path
    raise UsageError(
        f"there is no performance mode {text!r}",
        f"use {', '.join(MODE_NAMES)} or the path of a .yaml file",
    )


def _extended(path: Path) -> list[Layer]:
    """The file, the one it extends, and so on."""
    layers: list[Layer] = []
    file: Path | None = path
    while file is not None:
        if len(layers) == _DEEPEST:
            raise UsageError(f"{path}: extends goes in a circle", "extend another mode")
        content, places = read_settings(file, UsageError)
        base = content.pop("extends", None)
        layers.append((file, content, places))
        if base is not None and not isinstance(base, str):
            raise UsageError(f"{file}: extends is {base!r}", "give a mode's name or path")
        file = None if base is None else _path_of(base, file.parent)
    return layers


def _of_thresholds(places: Mapping[str, Place]) -> dict[str, Place]:
    prefix = "thresholds."
    return {
        name.removeprefix(prefix): place
        for name, place in places.items()
        if name.startswith(prefix)
    }


def _check_values(mode: ModeValues, files: Mapping[str, Path]) -> None:
    """Values that no mode can have; ``files``: where each is from."""
    step, turns = mode.windows.step_seconds, mode.reconstruction
    phases = 10.0 / step if step > 0 else 0.0
    rules = (
        (0 < step <= 10 and phases == int(phases), "windows.step_seconds must divide 10 s"),
        (step >= _SHORTEST_STEP, f"windows.step_seconds must be at least {_SHORTEST_STEP} s"),
        (1 <= mode.windows.batch <= _LARGEST_BATCH, f"windows.batch {_BATCHES}"),
        (mode.windows.silence_dbfs <= 0, "windows.silence_dbfs must not be above 0"),
        (
            0 < turns.onset <= turns.overlap_onset,
            "reconstruction.overlap_onset must not be below reconstruction.onset, nor that be 0",
        ),
        (turns.fill_gap_seconds >= 0, "reconstruction.fill_gap_seconds must not be negative"),
        (turns.min_turn_seconds >= 0, "reconstruction.min_turn_seconds must not be negative"),
        (mode.crops.per_speaker >= 1, "crops.per_speaker must be at least 1"),
        (1 <= mode.embedding.batch <= _LARGEST_BATCH, f"embedding.batch {_BATCHES}"),
        (
            mode.embedding.exact_below_seconds >= 0,
            "embedding.exact_below_seconds must not be negative",
        ),
        (mode.execution.workers >= 0, "execution.workers must not be negative"),
    )
    for holds, text in rules:
        if not holds:
            raise UsageError(f"{files[text.split()[0]]}: {text}", "correct the file")
