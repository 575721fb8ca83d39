"""What conversations to make: a recipe, checked in full, written beside what was made with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fluidaudio_cli.errors import InputError
from fluidaudio_cli.settings import read_yaml
from fluidaudio_cli.simulate.codecs import check_codec
from fluidaudio_cli.simulate.turn_taking import INTRODUCTION_SECONDS

MAX_SPEAKERS = 20

NoiseKind = Literal["none", "noise", "music", "babble", "white", "pink"]

T = TypeVar("T")


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"{span[0]:g} to {span[1]:g} runs backwards")
    return span


def _within(low: float, high: float) -> AfterValidator:
    """Lowest and highest value of a number or span; more is outside what the models hold for."""

    def check(span: Any) -> Any:
        for number in span if isinstance(span, tuple) else (span,):
            if not low <= number <= high:
                raise ValueError(f"{number:.10g} is not between {low:.10g} and {high:.10g}")
        return span

    return AfterValidator(check)


_Pair = Annotated[tuple[float, float], AfterValidator(_ordered), Field(strict=False)]
Span = float | _Pair
"""One value, or [lowest, highest], from which each conversation draws its own."""


class Frozen(BaseModel):
    """Values of a file: of their own types, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Room(Frozen):
    """A shoebox with one microphone; ``rt60`` (s): time in which sound falls by 60 dB, 0 for none.

    ``distance`` (m) of the speakers from the microphone.
    """

    rt60: Annotated[Span, _within(0, 3)] = 0.0
    distance: Annotated[Span, _within(0.2, 10)] = (0.6, 1.5)


class Noise(Frozen):
    """What else is heard: ``kind`` or several of which each conversation draws one.

    ``snr`` (dB): level of speech where somebody speaks, above the noise's over the whole.
    """

    kind: NoiseKind | Annotated[tuple[NoiseKind, ...], Field(min_length=1, strict=False)] = "none"
    snr: Annotated[Span, _within(-20, 60)] = 20.0


_Codec = Annotated[str, AfterValidator(check_codec)]


class Channel(Frozen):
    """What becomes of the mixture, in this order.

    ``drift`` (dB): how far the gain swings up and down within a minute. ``clip`` (dB): where
    peaks are cut off, above the level of speech. ``bandwidth`` (Hz): nothing above it.
    ``codec``: see ``codecs.find_codec``. ``loss`` (%): packets of 20 ms that do not arrive.
    """

    drift: Annotated[Span, _within(0, 30)] = 0.0
    clip: Annotated[Span, _within(-6, 40)] | None = None
    bandwidth: Annotated[float, _within(1000, 8000)] | None = None
    codec: _Codec | Annotated[tuple[_Codec, ...], Field(min_length=1, strict=False)] = "none"
    loss: Annotated[Span, _within(0, 60)] = 0.0


class Recipe(Frozen):
    """All that conversations depend on besides the voices and noises.

    ``overlap`` (%): time in which several speak, of all speech; None: as in meetings. ``level``
    (dB below full scale, so negative): of the mixture's speech. ``voice_spread``, ``turn_spread``
    (dB): standard deviation of the voices' levels at 1 m, and of one voice's turns; ``interjected``
    (dB): how much louder than other turns interjections are, so negative.
    ``introduction`` (s): least length of each speaker's first turn; 0: as in meetings, where some
    say but a word.
    ``similar``: speakers of a conversation are voices that the embedding finds alike.
    """

    schema_: Literal["fluidaudio.simulation/1"] = Field(
        default="fluidaudio.simulation/1", alias="schema"
    )
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)] = (
        "conversation"
    )
    seed: Annotated[int, _within(0, 2**32 - 1)] = 0
    conversations: Annotated[int, _within(1, 100_000)] = 1
    seconds: Annotated[float, _within(10, 36_000)] = 180.0
    speakers: Annotated[
        int | Annotated[tuple[int, int], AfterValidator(_ordered), Field(strict=False)],
        _within(1, MAX_SPEAKERS),
    ] = (2, 4)
    overlap: Annotated[Span, _within(0, 80)] | None = None
    introduction: Annotated[float, _within(0, 30)] = INTRODUCTION_SECONDS
    similar: bool = False
    level: Annotated[Span, _within(-60, 0)] = -26.0
    voice_spread: Annotated[float, _within(0, 20)] = 2.0
    turn_spread: Annotated[float, _within(0, 20)] = 2.0
    interjected: Annotated[float, _within(-30, 10)] = 0.0
    room: Room = Room()
    noise: Noise = Noise()
    channel: Channel = Channel()

    def document(self) -> dict[str, Any]:
        """As the recipe file holds it: every key, defaults included."""
        return self.model_dump(mode="json", by_alias=True)


def parse_recipe(document: dict[str, Any], where: str = "recipe") -> Recipe:
    """The recipe that keys and values describe; raises ``InputError`` naming the key."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        found = error.errors()
        # Of a value that may be of several types, what is wrong with the type that it has.
        first = next((each for each in found if not each["type"].endswith("_type")), found[0])
        place = first["loc"]
        # pydantic names the variants of a union in the path, which no user wrote, but for a key
        # that has no place.
        last = len(place) - (first["type"] == "extra_forbidden")
        written = [part for part in place[:last] if not _is_variant(part)]
        key = ".".join(map(str, [*written, *place[last:]])) or "it"
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {key}: {said}", "see docs/simulate.md") from error


def read_recipe(path: Path) -> dict[str, Any]:
    """The keys of a recipe file, unchecked; raises ``InputError`` where it is no YAML mapping."""
    document = read_yaml(path, "the recipe", InputError)
    if not isinstance(document, dict):
        raise InputError(f"{path} is not a recipe", "see docs/simulate.md")
    return document


def format_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, which makes the same conversations again."""
    return yaml.safe_dump(recipe.document(), sort_keys=False, default_flow_style=None)


def draw(span: Span, rng: np.random.Generator) -> float:
    """One conversation's value of a span."""
    return float(rng.uniform(*span)) if isinstance(span, tuple) else float(span)


def pick(choice: T | tuple[T, ...], rng: np.random.Generator) -> T:
    """One conversation's choice."""
    return choice[int(rng.integers(len(choice)))] if isinstance(choice, tuple) else choice


def _is_variant(part: object) -> bool:
    return isinstance(part, str) and (
        bool({"[", "-"} & set(part)) or part in ("float", "int", "str")
    )
