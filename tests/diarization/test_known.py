"""Known voices: who is recognised, at which rate strangers are, and what clustering gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import comb

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import pearson3

from fluidaudio_cli.diarization.modes import calibration_of, load_mode
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.known import (
    Anchors,
    Directions,
    KnownPeople,
    KnownVoice,
)
from fluidaudio_cli.diarization.speakers.links import Links
from fluidaudio_cli.diarization.speakers.mixture import Mixture, Voices
from fluidaudio_cli.diarization.speakers.offline import SpeakerLabels, find_speakers
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.models.card import load_card
from fluidaudio_cli.voices.linking import Linker

Floats = npt.NDArray[np.float64]
BUNDLED = load_mode("balanced").calibration
CALIBRATION = replace(BUNDLED, telephone=())
SIZE = 192
ANY = SpeakerBounds()


def unit(vectors: Floats) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


def people(count: int, seed: int = 0) -> Floats:
    """Orthogonal directions."""
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(SIZE, count)))[0].T)


def near(direction: Floats, cosine: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """(d,) at ``cosine`` from a direction."""
    other = np.random.default_rng(1000 + seed).normal(size=SIZE)
    other -= (other @ direction) * direction
    return unit(cosine * direction + np.sqrt(1.0 - cosine**2) * other / np.linalg.norm(other))


def known(name: str, *vectors: npt.NDArray[np.floating]) -> KnownVoice:
    return KnownVoice(name, np.stack(vectors).astype(np.float32), np.full(len(vectors), 20.0))


def test_rate_of_strangers_is_pearsons_distribution() -> None:
    direction = people(1)[0]
    ada = KnownPeople([known("Ada", direction)], CALIBRATION)
    for cosine in (0.0, 0.1, 0.25, 0.4):
        compared = ada.compared(near(direction, cosine)[None], np.array([8.0]))
        z = (cosine - CALIBRATION.stranger_cosine) / CALIBRATION.stranger_spread
        expected = pearson3.sf(z, CALIBRATION.stranger_skew)
        assert compared.false_accept[0, 0] == pytest.approx(expected, rel=1e-4)


def test_what_a_telephone_adds_to_voices_does_not_make_them_alike() -> None:
    telephone = unit(np.array(BUNDLED.telephone))
    assert np.linalg.norm(BUNDLED.telephone) == pytest.approx(1.0, abs=1e-3)
    one, other = near(people(1)[0], 0.0, 1), near(people(1)[0], 0.0, 2)
    one, other = (unit(each - (each @ telephone) * telephone) for each in (one, other))
    heard = np.stack([unit(each + 0.5 * telephone) for each in (one, other)])
    seconds = np.full(2, 10.0)
    plain, called = (
        KnownPeople([known("One", first)], BUNDLED).compared(pair, seconds)
        for first, pair in ((one, np.stack([one, other])), (heard[0], heard))
    )
    assert called.log_odds == pytest.approx(plain.log_odds, abs=0.01)
    # Of what is left of a voice less is sure: 1.25 is the square of its length before.
    expected = pearson3.sf(
        ((one @ other) / 1.25 - BUNDLED.stranger_cosine) / BUNDLED.stranger_spread,
        BUNDLED.stranger_skew,
    )
    assert called.false_accept[1, 0] == pytest.approx(expected, rel=0.01)
    blind = KnownPeople([known("One", heard[0])], CALIBRATION).compared(heard, seconds)
    assert blind.false_accept[1, 0] < 0.2 * called.false_accept[1, 0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_who_is_heard_too_shortly_to_be_known_is_said_to_be_nobody(count: int) -> None:
    short = np.full(count, 0.1)
    nothing = np.zeros((count, SIZE), np.float32)
    voices = Voices(np.zeros(count, np.intp), nothing, short, short)
    pairs, none = np.zeros((0, 2), np.intp), np.zeros(0)
    links = Links(pairs, none, none, none, short, voices.windows, short, np.ones(comb(count, 2)))
    ada = KnownPeople([known("Ada", people(1)[0])], CALIBRATION)
    found = find_speakers(voices, links, CALIBRATION, SpeakerBounds(), ada)
    assert [who.name for who in found.identities] == [""] * min(count, 1)
    for who in found.identities:
        assert who.probability == pytest.approx(0.5)
        assert who.false_accept == 1.0


def test_the_rate_asked_for_decides_and_holds_for_any_number_of_voices() -> None:
    direction, *others = people(31)
    like = near(direction, 0.33)[None]  # one stranger in 200 is as alike

    def name(count: int, rate: float) -> str:
        voices = [known("Ada", direction), *(known(f"o{n}", o) for n, o in enumerate(others))]
        return (
            KnownPeople(voices[:count], CALIBRATION, rate).recognised(like, np.array([9.0]))[0].name
        )

    assert [name(1, 0.01), name(1, 0.001)] == ["Ada", ""]
    assert [name(31, 0.01), name(31, 0.2)] == ["", "Ada"]


def test_no_two_speakers_have_one_name_and_the_unheard_have_none() -> None:
    ada, bob = people(2)
    voices = KnownPeople([known("Ada", ada), known("Bob", bob)], CALIBRATION)
    heard = np.stack([near(ada, 0.6), near(ada, 0.7, 1), near(bob, 0.6), np.zeros(SIZE)])
    found = voices.recognised(heard, np.array([20.0, 20.0, 20.0, 0.0]))
    assert [identity.name for identity in found] == ["", "Ada", "Bob", ""]
    assert found[1].probability > 0.99
    assert found[0].candidates[0][0] == "Ada"
    assert found[0].false_accept < 0.01  # as Ada, of whom it is too much alike for a stranger
    assert found[3].false_accept == 1.0


def test_who_is_compared_with_whom_makes_no_difference() -> None:
    ada = people(1)[0]
    seconds = np.array([3.0, 30.0])
    sides = [
        Directions.of(near(ada, 0.7, n)[None], seconds[n : n + 1], CALIBRATION) for n in range(2)
    ]
    there, back = sides[0].compared(sides[1], CALIBRATION), sides[1].compared(sides[0], CALIBRATION)
    assert 0.0 < float(there.log_odds[0, 0]) == pytest.approx(float(back.log_odds[0, 0]))
    assert there.false_accept == pytest.approx(back.false_accept)
    assert there.likeness == pytest.approx(back.likeness)


def test_several_recordings_say_more_than_one() -> None:
    direction = people(1)[0]
    heard = near(direction, 0.75)[None]
    odds = [
        KnownPeople(
            [known("Ada", *(near(direction, 0.75, 10 + n) for n in range(count)))], CALIBRATION
        )
        .compared(heard, np.array([20.0]))
        .log_odds[0, 0]
        for count in (1, 4)
    ]
    assert odds[1] > odds[0] > 0.0


def test_directions_are_worth_what_their_reliability_says() -> None:
    each = Directions(people(2), np.array([0.5, 0.8]), np.ones(2))
    weights = np.array([np.sqrt(0.5) / 0.5, np.sqrt(0.8) / 0.2])
    assert each.totals == pytest.approx(weights[:, None] * people(2))
    assert each.precisions == pytest.approx([1.0, 4.0])
    # One person's in two recordings: the mean of both, by these weights, and as long as it is.
    joined = Directions.joined([each])
    size = np.sqrt((weights**2).sum())
    assert joined.vectors == pytest.approx(each.totals.sum(axis=0, keepdims=True) / size)
    assert joined.length == pytest.approx([size / weights.sum()])
    assert joined.reliable == pytest.approx([0.7])  # of 5 / 6: they share rooms


def test_agreement_weighs_all_that_two_groups_can_be() -> None:
    ada, bob = people(2)
    heard = np.stack([near(ada, 0.5), near(ada, 0.45, 1), near(bob, 0.4, 2)])
    seconds = np.array([2.0, 1.5, 3.0])
    voices = KnownPeople([known("Ada", ada), known("Bob", bob)], CALIBRATION)
    likely = np.exp(np.minimum(voices.compared(heard, seconds).log_odds, 12.0))
    # Each is Ada or Bob, at half odds, or anybody.
    being = np.column_stack([likely, np.ones(3)])
    before = np.array([0.5, 0.5, 1.0])
    found = voices.agreement(heard, seconds)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        same = (before * being[one] * being[other]).sum()
        two = np.outer(before * being[one], before * being[other])
        different = two.sum() - two[0, 0] - two[1, 1]
        expected = np.clip(np.log(same / different), -10.0, 10.0)
        assert found[one, other] == pytest.approx(expected)
    assert found[0, 1] > 0.0 > found[0, 2]


def test_joined_recordings_accept_no_more_strangers() -> None:
    rng = np.random.default_rng(0)
    direction = people(1)[0]
    ada = known("Ada", *(near(direction, 0.75, 10 + n) for n in range(5)))
    voices = KnownPeople([ada], CALIBRATION)
    # Strangers whose cosines are spread as the calibration has it.
    spread = CALIBRATION.stranger_spread**-2
    strangers = unit(
        rng.normal(size=(20_000, round(spread))) @ np.eye(round(spread), SIZE)
        if spread < SIZE
        else rng.normal(size=(20_000, SIZE))
    )
    rates = voices.compared(strangers, np.full(len(strangers), 8.0)).false_accept[:, 0]
    assert (rates <= 0.05).mean() < 0.05


def test_wrong_rates_are_refused() -> None:
    for rate in (0.0, 1.0, -0.1):
        with pytest.raises(UsageError, match="a rate of false accepts"):
            KnownPeople([known("Ada", people(1)[0])], CALIBRATION, rate)


# --- clustering ---


def recorded(vectors: Sequence[npt.NDArray[np.float32]]) -> Voices:
    """One voice a window, of 3 s."""
    count = len(vectors)
    clean = np.full(count, 3.0)
    return Voices(np.arange(count), np.stack(vectors), clean, np.minimum(clean, 2.0))


def speakers_of(
    sound: Voices, voices: KnownPeople | None, bounds: SpeakerBounds = ANY
) -> SpeakerLabels:
    none = np.zeros(0)
    pairs, pure = np.zeros((0, 2), np.intp), np.ones(len(sound.windows))
    links = Links(pairs, none, none, none, sound.clean_seconds, sound.windows, pure, none)
    return find_speakers(sound, links, CALIBRATION, bounds, voices)


def test_known_voices_separate_two_people_who_sound_alike() -> None:
    first, second, room = people(3)
    ada, bob = unit(first + 1.2 * room), unit(second + 1.2 * room)
    vectors = [near(v.astype(np.float64), 0.9, n) for n in range(8) for v in (ada, bob)]
    sound = recorded(vectors)
    assert speakers_of(sound, None).found == 1
    found = speakers_of(
        sound, KnownPeople([known("Ada", first), known("Bob", second)], CALIBRATION)
    )
    assert found.found == 2
    assert {identity.name for identity in found.identities} == {"Ada", "Bob"}
    ada_is = [identity.name for identity in found.identities].index("Ada")
    assert (found.labels[::2] == ada_is).all()
    assert (found.labels[1::2] != ada_is).all()


def test_a_known_voice_joins_what_one_person_was_taken_for_two() -> None:
    ada, room, other = people(3)
    near_by, far_away = unit(ada + 0.8 * room), unit(ada - 0.8 * room)
    vectors = [near(v.astype(np.float64), 0.9, n) for v in (near_by, far_away) for n in range(8)]
    sound = recorded(vectors)
    assert speakers_of(sound, None).found == 2
    voices = KnownPeople([known("Ada", ada), known("Bob", other)], CALIBRATION)
    found = speakers_of(sound, voices)
    assert [identity.name for identity in found.identities] == ["Ada"]


def test_known_voices_say_how_speakers_sound_also_once_there_are_to_be_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Anchors | None] = []
    settle = Mixture.settle

    def watched(self: Mixture, shares: Floats, passes: int, anchors: Anchors | None) -> Floats:
        given.append(anchors)
        return settle(self, shares, passes, anchors)

    monkeypatch.setattr(Mixture, "settle", watched)
    ada, bob, cid = people(3)
    sound = recorded([near(person, 0.9, n) for n in range(6) for person in (ada, bob, cid)])
    voices = KnownPeople([known("Ada", ada)], CALIBRATION)
    found = speakers_of(sound, voices, SpeakerBounds(at_most=2))
    assert [identity.name for identity in found.identities] == ["Ada", ""]
    # Of three speakers, twice, then of two: only how she sounds is known.
    sure = voices.known.precisions[0]
    for anchors, others in zip(given, (2, 2, 1), strict=True):
        assert anchors is not None
        assert anchors.precisions == pytest.approx([sure, *[0.0] * others], abs=0.01)


def test_voices_that_are_not_there_change_nothing() -> None:
    *present, away = people(5)
    vectors = [near(person, 0.85, n) for n in range(6) for person in present]
    sound = recorded(vectors)
    alone = speakers_of(sound, None)
    beside = speakers_of(sound, KnownPeople([known("Away", away)], CALIBRATION))
    assert np.array_equal(alone.labels, beside.labels)
    assert [identity.name for identity in beside.identities] == [""] * 4


def test_directions_of_nothing_are_zeros() -> None:
    found = Directions.of(np.zeros((2, SIZE), np.float32), np.zeros(2), CALIBRATION)
    assert not found.vectors.any()
    assert found.reliable.tolist() == [0.0, 0.0]


def test_a_calibration_that_knows_of_no_other_recordings_gives_no_names() -> None:
    within = BUNDLED.within_recordings()
    assert not {name for name in within.rounded(4) if name.startswith(("across_", "stranger_"))}
    # As a card states it, and read back.
    again = Calibration.of(within.rounded(4), "a card")
    voice = KnownVoice("Ada", np.eye(2, dtype=np.float32)[:1], np.array([9.0]))
    for calibration in (within, again):
        with pytest.raises(UsageError, match=r"strangers would be taken .* --voices DIR"):
            KnownPeople([voice], calibration)
        with pytest.raises(UsageError, match="strangers would be taken"):
            Linker(calibration)


def test_values_for_other_recordings_are_stated_together() -> None:
    values = BUNDLED.rounded(4)
    del values["stranger_skew"]
    with pytest.raises(UsageError, match=r"the calibration in a card lacks .*: stranger_skew"):
        Calibration.of(values, "a card")


def test_a_card_of_other_networks_without_a_calibration_knows_nobody() -> None:
    mine = replace(load_card(), calibration={})
    assert calibration_of(mine) == BUNDLED.within_recordings()
