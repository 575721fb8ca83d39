"""The speakers of one window, and which frames of each are worth embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.frames import (
    CROP_FRAMES,
    FBANK_HOP_SAMPLES,
    GRID,
    SAMPLE_RATE,
    WINDOW_FRAMES,
    segmentation_frame_of_fbank,
)
from fluidaudio_cli.diarization.powerset import LocalActivity
from fluidaudio_cli.masks import runs

FBANK_HOP_SECONDS = FBANK_HOP_SAMPLES / SAMPLE_RATE


Crop = tuple[tuple[int, int], ...]
"""What one embedding hears: runs of filter-bank frames of a window, (first, one past last).

Laid end to end, with ``SEAM_FRAMES`` lost between two, they fill at most ``CROP_FRAMES``.
"""

SEAM_FRAMES = 2
"""Frames that would see both of two runs laid end to end, and are left out."""


@dataclass(frozen=True)
class CropRules:
    """How local speakers are cut into crops.

    ``per_speaker``: crops of 2 s at most for each local speaker; from the mode file.
    ``utterances``: crops of each of its utterances, which may be another person's.
    """

    per_speaker: int
    utterances: bool = False


MIN_CLEAN_SECONDS = 0.2
"""A speaker that is alone for less than this is embedded from where others speak too."""


@dataclass(frozen=True)
class LocalSpeaker:
    """One voice within one window, or one utterance of it.

    ``slot`` is its column in the window's activity; ``clean_seconds`` how long it speaks alone;
    ``crops`` what to embed, empty when there is too little. ``mask`` (589,): the segmentation
    frames that crops are taken from, all False when there is too little. ``span``: the frames
    that are looked at, first and one past last; the utterances of a voice share out the window.
    """

    slot: int
    clean_seconds: float
    crops: tuple[Crop, ...]
    mask: NDArray[np.bool_]
    span: tuple[int, int] = (0, WINDOW_FRAMES)


def find_local_speakers(
    activity: LocalActivity, window: int, valid_frames: int, rules: CropRules
) -> list[LocalSpeaker]:
    """The speakers active in ``window``, each with its crops.

    With ``rules.utterances``, each utterance of a speaker that speaks again after a pause; the one
    with the longest uninterrupted run first. ``valid_frames``: how many of the window's 1000
    filter-bank frames hold audio (the end of a recording has fewer).
    """
    present = np.flatnonzero(activity.active(window).any(axis=0))
    if not present.size:
        return []
    valid = _NEAREST[:valid_frames]
    clean, active = activity.alone(window), activity.active(window)
    speakers = []
    for slot in present.tolist():
        mask, crops = clean[:, slot], rules.per_speaker
        clean_seconds = _seconds(mask[valid])
        spans = [(0, len(mask))]
        if clean_seconds < MIN_CLEAN_SECONDS:
            # Never alone: what is heard with others says a little, and more than nothing.
            mask, crops = active[:, slot], 1
        elif rules.utterances:
            spans = _utterances(active[:, slot], mask)
        for span in spans:
            # A copy, because the whole window's would stay in memory with it.
            own = mask.copy()
            own[: span[0]] = own[span[1] :] = False
            heard = own[valid]
            if len(spans) > 1:
                clean_seconds = _seconds(heard)
            enough = _seconds(heard) >= MIN_CLEAN_SECONDS
            found = _crops(heard, crops) if enough else ()
            own &= enough
            speakers.append(LocalSpeaker(slot, clean_seconds, found, own, span))
    return speakers


# A shorter pause is one between two words.
_PAUSE_FRAMES = round(0.3 / GRID.hop_seconds)
LEAST_UTTERANCE_SECONDS = 1.0
"""What is said alone for less hardly says who said it."""

_UTTERANCE_FRAMES = math.ceil(LEAST_UTTERANCE_SECONDS / GRID.hop_seconds)


def _utterances(active: NDArray[np.bool_], alone: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Frames of what a speaker says between pauses, and around it up to the middle of these.

    All frames are in one. What is too short belongs to its neighbour.
    """
    said: list[tuple[int, int]] = []
    for first, last in runs(active).tolist():
        if said and first - said[-1][1] < _PAUSE_FRAMES:
            said[-1] = (said[-1][0], last)
        else:
            said.append((first, last))
    long = [each for each in said if np.count_nonzero(alone[slice(*each)]) >= _UTTERANCE_FRAMES]
    middles = [(before[1] + after[0]) // 2 for before, after in pairwise(long)]
    spans = list(pairwise([0, *middles, len(active)]))

    def longest_run(span: tuple[int, int]) -> int:
        return int(np.diff(runs(alone[slice(*span)])).max(initial=0))

    return sorted(spans, key=longest_run, reverse=True)


def _seconds(frames: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(frames)) * FBANK_HOP_SECONDS


def _crops(alone: NDArray[np.bool_], limit: int) -> tuple[Crop, ...]:
    """At most ``limit`` crops, filled from the longest uninterrupted runs first.

    The longest run is the least likely to hold two voices that the window took for one.
    """
    crops: list[list[tuple[int, int]]] = [[]]
    room = CROP_FRAMES
    found = runs(alone)
    for index in np.argsort(found[:, 0] - found[:, 1], kind="stable"):
        first, last = (int(end) for end in found[index])
        seam = SEAM_FRAMES if crops[-1] else 0
        if seam and last - first < _SHORTEST_ADDITION:
            break
        surplus = (last - first) - (room - seam) - (limit - len(crops)) * CROP_FRAMES
        if surplus > 0:
            # More than can be used: what lies around its centre is the surest.
            first += surplus // 2
            last -= surplus - surplus // 2
        while first < last:
            seam = SEAM_FRAMES if crops[-1] else 0
            if room - seam < _SHORTEST_ADDITION:
                if len(crops) == limit:
                    return _worthwhile(crops)
                crops.append([])
                room, seam = CROP_FRAMES, 0
            taken = min(last - first, room - seam)
            crops[-1].append((first, first + taken))
            room -= taken + seam
            first += taken
    return _worthwhile(crops)


# A tenth of a second more is not worth a seam.
_SHORTEST_ADDITION = 10
# A further crop of less than half a second would be little but repetition.
_LEAST_FURTHER_CROP = 50


def _worthwhile(crops: list[list[tuple[int, int]]]) -> tuple[Crop, ...]:
    kept = [
        tuple(crop)
        for number, crop in enumerate(crops)
        if not number or sum(last - first for first, last in crop) >= _LEAST_FURTHER_CROP
    ]
    return tuple(kept)


_NEAREST = segmentation_frame_of_fbank()
