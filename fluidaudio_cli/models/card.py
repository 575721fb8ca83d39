"""Model cards: what must be known of a set of networks to diarize with it (``docs/models.md``).

A card is a YAML file beside its packages. It names a file for each role, the tensors that go in
and out, the frame grid, what the scores mean, the lowest precision each network stands, and the
values that are facts about these networks (``thresholds``, ``calibration``). The bundled set is
one card, ``packages/bundled.yaml``; one that ``extends: bundled`` holds what differs from it, as
``packages/published.yaml`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from fluidaudio_cli.errors import ModelFormatError, UsageError
from fluidaudio_cli.resources import packages_dir
from fluidaudio_cli.settings import Place, Settings, build, merged, read_settings

SCHEMA = "fluidaudio.card/1"
BUNDLED = "bundled"
PUBLISHED = "published"
"""The bundled set with no network adapted by this project."""

CARD_NAMES = (BUNDLED, PUBLISHED)

# Before the name of a package that ships with the program.
SHIPPED = "bundled:"

_FILE_KEYS = ("file", "narrow_file", "distilled_file")

# Networks once more, for speed: the embedding in 8-bit integers, a smaller segmentation that was
# taught by the usual one.
NARROW, DISTILLED = "narrow", "distilled"
NARROW_EMBEDDING = f"{NARROW} embedding"
DISTILLED_SEGMENTATION = f"{DISTILLED} segmentation"

Shape = tuple[int | str, ...]
Classes = Literal["powerset", "per-speaker"]
Scores = Literal["log-probabilities", "probabilities", "logits"]
LowestPrecision = Literal["fp32", "fp16", "bf16"]
# From the most exact to the least.
_EXACTNESS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """What every network's section says.

    ``file``: a package, relative to the card; ``bundled:NAME`` is one that ships. ``inputs`` and
    ``outputs``: shape by name, whose first size is the batch: ``batch`` where it is free, a number
    where it is fixed. ``lowest_precision``: arithmetic below it (fp32 over fp16 over bf16) is not
    used.
    """

    file: str
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    lowest_precision: LowestPrecision = "bf16"
    licence: str = ""

    def __post_init__(self) -> None:
        """Tensors have sizes."""
        for name, shape in (*self.inputs.items(), *self.outputs.items()):
            if not shape or any(isinstance(size, int) and size < 1 for size in shape):
                raise ValueError(f"{name} has the shape {list(shape)}, which no tensor has")

    @property
    def fixed_batch(self) -> int | None:
        """The number of items that the network always takes, or ``None`` for any."""
        first = next(iter(self.inputs.values()))[0]
        return None if isinstance(first, str) else first

    def stands(self, precision: str) -> bool:
        """Whether the network may be computed in ``precision``."""
        order = _EXACTNESS.index
        return precision not in _EXACTNESS or order(precision) <= order(self.lowest_precision)


@dataclass(frozen=True, kw_only=True)
class SegmentationCard(NetworkCard):
    """A network from a window of audio to who speaks in each of its frames.

    Input (batch, 1, samples) or (batch, samples), output (batch, frames, classes). ``speakers``
    are told apart within a window; in ``powerset`` classes at most ``at_once`` of them together:
    class 0 is nobody, then each speaker, then each pair in order. ``hop_samples`` from frame to
    frame, each of which sees ``receptive_field_samples``. ``distilled_file``: a smaller network
    that answers in the same way, for modes that want it.
    """

    hop_samples: int
    receptive_field_samples: int
    speakers: int
    classes: Classes
    scores: Scores
    at_once: int = 2
    distilled_file: str = ""

    @property
    def window_samples(self) -> int:
        """Samples of a window."""
        return _size(next(iter(self.inputs.values())), -1)

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return _size(next(iter(self.outputs.values())), 1)

    @property
    def class_count(self) -> int:
        """Scores of a frame."""
        return _size(next(iter(self.outputs.values())), 2)

    def __post_init__(self) -> None:
        """Hold shapes, classes and frame grid together."""
        super().__post_init__()
        _one_each(self, inputs=(2, 3), outputs=3)
        if self.at_once not in (1, 2):
            raise ValueError(f"at_once is {self.at_once}, and only 1 and 2 are known")
        pairs = self.speakers * (self.speakers - 1) // 2 if self.at_once == 2 else 0
        powerset = self.classes == "powerset"
        expected = 1 + self.speakers + pairs if powerset else self.speakers
        if self.class_count != expected:
            raise ValueError(
                f"outputs has {self.class_count} classes, but {self.speakers} speakers "
                f"{f'and {self.at_once} at once ' if powerset else ''}make {expected}"
            )
        reach = (self.frames - 1) * self.hop_samples
        if not self.window_samples - 2 * self.receptive_field_samples < reach < self.window_samples:
            raise ValueError(
                f"hop_samples: {self.frames} frames of {self.hop_samples} samples do not fit "
                f"a window of {self.window_samples}"
            )


@dataclass(frozen=True, kw_only=True)
class FrontEndCard(NetworkCard):
    """A network from a stretch of audio to frames of features, as the embedding takes them.

    Input (batch, 1, samples) or (batch, samples), output (batch, frames, bands): a frame for
    each ``hop_samples``, which sees ``frame_samples``.
    """

    hop_samples: int = 160
    frame_samples: int = 400

    def __post_init__(self) -> None:
        """One tensor in, one out, and as many frames as the audio holds."""
        super().__post_init__()
        _one_each(self, inputs=(2, 3), outputs=3)
        samples = _size(next(iter(self.inputs.values())), -1)
        frames = _size(next(iter(self.outputs.values())), 1)
        needed = (frames - 1) * self.hop_samples + self.frame_samples
        if not 0 <= samples - needed < self.hop_samples:
            raise ValueError(f"inputs has {samples} samples, and {frames} frames need {needed}")


@dataclass(frozen=True, kw_only=True)
class EmbeddingCard(NetworkCard):
    """A network from a voice to a vector.

    Two kinds, told by ``pooling``:

    - ``crop``: one input (batch, frames, bands) of the front end's features, filled with the
      speech of one speaker. ``subtract_mean``: of each crop over time, before the network, for
      one that does not do so itself.
    - ``mask``: two inputs, a window of audio (batch, samples) and which segmentation frames of
      it count (batch, frames), 1 or 0. ``mask_input`` names the second.

    ``narrow_file``: the same network in 8-bit integers, for modes that want it.
    """

    pooling: Literal["crop", "mask"]
    mask_input: str = ""
    subtract_mean: bool = False
    narrow_file: str = ""

    @property
    def crop_frames(self) -> int:
        """Frames of a crop; 0 for ``mask``."""
        return _size(next(iter(self.inputs.values())), 1) if self.pooling == "crop" else 0

    @property
    def size(self) -> int:
        """Elements of a vector."""
        return _size(next(iter(self.outputs.values())), -1)

    def __post_init__(self) -> None:
        """Hold pooling and inputs together."""
        super().__post_init__()
        if self.pooling == "crop":
            _one_each(self, inputs=(3,), outputs=2)
            if self.mask_input:
                raise ValueError("mask_input has no meaning where pooling is crop")
        elif self.subtract_mean:
            raise ValueError("subtract_mean has no meaning where pooling is mask")
        elif len(self.inputs) != 2 or self.mask_input not in self.inputs:
            raise ValueError("mask_input must name one of two inputs where pooling is mask")
        elif len(self.outputs) != 1:
            raise ValueError(f"outputs are {', '.join(self.outputs)}, and a voice has one vector")
        else:
            _axes("inputs", self.inputs, 2, 3)
            _axes("outputs", self.outputs, 2)


@dataclass(frozen=True, kw_only=True)
class DiarizerCard(NetworkCard):
    """One network for all: audio in chunks to the activity of speakers that keep their places.

    ``audio_input`` is a chunk of audio, (1, samples) or (1, 1, samples), or what the card's
    ``front_end`` makes of one. ``activity_output`` (1, frames, tracks): a frame for each
    ``hop_samples``; of a chunk that is longer the rest is looked ahead at. ``not_speakers``: tracks
    that are no speakers. ``states``: output by the input that it is given to with the next chunk;
    the first chunk gets zeros. The first ``context_frames`` of a chunk repeat the end of the one
    before. ``delay_frames``: the activity lags so far behind the audio. ``hearing_input`` is 1
    while there is audio and 0 in the chunks of silence after it; ``deciding_input`` is 0 until the
    delay is over and 1 from then on, for a chunk or for each new frame of it. ``constants``: inputs
    that have one value throughout.
    """

    audio_input: str
    activity_output: str
    scores: Scores
    hop_samples: int
    not_speakers: tuple[int, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    context_frames: int = 0
    delay_frames: int = 0
    hearing_input: str = ""
    deciding_input: str = ""
    constants: Mapping[str, float] = field(default_factory=dict)

    @property
    def fixed_batch(self) -> int | None:
        """One recording at a time, wherever else a state has its first axis."""
        return 1

    @property
    def frames(self) -> int:
        """Frames of a chunk."""
        return _size(self.outputs[self.activity_output], 1)

    @property
    def tracks(self) -> tuple[int, ...]:
        """Columns of the activity that are speakers."""
        count = _size(self.outputs[self.activity_output], 2)
        left_out = {track % count for track in self.not_speakers}
        return tuple(track for track in range(count) if track not in left_out)

    def __post_init__(self) -> None:
        """Every name and state must be there, in one shape."""
        super().__post_init__()
        if self.activity_output not in self.outputs:
            raise ValueError(f"activity_output {self.activity_output} is not among the outputs")
        _axes("outputs", {self.activity_output: self.outputs[self.activity_output]}, 3)
        switches = [name for name in (self.hearing_input, self.deciding_input) if name]
        fed = [self.audio_input, *self.states, *switches, *self.constants]
        if sorted(fed) != sorted(self.inputs):
            raise ValueError(
                f"inputs are {', '.join(self.inputs)}, and the card says of {', '.join(fed)} what "
                "goes in"
            )
        for taken, given in self.states.items():
            if self.inputs.get(taken) is None or self.inputs[taken] != self.outputs.get(given):
                raise ValueError(f"states: input {taken} and output {given} differ in shape")
        if self.scores == "log-probabilities":
            raise ValueError("scores: activities are probabilities or logits")
        if not 0 <= self.context_frames < self.frames:
            raise ValueError(
                f"context_frames is {self.context_frames}, and a chunk has {self.frames} frames"
            )
        if self.hop_samples < 1 or self.delay_frames < 0:
            raise ValueError("hop_samples must be at least 1, and delay_frames not negative")
        count = _size(self.outputs[self.activity_output], 2)
        for track in self.not_speakers:
            if not -count <= track < count:
                raise ValueError(f"not_speakers has {track}, and there are {count} tracks")
        if not self.tracks:
            raise ValueError("not_speakers leaves no speaker")


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """The keys of a card's file."""

    schema: str
    title: str
    licence: str
    sample_rate: int
    segmentation: SegmentationCard | None = None
    front_end: FrontEndCard | None = None
    embedding: EmbeddingCard | None = None
    diarizer: DiarizerCard | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A set is a segmentation with an embedding and what that hears, or one network for all."""
        if self.schema != SCHEMA:
            raise ValueError(f"schema is {self.schema!r}, not {SCHEMA}")
        if self.sample_rate != 16_000:
            raise ValueError(f"sample_rate is {self.sample_rate}; only 16000 is decoded to")
        if self.diarizer is not None:
            if self.segmentation or self.embedding:
                raise ValueError("diarizer stands for all roles; leave the others out")
            self._check_chunk(self.diarizer)
            return
        if self.segmentation is None or self.embedding is None:
            raise ValueError("segmentation and embedding must both be there, or diarizer alone")
        if self.embedding.pooling == "mask":
            if self.front_end is not None:
                raise ValueError("front_end has no place where embedding.pooling is mask")
            return
        if self.front_end is None:
            raise ValueError("front_end is missing, which embedding.pooling crop needs")
        features = next(iter(self.front_end.outputs.values()))
        taken = next(iter(self.embedding.inputs.values()))
        if _size(features, 1) < _size(taken, 1) or _size(features, 2) != _size(taken, 2):
            raise ValueError(
                f"front_end gives {features[1]} frames of {features[2]} bands, "
                f"embedding takes {taken[1]} of {taken[2]}"
            )

    def _check_chunk(self, diarizer: DiarizerCard) -> None:
        taken = diarizer.inputs[diarizer.audio_input]
        heard = taken
        if self.front_end is not None:
            heard = next(iter(self.front_end.inputs.values()))
            given = next(iter(self.front_end.outputs.values()))
            if given[1:] != taken[1:]:
                raise ValueError(
                    f"front_end gives {list(given[1:])}, diarizer takes {list(taken[1:])}"
                )
        if _size(heard, -1) < diarizer.frames * diarizer.hop_samples:
            raise ValueError(
                f"diarizer.hop_samples: {diarizer.frames} frames of {diarizer.hop_samples} samples "
                f"are more than a chunk of {heard[-1]}"
            )


@dataclass(frozen=True, kw_only=True)
class ModelCard(_Contents):
    """A set of networks; ``name`` is the file's, ``path`` where it lies.

    ``thresholds`` are given to the modes, which may replace them (``diarization/modes.py``);
    ``places`` tells the line of every value.
    """

    name: str = ""
    path: Path = Path()
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    @property
    def ships(self) -> bool:
        """Whether it came with the program."""
        return self.path.parent == packages_dir()

    @property
    def networks(self) -> dict[str, NetworkCard]:
        """The networks by role, in the order in which audio passes through them."""
        roles = {
            "segmentation": self.segmentation,
            "fbank": self.front_end,
            "embedding": self.embedding,
            "diarizer": self.diarizer,
        }
        return {role: network for role, network in roles.items() if network is not None}

    @property
    def packages(self) -> dict[str, Path]:
        """Where the packages lie: by role; ``narrow embedding`` and the like where there are."""
        files = {role: network.file for role, network in self.networks.items()}
        if self.embedding is not None and self.embedding.narrow_file:
            files[NARROW_EMBEDDING] = self.embedding.narrow_file
        if self.segmentation is not None and self.segmentation.distilled_file:
            files[DISTILLED_SEGMENTATION] = self.segmentation.distilled_file
        return {
            role: packages_dir() / file.removeprefix(SHIPPED)
            if file.startswith(SHIPPED)
            else self.path.parent / file
            for role, file in files.items()
        }

    def __hash__(self) -> int:
        """Of the place; contents hold mappings."""
        return hash((self.name, self.path))


def read_card(path: Path) -> ModelCard:
    """Read and check a card.

    Raises ``ModelFormatError`` with file, key and remedy for a key that does not belong, a
    missing one, values that contradict each other, and a package that is not there.
    """
    content, places = read_settings(path, ModelFormatError)
    if "extends" in content:
        content, places = _upon_bundled(content, places, path)
    contents = build(_Contents, content, "", path, ModelFormatError)
    card = ModelCard(**vars(contents), name=path.stem, path=path, places=places)
    for role, package in card.packages.items():
        if not package.is_dir():
            raise ModelFormatError(
                f"{path}: {role}: there is no package {package}",
                "give its path relative to the card",
            )
    return card


def load_card(name_or_path: str | Path = BUNDLED) -> ModelCard:
    """The card of that name, or that a ``.yaml`` file holds.

    Raises ``UsageError`` for an unknown name and what :func:`read_card` raises.
    """
    text = str(name_or_path)
    if text in CARD_NAMES:
        return _shipped(text, packages_dir())
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return read_card(path)
    raise UsageError(
        f"there is no set of models {text!r}",
        f"use {', '.join(CARD_NAMES)} or the path of a model card (.yaml)",
    )


@lru_cache(maxsize=2)
def _shipped(name: str, folder: Path) -> ModelCard:
    return read_card(folder / f"{name}.yaml")


def _upon_bundled(content: dict[str, Any], places: dict[str, Place], path: Path) -> Settings:
    """What a card changes, and from the bundled one all else."""
    base = content.pop("extends")
    if base != BUNDLED:
        raise ModelFormatError(f"{path}: extends is {base!r}", f"only {BUNDLED} can be extended")
    bundled = read_settings(packages_dir() / f"{BUNDLED}.yaml", ModelFormatError)
    for role, section in bundled.content.items():
        if not isinstance(section, dict):
            continue
        # Its files lie beside it, not beside ``path``.
        files = {key: f"{SHIPPED}{section[key]}" for key in _FILE_KEYS if key in section}
        section.update(files)
        changed = content.get(role)
        if not isinstance(changed, dict):
            continue
        # Names of tensors: all or none.
        for key in {"inputs", "outputs"} & changed.keys():
            section[key] = {}
        if changed.get("file", files.get("file")) != files.get("file"):
            # Another network, and these were made of the bundled one.
            for key in files:
                del section[key]
            if role == "embedding":
                bundled.content["calibration"] = {}
    return Settings(merged(bundled.content, content), bundled.places | places)


def _size(shape: Shape, axis: int) -> int:
    size = shape[axis] if -len(shape) <= axis < len(shape) else ""
    if isinstance(size, str):
        raise ValueError(f"inputs or outputs: {list(shape)} needs a number on axis {axis}")
    return size


def _one_each(network: NetworkCard, inputs: tuple[int, ...], outputs: int) -> None:
    """One tensor in and one out, each with a number of axes that the role has."""
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError("inputs and outputs must have one tensor each")
    _axes("inputs", network.inputs, *inputs)
    _axes("outputs", network.outputs, outputs)


def _axes(key: str, tensors: Mapping[str, Shape], *counts: int) -> None:
    for name, shape in tensors.items():
        if len(shape) not in counts:
            raise ValueError(
                f"{key}.{name} is {list(shape)}, and {' or '.join(map(str, counts))} sizes are "
                "needed"
            )
