"""Who is who: calibration, links, counting, sharing out, and all of it on made-up voices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import multivariate_normal

from fluidaudio_cli.diarization.frames import GRID, SAMPLE_RATE, WINDOW_FRAMES
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.speakers import mixture, offline
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.calibration import Calibration, log_likelihood_ratio
from fluidaudio_cli.diarization.speakers.counting import (
    count_probabilities,
    crowding,
    least_harmful_split,
    merge_likely,
    merge_to,
)
from fluidaudio_cli.diarization.speakers.links import LinkCollector, Links, purity
from fluidaudio_cli.diarization.speakers.mixture import Groups, Labels, Mixture, Voices
from fluidaudio_cli.diarization.speakers.offline import SpeakerLabels, find_speakers
from fluidaudio_cli.diarization.speakers.windows import Windows
from fluidaudio_cli.errors import UsageError

CALIBRATION = load_mode("balanced").calibration
ANY = SpeakerBounds()


def voices(
    people: Sequence[Sequence[int]], seed: int = 0, noise: float = 0.6, seconds: float = 3.0
) -> Voices:
    """One window after the other, each with the voices of these people; 64 dimensions."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.normal(size=(64, 16)))[0].T
    windows, rows = [], []
    for number, window in enumerate(people):
        for person in window:
            windows.append(number)
            rows.append(centres[person] + noise * random.normal(size=64) / 8)
    vectors = np.array(rows).astype(np.float32).reshape(-1, 64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    clean = np.full(len(rows), seconds)
    return Voices(np.array(windows, np.intp), vectors, clean, np.minimum(clean, 2.0))


def unlinked(sound: Voices) -> Links:
    none = np.zeros(0)
    pairs = np.zeros((0, 2), np.intp)
    pure = np.full(len(sound.windows), 0.8)  # as in conversations, on average
    at_once = np.full(len(Windows(sound.windows).pairs()), 2.0)
    return Links(pairs, none, none, none, sound.clean_seconds, sound.windows, pure, at_once)


def found_in(
    sound: Voices, bounds: SpeakerBounds = ANY, calibration: Calibration = CALIBRATION
) -> SpeakerLabels:
    return find_speakers(sound, unlinked(sound), calibration, bounds)


def partition(labels: Sequence[int]) -> list[int]:
    """Labels renumbered by appearance."""
    order: dict[int, int] = {}
    return [order.setdefault(int(label), len(order)) for label in labels]


# --- calibration ---


def test_likelihood_ratio_is_that_of_the_two_covariance_model() -> None:
    """Ten dimensions of variance 1/10 each, computed by SciPy from the definition."""
    random = np.random.default_rng(1)
    unit = random.normal(size=(2, 10))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    reliable, unlike = np.array([0.7, 0.5]), 0.15
    one, other = unit / np.sqrt(reliable)[:, None]
    noise, other_noise = (1 - reliable) / reliable

    def density(product: float) -> float:
        covariance = np.array([[1 + noise, product], [product, 1 + other_noise]]) / 10
        pairs = np.stack([one, other], axis=1)
        return float(multivariate_normal(np.zeros(2), covariance).logpdf(pairs).sum())

    ratio = log_likelihood_ratio(unit[0] @ unit[1], reliable[0], reliable[1], unlike)
    assert float(ratio) == pytest.approx(density(1.0) - density(unlike))


def test_same_person_by_cosine_and_seconds() -> None:
    cosines = np.linspace(-0.2, 0.9, 12)
    long, short = (
        CALIBRATION.same_person(cosines, reliable, reliable)
        for reliable in CALIBRATION.reliability_of(np.array([2.0, 0.6]))
    )
    assert (np.diff(long) > 0).all()
    # Short voices say less, for and against.
    assert long[-1] > short[-1] > 0 > short[0] > long[0]
    # What the bundled networks' card says of two seconds each.
    (reliable,) = CALIBRATION.reliability_of(np.array([2.0]))
    found = CALIBRATION.same_person(np.array([0.7, 0.1]), reliable, reliable)
    assert found == pytest.approx([3.741, -6.723], abs=0.001)


def test_likelihoods_are_of_distances_from_where_a_speakers_voices_lie() -> None:
    random = np.random.default_rng(2)
    heard = random.normal(size=(3, 6))
    heard /= np.linalg.norm(heard, axis=1, keepdims=True)
    means, reliable, uncertain = 0.5 * random.normal(size=(2, 6)), [0.2, 0.5, 0.8], [0.1, 0.3]
    found = CALIBRATION.likelihoods(
        heard @ means.T, (means * means).sum(axis=1), np.array(reliable), np.array(uncertain)
    )
    for voice, worth in enumerate(reliable):
        for speaker, unsure in enumerate(uncertain):
            variance = 1 - worth + worth * unsure
            away = np.sum((heard[voice] - np.sqrt(worth) * means[speaker]) ** 2)
            expected = -CALIBRATION.sharpness / 2 * (np.log(variance) + away / variance)
            assert found[voice, speaker] == pytest.approx(expected)


def test_seconds_together_and_apart_are_log_odds_within_bounds() -> None:
    found = CALIBRATION.link_odds(np.array([0.1, 0.0, 1e6, 0.0]), np.array([0.0, 0.1, 0.0, 1e6]))
    most = CALIBRATION.most_link
    expected = [0.1 * CALIBRATION.together, -0.1 * CALIBRATION.apart, most, -most]
    assert found == pytest.approx(expected)


def test_what_was_hardly_heard_alone_says_less() -> None:
    seconds = np.array([2.0, 2.0])
    surely, hardly = CALIBRATION.reliability_of(seconds, np.array([1.0, 0.5]))
    assert hardly == pytest.approx(surely * 0.5**CALIBRATION.purity)
    assert hardly < 0.6 * surely


def test_a_calibration_names_what_is_wrong_with_it() -> None:
    values = asdict(CALIBRATION)
    assert Calibration.of(values, "card.yaml") == CALIBRATION
    told = {name for name in values if name.startswith(("utterance_", "surplus_"))}
    since = {"purity", "two_voices", "two_at_once"} | told
    old = {name: value for name, value in values.items() if name not in since}
    unknown: dict[str, Any] = dict.fromkeys(told, 0.0)
    before = replace(
        CALIBRATION,
        purity=0.0,
        two_voices=20.0,
        two_at_once=0.0,
        **unknown,
    )
    assert not before.tells_utterances
    assert not before.tells_surplus
    assert Calibration.of(old, "card.yaml") == before
    missing = {name: value for name, value in values.items() if name != "spread"}
    with pytest.raises(UsageError) as caught:
        Calibration.of(missing | {"sped": 1}, "card.yaml")
    assert str(caught.value).startswith(
        "the calibration in card.yaml lacks or does not know: sped, spread"
    )
    with pytest.raises(UsageError, match=r"card\.yaml has a value that is no number: .*'much'"):
        Calibration.of(values | {"spread": "much"}, "card.yaml")


# --- links ---


def test_links_of_overlapping_and_touching_windows() -> None:
    step = 5 * SAMPLE_RATE
    collector = LinkCollector(step)
    half = GRID.window_offset(step)
    presence = np.zeros((3, WINDOW_FRAMES, 3), np.uint8)
    presence[0, half:, 0] = 255  # speaks on through the second window's first half
    presence[1, : WINDOW_FRAMES - half, 2] = 255
    presence[1, : WINDOW_FRAMES - half, 1] = 51  # a fifth
    presence[2, :, 0] = 255
    for number, slots in enumerate([[0], [1, 2], [0]]):
        collector.add(number, presence[number], slots)
    links = collector.links()
    assert links.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 3], [2, 3]]
    shared = (WINDOW_FRAMES - half) * GRID.hop_seconds
    assert links.together[:2] == pytest.approx([shared / 5, shared], rel=1e-4)
    assert links.apart[:2] == pytest.approx([shared * 0.8, 0.0], abs=1e-3)
    # The third window begins where the first ends, and somebody speaks on.
    assert links.adjoining.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert links.together[3:] == pytest.approx([0.0, 0.0], abs=1e-3)
    assert links.active_seconds[0] == pytest.approx(shared, rel=1e-4)
    assert links.windows.tolist() == [0, 1, 1, 2]
    # The first of the second window speaks, if at all, only while another surely does.
    assert links.purity == pytest.approx([1.0, 0.0, 0.8, 1.0])
    # A fifth is more likely not there.
    assert links.at_once.tolist() == [0.0]


def test_voices_of_one_window_speak_at_once_for_as_long_as_both_surely_do() -> None:
    collector = LinkCollector(5 * SAMPLE_RATE)
    presence = np.zeros((WINDOW_FRAMES, 3), np.uint8)
    presence[:200, 0] = presence[100:300, 1] = presence[250:, 2] = 255
    for number in range(2):
        collector.add(number, presence, [0, 1, 2])
    links = collector.links()
    hop = GRID.hop_seconds
    assert links.at_once == pytest.approx([100 * hop, 0.0, 50 * hop] * 2)
    assert len(links.at_once) == len(Windows(links.windows).pairs())


def test_purity_is_how_surely_each_voice_is_alone_where_it_seems_so() -> None:
    active = np.zeros((4, 3), np.float32)
    active[:, 0] = 1.0, 0.5, 0.8, 0.0
    active[:, 1] = 0.0, 0.0, 0.5, 1.0
    # Of the first voice 1, 0.5 and 0.8 * 0.5, of the second 0.5 * 0.2 and 1; nobody is the third.
    expected = [(1 + 0.25 + 0.16) / 1.9, (0.01 + 1) / 1.1, 0.0]
    assert purity(active) == pytest.approx(expected)


def test_no_links_in_silence() -> None:
    links = LinkCollector(160_000).links()
    assert links.pairs.shape == (0, 2)
    assert links.active_seconds.shape == links.purity.shape == (0,)


# --- windows ---


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("speakers", [4, 5, 9])
def test_best_sharing_out_is_the_assignment_of_greatest_sum(count: int, speakers: int) -> None:
    random = np.random.default_rng(count * 10 + speakers)
    scores = random.normal(size=(30 * count, speakers))
    labels = Windows(np.repeat(np.arange(30), count)).best(scores)
    for window in range(30):
        rows = np.arange(window * count, (window + 1) * count)
        best = linear_sum_assignment(scores[rows], maximize=True)
        assert len(set(labels[rows].tolist())) == count
        assert scores[rows, labels[rows]].sum() == pytest.approx(scores[rows][best].sum())


def test_shares_are_the_probabilities_of_all_allowed_combinations() -> None:
    scores = np.log(np.array([[0.6, 0.3, 0.1], [0.5, 0.25, 0.25]]))
    shares = Windows(np.zeros(2, np.intp)).shares(scores)
    joint = np.outer([0.6, 0.3, 0.1], [0.5, 0.25, 0.25])
    np.fill_diagonal(joint, 0.0)
    joint /= joint.sum()
    assert shares == pytest.approx(np.stack([joint.sum(axis=1), joint.sum(axis=0)]))


def test_voices_of_a_window_are_one_speaker_where_scores_outweigh_the_odds_of_two() -> None:
    # Windows of one, two and three voices, mixed; pairs in order of their first voice.
    number = np.array([0, 0, 1, 2, 2, 2, 3, 3])
    odds = np.array([1.0, 9.0, 9.0, 1.0, 9.0])
    scores = np.zeros((8, 3))
    scores[:, 0] = 2.0
    windows = Windows(number, odds)
    assert windows.pairs().tolist() == [[0, 1], [3, 4], [3, 5], [4, 5], [6, 7]]
    labels = windows.best(scores)
    assert labels[:3].tolist() == [0, 0, 0]
    assert labels[3] != 0
    assert labels[4:6].tolist() == [0, 0]
    assert sorted(labels[6:].tolist()) == [0, 1]
    joint = np.exp(np.add.outer(scores[0], scores[1]) - np.eye(3))
    assert windows.shares(scores)[0] == pytest.approx(joint.sum(axis=1) / joint.sum())


def test_voices_that_speak_at_once_are_two_people() -> None:
    def labels(at_once: float) -> Labels:
        # Ada and Bob in two windows each, then two voices of one that both sound like Ada.
        sound = voices([[0], [0], [1], [1], [0, 0]])
        links = unlinked(sound)._replace(at_once=np.array([at_once]))
        return find_speakers(sound, links, CALIBRATION, ANY).labels

    assert labels(0.0).tolist() == [0, 0, 1, 1, 0, 0]
    assert labels(8.0)[:4].tolist() == [0, 0, 1, 1]
    assert len(set(labels(8.0)[-2:].tolist())) == 2


def test_with_fewer_speakers_than_voices_two_are_one() -> None:
    windows = Windows(np.zeros(2, np.intp))
    assert windows.best(np.array([[0.9], [0.2]])).tolist() == [0, 0]
    assert windows.shares(np.array([[0.9], [0.2]])).tolist() == [[1.0], [1.0]]


# --- mixture ---


def linked_sound(looks: float = 2.0) -> tuple[Voices, Links]:
    """30 windows of one to three voices, a moment in some; links at random, some windows on."""
    random = np.random.default_rng(4)
    people = [random.permutation(4)[: 1 + number % 3].tolist() for number in range(30)]
    sound = replace(voices(people), windows_per_moment=looks)
    window = sound.windows
    pairs = np.argwhere(np.isin(window[None] - window[:, None], (1, 2)))
    pairs = pairs[random.random(len(pairs)) < 0.7]
    together, apart = random.exponential(size=(2, len(pairs)))
    links = unlinked(sound)._replace(
        pairs=pairs, together=together, apart=apart, adjoining=np.zeros(len(pairs))
    )
    return sound, links


def test_links_score_alike_as_a_matrix_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, links = linked_sound()
    shares = np.random.default_rng(5).dirichlet(np.ones(3), len(sound.windows))
    whole = Mixture(sound, links, CALIBRATION)
    monkeypatch.setattr(mixture, "_FEW_VOICES", 0)
    parts = Mixture(sound, links, CALIBRATION)
    assert whole._link_matrix is not None
    assert parts._link_matrix is None
    assert parts.scores(shares) == pytest.approx(whole.scores(shares))


@pytest.mark.parametrize("looks", [1.0, 2.0, 4.0])
def test_groups_are_sums_over_moments_however_many_windows_see_each(looks: float) -> None:
    sound, links = linked_sound(looks)
    mixed = Mixture(sound, links, CALIBRATION)
    labels = np.arange(len(sound.windows)) % 3
    found, again = mixed.groups(mixture.shares_of(labels, 3)), mixed.groups_of(labels)
    for name, values in vars(found).items():
        assert getattr(again, name) == pytest.approx(values, rel=1e-6, abs=1e-6), name
    assert found.seconds == pytest.approx(3.0 * np.bincount(labels) / looks)
    worth = mixed.reliable / (1 - mixed.reliable) * looks**-CALIBRATION.repetition
    assert found.precisions == pytest.approx(np.bincount(labels, worth))
    split, linked = np.zeros((2, 3, 3))
    for one, other in mixed.windows.pairs():
        split[labels[one], labels[other]] += 1.0 / looks  # of 3 s together, no more counts
    odds = CALIBRATION.link_odds(links.together, links.apart)
    for (one, other), each in zip(links.pairs, odds, strict=True):
        linked[labels[one], labels[other]] += each / (looks * max(looks - 1.0, 1.0) ** 2)
    assert found.split == pytest.approx(split + split.T)
    assert found.linked == pytest.approx(linked + linked.T)
    for sign in (1.0, -1.0):
        far = replace(found, linked=np.full((3, 3), 100.0 * sign))
        assert (far.features(0.1)["same_linked"] == 5.0 * sign).all()


def test_who_never_speaks_alone_says_nothing_of_how_speakers_sound() -> None:
    sound = voices([[0, 1], [1], [0]])
    alone = np.array([3.0, 0.19, 0.2, 3.0])
    sound = replace(sound, clean_seconds=alone, heard_seconds=np.minimum(alone, 2.0))
    mixed = Mixture(sound, unlinked(sound)._replace(active_seconds=np.full(4, 5.0)), CALIBRATION)
    expected = CALIBRATION.reliability_of(np.array([2.0, 0.0, 0.2, 2.0]), 0.8)
    expected[1] = CALIBRATION.overlapped_reliability_of(np.array([5.0]))[0]
    assert mixed.reliable == pytest.approx(expected)
    # The second voice is given to speakers, and is none of what they are known by.
    groups, without = (mixed.groups_of(np.array(each)) for each in ([0, 1, 1, 0], [0, -1, 1, 0]))
    assert groups.totals == pytest.approx(without.totals)
    assert groups.precisions == pytest.approx(expected[[0, 2]] / (1 - expected[[0, 2]]) * [2, 1])


def test_how_unlike_people_are_is_learnt_from_voices_of_one_window() -> None:
    sound = replace(voices([[0, 1], [0, 1], [0, 1], [2]]), windows_per_moment=2.0)
    alone = np.array([3.0, 3.0, 0.8, 3.0, 3.0, 0.79, 3.0])
    sound = replace(sound, clean_seconds=alone, heard_seconds=np.minimum(alone, 2.0))
    sound.vectors[1::2] = sound.vectors[:6:2]  # alike, for once
    mixed = Mixture(sound, unlinked(sound), CALIBRATION)
    # Of the third window one voice is too short.
    expected = [np.sqrt(mixed.reliable[row] * mixed.reliable[row + 1]) for row in (0, 2)]
    weight = CALIBRATION.unlike_weight
    total = weight * CALIBRATION.unlike_cosine + sum(expected) / 2
    assert mixed.unlike == pytest.approx(total / (weight + sum(each**2 for each in expected) / 2))
    # Several windows full of them are somebody taken for two, not two people.
    many = voices([[0, 1]] * 400)
    many.vectors[1::2] = many.vectors[::2]
    assert Mixture(many, unlinked(many), CALIBRATION).unlike == 0.6


def test_who_was_not_heard_is_scored_by_how_much_each_speaker_talks() -> None:
    sound = replace(voices([[0]] * 5), vectors=np.zeros((5, 64), np.float32))
    mixed = Mixture(replace(sound, windows_per_moment=2.0), unlinked(sound), CALIBRATION)
    spoken = np.array([4 / 2 + 0.3, 1 / 2 + 0.3])
    expected = CALIBRATION.talk_weight * np.log(spoken / spoken.sum())
    found = mixed.scores(mixture.shares_of(np.array([0, 0, 0, 0, 1]), 2))
    assert found == pytest.approx(np.tile(expected, (5, 1)))


# --- starting groups ---


def test_chains_go_on_from_window_to_window_while_they_sound_alike() -> None:
    ada, bob = np.eye(64, dtype=np.float32)[:2]
    vectors = np.stack([ada, ada, ada, ada, bob, ada, ada])
    links = Links(
        np.array([[0, 1], [1, 2], [1, 3], [2, 4], [2, 5], [5, 6]]),
        np.array([1.5, 1.5, 2.0, 2.0, 1.5, 2.0]),
        np.array([0.5, 0.0, 0.0, 0.0, 0.6, 0.0]),
        np.zeros(6),
        np.full(7, 3.0),
        np.array([0, 1, 2, 2, 3, 3, 4]),
        np.ones(7),
        np.zeros(2),
    )
    # 3 is beside 2 in a window, 4 sounds otherwise, 5 is together with 2 for too short.
    assert offline._chains(vectors, links, np.arange(7)).tolist() == [0, 0, 0, 1, 2, 3, 3]
    # Without 1 nothing links 0 with 2.
    core = np.array([0, 2, 3, 4, 5, 6])
    assert offline._chains(vectors, links, core).tolist() == [0, 1, 2, 3, 4, 4]


def test_a_voice_stays_in_the_chain_it_was_first_linked_to() -> None:
    vectors = np.tile(np.eye(64, dtype=np.float32)[0], (3, 1))
    sure = np.full(2, 2.0)
    links = unlinked(voices([[0], [0], [0]]))._replace(
        pairs=np.array([[0, 2], [1, 2]]), together=sure, apart=0 * sure, adjoining=0 * sure
    )
    assert offline._chains(vectors, links, np.arange(3)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("most", [1000, 40])
def test_voices_start_in_groups_of_one_person(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(offline, "MOST_COMPARED", most)
    people = [[number % 5, 5 + number % 3] for number in range(75)]
    sound = voices(people)
    mixed = Mixture(sound, unlinked(sound), CALIBRATION)
    start = offline.starting_groups(mixed, unlinked(sound)).tolist()
    assert partition(start) == partition([person for window in people for person in window])


# --- counting ---


def three_groups() -> Groups:
    nothing = np.zeros((3, 3))
    return Groups(np.eye(3), np.ones(3), np.array([60.0, 2.0, 30.0]), nothing, nothing)


def test_likely_pairs_are_merged_and_numbers_follow() -> None:
    def odds(groups: Groups) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        likely = np.full((len(groups), len(groups)), -np.inf)
        if len(groups) == 3:
            likely[0, 2] = likely[2, 0] = 1.5
            likely[0, 1] = likely[1, 0] = -0.5
        else:
            likely[0, 1] = likely[1, 0] = -2.0
        return likely

    groups, numbers = merge_likely(three_groups(), odds)
    assert numbers.tolist() == [0, 1, 0]
    assert groups.seconds.tolist() == [90.0, 2.0]
    assert groups.totals.tolist() == [[1, 0, 1], [0, 1, 0]]


def test_of_twice_the_people_two_groups_are_half_as_often_one_person() -> None:
    assert [crowding(people) for people in (0, 1, 4)] == [0.0, 0.0, 0.0]
    assert crowding(8) == pytest.approx(np.log(2.0))
    assert crowding(16) - crowding(8) == pytest.approx(np.log(2.0))


def test_a_crowd_weighs_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def noted(people: int) -> float:
        told.append(people)
        return 1e9 if people == 6 else 0.0

    monkeypatch.setattr(offline, "crowding", noted)
    only_merges = CALIBRATION.without_surplus()
    few, many = ([[number % people] for number in range(24)] for people in (5, 6))
    assert (found_in(voices(few), ANY, only_merges).found, told) == (5, [5])
    # Now nothing that starts apart becomes one.
    assert found_in(voices(many, noise=1.0), ANY, only_merges).found > 6
    assert told == [5, 6]


def test_told_of_fewer_the_least_speech_is_put_at_risk() -> None:
    def odds(groups: Groups) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        likely = np.array([[-9.0, -3.1, -3.0], [-3.1, -9.0, -3.2], [-3.0, -3.2, -9.0]])
        return likely[: len(groups), : len(groups)]

    # No pair is likely: 30 s with 60 s would be a shade likelier, the 2 s cost less.
    assert merge_to(three_groups(), odds, 2).tolist() == [0, 0, 1]
    assert merge_to(three_groups(), odds, 1).tolist() == [0, 0, 0]


def test_told_of_fewer_who_is_clearly_one_is_one() -> None:
    def odds(groups: Groups) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        likely = np.array([[-9.0, -3.1, 2.0], [-3.1, -9.0, -3.2], [2.0, -3.2, -9.0]])
        return likely[: len(groups), : len(groups)]

    assert merge_to(three_groups(), odds, 2).tolist() == [0, 1, 0]


def test_told_of_more_the_likely_part_goes_or_the_smallest() -> None:
    seconds = np.array([20.0, 0.3, 8.0])
    assert least_harmful_split(np.array([-4.0, 3.0, 2.0]), seconds, most_harm=0.5) == 0
    assert least_harmful_split(np.array([4.0, 3.0, 2.0]), seconds, most_harm=0.5) == 1
    assert least_harmful_split(np.array([4.0, 2.0]), seconds[[0, 2]], most_harm=0.5) is None
    assert least_harmful_split(np.zeros(0), np.zeros(0), most_harm=0.5) is None


def test_count_probabilities() -> None:
    found = count_probabilities(3, fewer=[-2.0, -8.0], more=[1.0], temper=0.5, margin=1.0)
    weights = {1: np.exp(-6.0), 2: np.exp(-2.0), 3: 1.0, 4: np.exp(-1.5)}
    whole = sum(weights.values())
    # One speaker has a probability of 0.2 %, which is not told.
    assert list(found) == [2, 3, 4]
    assert found == pytest.approx({n: weights[n] / whole for n in (2, 3, 4)})


# --- the whole ---


def test_people_are_told_apart() -> None:
    people = [[0], [1], [0, 1], [2], [1, 2], [0], [2]]
    found = found_in(voices(people))
    assert partition(found.labels.tolist()) == partition([p for window in people for p in window])
    assert found.centroids.shape == (3, 64)
    assert np.linalg.norm(found.centroids, axis=1) == pytest.approx([1.0, 1.0, 1.0])
    assert found.found == 3
    assert max(found.counts, key=lambda count: found.counts[count]) == 3
    assert sum(found.counts.values()) == pytest.approx(1.0, abs=0.02)


def test_voices_of_one_window_are_two_people() -> None:
    people = [[0, 1], [2], [0, 3], [1, 2, 3], [0], [1], [2], [3]] * 2
    for noise in (0.6, 1.5):
        sound = voices(people, noise=noise)
        labels = found_in(sound, SpeakerBounds(at_least=3)).labels
        for window in range(len(people)):
            own = labels[sound.windows == window].tolist()
            assert len(own) == len(set(own))


def test_short_voices_are_given_to_speakers_and_make_none() -> None:
    sound = voices([[0], [1], [0], [1], [2]])
    short = np.array([3.0, 3.0, 3.0, 3.0, 0.5])
    assert len(found_in(sound).centroids) == 3
    found = found_in(replace(sound, clean_seconds=short, heard_seconds=np.minimum(short, 2.0)))
    assert len(found.centroids) == 2
    assert set(found.labels.tolist()) == {0, 1}


def test_voice_without_a_vector_takes_what_the_others_of_its_window_leave() -> None:
    sound = voices([[0], [1], [0, 1]])
    vectors = sound.vectors.copy()
    vectors[3] = 0.0
    clean = np.array([3.0, 3.0, 3.0, 0.0])
    found = found_in(replace(sound, vectors=vectors, clean_seconds=clean, heard_seconds=clean))
    assert partition(found.labels.tolist()) == [0, 1, 0, 1]


def test_links_place_what_the_voice_alone_does_not() -> None:
    """Nothing but its neighbour in time says whose the last voice is."""
    sound = voices([[0], [1], [0], [1], [0]])
    vectors = sound.vectors.copy()
    vectors[4] = 0.0
    clean = np.array([3.0, 3.0, 3.0, 3.0, 0.0])
    sound = replace(sound, vectors=vectors, clean_seconds=clean, heard_seconds=clean)
    for neighbour in (2, 3):
        links = unlinked(sound)._replace(
            pairs=np.array([[neighbour, 4]]),
            together=np.array([2.0]),
            apart=np.zeros(1),
            adjoining=np.zeros(1),
        )
        labels = find_speakers(sound, links, CALIBRATION, ANY).labels
        assert labels[4] == labels[neighbour]
        assert labels[2] != labels[3]


def test_recording_of_short_voices_has_one_speaker() -> None:
    windows, clean = np.array([0, 0, 1], np.intp), np.array([0.1, 0.0, 0.1])
    nothing = Voices(windows, np.zeros((3, 64), np.float32), clean, clean)
    found = found_in(nothing)
    assert found.labels.tolist() == [0, -1, 0]
    assert found.centroids.tolist() == [[0.0] * 64]
    assert found.counts == {1: 1.0}


def test_nobody() -> None:
    found = found_in(voices([]))
    assert found.labels.shape == (0,)
    assert found.centroids.shape == (0, 64)
    assert (found.counts, found.found) == ({0: 1.0}, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_number_of_speakers_is_kept_exactly(count: int) -> None:
    people = [[number % 4] for number in range(40)]
    found = found_in(voices(people, noise=1.0), SpeakerBounds(exactly=count))
    assert set(found.labels.tolist()) == set(range(count))
    assert len(found.centroids) == count
    assert found.found == 4


def test_what_the_evidence_says_is_the_same_whatever_the_user_says() -> None:
    """Told of more speakers than voices that say much, others start groups: not for the count."""
    sound = voices([[0, 1], [2], [0], [1], [2], [0]], noise=1.2, seed=3)
    short = np.array([3.0, 3.0, 3.0, 0.3, 0.3, 0.3, 0.3])
    sound = replace(sound, clean_seconds=short, heard_seconds=np.minimum(short, 2.0))
    untold = found_in(sound)
    told = found_in(sound, SpeakerBounds(exactly=5))
    assert len(told.centroids) > len(untold.centroids) == untold.found
    assert (told.counts, told.found) == (untold.counts, untold.found)


def test_what_a_hint_may_cost_is_counted_in_moments_however_many_windows_see_each() -> None:
    sound = voices([[0]] * 10)
    labels, start = np.zeros(10, np.intp), np.repeat([0, 1], [7, 3])
    found = {
        looks: offline._Parts.of(mixed, labels, start)
        for looks in (1.0, 2.0)
        for mixed in [
            Mixture(replace(sound, windows_per_moment=looks), unlinked(sound), CALIBRATION)
        ]
    }
    assert found[1.0].speech_seconds == 30.0
    assert found[1.0].seconds.tolist() == [21.0, 9.0]
    assert found[2.0].speech_seconds == 15.0
    assert found[2.0].seconds.tolist() == [10.5, 4.5]
    # Both are clearly of one person, and 9 of 30 s are more than a hint may cost.
    assert found[1.0].least_harmful() is None


def test_a_part_is_compared_with_the_rest_of_its_speaker_only() -> None:
    """Not with itself, and not by matrices of all parts, of which hours have thousands."""
    random = np.random.default_rng(0)
    sound = voices([[0, 1]] * 12, noise=1.0)
    links = unlinked(sound)
    pairs = np.array(list(combinations(range(24), 2)))
    apart = pairs[links.windows[pairs[:, 0]] != links.windows[pairs[:, 1]]]
    together = random.uniform(0.0, 3.0, len(apart))
    none = np.zeros(len(apart))
    mixture = Mixture(
        sound,
        links._replace(pairs=apart, together=together, apart=none, adjoining=none),
        CALIBRATION,
    )
    labels = np.arange(24) % 2
    parts = np.where(labels == 0, np.arange(24) // 8, -1)
    found = mixture.beside_rest(parts, labels)
    for part in range(3):
        rest = np.where(parts >= 0, 1, -1)
        two = mixture.groups_of(np.where(parts == part, 0, rest))
        assert found.totals[part] == pytest.approx(two.totals, abs=1e-4)
        assert found.precisions[part] == pytest.approx(two.precisions)
        assert found.seconds[part] == pytest.approx(two.seconds)
        for own, whole in ((found.split, two.split), (found.linked, two.linked)):
            assert own[part, 0, 1] == own[part, 1, 0] == pytest.approx(whole[0, 1])
        odds = two.same_person(CALIBRATION, mixture.unlike)[0, 1]
        assert found.same_person(CALIBRATION, mixture.unlike)[part, 0, 1] == pytest.approx(odds)


def test_memory_grows_as_the_recording_does() -> None:
    def peak_bytes(windows: int) -> int:
        sound = voices([[0, 1]] * windows)
        short = np.tile([3.0, 0.3], windows)
        sound = replace(sound, clean_seconds=short, heard_seconds=np.minimum(short, 2.0))
        links = unlinked(sound)
        tracemalloc.start()
        find_speakers(sound, links, CALIBRATION, ANY)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # Each short voice may be cut off its speaker: 800 of them, and 1600.
    assert peak_bytes(1600) < 3 * peak_bytes(800)


def test_least_and_most() -> None:
    sound = voices([[number % 4] for number in range(40)])
    for bounds, expected in (
        (ANY, 4),
        (SpeakerBounds(at_least=6), 6),
        (SpeakerBounds(at_most=2), 2),
        (SpeakerBounds(at_least=2, at_most=5), 4),
    ):
        assert len(found_in(sound, bounds).centroids) == expected


def test_long_recordings_are_clustered_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    people = [[number % 5, 5 + number % 3] for number in range(150)]
    sound = voices(people)
    exact = found_in(sound)
    monkeypatch.setattr(offline, "MOST_COMPARED", 40)
    parts = found_in(sound)
    assert partition(parts.labels.tolist()) == partition(exact.labels.tolist())
    assert len(exact.centroids) == 8


def test_parts_that_do_not_condense_still_end(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    seconds = np.full(300, 2.0)
    monkeypatch.setattr(offline, "MOST_COMPARED", 20)
    found = found_in(Voices(np.arange(300), vectors, seconds, seconds))
    assert found.labels.min() >= 0
    assert 1 <= len(found.centroids) <= 20


def test_deterministic_and_changes_nothing() -> None:
    sound = voices([[a, b] for a, b in combinations(range(5), 2)], noise=1.5)
    before = sound.vectors.copy()
    first, second = found_in(sound), found_in(sound)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.centroids, second.centroids)
    assert first.counts == second.counts
    assert np.array_equal(sound.vectors, before)


# --- SpeakerBounds ---


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
