"""What a stream keeps of its speakers, on made-up windows: links, looks, exemplars and heirs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.conclusion import speaker_model
from fluidaudio_cli.diarization.evidence import LocalVoice, Presence, WindowEvidence
from fluidaudio_cli.diarization.frames import SAMPLE_RATE, WINDOW_FRAMES
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.links import LinkCollector, Links
from fluidaudio_cli.diarization.speakers.mixture import Groups
from fluidaudio_cli.diarization.speakers.online import (
    CachedSpeaker,
    Exemplar,
    OnlineSpeakers,
    _added,
)

BALANCED = load_mode("balanced")
EVERY = 10
ADA, BOB = np.eye(192, dtype=np.float32)[:2]
NOTHING = np.zeros(192, np.float32)


def online(step_seconds: float = 0.5, bounds: SpeakerBounds | None = None) -> OnlineSpeakers:
    step = round(step_seconds * SAMPLE_RATE)
    model = speaker_model(BALANCED)
    crops = BALANCED.crops.per_speaker
    calibration = BALANCED.calibration
    return OnlineSpeakers(calibration, model, step, EVERY, crops, bounds or SpeakerBounds())


def seen(number: int, presence: Presence, *vectors: npt.NDArray[np.float32]) -> WindowEvidence:
    """A window of voices that sound like ``vectors``, each clean for as long as it is present."""
    clean = np.count_nonzero(presence, axis=0) * 270 / SAMPLE_RATE
    voices = [LocalVoice(slot, float(clean[slot]), each) for slot, each in enumerate(vectors)]
    return WindowEvidence.of(number, tuple(voices), presence)


def speaking(*columns: tuple[int, int]) -> Presence:
    """(frames, n): each voice from one frame up to another."""
    presence = np.zeros((WINDOW_FRAMES, len(columns)), np.uint8)
    for slot, (first, last) in enumerate(columns):
        presence[first:last, slot] = 255
    return presence


def test_last_windows_are_linked_as_a_files_are() -> None:
    random = np.random.default_rng(6)
    stream, collector = online(2.5), LinkCollector(round(2.5 * SAMPLE_RATE))
    for number in range(21, 27):
        voices = 1 + number % 3
        presence = random.integers(0, 256, (WINDOW_FRAMES, voices)).astype(np.uint8)
        stream.label(seen(number, presence, *np.eye(192, dtype=np.float32)[:voices]))
        if number > 22:  # those that the last one overlaps
            collector.add(number, presence, list(range(voices)))
    looks = list(stream.recent)
    found = stream._links(looks, [look.labels.size for look in looks])
    expected = collector.links()

    def by_pair(links: Links) -> npt.NDArray[np.float64]:
        rows = np.column_stack([links.pairs, links.together, links.apart, links.adjoining])
        return rows[np.lexsort((rows[:, 1], rows[:, 0]))]

    assert len(found.pairs) == 29
    assert by_pair(found) == pytest.approx(by_pair(expected), abs=1e-4)
    assert found.active_seconds == pytest.approx(expected.active_seconds)
    assert (found.windows == expected.windows - 23).all()
    assert found.purity == pytest.approx(expected.purity)
    assert found.at_once == pytest.approx(expected.at_once)


def test_the_cache_keeps_what_windows_heard_for_good() -> None:
    stream = online()
    half = speaking((0, 400), (300, WINDOW_FRAMES))  # both speak for a while
    for number in range(21, 60):
        stream.label(seen(number, half, ADA, BOB))
    assert len(stream.decided) == 39 - 20
    calibration, first = BALANCED.calibration, stream.decided[0]
    heard = np.minimum(first.clean, 2.0 * BALANCED.crops.per_speaker)
    reliable = calibration.reliability_of(heard, first.purity)
    assert sorted(first.labels.tolist()) == [0, 1]
    for row, (label, vector) in enumerate(zip(first.labels.tolist(), (ADA, BOB), strict=True)):
        speaker = stream.speakers[label]
        assert speaker.spoken == pytest.approx(19 / 20)
        assert speaker.alone == pytest.approx(19 * first.clean[row] / 20)
        # One for every five seconds of the 9.5 s from which windows began.
        assert [each.time for each in speaker.exemplars] == [20.5, 25.5]
        for each in speaker.exemplars:
            assert np.array_equal(each.vector, vector)
            assert each.seconds == pytest.approx(heard[row])
            assert each.reliable == pytest.approx(reliable[row])


def test_speakers_sound_as_their_exemplars_do_by_how_much_these_say() -> None:
    stream = online()
    stream.speakers += [CachedSpeaker(), CachedSpeaker(alone=7.0)]
    for vector, reliable, time in ((ADA, 0.5, 10.0), (BOB, 0.8, 20.0)):
        stream.speakers[1].hear(Exemplar(vector, 4.0, reliable, time))
    prior = stream._prior([1], 192)
    weights = np.sqrt(0.5) / 0.5, np.sqrt(0.8) / 0.2
    assert prior.totals == pytest.approx(np.stack([weights[0] * ADA + weights[1] * BOB]))
    assert prior.precisions == pytest.approx([0.5 / 0.5 + 0.8 / 0.2])
    assert prior.seconds == pytest.approx([7.0])
    # The last windows' voices come on top, and what is known of nobody else is nothing.
    nothing = np.zeros((2, 2))
    last = Groups(
        np.stack([ADA, BOB]), np.array([1.0, 2.0]), np.array([3.0, 4.0]), nothing, nothing
    )
    added = _added(prior, last)
    assert added.totals == pytest.approx(np.stack([prior.totals[0] + ADA, BOB]))
    assert added.precisions == pytest.approx([6.0, 2.0])
    assert added.seconds == pytest.approx([10.0, 4.0])


@pytest.mark.parametrize("heir", [1, None])
def test_what_a_withdrawn_speaker_said_is_its_heirs(heir: int | None) -> None:
    stream = online(bounds=SpeakerBounds(at_most=2))
    both = speaking((0, 290), (300, WINDOW_FRAMES))
    for number in range(21, 45):
        stream.label(seen(number, both, ADA, BOB))
    ada, bob = stream.speakers
    spoken, alone = ada.spoken + bob.spoken, ada.alone + bob.alone
    stream.withdraw(0, heir)
    assert (ada.withdrawn, ada.exemplars) == (True, [])
    if heir is not None:
        assert (bob.spoken, bob.alone) == pytest.approx((spoken, alone))
    for look in (*stream.decided, *stream.recent):
        assert look.labels.tolist() == [-1 if heir is None else heir, 1]
    # Who is nobody is not one of the two people: a new voice is a new one.
    stream.label(seen(45, speaking((0, 290), (300, WINDOW_FRAMES)), np.roll(ADA, 5), BOB))
    assert 0 not in stream.recent[-1].labels
