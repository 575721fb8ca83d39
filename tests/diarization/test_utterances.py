"""Utterances of a local speaker that sound like two people become two voices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.crop_embedder import PendingVoice
from fluidaudio_cli.diarization.local_speakers import LocalSpeaker
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.utterances import voices_of

CALIBRATION = load_mode("balanced").calibration
NOBODY = np.zeros(589, bool)
Vector = npt.NDArray[np.float32]

ANN, BOB, EVE = np.eye(4, dtype=np.float32)[:3]
NOT_HEARD = None


def utterance(slot: int, span: tuple[int, int], *heard: Vector | None) -> PendingVoice:
    """2 s of a slot, with a vector for each crop."""
    speaker = LocalSpeaker(slot, 2.0, (), NOBODY, span)
    vectors = [vector for vector in heard if vector is not None]
    return PendingVoice(speaker, vectors=vectors, frames=[200] * len(vectors))


def presence() -> npt.NDArray[np.uint8]:
    """Slot 0 speaks throughout, slot 2 in one frame of two; nobody has slot 1."""
    found = np.zeros((589, 3), np.uint8)
    found[:, 0] = 200
    found[::2, 2] = 100
    found[:, 1] = 7
    return found


def slots_of(
    *utterances: PendingVoice, crops: int = 1
) -> tuple[list[tuple[int, float, list[float]]], npt.NDArray[np.uint8]]:
    voices, found = voices_of(utterances, presence(), 4, crops, CALIBRATION)
    return [(slot, seconds, vector.tolist()) for slot, seconds, vector in voices], found


def test_two_people_become_two_voices_who_share_out_the_presence() -> None:
    voices, found = slots_of(
        utterance(0, (300, 589), ANN), utterance(0, (0, 300), BOB), utterance(2, (0, 589), EVE)
    )
    assert voices == [(0, 2.0, ANN.tolist()), (2, 2.0, EVE.tolist()), (3, 2.0, BOB.tolist())]
    assert found.shape == (589, 4)
    assert (found[:, 0] == np.where(np.arange(589) >= 300, 200, 0)).all()
    assert (found[:, 3] == np.where(np.arange(589) < 300, 200, 0)).all()
    # In all as much as before, that of slots without a voice included.
    assert (found.sum(axis=1) == presence().sum(axis=1)).all()


def test_utterances_of_one_person_stay_one_voice() -> None:
    alike = np.array([0.6, 0.8, 0.0, 0.0], np.float32)
    voices, found = slots_of(utterance(0, (300, 589), ANN), utterance(0, (0, 300), alike))
    # Its vector is that of the surest utterance, or of the first crops of all.
    assert voices == [(0, 4.0, ANN.tolist())]
    assert (found == presence()).all()
    ((_, _, vector),), _ = slots_of(
        utterance(0, (300, 589), ANN), utterance(0, (0, 300), alike), crops=2
    )
    assert vector == pytest.approx(((ANN + alike) / np.linalg.norm(ANN + alike)).tolist())


def test_who_speaks_again_is_joined_to_what_they_said_before() -> None:
    voices, found = slots_of(
        utterance(0, (200, 400), ANN), utterance(0, (0, 200), BOB), utterance(0, (400, 589), BOB)
    )
    assert [(slot, seconds) for slot, seconds, _ in voices] == [(0, 2.0), (3, 4.0)]
    assert (found[:, 3] > 0).tolist() == [not 200 <= frame < 400 for frame in range(589)]


def test_a_short_utterance_parts_only_from_what_is_less_like_it() -> None:
    # Likeness at even odds for utterances of 2 s.
    even = -(CALIBRATION.utterance_seconds * np.log(2.0) + CALIBRATION.utterance_offset)
    cosine = even / CALIBRATION.utterance_cosine - 0.01
    other = np.array([cosine, np.sqrt(1 - cosine**2), 0.0, 0.0], np.float32)
    for seconds, count in ((2.0, 2), (1.0, 1)):
        shorter = PendingVoice(
            LocalSpeaker(0, seconds, (), NOBODY, (0, 300)), vectors=[other], frames=[200]
        )
        voices, _ = slots_of(utterance(0, (300, 589), ANN), shorter)
        assert len(voices) == count


def test_what_is_not_heard_does_not_part() -> None:
    voices, found = slots_of(utterance(0, (300, 589), NOT_HEARD), utterance(0, (0, 300), NOT_HEARD))
    assert voices == [(0, 4.0, [0.0] * 4)]
    assert found.shape == (589, 3)


def test_a_window_gets_no_more_than_two_voices_more() -> None:
    voices, found = slots_of(
        *(
            utterance(0, (start, start + 100), person)
            for start, person in zip((0, 100, 200, 300), np.eye(4, dtype=np.float32), strict=True)
        )
    )
    assert [slot for slot, _, _ in voices] == [0, 3, 4]
    assert found.shape == (589, 5)
    assert sum(seconds for _, seconds, _ in voices) == 8.0
