"""Speakers of several recordings: one label each, in whatever order they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from fluidaudio_cli.audio.source import AudioInfo
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.result import Diarization, Speaker, Timings
from fluidaudio_cli.diarization.speakers.known import Directions, Identity
from fluidaudio_cli.turns import Turn
from fluidaudio_cli.voices.linking import LinkedSpeaker, Person, link, relabelled

CALIBRATION = load_mode("balanced").calibration
SIZE = 192
COSINE = 0.6
"""Of one person's voices in two recordings, as the calibration has it."""


def heard(
    persons: int, recordings: int, seed: int = 0, cosine: float = COSINE
) -> list[tuple[int, LinkedSpeaker]]:
    """Each recording with three of the persons; their numbers and their voices."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(persons, SIZE))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    found = []
    for recording in range(recordings):
        for place, person in enumerate(rng.permutation(persons)[:3].tolist()):
            noise = rng.normal(size=SIZE)
            noise /= np.linalg.norm(noise)
            vector = np.sqrt(cosine) * own[person] + np.sqrt(1.0 - cosine) * noise
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


def test_a_probability_is_of_a_voice_and_the_others_of_its_person() -> None:
    """With pairs of one person as rare as they are among all pairs of two recordings."""
    speakers = sorted(each for _, each in heard(persons=8, recordings=9, cosine=0.42))
    persons = link(speakers, CALIBRATION)
    voices = Directions.of(
        np.stack([each.vector for each in speakers]), np.full(len(speakers), 20.0), CALIBRATION
    )
    uris = np.array([each.uri for each in speakers])
    ratios = voices.compared(voices, CALIBRATION).log_odds[uris[:, None] != uris]
    share = 0.5
    for _ in range(500):
        share = float(expit(ratios + logit(share)).mean())
    names = [persons[s.uri, s.label].name if s[:2] in persons else "" for s in speakers]
    checked = []
    for row, name in enumerate(names):
        rest = [other for other, its in enumerate(names) if its == name and other != row]
        if name and rest:
            others = Directions.summed(
                voices.totals[rest].sum(axis=0)[None], voices.precisions[rest].sum()[None]
            )
            own = Directions.summed(voices.totals[row][None], voices.precisions[row][None])
            odds = own.compared(others, CALIBRATION).log_odds[0, 0] + logit(share)
            found = persons[speakers[row].uri, speakers[row].label].probability
            assert found == pytest.approx(float(expit(odds)), abs=1e-3)
            checked.append(found)
    assert min(checked) < 0.8
    assert len(checked) > 20


def test_a_result_is_told_of_persons() -> None:
    """Whoever is not linked keeps the label, whoever has a name its probability."""
    turns = tuple(Turn(float(n), n + 1.0, f"SPEAKER_{2 - n:02d}") for n in range(3))
    known = Identity("Ada", 0.97, (("Ada", 0.97),), 0.001)
    speakers = tuple(
        Speaker(f"SPEAKER_{n:02d}", 1.0, 1, np.zeros(SIZE, np.float32), identity=identity)
        for n, identity in enumerate((known, None, None))
    )
    result = Diarization(
        turns=turns, exclusive_turns=turns[:2], speakers=speakers, notes=(), speaker_counts={},
        audio=AudioInfo(Path("a.wav"), "a", "wav", "pcm_s16le", 16_000, 1, 3.0),
        duration_seconds=3.0, timings=Timings(1.0, 1.0, (), False, 1, 1, 0),
    )  # fmt: skip
    mine = {"SPEAKER_00": Person("Ada", 0.8), "SPEAKER_02": Person("PERSON_00", 0.9)}
    found = relabelled(result, mine)
    assert [turn.speaker for turn in found.turns] == ["PERSON_00", "SPEAKER_01", "Ada"]
    assert [turn.speaker for turn in found.exclusive_turns] == ["PERSON_00", "SPEAKER_01"]
    assert [each.label for each in found.speakers] == ["Ada", "SPEAKER_01", "PERSON_00"]
    assert [each.identity for each in found.speakers] == [
        known,
        None,
        Identity("PERSON_00", 0.9, (), 1.0),
    ]


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
