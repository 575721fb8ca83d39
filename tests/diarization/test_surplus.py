"""Speakers who are nobody: what gives them away, and what becomes of them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.links import Links
from fluidaudio_cli.diarization.speakers.mixture import Groups, Voices
from fluidaudio_cli.diarization.speakers.offline import SpeakerLabels, find_speakers
from fluidaudio_cli.diarization.speakers.surplus import (
    Removal,
    features,
    removals_of,
    surplus_among,
)
from fluidaudio_cli.diarization.speakers.windows import Windows

Floats = npt.NDArray[np.float64]

CALIBRATION = load_mode("balanced").calibration
# Only what is alike to somebody is anybody else's, for the order of removals.
_NONE: dict[str, Any] = {name: 0.0 for name in asdict(CALIBRATION) if name.startswith("surplus_")}
BY_COSINE = replace(CALIBRATION, **_NONE | {"surplus_cosine": 10.0, "surplus_offset": -5.0})


def groups_of(directions: list[list[float]], seconds: list[float]) -> Groups:
    """Groups of ten voices' worth, whose means are 0.8 long."""
    unit = np.array(directions) / np.linalg.norm(directions, axis=1, keepdims=True)
    none = np.zeros((len(unit), len(unit)))
    return Groups(8.0 * unit, np.full(len(unit), 10.0), np.array(seconds), none, none)


def cosines(groups: Groups) -> Floats:
    odds = groups.directions @ groups.directions.T
    np.fill_diagonal(odds, -np.inf)
    return np.asarray(odds)


def nothing_known(groups: Groups) -> Floats:
    return np.zeros((len(groups), len(groups)))


def test_two_who_speak_at_once_are_a_blend_of_both() -> None:
    groups = groups_of([[1, 0, 0], [0, 1, 0], [0.8, 0.6, 0], [0, 0.1, 1]], [60, 50, 4, 9])
    present = np.array([60.0, 100.0, 16.0, 9.0])
    found = features(groups, present, cosines(groups).argmax(axis=1))
    assert found["surplus_cosine"] == pytest.approx([0.8, 0.6, 0.8, 0.1 / 1.01**0.5])
    # The third is a blend and nothing else, the fourth of none: it has a component of its own.
    assert found["surplus_blend"][2] == pytest.approx(0.2)
    assert found["surplus_blend"][3] == pytest.approx(0.0, abs=1e-9)
    # The first is in the plane of the second and third, but between neither: on the far side.
    assert found["surplus_blend"][0] == pytest.approx(0.0, abs=1e-9)
    assert found["surplus_alone"] == pytest.approx([1.0, 0.5, 0.25, 1.0])
    assert found["surplus_coherent"] == pytest.approx([0.8] * 4)
    assert found["surplus_expected"] == pytest.approx([10 / 11] * 4)
    assert found["surplus_people"] == pytest.approx([np.log(4)] * 4)
    assert found["surplus_rank"] == pytest.approx(np.log([1, 2, 4, 3]))


def test_who_is_more_alike_than_the_nearest_explains_without_a_blend() -> None:
    groups = groups_of([[1, 0], [0.2, 0.96**0.5], [0.9, 0.19**0.5]], [5, 60, 50])
    found = features(groups, np.full(3, 60.0), np.array([1, 0, 0]))
    assert found["surplus_cosine"][0] == pytest.approx(0.2)
    assert found["surplus_blend"][0] == pytest.approx(0.7)


def test_numbers_stay_those_of_the_groups_whoever_goes() -> None:
    """The first goes twice: into the second of two, and into the last."""
    groups = groups_of([[0.1, 0.9, 0], [1, 0, 0], [0, 1, 0], [0.7, 0.1, 0.6]], [5, 60, 50, 7])
    found = removals_of(groups, np.full(4, 60.0), cosines, nothing_known, BY_COSINE, beyond=3)
    assert [each.numbers.tolist() for each in found[:2]] == [[1, 0, 1, 2], [0, 1, 0, 1]]


def test_after_the_first_that_is_spared_all_count() -> None:
    """Two become one that a third is more alike to than to either."""
    third = [0.47, 0.47 * 0.52 / 0.7696**0.5, 0.0, 0.0]
    third[2] = (1.0 - third[0] ** 2 - third[1] ** 2) ** 0.5
    groups = groups_of(
        [[1, 0, 0, 0], [0.48, 0.7696**0.5, 0, 0], third, [0, 0, 0, 1]], [60, 50, 40, 30]
    )
    found = removals_of(groups, np.full(4, 60.0), cosines, nothing_known, BY_COSINE, beyond=2)
    assert len(found) == 2
    assert found[0].log_odds < 0.0 < found[1].log_odds


def test_the_likeliest_goes_first_and_joins_who_is_most_like_it() -> None:
    groups = groups_of([[1, 0, 0], [0.9, 0.4, 0], [0, 1, 0], [0, 0.2, 1]], [60, 5, 50, 40])
    found = removals_of(groups, np.full(4, 60.0), cosines, nothing_known, BY_COSINE, beyond=3)
    # Of two that are alike the first; with it the other is a mean of both.
    assert [each.numbers.tolist() for each in found] == [[0, 0, 1, 2], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert found[0].log_odds == pytest.approx(10 * 0.9 / 0.97**0.5 - 5)
    assert surplus_among(found) == 1
    some = removals_of(groups, np.full(4, 60.0), cosines, nothing_known, BY_COSINE, beyond=1)
    assert [each.log_odds for each in some] == [each.log_odds for each in found[:2]]


def test_whom_known_voices_tell_apart_is_somebody() -> None:
    groups = groups_of([[1, 0, 0], [0.9, 0.4, 0], [0, 0, 1]], [60, 5, 50])

    def known(groups: Groups) -> Floats:
        return np.full((len(groups), len(groups)), -8.0)

    removals = removals_of(groups, np.full(3, 60.0), cosines, known, BY_COSINE, beyond=3)
    assert surplus_among(removals) == 0


def test_only_those_before_the_first_that_is_likelier_somebody_are_surplus() -> None:
    numbers = np.zeros(1, np.intp)
    told = [Removal(odds, numbers) for odds in (2.0, 0.1, -0.1, 3.0)]
    assert surplus_among(told) == 2
    assert surplus_among(told[:2]) == 2
    assert surplus_among([]) == 0


# Which makes two groups one person less readily than it should.
UNREADY = replace(CALIBRATION, same_offset=CALIBRATION.same_offset - 4.0)


def meeting(chimeras: int = 4) -> tuple[Voices, Links]:
    """Three people in turns of 3 s, and voices that are two of them at once, hardly ever alone."""
    random = np.random.default_rng(0)
    centres = np.linalg.qr(random.normal(size=(64, 4)))[0].T
    both = 0.7 * (centres[0] + centres[1]) + 0.4 * centres[3]
    rows, alone = [], []
    for number in range(60):
        rows.append(centres[number % 3] + 0.6 * random.normal(size=64) / 8)
        alone.append(3.0)
    for _ in range(chimeras):
        rows.append(both + 0.8 * random.normal(size=64) / 8)
        alone.append(1.2)
    vectors = np.array(rows, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    windows = np.arange(len(rows), dtype=np.intp)
    clean = np.array(alone)
    sound = Voices(windows, vectors, clean, np.minimum(clean, 2.0))
    none, pairs = np.zeros(0), np.zeros((0, 2), np.intp)
    active = np.where(np.arange(len(rows)) < 60, 3.0, 6.0)
    at_once = np.zeros(len(Windows(windows).pairs()))
    links = Links(pairs, none, none, none, active, windows, np.full(len(rows), 0.8), at_once)
    return sound, links


def told(
    calibration: Calibration, bounds: SpeakerBounds | None = None, chimeras: int = 4
) -> SpeakerLabels:
    return find_speakers(*meeting(chimeras), calibration, bounds or SpeakerBounds())


def test_a_chimera_is_no_speaker() -> None:
    """Without what tells who is surplus it is one, as its voices sound like nobody else."""
    unaware = UNREADY.without_surplus()
    assert not unaware.tells_surplus
    assert UNREADY.tells_surplus
    found = told(UNREADY)
    assert (told(unaware).found, found.found) == (4, 3)
    assert set(found.labels[60:].tolist()) <= set(found.labels[:2].tolist())
    # That there are four is what was nearly found.
    assert found.counts[4] > told(UNREADY, chimeras=0).counts.get(4, 0.0)
    assert max(found.counts, key=found.counts.__getitem__) == 3


def test_told_that_there_are_more_the_surplus_stay() -> None:
    found = told(UNREADY, SpeakerBounds(exactly=4))
    assert found.found == 3
    assert len(found.centroids) == 4
    (chimera,) = set(found.labels[60:].tolist())
    assert np.count_nonzero(found.labels == chimera) == 4
