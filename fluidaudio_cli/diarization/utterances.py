"""Whether one person said all that a window gives to one local speaker.

Segmentation takes two people for one where their voices are alike or turns are quick: so it is
with one in five pairs of utterances of a local speaker in simulated conversations. Each utterance
has a voice of its own; those that are rather two people's become two voices of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, count

import numpy as np

from fluidaudio_cli.diarization.crop_embedder import PendingVoice
from fluidaudio_cli.diarization.evidence import LocalVoice, Presence
from fluidaudio_cli.diarization.frames import CROP_SECONDS
from fluidaudio_cli.diarization.speakers.calibration import SHORTEST, Calibration

# Voices of a window beyond its local speakers: what is decided of a window grows with its voices
# to the power of them.
_MORE_VOICES = 2


def voices_of(
    utterances: Sequence[PendingVoice],
    presence: Presence,
    size: int,
    crops: int,
    calibration: Calibration,
) -> tuple[tuple[LocalVoice, ...], Presence]:
    """The voices of a window and their presence (frames, slots).

    ``utterances`` of a slot stand together, the surest first; their vectors are of ``size``. A
    voice's vector is the mean of the first ``crops`` of its utterances. ``presence`` gets another
    slot for each voice that is not the first of its slot.
    """
    people = _people(utterances, size, crops, calibration)
    slots = [utterances[rows[0]].speaker.slot for rows in people]
    free = count(presence.shape[1])
    columns = [next(free) if slot in slots[:before] else slot for before, slot in enumerate(slots)]
    if columns != slots:
        given, more = presence, len(slots) - len(set(slots))
        presence = np.pad(given, ((0, 0), (0, more)))
        for column, slot, rows in zip(columns, slots, people, strict=True):
            if slots.count(slot) > 1:
                presence[:, column] = 0
                for row in rows:
                    span = slice(*utterances[row].speaker.span)
                    presence[span, column] = given[span, slot]
    voices = []
    for column, rows in zip(columns, people, strict=True):
        own = [utterances[row] for row in rows]
        seconds = sum(each.speaker.clean_seconds for each in own)
        voices.append(LocalVoice(column, seconds, _together(own, crops).voice(size)))
    return tuple(sorted(voices)), presence


def _people(
    utterances: Sequence[PendingVoice], size: int, crops: int, calibration: Calibration
) -> list[list[int]]:
    """Rows of each person's utterances: at first each has one, then the likeliest pairs join."""
    people = [[row] for row in range(len(utterances))]
    slots = [each.speaker.slot for each in utterances]
    local_speakers = len(set(slots))
    if local_speakers == len(people):
        return people
    vectors = np.stack([_together([each], crops).voice(size) for each in utterances])
    seconds = np.array([each.speaker.clean_seconds for each in utterances])
    heard = np.clip(seconds, SHORTEST, CROP_SECONDS)
    cosine = np.asarray(vectors @ vectors.T, np.float64)
    odds = calibration.one_voice(cosine, np.minimum(heard[:, None], heard))
    # What is not heard is no reason to part.
    unheard = ~vectors.any(axis=1)
    odds[unheard] = odds[:, unheard] = np.inf
    most_voices = local_speakers + _MORE_VOICES
    while True:
        pairs = [
            (float(odds[np.ix_(one, other)].mean()), number, beside)
            for (number, one), (beside, other) in combinations(enumerate(people), 2)
            if slots[one[0]] == slots[other[0]]
        ]
        likeliest, number, beside = max(pairs, default=(-np.inf, 0, 0))
        if not pairs or (likeliest < 0.0 and len(people) <= most_voices):
            return people
        people[number] = sorted(people[number] + people.pop(beside))


def _together(utterances: Sequence[PendingVoice], crops: int) -> PendingVoice:
    """One voice of the first ``crops`` of several."""
    first = utterances[0]
    if len(utterances) == 1 and len(first.vectors) <= crops:
        return first
    vectors = [vector for each in utterances for vector in each.vectors]
    frames = [heard for each in utterances for heard in each.frames]
    return PendingVoice(first.speaker, vectors=vectors[:crops], frames=frames[:crops])
