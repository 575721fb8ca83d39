"""Votes of windows to turns, by hand. Frame f begins at GRID.boundary(f)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from fluidaudio_cli.diarization.reconstruction import (
    LabelledWindow,
    Reconstruction,
    ReconstructionRules,
    reconstruct,
)

from fluidaudio_cli.diarization import reconstruction
from fluidaudio_cli.diarization.frames import GRID, WINDOW_FRAMES
from fluidaudio_cli.turns import Turn

RULES = ReconstructionRules(
    onset=0.5, overlap_onset=1.5, fill_gap_seconds=0.0, min_turn_seconds=0.0
)
TEN_SECONDS = 160_000
NAMES = ("a", "b")

Presence = npt.NDArray[np.uint8]


def presence(*stretches: tuple[int, int, int, float]) -> Presence:
    """(589, 3): slot ``s`` is present with probability ``p`` from frame a to before frame b."""
    found = np.zeros((WINDOW_FRAMES, 3), np.uint8)
    for slot, first, last, probability in stretches:
        found[first:last, slot] = round(255 * probability)
    return found


def window(
    first_frame: int, speakers: Sequence[tuple[int, int]], *stretches: tuple[int, int, int, float]
) -> LabelledWindow:
    content = presence(*stretches)
    return LabelledWindow(first_frame, lambda: content, tuple(speakers))


def frames(*turns: tuple[int, int, str]) -> tuple[Turn, ...]:
    return tuple(sorted(Turn(GRID.boundary(a), GRID.boundary(b), name) for a, b, name in turns))


def rebuild(
    *windows: LabelledWindow, rules: ReconstructionRules = RULES, samples: int = TEN_SECONDS
) -> Reconstruction:
    return reconstruct(windows, NAMES, samples, rules)


def test_one_speaker() -> None:
    found = rebuild(window(0, [(2, 0)], (2, 100, 200, 1.0)))
    assert found.turns == found.exclusive_turns == frames((100, 200, "a"))


def test_nobody_and_no_speakers() -> None:
    assert rebuild(window(0, [])) == Reconstruction((), ())
    assert reconstruct([], (), TEN_SECONDS, RULES) == Reconstruction((), ())
    assert reconstruct([window(0, [])], NAMES, 0, RULES) == Reconstruction((), ())


def test_overlap_is_kept_and_given_to_the_likelier_when_exclusive() -> None:
    found = rebuild(window(0, [(0, 0), (1, 1)], (0, 100, 300, 1.0), (1, 200, 400, 0.9)))
    assert found.turns == frames((100, 300, "a"), (200, 400, "b"))
    assert found.exclusive_turns == frames((100, 300, "a"), (300, 400, "b"))


def test_speech_less_likely_than_the_onset_is_none() -> None:
    unsure = window(0, [(0, 0)], (0, 100, 200, 0.45), (0, 200, 300, 0.55))
    assert rebuild(unsure).turns == frames((200, 300, "a"))
    assert rebuild(unsure, rules=replace(RULES, onset=0.4)).turns == frames((100, 300, "a"))


def test_second_speaker_counts_from_the_overlap_onset() -> None:
    both = window(0, [(0, 0), (1, 1)], (0, 100, 200, 0.9), (1, 100, 200, 0.5))
    assert rebuild(both).turns == frames((100, 200, "a"))
    found = rebuild(both, rules=replace(RULES, overlap_onset=1.35))
    assert found.turns == frames((100, 200, "a"), (100, 200, "b"))


def test_windows_are_averaged_where_they_overlap() -> None:
    """The second window, half a window later, hears nobody where the first hears a at 0.8."""
    first = window(0, [(0, 0)], (0, 400, 500, 0.8))
    deaf = window(296, [])
    assert rebuild(first).turns == frames((400, 500, "a"))
    assert rebuild(first, deaf, samples=2 * TEN_SECONDS).turns == ()
    # 0.8 and 0.4 are 0.6 on average; slots differ from window to window.
    hears = window(296, [(2, 0)], (2, 104, 204, 0.4))
    assert rebuild(first, hears, samples=2 * TEN_SECONDS).turns == frames((400, 500, "a"))


def test_local_speaker_without_a_speaker_counts_but_is_nobody() -> None:
    """Slot 1 has no speaker: two are counted, one can be named."""
    found = rebuild(window(0, [(0, 0)], (0, 100, 300, 1.0), (1, 200, 400, 1.0)))
    assert found.turns == frames((100, 300, "a"))


def test_gaps_shorter_than_the_limit_are_filled() -> None:
    spoken = window(0, [(0, 0)], (0, 100, 200, 1.0), (0, 220, 300, 1.0), (0, 360, 400, 1.0))
    # 20 frames are 0.3375 s, 60 are 1.0125 s.
    assert rebuild(spoken).turns == frames((100, 200, "a"), (220, 300, "a"), (360, 400, "a"))
    half = replace(RULES, fill_gap_seconds=0.5)
    assert rebuild(spoken, rules=half).turns == frames((100, 300, "a"), (360, 400, "a"))
    # A gap of exactly the limit is not shorter than it.
    exact = replace(RULES, fill_gap_seconds=20 * GRID.hop_seconds)
    assert rebuild(spoken, rules=exact).turns[0] == frames((100, 200, "a"))[0]


def test_gaps_are_filled_over_another_speaker_but_not_in_exclusive_turns() -> None:
    spoken = window(0, [(0, 0), (1, 1)], (0, 100, 200, 1.0), (1, 200, 220, 1.0), (0, 220, 300, 1.0))
    found = rebuild(spoken, rules=replace(RULES, fill_gap_seconds=0.5))
    assert found.turns == frames((100, 300, "a"), (200, 220, "b"))
    assert found.exclusive_turns == frames((100, 200, "a"), (200, 220, "b"), (220, 300, "a"))


def test_exclusive_turns_never_overlap() -> None:
    random = np.random.default_rng(0)
    content = random.integers(0, 256, (WINDOW_FRAMES, 3)).astype(np.uint8)
    windows = [
        LabelledWindow(296 * number, lambda: content, ((0, 0), (1, 1), (2, number % 2)))
        for number in range(6)
    ]
    rules = replace(RULES, fill_gap_seconds=0.3)
    found = reconstruct(windows, NAMES, 35 * 16_000, rules).exclusive_turns
    assert len(found) > 10
    for earlier, later in pairwise(found):
        assert earlier.end <= later.start


def test_short_turns_are_dropped_after_gaps_are_filled() -> None:
    spoken = window(0, [(0, 0)], (0, 100, 110, 1.0), (0, 112, 122, 1.0), (0, 300, 310, 1.0))
    rules = replace(RULES, fill_gap_seconds=0.1, min_turn_seconds=0.3)
    # 22 frames are 0.371 s, 10 are 0.169 s.
    assert rebuild(spoken, rules=rules).turns == frames((100, 122, "a"))


def test_turns_begin_at_zero_and_end_with_the_recording() -> None:
    talkative = window(0, [(0, 0)], (0, 0, WINDOW_FRAMES, 1.0))
    (turn,) = rebuild(talkative, samples=5 * 16_000).turns
    assert (turn.start, turn.end) == (0.0, 5.0)
    # 50 ms: the only frame begins at 0.
    (turn,) = rebuild(talkative, samples=800).turns
    # Its two frames would reach to 56 ms.
    assert (turn.start, turn.end) == (0.0, 0.05)


@pytest.mark.parametrize("chunk", [100, 589, 700, 1_000, 131_072])
def test_chunks_do_not_show(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    windows = []
    for number in range(8):
        rough = random.integers(0, 2, (WINDOW_FRAMES // 31, 3)) * 255
        content = np.repeat(rough, 31, axis=0).astype(np.uint8)
        windows.append(
            LabelledWindow(296 * number, lambda content=content: content, ((0, 0), (1, 1)))  # type: ignore[misc]
        )
    rules = replace(RULES, fill_gap_seconds=0.2)
    whole = reconstruct(windows, NAMES, 45 * 16_000, rules)
    assert len(whole.turns) > 15
    monkeypatch.setattr(reconstruction, "_CHUNK_FRAMES", chunk)
    assert reconstruct(windows, NAMES, 45 * 16_000, rules) == whole


def test_turn_across_the_border_of_a_real_chunk() -> None:
    """131072 frames are 36.9 minutes: a turn over the border is one turn."""
    border = 131_072
    start = border - 300
    samples = (border + 1000) * 270
    found = rebuild(window(start, [(0, 1)], (0, 200, 400, 1.0)), samples=samples)
    assert found.turns == frames((start + 200, start + 400, "b"))
