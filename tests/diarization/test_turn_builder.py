"""Votes of windows to turns, by hand. Frame f begins at GRID.boundary(f)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.diarization.evidence import LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.frames import GRID, WINDOW_FRAMES
from fluidaudio_cli.diarization.turn_builder import (
    Reconstruction,
    ReconstructionRules,
    TurnBuilder,
)
from fluidaudio_cli.turns import Turn

RULES = ReconstructionRules(
    onset=0.5, overlap_onset=1.5, fill_gap_seconds=0.0, min_turn_seconds=0.0
)
TEN_SECONDS = 160_000
STEP = 80_000  # 296 frames, to the nearest

Presence = npt.NDArray[np.uint8]


def presence(*stretches: tuple[int, int, int, float]) -> Presence:
    """(589, 3): slot ``s`` is present with probability ``p`` from frame a to before frame b."""
    found = np.zeros((WINDOW_FRAMES, 3), np.uint8)
    for slot, first, last, probability in stretches:
        found[first:last, slot] = round(255 * probability)
    return found


Labelled = tuple[WindowEvidence, list[int]]
NO_VECTOR = np.zeros(0, np.float32)


def labelled(number: int, speakers: Sequence[tuple[int, int]], content: Presence) -> Labelled:
    """Window ``number`` with its voices' (slot, speaker)."""
    voices = tuple(LocalVoice(slot, 1.0, NO_VECTOR) for slot, _ in speakers)
    return WindowEvidence.of(number, voices, content), [speaker for _, speaker in speakers]


def window(
    number: int, speakers: Sequence[tuple[int, int]], *stretches: tuple[int, int, int, float]
) -> Labelled:
    return labelled(number, speakers, presence(*stretches))


def frames(*turns: tuple[int, int, int]) -> tuple[Turn, ...]:
    return tuple(
        sorted(Turn(GRID.boundary(a), GRID.boundary(b), str(speaker)) for a, b, speaker in turns)
    )


def rebuild(
    *windows: Labelled,
    rules: ReconstructionRules = RULES,
    samples: int = TEN_SECONDS,
    chunk: int = 10_000,
    step: int = STEP,
) -> Reconstruction:
    """All turns, those that were final early and the rest."""
    builder = TurnBuilder(rules, step, chunk)
    turns: list[Turn] = []
    for evidence, labels in windows:
        turns.extend(builder.push(evidence, labels))
    rest = builder.finish(samples)
    return Reconstruction(tuple(sorted((*turns, *rest.turns))), rest.exclusive_turns)


def test_one_speaker() -> None:
    found = rebuild(window(0, [(2, 0)], (2, 100, 200, 1.0)))
    assert found.turns == found.exclusive_turns == frames((100, 200, 0))


def test_nobody_and_no_speakers() -> None:
    assert rebuild(window(0, [])) == Reconstruction((), ())
    assert rebuild() == Reconstruction((), ())
    assert rebuild(window(0, []), samples=0) == Reconstruction((), ())


def test_overlap_is_kept_and_given_to_the_likelier_when_exclusive() -> None:
    found = rebuild(window(0, [(0, 0), (1, 1)], (0, 100, 300, 1.0), (1, 200, 400, 0.9)))
    assert found.turns == frames((100, 300, 0), (200, 400, 1))
    assert found.exclusive_turns == frames((100, 300, 0), (300, 400, 1))


def test_speech_less_likely_than_the_onset_is_none() -> None:
    unsure = window(0, [(0, 0)], (0, 100, 200, 0.45), (0, 200, 300, 0.55))
    assert rebuild(unsure).turns == frames((200, 300, 0))
    assert rebuild(unsure, rules=replace(RULES, onset=0.4)).turns == frames((100, 300, 0))


def test_second_speaker_counts_from_the_overlap_onset() -> None:
    both = window(0, [(0, 0), (1, 1)], (0, 100, 200, 0.9), (1, 100, 200, 0.5))
    assert rebuild(both).turns == frames((100, 200, 0))
    found = rebuild(both, rules=replace(RULES, overlap_onset=1.35))
    assert found.turns == frames((100, 200, 0), (100, 200, 1))


def test_windows_are_averaged_where_they_overlap() -> None:
    """The second window, half a window later, hears nobody where the first hears a at 0.8."""
    first = window(0, [(0, 0)], (0, 400, 500, 0.8))
    deaf = window(1, [])
    assert rebuild(first).turns == frames((400, 500, 0))
    assert rebuild(first, deaf, samples=2 * TEN_SECONDS).turns == ()
    # 0.8 and 0.4 are 0.6 on average; slots differ from window to window.
    hears = window(1, [(2, 0)], (2, 104, 204, 0.4))
    assert rebuild(first, hears, samples=2 * TEN_SECONDS).turns == frames((400, 500, 0))


def test_local_speaker_without_a_speaker_counts_but_is_nobody() -> None:
    """Slot 1 has no speaker: two are counted, one can be named."""
    found = rebuild(window(0, [(0, 0)], (0, 100, 300, 1.0), (1, 200, 400, 1.0)))
    assert found.turns == frames((100, 300, 0))


def test_two_voices_of_a_window_given_to_one_speaker_count_once() -> None:
    # Slots 0 and 1 are speaker 0, at frames 200 to 300 both; slot 2 is hardly there.
    one = window(
        0, [(0, 0), (1, 0), (2, 1)], (0, 100, 300, 1.0), (1, 200, 400, 1.0), (2, 200, 300, 0.1)
    )
    assert rebuild(one).turns == frames((100, 400, 0))
    other = window(
        0, [(0, 0), (1, 0), (2, 1)], (0, 100, 300, 1.0), (1, 200, 400, 1.0), (2, 200, 300, 0.6)
    )
    assert rebuild(other).turns == frames((100, 400, 0), (200, 300, 1))


def test_gaps_shorter_than_the_limit_are_filled() -> None:
    spoken = window(0, [(0, 0)], (0, 100, 200, 1.0), (0, 220, 300, 1.0), (0, 360, 400, 1.0))
    # 20 frames are 0.3375 s, 60 are 1.0125 s.
    assert rebuild(spoken).turns == frames((100, 200, 0), (220, 300, 0), (360, 400, 0))
    half = replace(RULES, fill_gap_seconds=0.5)
    assert rebuild(spoken, rules=half).turns == frames((100, 300, 0), (360, 400, 0))
    # A gap of exactly the limit is not shorter than it.
    exact = replace(RULES, fill_gap_seconds=20 * GRID.hop_seconds)
    assert rebuild(spoken, rules=exact).turns[0] == frames((100, 200, 0))[0]


def test_gaps_are_filled_over_another_speaker_but_not_in_exclusive_turns() -> None:
    spoken = window(0, [(0, 0), (1, 1)], (0, 100, 200, 1.0), (1, 200, 220, 1.0), (0, 220, 300, 1.0))
    found = rebuild(spoken, rules=replace(RULES, fill_gap_seconds=0.5))
    assert found.turns == frames((100, 300, 0), (200, 220, 1))
    assert found.exclusive_turns == frames((100, 200, 0), (200, 220, 1), (220, 300, 0))


def test_exclusive_turns_never_overlap() -> None:
    random = np.random.default_rng(0)
    content = random.integers(0, 256, (WINDOW_FRAMES, 3)).astype(np.uint8)
    windows = [labelled(number, ((0, 0), (1, 1), (2, number % 2)), content) for number in range(6)]
    rules = replace(RULES, fill_gap_seconds=0.3)
    found = rebuild(*windows, rules=rules, samples=35 * 16_000).exclusive_turns
    assert len(found) > 10
    for earlier, later in pairwise(found):
        assert earlier.end <= later.start


def test_short_turns_are_dropped_after_gaps_are_filled() -> None:
    spoken = window(0, [(0, 0)], (0, 100, 110, 1.0), (0, 112, 122, 1.0), (0, 300, 310, 1.0))
    rules = replace(RULES, fill_gap_seconds=0.1, min_turn_seconds=0.3)
    # 22 frames are 0.371 s, 10 are 0.169 s.
    assert rebuild(spoken, rules=rules).turns == frames((100, 122, 0))


def test_turns_begin_at_zero_and_end_with_the_recording() -> None:
    talkative = window(0, [(0, 0)], (0, 0, WINDOW_FRAMES, 1.0))
    (turn,) = rebuild(talkative, samples=5 * 16_000).turns
    assert (turn.start, turn.end) == (0.0, 5.0)
    # 50 ms: the only frame begins at 0.
    (turn,) = rebuild(talkative, samples=800).turns
    # Its two frames would reach to 56 ms.
    assert (turn.start, turn.end) == (0.0, 0.05)


def rough_windows(count: int) -> list[Labelled]:
    """Windows in which two voices come and go at random, one of them new from half on."""
    random = np.random.default_rng(3)
    windows = []
    for number in range(count):
        rough = random.integers(0, 2, (WINDOW_FRAMES // 31, 3)) * 255
        content = np.repeat(rough, 31, axis=0).astype(np.uint8)
        second = 1 if number < count // 2 else 2
        windows.append(labelled(number, ((0, 0), (1, second)), content))
    return windows


@pytest.mark.parametrize("chunk", [1, 100, 589, 700, 1_000])
def test_chunks_do_not_show(chunk: int) -> None:
    windows = rough_windows(8)
    rules = replace(RULES, fill_gap_seconds=0.2)
    whole = rebuild(*windows, rules=rules, samples=45 * 16_000)
    assert len(whole.turns) > 15
    assert rebuild(*windows, rules=rules, samples=45 * 16_000, chunk=chunk) == whole


def test_turns_are_given_out_when_nothing_can_change_them() -> None:
    """With a pause of up to half a second to be bridged, not before that has passed."""
    rules = replace(RULES, fill_gap_seconds=0.5)
    # Windows begin at frames 0, 296, 593 and 889; a gap is bridged if under 29.6 frames.
    windows = [
        window(0, [(0, 0)], (0, 100, 200, 1.0), (0, 250, 270, 1.0), (0, 500, 580, 1.0)),
        window(1, [(0, 0)], (0, 204, 284, 1.0)),
        window(2, []),
        window(3, []),
    ]
    builder = TurnBuilder(rules, STEP, chunk_frames=1)
    given = [builder.push(evidence, labels) for evidence, labels in windows]
    # At frame 296 the turn that ends at 270 might still go on.
    assert [tuple(turns) for turns in given] == [
        (),
        frames((100, 200, 0)),
        frames((250, 270, 0)),
        frames((500, 580, 0)),
    ]
    assert builder.finish(25 * 16_000).turns == ()


def test_what_was_given_out_stands() -> None:
    """Window by window or all at once: the same turns, each given out once, in order."""
    windows = rough_windows(30)
    rules = replace(RULES, fill_gap_seconds=0.2)
    whole = rebuild(*windows, rules=rules, samples=155 * 16_000)
    builder = TurnBuilder(rules, STEP, chunk_frames=1)
    given: list[Turn] = []
    for evidence, labels in windows:
        turns = builder.push(evidence, labels)
        assert turns == sorted(turns)
        given.extend(turns)
    assert len(given) > 50
    assert sorted((*given, *builder.finish(155 * 16_000).turns)) == list(whole.turns)


def test_a_window_before_what_is_settled_says_nothing() -> None:
    builder = TurnBuilder(RULES, STEP, chunk_frames=1)
    builder.settle(700)
    for number in (0, 1):  # the second reaches to frame 885
        builder.add(*window(number, [(0, 0)], (0, 100, WINDOW_FRAMES, 1.0)))
    assert builder.finish(2 * TEN_SECONDS).turns == frames((700, 885, 0))


def test_turn_across_the_border_of_a_chunk() -> None:
    found = rebuild(
        window(0, [(0, 1)], (0, 100, 589, 1.0)),
        window(1, [(1, 1)], (1, 0, 400, 1.0)),
        window(2, []),
        samples=20 * 16_000,
        chunk=296,
    )
    # From frame 593 the second window is halved by the third, which hears nobody.
    assert found.turns == found.exclusive_turns == frames((100, 696, 1))
