"""Whether the voices of a store can be told from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.known import KnownPeople
from fluidaudio_cli.voices.enrol import ENOUGH_SECONDS
from fluidaudio_cli.voices.voice import StoredVoice


class Mistakable(NamedTuple):
    """Two voices: ``probability`` that they are one person, how often strangers are so alike."""

    name: str
    other: str
    probability: float
    false_accept: float


@dataclass(frozen=True)
class StoreCheck:
    """``mistakable`` pairs, the likeliest first; ``little``: seconds of voices with too few."""

    mistakable: tuple[Mistakable, ...]
    little: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "schema": "fluidaudio.voices-check/1",
            "mistakable": [
                {
                    "name": pair.name,
                    "other": pair.other,
                    "probability": round(pair.probability, 4),
                    "false_accept": float(f"{pair.false_accept:.3g}"),
                }
                for pair in self.mistakable
            ],
            "little_speech": [
                {"name": name, "seconds": round(seconds, 3)} for name, seconds in self.little
            ],
        }


def check_voices(
    voices: Sequence[StoredVoice], calibration: Calibration, false_accept: float
) -> StoreCheck:
    """Pairs that ``--max-false-accept`` would take for one person, and voices heard too little.

    All were heard by the network that ``calibration`` is of.
    """
    little = tuple((v.name, v.seconds) for v in voices if v.seconds < ENOUGH_SECONDS)
    if len(voices) < 2:
        return StoreCheck((), little)
    people = KnownPeople([voice.known for voice in voices], calibration, false_accept)
    compared = people.known.compared(people.known, calibration)
    pairs = np.argwhere(np.triu(compared.false_accept <= false_accept, 1))
    found = [
        Mistakable(
            voices[one].name,
            voices[other].name,
            float(1.0 / (1.0 + np.exp(-compared.log_odds[one, other]))),
            float(compared.false_accept[one, other]),
        )
        for one, other in pairs.tolist()
    ]
    mistakable = tuple(sorted(found, key=lambda pair: pair.false_accept))
    return StoreCheck(mistakable, little)
