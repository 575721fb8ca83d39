"""A conversation before it sounds: who, where, how loud, and which words when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.simulate.recipe import Recipe, draw, pick
from fluidaudio_cli.simulate.room import Shoebox, draw_room, seat
from fluidaudio_cli.simulate.signals import GRID, random_stream
from fluidaudio_cli.simulate.turn_taking import (
    TurnModel,
    Utterance,
    converse,
    shipped_model,
    with_overlap,
)
from fluidaudio_cli.simulate.voices import Voice
from fluidaudio_cli.turns import Turn

Vectors = Mapping[str, NDArray[np.float32]]
"""Unit vectors of voices by name, for choosing similar ones."""


@dataclass(frozen=True)
class Seat:
    """A speaker's voice, its level at 1 m (dB), place in the room and distance (m) from the ear."""

    voice: Voice
    level: float
    place: tuple[float, float, float]
    distance: float


@dataclass(frozen=True)
class Conversation:
    """All that is needed to make one recording; ``snr`` None: no noise."""

    recipe: Recipe
    number: int
    uri: str
    seats: tuple[Seat, ...]
    room: Shoebox
    turns: tuple[Utterance, ...]
    samples: int
    level: float
    noise: str
    snr: float | None

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples / SAMPLE_RATE

    def stream(self, purpose: str) -> np.random.Generator:
        """Random numbers of this conversation for one purpose."""
        return random_stream(self.recipe.seed, self.number, purpose)

    def reference(self) -> list[Turn]:
        """The exact reference."""
        return [
            Turn(turn.start, turn.end, self.seats[turn.speaker].voice.name) for turn in self.turns
        ]


def plan_conversation(
    recipe: Recipe, number: int, voices: Sequence[Voice], vectors: Vectors | None = None
) -> Conversation:
    """Conversation ``number`` of a recipe; the same for the same recipe, number and voices.

    Raises ``InputError`` when there are too few voices or not everyone gets a word in.
    """
    stream = partial(random_stream, recipe.seed, number)
    count = recipe.speakers
    if isinstance(count, tuple):
        count = int(stream("speakers").integers(count[0], count[1] + 1))
    chosen = _choose_voices(voices, count, stream("voices"), vectors if recipe.similar else None)
    rng = stream("distance")
    distances = [draw(recipe.room.distance, rng) for _ in chosen]
    room = draw_room(draw(recipe.room.rt60, stream("rt60")), max(distances), stream("room"))
    rng = stream("seats")
    turned = float(rng.uniform(0, 2 * math.pi))
    seats = tuple(
        Seat(
            voice,
            float(rng.normal(0, recipe.voice_spread)),
            seat(room, distance, turned + 2 * math.pi * place / count),
            distance,
        )
        for place, (voice, distance) in enumerate(zip(chosen, distances, strict=True))
    )
    noise = pick(recipe.noise.kind, stream("noise kind"))
    return Conversation(
        recipe=recipe,
        number=number,
        uri=f"{recipe.name}-{number + 1:03d}-{count}spk",
        seats=seats,
        room=room,
        turns=_turns(recipe, number, chosen),
        samples=round(recipe.seconds * 1000) * GRID,
        level=draw(recipe.level, stream("level")),
        noise=noise,
        snr=None if noise == "none" else draw(recipe.noise.snr, stream("snr")),
    )


def _turns(recipe: Recipe, number: int, voices: Sequence[Voice]) -> tuple[Utterance, ...]:
    def make(model: TurnModel) -> list[Utterance]:
        words = random_stream(recipe.seed, number, "words")
        at = [int(start) for start in words.integers(2**31, size=len(voices))]
        rng = random_stream(recipe.seed, number, "turns")

        def fit(speaker: int, wanted: float) -> tuple[int, int]:
            start, length = voices[speaker].cut(at[speaker], wanted)
            at[speaker] = start + length
            return start, length

        model = replace(model, introduction=recipe.introduction)
        return converse(model, len(voices), recipe.seconds, rng, fit)

    if recipe.overlap is None or len(voices) == 1:
        made = make(shipped_model())
    else:
        share = draw(recipe.overlap, random_stream(recipe.seed, number, "overlap")) / 100
        made = with_overlap(make, share)
    levels = random_stream(recipe.seed, number, "turn levels")
    return tuple(
        said._replace(
            level=float(levels.normal(recipe.interjected * said.interjected, recipe.turn_spread))
        )
        for said in made
    )


def _choose_voices(
    voices: Sequence[Voice], count: int, rng: np.random.Generator, vectors: Vectors | None
) -> list[Voice]:
    if len(voices) < count:
        raise InputError(
            f"{count} speakers need as many voices, and there are {len(voices)}",
            "add voices or ask for fewer speakers",
        )
    order = [int(i) for i in rng.permutation(len(voices))]
    if vectors is not None:
        # Whoever comes first, then always the voice nearest to one of those chosen.
        matrix = np.stack([vectors[voice.name] for voice in voices])
        alike = matrix @ matrix.T
        picked = order[:1]
        while len(picked) < count:
            rest = [i for i in order if i not in picked]
            picked.append(max(rest, key=lambda i: float(alike[i, picked].mean())))
        order = picked
    return [voices[i] for i in order[:count]]
