"""The speakers of one window, and which frames of each are worth embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.frames import (
    FBANK_HOP_SAMPLES,
    SAMPLE_RATE,
    segmentation_frame_of_fbank,
)
from fluidaudio_cli.diarization.powerset import LocalActivity

CROP_FRAMES = 200
"""Filter-bank frames that the embedding network takes: 2 s."""

FBANK_HOP_SECONDS = FBANK_HOP_SAMPLES / SAMPLE_RATE


@dataclass(frozen=True)
class CropRules:
    """How local speakers are cut into crops.

    ``per_speaker``: crops of 2 s at most for each local speaker. ``min_clean_seconds``: with
    less speech than this alone, a speaker is not embedded. Both come from the mode file.
    """

    per_speaker: int
    min_clean_seconds: float


@dataclass(frozen=True)
class LocalSpeaker:
    """One voice within one window.

    ``slot`` is its column in the window's activity; ``clean_seconds`` how long it speaks alone;
    ``crops`` (each int array of 200 filter-bank frame numbers within the window) what to embed,
    empty when there is too little.
    """

    slot: int
    clean_seconds: float
    crops: tuple[NDArray[np.intp], ...]


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
    clean = activity.alone(window)[_NEAREST[:valid_frames]]
    speakers = []
    for slot in present.tolist():
        alone = clean[:, slot]
        seconds = float(np.count_nonzero(alone)) * FBANK_HOP_SECONDS
        enough = seconds >= rules.min_clean_seconds and seconds > 0
        crops = _crops(alone, rules.per_speaker) if enough else ()
        speakers.append(LocalSpeaker(slot, seconds, crops))
    return speakers


def runs(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(n, 2) first and one-past-last index of every run of true values."""
    padded = np.zeros(mask.size + 2, np.int8)
    padded[1:-1] = mask
    steps = np.diff(padded)
    return np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1)


def _crops(alone: NDArray[np.bool_], limit: int) -> tuple[NDArray[np.intp], ...]:
    """Crops from the longest uninterrupted runs, each cut around its centre.

    The longest run is the least likely to hold two voices that the window took for one. A crop
    that speech does not fill repeats it, which leaves its mean and statistics as they are.
    """
    frames = _longest_runs(alone, limit * CROP_FRAMES)
    crops = []
    for first in range(0, frames.size, CROP_FRAMES):
        part = frames[first : first + CROP_FRAMES]
        # A short remainder would be a crop of little but repetition.
        if first and part.size < CROP_FRAMES // 4:
            break
        crops.append(np.resize(part, CROP_FRAMES))
    return tuple(crops)


def _longest_runs(alone: NDArray[np.bool_], wanted: int) -> NDArray[np.intp]:
    """At most ``wanted`` frame numbers, taken from the longest runs first."""
    found = runs(alone)
    chosen: list[NDArray[np.intp]] = []
    for index in np.argsort(found[:, 0] - found[:, 1], kind="stable"):
        first, last = found[index]
        surplus = (last - first) - wanted
        if surplus > 0:
            first = first + surplus // 2
            last = first + wanted
        chosen.append(np.arange(first, last))
        wanted -= last - first
        if not wanted:
            break
    return np.concatenate(chosen)


_NEAREST = segmentation_frame_of_fbank()
