"""Learning: what a recording adds to voices that were recognised in it beyond doubt.

Bounded and reversible: only voices as enrolled decide, so that a mistake breeds no others; the
newest few recordings are kept; ``speakers remove NAME --learned`` takes all of it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np

from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.known import KnownPeople
from fluidaudio_cli.voices.store import Contents
from fluidaudio_cli.voices.voice import Heard, StoredVoice

# Of strangers would be taken in: a voice that learned somebody else's speech is spoilt.
_FALSE_ACCEPT = 0.001
_LEAST_PROBABILITY = 0.99
_LEAST_SECONDS = 5.0
_MOST_RECORDINGS = 10


def learnable(
    result: Diarization, voices: Mapping[str, StoredVoice], calibration: Calibration
) -> dict[str, Heard]:
    """What may be added to each of ``voices`` after ``result``, in which they were known."""
    enrolled = {}
    for name, voice in voices.items():
        heard = tuple(each for each in voice.recordings if not each.learned)
        if heard and result.uri not in {each.uri for each in heard}:
            enrolled[name] = replace(voice, recordings=heard).known
    if not enrolled or not result.speakers:
        return {}
    people = KnownPeople(list(enrolled.values()), calibration, _FALSE_ACCEPT)
    identities = people.recognised(
        np.stack([speaker.embedding for speaker in result.speakers]),
        np.array([speaker.clean_seconds for speaker in result.speakers]),
    )
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {
        identity.name: Heard(
            result.uri, speaker.clean_seconds, date, speaker.embedding, learned=True
        )
        for speaker, identity in zip(result.speakers, identities, strict=True)
        if identity.name == speaker.label
        and identity.probability >= _LEAST_PROBABILITY
        and speaker.clean_seconds >= _LEAST_SECONDS
    }


def learn(changes: Contents, name: str, heard: Heard) -> None:
    """Add ``heard`` to the voice ``name``, and forget the oldest of what it learned beyond ten."""
    voice = changes.voices.get(name)
    if voice is None:  # removed meanwhile: it is not to come back
        return
    voice = voice.with_recordings([heard])
    learned = [each for each in voice.recordings if each.learned]
    dropped = sorted(learned, key=lambda each: each.date)[:-_MOST_RECORDINGS]
    kept = tuple(each for each in voice.recordings if each not in dropped)
    changes.voices[name] = replace(voice, recordings=kept)
