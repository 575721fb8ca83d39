"""Performance modes: every value that tunes the pipeline, read from ``configs/<mode>.yaml``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from fluidaudio_cli.diarization.clustering import ClusteringRules
from fluidaudio_cli.diarization.local_speakers import CropRules
from fluidaudio_cli.diarization.turn_builder import ReconstructionRules
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.files import write_text_atomic
from fluidaudio_cli.resources import configs_dir

# The modes that ship with the program, the proven one first.
MODE_NAMES = ("reference", "accurate", "balanced", "fast")
DEFAULT_MODE = "balanced"


@dataclass(frozen=True)
class WindowRules:
    """``step_seconds`` between windows, a divisor of 10; ``batch``: windows at a time.

    ``silence_dbfs``: a window whose peak stays below this level (dB re full scale) holds nobody
    and is not segmented.
    """

    step_seconds: float
    batch: int
    silence_dbfs: float


@dataclass(frozen=True)
class EmbeddingRules:
    """``batch``: crops at a time.

    ``exact_below_seconds``: voices with less clean speech than this are embedded in
    ``exact_precision``, where the others' is another; 0 for none.
    """

    batch: int
    exact_below_seconds: float
    exact_precision: str


@dataclass(frozen=True)
class ExecutionRules:
    """What runs the networks, unless the command line says otherwise.

    ``executor`` and ``precision`` as in ``--executor`` and ``--precision``;
    ``embedding_precision`` is the embedding network's own, unless ``auto``. ``lstm``: ``auto``
    runs LSTM layers with the AMX kernel where it can, ``runtime`` never does.
    ``workers``: batches of windows worked on at the same time; 0 means one for each processor.
    """

    executor: str
    precision: str
    embedding_precision: str
    lstm: str
    workers: int


@dataclass(frozen=True)
class ModeConfig:
    """One performance mode."""

    name: str
    windows: WindowRules
    crops: CropRules
    embedding: EmbeddingRules
    clustering: ClusteringRules
    reconstruction: ReconstructionRules
    execution: ExecutionRules

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, as in the file, with the mode's name."""
        return asdict(self)

    def for_low_latency(self) -> ModeConfig:
        """The mode for windows that come one at a time: batches of one, all processors on each."""
        return replace(
            self,
            windows=replace(self.windows, batch=1),
            embedding=replace(self.embedding, batch=1),
            execution=replace(self.execution, workers=1),
        )


def load_mode(name_or_path: str | Path) -> ModeConfig:
    """The mode of that name, or the one a YAML file describes.

    Raises ``UsageError`` for an unknown mode, and for a key or value that does not belong.
    """
    text = str(name_or_path)
    if text in MODE_NAMES:
        return read_mode(configs_dir() / f"{text}.yaml")
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return read_mode(path)
    raise UsageError(
        f"there is no performance mode {text!r}",
        f"use {', '.join(MODE_NAMES)} or the path of a .yaml file",
    )


def read_mode(path: Path) -> ModeConfig:
    """Read one mode file; its stem is the mode's name."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the mode file {path}: {error}", "check the path") from error
    sections = {field.name: field for field in fields(ModeConfig) if field.name != "name"}
    types = get_type_hints(ModeConfig)
    _check_keys(content, set(sections), path, "")
    mode = ModeConfig(
        path.stem,
        **{name: _section(types[name], content[name], path, name) for name in sections},
    )
    _check_values(mode, path)
    return mode


def write_mode(mode: ModeConfig, path: Path) -> None:
    """Write ``mode`` as a file that :func:`read_mode` reads back."""
    import yaml

    content = {key: value for key, value in mode.as_dict().items() if key != "name"}
    write_text_atomic(path, yaml.safe_dump(content, sort_keys=False))


_Section = TypeVar("_Section")


def _section(kind: type[_Section], content: Any, path: Path, where: str) -> _Section:
    types = get_type_hints(kind)
    _check_keys(content, set(types), path, f"{where}.")
    values = {}
    for key, expected in types.items():
        value = content[key]
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, expected) or isinstance(value, bool) != (expected is bool):
            raise UsageError(
                f"{path}: {where}.{key} is {value!r}", f"give a value of type {expected.__name__}"
            )
        values[key] = value
    return kind(**values)


def _check_keys(content: Any, wanted: set[str], path: Path, prefix: str) -> None:
    if not isinstance(content, dict):
        raise UsageError(f"{path}: {prefix or 'the file'} holds no keys", "see configs/ for one")
    for key in content:
        if key not in wanted:
            raise UsageError(
                f"{path}: unknown key {prefix}{key}", f"known here: {', '.join(sorted(wanted))}"
            )
    for key in sorted(wanted):
        if key not in content:
            raise UsageError(f"{path}: {prefix}{key} is missing", "see configs/ for an example")


def _check_values(mode: ModeConfig, path: Path) -> None:
    step = mode.windows.step_seconds
    phases = 10.0 / step if step > 0 else 0.0
    rules = (
        (0 < step <= 10 and phases == int(phases), "windows.step_seconds must divide 10 s"),
        (mode.windows.batch >= 1, "windows.batch must be at least 1"),
        (mode.crops.per_speaker >= 1, "crops.per_speaker must be at least 1"),
        (mode.embedding.batch >= 1, "embedding.batch must be at least 1"),
        (0 < mode.clustering.threshold < 2, "clustering.threshold must lie between 0 and 2"),
        (0 < mode.clustering.small_threshold < 2, "clustering.small_threshold is not in 0 … 2"),
        (mode.clustering.exact_limit >= 2, "clustering.exact_limit must be at least 2"),
        (
            mode.embedding.exact_below_seconds >= 0,
            "embedding.exact_below_seconds must not be negative",
        ),
        (mode.execution.workers >= 0, "execution.workers must not be negative"),
    )
    for holds, text in rules:
        if not holds:
            raise UsageError(f"{path}: {text}", "correct the file")
