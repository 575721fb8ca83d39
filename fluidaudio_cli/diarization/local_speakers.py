"""The speakers of one window, and which frames of each are worth embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.frames import (
    CROP_FRAMES,
    FBANK_HOP_SAMPLES,
    SAMPLE_RATE,
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
    """

    per_speaker: int


MIN_CLEAN_SECONDS = 0.2
"""A speaker that is alone for less than this is embedded from where others speak too."""


@dataclass(frozen=True)
class LocalSpeaker:
    """One voice within one window.

    ``slot`` is its column in the window's activity; ``clean_seconds`` how long it speaks alone;
    ``crops`` what to embed, empty when there is too little. ``mask`` (589,): the segmentation
    frames that crops are taken from, all False when there is too little.
    """

    slot: int
    clean_seconds: float
    crops: tuple[Crop, ...]
    mask: NDArray[np.bool_]


def find_local_speakers(
    activity: LocalActivity, window: int, valid_frames: int, rules: CropRules
) -> list[LocalSpeaker]:
    """The speakers active in ``window``, each with its crops.

    ``valid_frames``: how many of the window's 1000 filter-bank frames hold audio (the end of a
    recording has fewer).
    """
    present = np.flatnonzero(activity.active(window).any(axis=0))
    if not present.size:
        return []
    valid = _NEAREST[:valid_frames]
    clean, active = activity.alone(window), activity.active(window)
    speakers = []
    for slot in present.tolist():
        mask, crops = clean[:, slot], rules.per_speaker
        seconds = _seconds(mask[valid])
        if seconds < MIN_CLEAN_SECONDS:
            # Never alone: what is heard with others says a little, and more than nothing.
            mask, crops = active[:, slot], 1
            if _seconds(mask[valid]) < MIN_CLEAN_SECONDS:
                mask, crops = np.zeros_like(mask), 0
        # A copy, because the whole window's would stay in memory with it.
        found = _crops(mask[valid], crops) if crops else ()
        speakers.append(LocalSpeaker(slot, seconds, found, mask.copy()))
    return speakers


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
