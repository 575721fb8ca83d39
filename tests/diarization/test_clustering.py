"""Local speakers to speakers: assignment, constraints, bounds, long recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from fluidaudio_cli.diarization.clustering import (
    ClusteringRules,
    SpeakerBounds,
    Voices,
    cluster,
    distinct_assignment,
)
from scipy.optimize import linear_sum_assignment

from fluidaudio_cli.errors import UsageError

RULES = ClusteringRules(
    threshold=0.6,
    small_seconds=0.0,
    small_threshold=0.6,
    reliable_seconds=1.0,
    reassign_passes=1,
    exact_limit=1500,
    part_threshold=0.3,
)
ANY = SpeakerBounds()


def voices(
    people: Sequence[Sequence[int]], seed: int = 0, noise: float = 0.3, seconds: float = 3.0
) -> Voices:
    """One window after the other, each with the voices of these people; 64 dimensions."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.normal(size=(64, 16)))[0].T
    windows, rows = [], []
    for number, window in enumerate(people):
        for person in window:
            windows.append(number)
            rows.append(centres[person] + noise * random.normal(size=64) / 8)
    vectors = np.array(rows).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Voices(np.array(windows, np.intp), vectors, np.full(len(rows), seconds))


def partition(labels: npt.NDArray[np.intp]) -> list[int]:
    """Labels renumbered by appearance."""
    order: dict[int, int] = {}
    return [order.setdefault(int(label), len(order)) for label in labels]


# --- distinct_assignment ---


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("columns", [1, 2, 3, 5, 9])
def test_distinct_assignment_is_the_best(rows: int, columns: int) -> None:
    random = np.random.default_rng(rows * 10 + columns)
    for _ in range(50):
        similarity = random.normal(size=(rows, columns))
        labels = distinct_assignment(similarity)
        taken = labels[labels >= 0]
        assert len(set(taken.tolist())) == len(taken) == min(rows, columns)
        best_rows, best_columns = linear_sum_assignment(similarity, maximize=True)
        found = similarity[np.flatnonzero(labels >= 0), taken].sum()
        assert found == pytest.approx(similarity[best_rows, best_columns].sum())


def test_row_that_gains_least_goes_without() -> None:
    assert distinct_assignment(np.array([[0.9], [0.2]])).tolist() == [0, -1]
    assert distinct_assignment(np.array([[0.2], [0.9]])).tolist() == [-1, 0]


# --- cluster ---


def test_people_are_told_apart() -> None:
    people = [[0], [1], [0, 1], [2], [1, 2], [0], [2]]
    found = cluster(voices(people), RULES, ANY)
    expected = [person for window in people for person in window]
    assert partition(found.labels) == partition(np.array(expected))
    assert found.centroids.shape == (3, 64)
    assert np.linalg.norm(found.centroids, axis=1) == pytest.approx([1.0, 1.0, 1.0])


def test_voices_of_one_window_are_never_one_speaker() -> None:
    """Two voices that sound the same in one window: two people."""
    people = [[0, 0], [0], [1], [0, 0], [1, 1, 1]]
    for bounds in (ANY, SpeakerBounds(exactly=3), SpeakerBounds(exactly=2)):
        found = cluster(voices(people, noise=0.8), RULES, bounds)
        labels = iter(found.labels.tolist())
        for window in people:
            own = [label for label in (next(labels) for _ in window) if label >= 0]
            assert len(own) == len(set(own))


def test_short_voices_are_assigned_not_clustered() -> None:
    sound = voices([[0], [1], [0], [1], [2]])
    seconds = np.array([3.0, 3.0, 3.0, 3.0, 0.5])
    found = cluster(replace(sound, clean_seconds=seconds), RULES, ANY)
    assert len(found.centroids) == 2
    assert set(found.labels.tolist()) == {0, 1}
    assert cluster(sound, RULES, ANY).centroids.shape[0] == 3


def test_voice_without_a_vector_takes_what_the_others_of_its_window_leave() -> None:
    sound = voices([[0], [1], [0, 1]])
    vectors = sound.vectors.copy()
    vectors[3] = 0.0
    found = cluster(
        replace(sound, vectors=vectors, clean_seconds=np.array([3.0, 3.0, 3.0, 0.0])), RULES, ANY
    )
    assert partition(found.labels) == [0, 1, 0, 1]


def test_recording_of_short_voices_has_one_speaker() -> None:
    nothing = Voices(
        np.array([0, 0, 1], np.intp), np.zeros((3, 64), np.float32), np.array([0.1, 0.0, 0.1])
    )
    found = cluster(nothing, RULES, ANY)
    assert found.labels.tolist() == [0, -1, 0]
    assert found.centroids.tolist() == [[0.0] * 64]


def test_nobody() -> None:
    nobody = Voices(np.zeros(0, np.intp), np.zeros((0, 64), np.float32), np.zeros(0))
    found = cluster(nobody, RULES, ANY)
    assert found.labels.shape == (0,)
    assert found.centroids.shape == (0, 64)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9])
def test_number_of_speakers_is_kept_exactly(count: int) -> None:
    people = [[number % 4, 4 + number % 2] for number in range(20)]
    found = cluster(voices(people, noise=1.0), RULES, SpeakerBounds(exactly=count))
    # Both voices of a window need a speaker, so that with one speaker half are left over.
    assert set(found.labels.tolist()) - {-1} == set(range(count))
    assert len(found.centroids) == count


def test_least_and_most() -> None:
    people = [[number % 4] for number in range(20)]
    sound = voices(people)
    assert len(cluster(sound, RULES, ANY).centroids) == 4
    assert len(cluster(sound, RULES, SpeakerBounds(at_least=6)).centroids) == 6
    assert len(cluster(sound, RULES, SpeakerBounds(at_most=2)).centroids) == 2
    assert len(cluster(sound, RULES, SpeakerBounds(at_least=2, at_most=5)).centroids) == 4
    assert len(cluster(sound, RULES, SpeakerBounds(exactly=40)).centroids) == 20


def test_speaker_of_little_speech_must_be_far_from_all_others() -> None:
    """Person 1 is heard for 3 s, at a cosine distance of about 0.8 from person 0."""
    sound = voices([[0]] * 6 + [[1]], noise=0.1)
    vectors = sound.vectors.copy()
    vectors[6] = 0.2 * vectors[0] + 0.98 * vectors[6]
    vectors[6] /= np.linalg.norm(vectors[6])
    sound = replace(sound, vectors=vectors)
    near = replace(RULES, small_seconds=5.0, small_threshold=0.9)
    assert len(cluster(sound, RULES, ANY).centroids) == 2
    assert len(cluster(sound, near, ANY).centroids) == 1
    assert len(cluster(sound, replace(near, small_threshold=0.7), ANY).centroids) == 2
    assert len(cluster(sound, replace(near, small_seconds=2.0), ANY).centroids) == 2
    # Asked for, the speaker stays.
    assert len(cluster(sound, near, SpeakerBounds(exactly=2)).centroids) == 2
    assert len(cluster(sound, near, SpeakerBounds(at_least=2)).centroids) == 2


def test_long_recordings_are_clustered_in_parts_alike() -> None:
    people = [[number % 5, 5 + number % 3] for number in range(150)]
    sound = voices(people, noise=0.6)
    exact = cluster(sound, RULES, ANY)
    parts = cluster(sound, replace(RULES, exact_limit=40), ANY)
    assert partition(parts.labels) == partition(exact.labels)
    assert len(exact.centroids) == 8


def test_parts_that_do_not_condense_still_end() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strangers = Voices(np.arange(300), vectors, np.full(300, 2.0))
    found = cluster(strangers, replace(RULES, exact_limit=20, part_threshold=0.01), ANY)
    assert found.labels.min() >= 0
    assert 1 <= len(found.centroids) <= 20


def test_clustering_is_deterministic_and_changes_nothing() -> None:
    people = [[a, b] for a, b in combinations(range(5), 2)]
    sound = voices(people, noise=1.0)
    before = sound.vectors.copy()
    first, second = cluster(sound, RULES, ANY), cluster(sound, RULES, ANY)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.centroids, second.centroids)
    assert np.array_equal(sound.vectors, before)


# --- SpeakerBounds ---


@pytest.mark.parametrize(
    ("bounds", "found", "available", "expected"),
    [
        (SpeakerBounds(), 5, 10, 5),
        (SpeakerBounds(exactly=3), 5, 10, 3),
        (SpeakerBounds(exactly=30), 5, 10, 10),
        (SpeakerBounds(at_least=7), 5, 10, 7),
        (SpeakerBounds(at_most=2), 5, 10, 2),
        (SpeakerBounds(at_least=2, at_most=6), 5, 10, 5),
        (SpeakerBounds(at_least=4, at_most=4), 1, 10, 4),
    ],
)
def test_bounds(bounds: SpeakerBounds, found: int, available: int, expected: int) -> None:
    assert bounds.limit(found, available) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exactly": 0}, "--num-speakers is 0: give a whole number of at least 1"),
        ({"at_least": -1}, "--min-speakers is -1: give a whole number of at least 1"),
        ({"at_most": 0}, "--max-speakers is 0: give a whole number of at least 1"),
        (
            {"exactly": 2, "at_most": 3},
            "--num-speakers excludes --min-speakers and --max-speakers: give one of them",
        ),
        (
            {"at_least": 4, "at_most": 3},
            "--min-speakers 4 is more than --max-speakers 3: swap them",
        ),
    ],
)
def test_bounds_that_cannot_be_met(values: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        SpeakerBounds(**values)
    assert str(caught.value) == message
