"""Which frames of a local speaker are embedded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidaudio_cli.diarization.frames import (
    CROP_FRAMES,
    FBANK_WINDOW_FRAMES,
    WINDOW_FRAMES,
    segmentation_frame_of_fbank,
)
from fluidaudio_cli.diarization.local_speakers import (
    SEAM_FRAMES,
    Crop,
    CropRules,
    find_local_speakers,
)
from fluidaudio_cli.diarization.powerset import LocalActivity
from fluidaudio_cli.masks import runs

NEAREST = segmentation_frame_of_fbank()
ONE = CropRules(per_speaker=1)
MANY = CropRules(per_speaker=4)
APART = CropRules(per_speaker=1, utterances=True)


def activity(stretches: Sequence[tuple[int, int, int]]) -> LocalActivity:
    """One window in which class ``c`` lasts from frame ``a`` to before frame ``b``."""
    classes = np.zeros((1, WINDOW_FRAMES), np.uint8)
    for first, last, number in stretches:
        classes[0, first:last] = number
    return LocalActivity(classes, np.zeros((1, WINDOW_FRAMES, 3), np.uint8))


def window_mask(stretches: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.bool_]:
    """Filter-bank frames in which the first voice is alone."""
    return np.asarray(activity(stretches).alone(0)[NEAREST, 0])


def frames_of(crop: Crop) -> list[int]:
    return [frame for first, last in crop for frame in range(first, last)]


def filled(crop: Crop) -> int:
    return len(frames_of(crop)) + SEAM_FRAMES * (len(crop) - 1)


def test_runs() -> None:
    mask = np.array([1, 1, 0, 1, 0, 0, 1], bool)
    assert runs(mask).tolist() == [[0, 2], [3, 4], [6, 7]]
    assert runs(np.zeros(5, bool)).tolist() == []
    assert runs(np.ones(3, bool)).tolist() == [[0, 3]]


def test_nobody() -> None:
    assert find_local_speakers(activity([]), 0, FBANK_WINDOW_FRAMES, ONE) == []


def test_one_long_run_is_cut_around_its_centre() -> None:
    (speaker,) = find_local_speakers(activity([(100, 500, 2)]), 0, FBANK_WINDOW_FRAMES, ONE)
    clean = np.flatnonzero((NEAREST >= 100) & (NEAREST < 500))
    assert speaker.slot == 1
    assert speaker.clean_seconds == pytest.approx(0.01 * len(clean))
    ((first, last),) = speaker.crops[0]
    assert last - first == CROP_FRAMES
    centre = (clean[0] + clean[-1] + 1) / 2
    assert abs((first + last) / 2 - centre) <= 0.5


def test_a_run_of_more_than_all_crops_fills_them_from_around_its_centre() -> None:
    (speaker,) = find_local_speakers(activity([(0, 589, 1)]), 0, FBANK_WINDOW_FRAMES, MANY)
    before = (FBANK_WINDOW_FRAMES - 4 * CROP_FRAMES) // 2
    starts = range(before, before + 4 * CROP_FRAMES, CROP_FRAMES)
    assert speaker.crops == tuple(((start, start + CROP_FRAMES),) for start in starts)


def test_longest_run_comes_first_and_shorter_ones_fill_up() -> None:
    found = find_local_speakers(activity([(50, 80, 1), (200, 270, 1)]), 0, 1000, ONE)
    (crop,) = found[0].crops
    assert len(crop) == 2
    lengths = [last - first for first, last in crop]
    assert lengths[0] > lengths[1]
    assert crop[0][0] > crop[1][0]  # the longer run is the later one
    assert filled(crop) <= CROP_FRAMES


def test_seams_take_room_from_the_second_run_of_a_crop_on() -> None:
    short = [(begin, begin + 18, 1) for begin in range(10, 560, 80)]
    clean = runs(window_mask(short))
    lengths = (clean[:, 1] - clean[:, 0]).tolist()
    assert set(lengths) <= {30, 31}
    assert len(lengths) == 7
    (speaker,) = find_local_speakers(activity(short), 0, 1000, ONE)
    (crop,) = speaker.crops
    # Six runs and five seams leave too little for a seventh.
    assert 180 + 10 <= filled(crop) == sum(last - first for first, last in crop) + 5 * 2 <= 200
    (speaker,) = find_local_speakers(activity(short), 0, 1000, MANY)
    assert speaker.crops == (crop,)  # what is left is too short for a crop of its own
    # A run that fills what is left, seam taken off, and goes on in a crop without one.
    (speaker,) = find_local_speakers(activity([(0, 90, 1), (200, 270, 1)]), 0, 1000, MANY)
    (first, second), (rest,) = speaker.crops
    assert filled(speaker.crops[0]) == CROP_FRAMES
    assert second[1] == rest[0]
    assert (first[1] - first[0]) + (second[1] - second[0]) == CROP_FRAMES - 2


def test_overlapped_frames_are_not_embedded() -> None:
    # Speaker 1 alone, then with 2, then 2 alone.
    found = find_local_speakers(
        activity([(0, 200, 1), (200, 400, 4), (400, 589, 2)]), 0, 1000, MANY
    )
    assert [speaker.slot for speaker in found] == [0, 1]
    for speaker, (low, high) in zip(found, ((0, 200), (400, 589)), strict=True):
        assert speaker.crops
        for crop in speaker.crops:
            seen = NEAREST[frames_of(crop)]
            assert low <= seen.min()
            assert seen.max() < high


def test_too_little_clean_speech_is_found_but_not_embedded() -> None:
    # 10 segmentation frames are about 0.17 s.
    (speaker,) = find_local_speakers(activity([(100, 110, 3)]), 0, 1000, ONE)
    assert speaker.slot == 2
    assert 0.15 < speaker.clean_seconds < 0.2
    assert speaker.crops == ()


def test_speaker_who_is_never_alone_is_heard_with_the_others() -> None:
    found = find_local_speakers(activity([(0, 100, 5)]), 0, 1000, ONE)
    both = np.flatnonzero(NEAREST < 100)
    assert [(speaker.slot, speaker.clean_seconds, speaker.crops) for speaker in found] == [
        (0, 0.0, (((0, len(both)),),)),
        (2, 0.0, (((0, len(both)),),)),
    ]
    # A tenth of a second says nothing.
    for speaker in find_local_speakers(activity([(0, 6, 5)]), 0, 1000, ONE):
        assert speaker.crops == ()


def test_frames_beyond_the_recording_are_not_used() -> None:
    (speaker,) = find_local_speakers(activity([(0, 589, 1)]), 0, 120, MANY)
    assert speaker.clean_seconds == pytest.approx(1.2)
    assert speaker.crops == (((0, 120),),)
    (speaker,) = find_local_speakers(activity([(0, 589, 1)]), 0, 0, MANY)
    assert speaker.crops == ()


def test_utterances_between_pauses_are_heard_apart() -> None:
    # 1.2 s, a pause of 0.5 s, 2.5 s with a gap between words, half a second, 1.7 s of another.
    said = [(60, 130, 1), (160, 230, 1), (240, 320, 1), (400, 430, 1), (450, 550, 2)]
    longer, shorter, other = find_local_speakers(activity(said), 0, 1000, APART)
    assert [each.slot for each in (longer, shorter, other)] == [0, 0, 1]
    # Each has its side of the pause, and what is too short belongs to its neighbour.
    assert (longer.span, shorter.span) == ((145, 589), (0, 145))
    assert other.span == (0, 589)
    assert longer.clean_seconds == pytest.approx(180 * 0.016875, abs=0.02)
    assert shorter.clean_seconds == pytest.approx(70 * 0.016875, abs=0.02)
    for each in (longer, shorter):
        seen = NEAREST[[frame for crop in each.crops for frame in frames_of(crop)]]
        assert each.span[0] <= seen.min() <= seen.max() < each.span[1]
        assert np.flatnonzero(each.mask).tolist() == [
            frame
            for first, last, number in said
            for frame in range(first, last)
            if number == 1 and each.span[0] <= frame < each.span[1]
        ]
    (whole, _) = find_local_speakers(activity(said), 0, 1000, ONE)
    assert whole.clean_seconds == pytest.approx(longer.clean_seconds + shorter.clean_seconds)


def test_one_utterance_is_the_whole_local_speaker() -> None:
    alone = [(60, 90, 1), (160, 310, 1), (400, 430, 1)]
    never_alone = [(60, 130, 4), (200, 270, 4)]
    for said in (alone, never_alone):
        apart, whole = (
            find_local_speakers(activity(said), 0, 1000, rules) for rules in (APART, ONE)
        )
        for one, other in zip(apart, whole, strict=True):
            assert (one.slot, one.clean_seconds, one.crops, one.span) == (
                (other.slot, other.clean_seconds, other.crops, (0, 589))
            )


Mask = npt.NDArray[np.bool_]


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 588), st.integers(1, 300)), max_size=8),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.booleans(),
)
def test_crops_hold_clean_frames_once_and_fit(
    stretches: list[tuple[int, int]], limit: int, valid: int, apart: bool
) -> None:
    window = activity([(first, first + length, 1) for first, length in stretches])
    rules = CropRules(per_speaker=limit, utterances=apart)
    found = find_local_speakers(window, 0, valid, rules)
    for slot in {speaker.slot for speaker in found}:
        spans = sorted(speaker.span for speaker in found if speaker.slot == slot)
        assert [spans[0][0], *(last for _, last in spans)] == [*(a for a, _ in spans), 589]
    for speaker in found:
        clean: Mask = np.zeros(1000, bool)
        clean[:valid] = window.alone(0)[NEAREST[:valid], speaker.slot]
        clean[:valid] &= (NEAREST[:valid] >= speaker.span[0]) & (NEAREST[:valid] < speaker.span[1])
        used = [frame for crop in speaker.crops for frame in frames_of(crop)]
        assert len(used) == len(set(used))
        assert clean[used].all()
        assert len(speaker.crops) <= limit
        assert all(0 < filled(crop) <= CROP_FRAMES for crop in speaker.crops)
        assert bool(speaker.crops) == (clean.sum() >= 20)
