"""Speakers of several recordings: one label each, in whatever order they come."""

from __future__ import annotations

import numpy as np
import pytest

from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.voices.linking import LinkedSpeaker, link

CALIBRATION = load_mode("balanced").calibration
SIZE = 192
COSINE = 0.6
"""Of one person's voices in two recordings, as the calibration has it."""


def heard(persons: int, recordings: int, seed: int = 0) -> list[tuple[int, LinkedSpeaker]]:
    """Each recording with three of the persons; their numbers and their voices."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(persons, SIZE))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    found = []
    for recording in range(recordings):
        for place, person in enumerate(rng.permutation(persons)[:3].tolist()):
            noise = rng.normal(size=SIZE)
            noise /= np.linalg.norm(noise)
            vector = np.sqrt(COSINE) * own[person] + np.sqrt(1.0 - COSINE) * noise
            vector /= np.linalg.norm(vector)
            label = f"SPEAKER_{place:02d}"
            uri = f"r{recording:03d}"
            found.append((person, LinkedSpeaker(uri, label, vector.astype(np.float32), 20.0)))
    return found


def test_persons_are_found_in_any_order() -> None:
    known = heard(persons=12, recordings=30)
    speakers = [speaker for _, speaker in known]
    persons = link(speakers, CALIBRATION)
    by_name: dict[str, set[int]] = {}
    for number, speaker in known:
        by_name.setdefault(persons[speaker.uri, speaker.label].name, set()).add(number)
    assert sorted(by_name) == [f"PERSON_{number:02d}" for number in range(12)]
    assert all(len(numbers) == 1 for numbers in by_name.values())
    assert persons["r000", "SPEAKER_00"].name == "PERSON_00"
    assert all(person.probability > 0.9 for person in persons.values())
    mixed = [speakers[i] for i in np.random.default_rng(1).permutation(len(speakers))]
    assert link(mixed, CALIBRATION) == persons


def test_who_is_in_one_recording_only_is_called_nothing() -> None:
    (_, first), (_, second), (_, third) = heard(persons=3, recordings=1)
    assert link([first, second, third], CALIBRATION) == {}
    assert link([], CALIBRATION) == {}


def test_two_of_one_recording_are_never_one_person() -> None:
    (_, first), *_ = heard(persons=3, recordings=1)
    twin = first._replace(label="SPEAKER_09")
    elsewhere = first._replace(uri="r9")
    persons = link([first, twin, elsewhere], CALIBRATION)
    linked = {key for key, person in persons.items() if person.name == "PERSON_00"}
    assert ("r9", "SPEAKER_00") in linked
    assert len(linked) == 2


def test_names_go_to_who_is_linked_and_keep_two_named_apart() -> None:
    known = heard(persons=4, recordings=12)
    speakers = [
        speaker._replace(name={0: "Ada", 1: "Bob"}.get(number, ""))
        if speaker.uri in ("r000", "r001", "r002", "r003")
        else speaker
        for number, speaker in known
    ]
    persons = link(speakers, CALIBRATION)
    for number, speaker in known:
        name = persons[speaker.uri, speaker.label].name
        assert (name == "Ada", name == "Bob") == (number == 0, number == 1)


def test_nobody_is_linked_by_a_voice_that_was_not_heard() -> None:
    silent = [LinkedSpeaker(f"r{n}", "SPEAKER_00", np.zeros(SIZE, np.float32), 0.0) for n in "ab"]
    assert link(silent, CALIBRATION) == {}


@pytest.mark.parametrize("seed", range(3))
def test_hardly_any_pair_is_wrong(seed: int) -> None:
    known = heard(persons=40, recordings=40, seed=seed)
    persons = link([speaker for _, speaker in known], CALIBRATION)
    names = np.array(
        [
            persons[s.uri, s.label].name if (s.uri, s.label) in persons else f"{s.uri} {s.label}"
            for _, s in known
        ]
    )
    numbers = np.array([number for number, _ in known])
    same = numbers[:, None] == numbers[None]
    assert ((names[:, None] == names[None]) == same).mean() > 0.999
