"""Streams on evidence: revisions add up, and the end is what ``diarize`` gives."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.diarization import live_turns
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog, LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.frames import GRID, SAMPLE_RATE, WINDOW_FRAMES
from fluidaudio_cli.diarization.ledger import Ledger, Revision
from fluidaudio_cli.diarization.live_turns import Change, LiveTurns
from fluidaudio_cli.diarization.modes import ModeConfig, load_mode
from fluidaudio_cli.diarization.result import Conclusion
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.known import KnownPeople, KnownVoice
from fluidaudio_cli.diarization.speakers.model import OfflineSpeakers
from fluidaudio_cli.diarization.speakers.offline import SpeakerLabels
from fluidaudio_cli.diarization.speakers.online import CachedSpeaker, Exemplar
from fluidaudio_cli.turns import Turn

STEP = SAMPLE_RATE // 2
SECONDS = 90
SAMPLES = SECONDS * SAMPLE_RATE


def _evidence() -> list[WindowEvidence]:
    """Two voices that take turns of 6 s, as windows half a second apart see them."""
    draw = np.random.default_rng(3)
    people = np.linalg.qr(draw.normal(size=(192, 2)))[0].T
    speaking = (np.arange((SECONDS + 20) * 1000 // 17) * 0.016875 % 12 < 6).astype(int)
    found = []
    for number in range(-18, (SECONDS - 10) * 2 + 2):
        start = round(number * STEP / 270)
        frames = np.arange(start, start + WINDOW_FRAMES)
        presence = np.zeros((WINDOW_FRAMES, 3), np.uint8)
        voices = []
        for slot in range(2):
            active = (frames >= 0) & (speaking[np.maximum(frames, 0)] == slot)
            if not active.any():
                continue
            presence[active, slot] = 255
            vector = people[slot] + 0.03 * draw.normal(size=192)
            unit = (vector / np.linalg.norm(vector)).astype(np.float32)
            voices.append(LocalVoice(slot, float(active.sum()) * 0.016875, unit))
        found.append(WindowEvidence.of(number, tuple(voices), presence))
    return found


*EVIDENCE, LAST = _evidence()


def _known(*slots: int) -> KnownPeople:
    """The two people, as they were heard before, by the names P0 and P1."""
    voices = []
    for slot in slots:
        looks = [v.vector for e in EVIDENCE for v in e.voices if v.slot == slot]
        mean = np.mean(looks, axis=0, keepdims=True)
        unit = (mean / np.linalg.norm(mean)).astype(np.float32)
        voices.append(KnownVoice(f"P{slot}", unit, np.array([30.0])))
    return KnownPeople(voices, load_mode("balanced").calibration)


def _pushed(live: LiveTurns, evidence: WindowEvidence) -> Change:
    """As a stream: one window in ten is kept, too."""
    if live.online.on_grid(evidence.number):
        live.online.keep(evidence)
    return live.push(evidence)


@cache
def _streamed(latency: float, bounds: SpeakerBounds) -> tuple[Ledger, Conclusion, LiveTurns]:
    """What a reader has at the end, the conclusion, and the stream."""
    live = LiveTurns(load_mode("balanced"), STEP, round(latency * SAMPLE_RATE), bounds)
    reader = Ledger()
    for evidence in EVIDENCE:
        change = _pushed(live, evidence)
        reader.add(change.final)
        reader.apply(change.revisions)
    change, conclusion = live.finish(SAMPLES, LAST)
    reader.add(change.final)
    reader.apply(change.revisions)
    return reader, conclusion, live


@pytest.mark.parametrize("latency", [0.5, 10.0])
@pytest.mark.parametrize("bounds", [SpeakerBounds(), SpeakerBounds(1)])
def test_the_end_is_what_diarize_gives(latency: float, bounds: SpeakerBounds) -> None:
    reader, conclusion, _ = _streamed(latency, bounds)
    mode = load_mode("balanced")
    model = speaker_model(mode)
    for evidence in EVIDENCE:
        if evidence.number >= 0 and evidence.number % 10 == 0:
            model.update(replace(evidence, number=evidence.number // 10))
    model.evidence.samples = SAMPLES
    offline = conclude(model, mode, bounds, StageClock())
    names = sorted({turn.speaker for turn in conclusion.turns})
    assert len(names) == len(offline.speakers) == (bounds.exactly or 2)
    assert any(
        sorted(t._replace(speaker=dict(zip(names, other, strict=True))[t.speaker]) for t in turns)
        == list(offline.turns)
        for turns in [conclusion.turns]
        for other in permutations(speaker.label for speaker in offline.speakers)
    )
    as_read = [(round(1000 * t.start), round(1000 * t.end), t.speaker) for t in reader.turns()]
    as_told = [(round(1000 * t.start), round(1000 * t.end), t.speaker) for t in conclusion.turns]
    assert as_read == as_told


def test_a_turn_is_final_once_and_in_time() -> None:
    live = LiveTurns(load_mode("balanced"), STEP, 2 * SAMPLE_RATE)
    finals: list[tuple[float, Turn]] = []
    for evidence in EVIDENCE:
        change = _pushed(live, evidence)
        now = evidence.number / 2 + 10
        assert change.settled_seconds <= now
        assert now - change.settled_seconds <= 1.6  # a moment waits for 2 s, less a step
        finals += [(now, turn) for turn in change.final]
    live.close()
    assert len(finals) == 14
    for now, turn in finals:
        assert 1.5 <= now - turn.end <= 3.1  # and for the pause that no turn bridges
    spoken = [turn for _, turn in finals]
    assert [turn.speaker for turn in spoken] == ["SPEAKER_00", "SPEAKER_01"] * 7
    assert all(one.end <= other.start + 0.2 for one, other in pairwise(spoken))


def test_what_was_said_in_haste_is_corrected_within_seconds() -> None:
    """Before the background has looked: windows of 10 s are clustered from 16 s on."""
    live = LiveTurns(load_mode("balanced"), STEP, STEP)
    reader = Ledger()
    ends: list[float] = []
    for evidence in EVIDENCE[: 20 + 9]:
        change = _pushed(live, evidence)
        reader.add(change.final)
        reader.apply(change.revisions)
        ends += [t.end for t in reader.turns() if t.start == 0.0]
        if change.revisions:
            assert evidence.number / 2 + 10 == 10.0
    live.close()
    assert max(ends) > 6.4  # the other's voice was not told apart at once
    assert ends[-1] == pytest.approx(6.0, abs=0.05)


@pytest.mark.parametrize("most", [720, 6])
def test_corrections_need_the_last_windows_only(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Of six windows 5 s apart, those from 50 s on at the end."""
    monkeypatch.setattr(live_turns, "_MOST_WINDOWS", most)
    live = LiveTurns(load_mode("balanced"), STEP, STEP)
    reader = Ledger()
    for evidence in EVIDENCE:
        change = _pushed(live, evidence)
        reader.add(change.final)
        reader.apply(change.revisions)
    live.close()
    turns = [turn for turn in reader.turns() if turn.start < 77.0]
    assert [turn.start for turn in turns] == pytest.approx(range(0, 77, 6), abs=0.1)
    assert [turn.speaker for turn in turns] == [f"SPEAKER_{n % 2:02d}" for n in range(13)]


def test_who_is_nobody_is_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    def noted(mode: ModeConfig, *rest: Any, **more: Any) -> OfflineSpeakers:
        told.append(mode.calibration.tells_surplus)
        return speaker_model(mode, *rest, **more)

    monkeypatch.setattr(live_turns, "speaker_model", noted)
    _streamed(1.0, SpeakerBounds())
    # The first is what the end is decided by, the others are corrections on the way.
    assert told[0]
    assert len(told) > 3
    assert not any(told[1:])


def test_what_waits_is_right_at_once() -> None:
    live = LiveTurns(load_mode("balanced"), STEP, 5 * SAMPLE_RATE)
    changes = [_pushed(live, evidence) for evidence in EVIDENCE]
    change, _ = live.finish(SAMPLES, LAST)
    assert [name for each in changes for name in each.created] == ["SPEAKER_00", "SPEAKER_01"]
    for revision in (r for each in (*changes, change) for r in each.revisions):
        assert revision.end - revision.start <= 0.05  # edges only
        assert None in (revision.before, revision.after)


def test_what_waits_longer_than_windows_are_long_is_not_lost() -> None:
    live = LiveTurns(load_mode("balanced"), STEP, 30 * SAMPLE_RATE)
    for evidence in EVIDENCE:
        change = _pushed(live, evidence)
        assert change.revisions == ()
        told = [*live.ledger.turns(), *live.tentative()]
        now = evidence.number / 2 + 10
        assert sum(turn.duration for turn in told) == pytest.approx(now, abs=0.3)
    live.close()
    assert len(live.ledger.turns()) == 9


def test_the_same_stream_gives_the_same_events() -> None:
    reader, *_ = _streamed(0.5, SpeakerBounds())
    again, *_ = _streamed.__wrapped__(0.5, SpeakerBounds())
    assert again.turns() == reader.turns()


@pytest.mark.parametrize("latency", [0.5, 5.0, 30.0])
def test_who_is_recognised_takes_over_the_name_from_before(latency: float) -> None:
    bounds, samples = SpeakerBounds(at_most=2), round(latency * SAMPLE_RATE)
    live = LiveTurns(load_mode("balanced"), STEP, samples, bounds, _known(0, 1))
    reader = Ledger()
    alive: set[str] = set()
    for evidence in EVIDENCE:
        change = _pushed(live, evidence)
        reader.add(change.final)
        reader.apply(change.revisions)
        alive = (alive | set(change.created)) - set(change.withdrawn)
        assert alive == set(live.speakers)
        assert len(live.speakers) <= 2
        assert reader.speakers() | {turn.speaker for turn in live.tentative()} <= alive
    assert sorted(alive) == ["P0", "P1"]
    change, conclusion = live.finish(SAMPLES, LAST)
    assert (change.created, change.withdrawn) == ((), ())
    assert {turn.speaker for turn in conclusion.turns} == {"P0", "P1"}


def _told(*turns: Turn, born: float = 0.0) -> LiveTurns:
    """A minute of a stream that has said ``turns`` of two speakers, the second ``born`` then."""
    live = LiveTurns(load_mode("balanced"), STEP, SAMPLE_RATE)
    live.close()
    live._names, live._used, live._end = ["SPEAKER_00", "SPEAKER_01"], 2, 60 * SAMPLE_RATE
    live.online.speakers = [CachedSpeaker(spoken=1.0), CachedSpeaker(spoken=2.0, born=born)]
    live._builder.settle(GRID.frames_within(live._end))
    live.ledger.add(turns)
    return live


_FIRST, _SECOND = "SPEAKER_00", "SPEAKER_01"
_SAID = (Turn(0, 6, _FIRST), Turn(6, 12, _SECOND), Turn(12, 18, _FIRST))


@pytest.mark.parametrize(
    ("found", "later", "born", "start", "revisions", "left"),
    [
        # All is the first's: so is what the second was.
        ([(0, 18)], None, 30.0, 0.0, [Revision(6, 12, _SECOND, _FIRST)], 1),
        # Nobody speaks where the second was heard.
        ([(0, 6), (12, 18)], None, 30.0, 0.0, [Revision(6, 12, _SECOND, None)], 1),
        # The same, but it was heard since.
        ([(0, 6), (12, 18)], (46, 48), 30.0, 0.0, [Revision(6, 12, _SECOND, None)], 2),
        # It has spoken for less than the 15 s that everybody is given.
        ([(0, 18)], None, 30.1, 0.0, [Revision(6, 12, _SECOND, _FIRST)], 2),
        # All it said is before what was looked at.
        ([(12, 18)], None, 30.0, 12.0, [], 2),
    ],
)
def test_who_turns_out_to_be_nobody_of_its_own_is_withdrawn(
    found: list[tuple[float, float]],
    later: tuple[float, float] | None,
    born: float,
    start: float,
    revisions: list[Revision],
    left: int,
) -> None:
    live = _told(*_SAID, *([Turn(*later, _SECOND)] if later else []), born=born)
    voice = Exemplar(EVIDENCE[0].voices[0].vector, 2.0, 0.6, 10.0)
    turns = tuple(Turn(*span, "0") for span in found)
    change = live._take(Change(60.0), live_turns._Refined(turns, start, 45.0, {"0": [voice]}, {}))
    assert list(change.revisions) == revisions
    assert change.withdrawn == (_SECOND,)[: 2 - left]
    assert live.speakers == (_FIRST, _SECOND)[:left]
    assert (change.created, change.confirmed) == ((), (_FIRST,))
    first, second = live.online.speakers
    assert (first.exemplars, second.withdrawn) == ([voice], left == 1)
    heir = left == 1 and revisions[0].after is not None
    assert (first.spoken, first.alone) == (3.0 if heir else 1.0, 2.0)


def test_whom_the_background_finds_besides_is_somebody_new() -> None:
    live = _told(*_SAID)
    turns = (Turn(0, 6, "0"), Turn(6, 12, "1"), Turn(12, 15, "0"), Turn(15, 18, "2"))
    change = live._take(Change(60.0), live_turns._Refined(turns, 0.0, 45.0, {}, {}))
    assert list(change.revisions) == [Revision(15, 18, _FIRST, "SPEAKER_02")]
    assert (change.created, change.withdrawn) == (("SPEAKER_02",), ())
    assert live.speakers == change.confirmed == (_FIRST, _SECOND, "SPEAKER_02")


def test_who_has_no_turns_at_the_end_is_withdrawn() -> None:
    live = LiveTurns(load_mode("balanced"), STEP, STEP)
    for evidence in EVIDENCE:
        _pushed(live, evidence)
    live.online.speakers.append(CachedSpeaker())
    assert live._name_new() == ("SPEAKER_02",)
    assert live.finish(SAMPLES, LAST)[0].withdrawn == ("SPEAKER_02",)


def test_a_cache_of_bounded_size() -> None:
    _, _, live = _streamed(0.5, SpeakerBounds())
    kept = [len(speaker.exemplars) for speaker in live.online.speakers]
    assert len(kept) == 2
    assert max(kept) <= 24


def test_the_cache_keeps_no_voice_that_is_likelier_somebody_elses() -> None:
    balanced = load_mode("balanced")
    strict = replace(balanced.calibration, two_voices=1000.0)
    live = LiveTurns(replace(balanced, calibration=strict), STEP, SAMPLE_RATE)
    second, first = (EVIDENCE[60].voices[slot].vector for slot in range(2))
    # In one window both voices sound like the first person: for want of another, one is the second.
    both = np.zeros((WINDOW_FRAMES, 3), np.uint8)
    both[:290, 0] = both[290:, 1] = 255
    twice = tuple(LocalVoice(slot, 5.0, first) for slot in range(2))
    for evidence in EVIDENCE[:130]:
        doubled = evidence is EVIDENCE[80]
        _pushed(live, WindowEvidence.of(evidence.number, twice, both) if doubled else evidence)
        assert not doubled or sorted(live.online.recent[-1].labels.tolist()) == [0, 1]
        for speaker, own in zip(live.online.speakers, (first, second), strict=False):
            assert all(each.vector @ own > 0.5 for each in speaker.exemplars)
    live.close()
    assert all(len(speaker.exemplars) > 5 for speaker in live.online.speakers)


def test_what_the_background_heard_is_what_speakers_sound_like() -> None:
    live = LiveTurns(load_mode("balanced"), STEP, SAMPLE_RATE)
    log, clean, draw = EvidenceLog(), [9.0, 0.19, 1.5, 3.0, 3.0], np.random.default_rng(0)
    vectors = draw.normal(size=(5, 192)).astype(np.float32)
    presence = np.full((WINDOW_FRAMES, 3), 255, np.uint8)
    for number, rows in enumerate(([0, 1], [2, 3], [4])):
        voices = [LocalVoice(slot, clean[row], vectors[row]) for slot, row in enumerate(rows)]
        log.append(WindowEvidence.of(number, tuple(voices), presence))
    labels, reliable = np.array([1, 0, 0, 1, -1]), np.array([0.7, 0.3, 0.2, 0.19, 0.6])
    found = SpeakerLabels(labels, vectors[:2], np.ones(2), {2: 1.0}, 2, reliable)
    # The log begins with window 4, 20 s from the beginning; a voice is heard for 2 s at most.
    kept = live._exemplars(log, 4, found)
    live.close()
    assert {label: [each[1:] for each in own] for label, own in kept.items()} == {
        "1": [(2.0, 0.7, 30.0)],
        "0": [(1.5, 0.2, 35.0)],
    }
    assert np.array_equal(kept["0"][0].vector, vectors[2])


def test_at_most_one_speaker_while_it_goes_on() -> None:
    live = LiveTurns(load_mode("balanced"), STEP, SAMPLE_RATE, SpeakerBounds(at_most=1))
    for evidence in EVIDENCE:
        assert _pushed(live, evidence).final == ()  # nobody pauses
        assert live.speakers == ("SPEAKER_00",)
    (turn,) = live.tentative()
    assert (turn.start, turn.speaker) == (0.0, "SPEAKER_00")
    assert turn.end == pytest.approx(90.0, abs=0.04)
    live.close()


@pytest.mark.parametrize(("at_most", "name"), [(2, "SPEAKER_01"), (3, "SPEAKER_02")])
def test_where_there_are_no_more_people_a_new_voice_is_one_of_them(at_most: int, name: str) -> None:
    live = LiveTurns(load_mode("balanced"), STEP, STEP, SpeakerBounds(at_most=at_most))
    first, *_, other = EVIDENCE[:40]
    _pushed(live, first)
    (somebody,) = live.online.speakers
    somebody.hear(Exemplar(first.voices[0].vector, 5.0, 0.7, 1.0))
    # A second name, of whom nothing was heard that would stay.
    live.online.speakers.append(CachedSpeaker())
    created = _pushed(live, other).created
    assert created[-1] == live.speakers[-1] == name
    live.close()


def test_revisions_take_back_and_give() -> None:
    ledger = Ledger()
    ledger.add([Turn(0.0, 4.0, "a"), Turn(5.0, 8.0, "b")])
    wanted = [Turn(0.0, 2.0, "a"), Turn(2.0, 4.0, "b"), Turn(5.0, 6.0, "b"), Turn(8.0, 9.0, "c")]
    changes = ledger.changes(wanted, 0.0, 10.0)
    assert changes == [
        Revision(2.0, 4.0, "a", "b"),
        Revision(6.0, 8.0, "b", None),
        Revision(8.0, 9.0, None, "c"),
    ]
    ledger.apply(changes)
    assert ledger.turns() == wanted
    assert ledger.changes(wanted, 0.0, 10.0) == []


def test_a_ledger_is_what_was_added_and_revised_millisecond_by_millisecond() -> None:
    draw = np.random.default_rng(5)
    ledger, spoken = Ledger(), {name: np.zeros(400, bool) for name in "AB"}
    for _ in range(300):
        name, other = draw.permutation(["A", "B"]).tolist()
        start, end = sorted(draw.integers(0, 400, 2).tolist())
        if draw.random() < 0.5:
            ledger.add([Turn(start / 1000, end / 1000, name)])
        else:
            ledger.apply([Revision(start / 1000, end / 1000, other, name)])
            spoken[other][start:end] = False
        spoken[name][start:end] = True
        since = int(draw.integers(0, 400))
        for each, active in spoken.items():
            found = np.zeros(400, bool)
            for turn in ledger.turns(since / 1000):
                if turn.speaker == each:
                    found[round(1000 * turn.start) : round(1000 * turn.end)] = True
            assert np.array_equal(found[since:], active[since:])
            first = ledger.first(each)
            assert (first is None) == (not active.any())
            assert first is None or round(1000 * first.start) == active.argmax()
        # Nothing, from there on, but what was taken back: the change from a copy says so.
        before = ledger.copy()
        ledger.apply(ledger.changes([], since / 1000, 0.4))
        back = before.changes(ledger.turns(since / 1000), since / 1000, 0.4)
        assert {(r.before, r.after) for r in back} <= {("A", None), ("B", None)}
        assert ledger.turns(since / 1000 + 0.001) == []
        ledger = before


def test_short_changes_can_wait() -> None:
    ledger = Ledger()
    ledger.add([Turn(0.0, 4.0, "a")])
    assert ledger.changes([Turn(0.1, 4.0, "a")], 0.0, 5.0, shortest=0.25) == []
    assert ledger.changes([Turn(0.1, 4.0, "a")], 0.0, 5.0) == [Revision(0.0, 0.1, "a", None)]
    assert ledger.changes([], 1.0, 2.0) == [Revision(1.0, 2.0, "a", None)]


def test_a_stream_without_sound() -> None:
    change, conclusion = LiveTurns(load_mode("balanced"), STEP, STEP).finish(0)
    assert (change.final, change.revisions, conclusion.turns) == ((), (), ())
