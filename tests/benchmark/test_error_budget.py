"""Where errors come from, and what is left when the reference says who is who: by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarking import cell, file_record

from fluidaudio_cli.benchmark.accuracy import assess, budget
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.oracle import oracle_labels, oracle_turns
from fluidaudio_cli.corpora.folder import DatasetItem
from fluidaudio_cli.diarization.evidence import EvidenceLog, LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.frames import GRID, WINDOW_FRAMES
from fluidaudio_cli.diarization.turn_builder import ReconstructionRules
from fluidaudio_cli.scoring.records import DiarizationErrorRate
from fluidaudio_cli.turns import Turn

WHOLE = ((0.0, 20.0),)
REFERENCE = (Turn(0.0, 6.0, "a"), Turn(4.0, 10.0, "b"), Turn(12.0, 15.0, "a"))


def der(missed: float, false_alarm: float, confusion: float) -> DiarizationErrorRate:
    return DiarizationErrorRate(
        missed_detection=missed, false_alarm=false_alarm, confusion=confusion, total=15.0
    )


def test_parts_are_told_apart_and_add_up_to_the_error() -> None:
    found = (Turn(0.0, 10.0, "x"), Turn(7.0, 8.0, "y"), Turn(13.0, 16.0, "x"))
    # Missed: nobody 12-13, the second speaker 4-6. Added: 15-16, and a second one 7-8.
    # x is a (7 s in common) rather than b (6 s): 6-10 is confused, but for y, who is b, 7-8.
    split = budget(REFERENCE, found, WHOLE, der(3.0, 2.0, 3.0))
    assert (split.missed, split.false_alarm, split.overlap) == pytest.approx((1.0, 1.0, 3.0))
    assert split.confusion == 3.0
    assert split.missed + split.false_alarm + split.overlap + split.confusion == 8.0
    assert split.oracle is None


def test_the_oracles_error_is_scored_within_the_same_extent() -> None:
    split = budget(REFERENCE, REFERENCE, ((0.0, 10.0),), der(0.0, 0.0, 0.0), oracle=REFERENCE[:2])
    assert split.oracle is not None
    assert split.oracle.rate == 0.0
    assert split.oracle.total == pytest.approx(12.0)


def test_speech_added_where_collars_leave_none_counts_in_the_lenient_pool(tmp_path: Path) -> None:
    """As in `fluidaudio score`: a recording without speech to score still may have some added."""
    files = []
    for uri, spoken in (("short", 0.4), ("long", 10.0)):
        item = DatasetItem(uri, tmp_path / f"{uri}.wav", tmp_path / f"{uri}.rttm", None)
        item.reference.write_text(f"SPEAKER {uri} 1 0 {spoken} <NA> <NA> x <NA> <NA>\n")
        found = (Turn(0.0, spoken, "a"), Turn(12.0, 14.0, "a"))
        scores = assess(item, found, 20.0)
        files.append(file_record(uri).model_copy(update={"accuracy": scores}))
    both = cell("fast", *files)
    assert METRICS["der_lenient"].samples(both) == pytest.approx((100 * 4.0 / 9.5,))
    assert METRICS["der_lenient"].measure(both, files[:1]) is None


def test_what_clustering_costs_is_never_a_zero_below_zero() -> None:
    # Both errors are the same sum, added up in another order.
    oracle = DiarizationErrorRate(0.1 + 0.2, 0.0, 0.0, 50.0)
    same = cell("fast", file_record(error_seconds=0.3, oracle=oracle))
    assert str(METRICS["clustering_cost"].samples(same)) == "(0.0,)"


def window(number: int, *spans: tuple[int, float, float]) -> WindowEvidence:
    """Voices as (slot, from, to) in seconds of the window."""
    centres = GRID.centre_seconds + GRID.hop_seconds * np.arange(WINDOW_FRAMES)
    presence = np.zeros((WINDOW_FRAMES, 3), np.uint8)
    for slot, start, end in spans:
        presence[(centres >= start) & (centres < end), slot] = 255
    voices = tuple(LocalVoice(slot, 1.0, np.zeros(2, np.float32)) for slot, *_ in spans)
    return WindowEvidence.of(number, voices, presence)


def test_each_voice_is_the_reference_speaker_it_overlaps_most_and_no_other_is() -> None:
    # Window 1 begins at 10 s, where only a speaks, 12-15 s.
    windows = [window(0, (0, 4.5, 10.0), (2, 0.0, 6.0)), window(1, (1, 2.0, 5.0), (2, 2.0, 3.0))]
    labels = [found.tolist() for _, found in oracle_labels(windows, REFERENCE, 10.0)]
    assert labels == [[1, 0], [0, -1]]
    # Both like a best, but only one can be: the other is b, of whom there is some.
    both = [window(0, (0, 0.0, 9.0), (1, 0.0, 5.0))]  # a 6 and b 5 s; a 5 and b 1 s
    assert [found.tolist() for _, found in oracle_labels(both, REFERENCE, 10.0)] == [[1, 0]]
    assert [found.tolist() for _, found in oracle_labels(both, (), 10.0)] == [[-1, -1]]


def test_perfect_evidence_with_oracle_labels_is_the_reference() -> None:
    log = EvidenceLog()
    log.append(window(0, (0, 4.0, 10.0), (2, 0.0, 6.0)))
    log.append(window(1, (1, 2.0, 5.0)))
    log.samples = 320_000
    rules = ReconstructionRules(0.5, 1.5, 0.0, 0.0)
    turns = oracle_turns(log, 10.0, rules, REFERENCE)
    assert len(turns) == 3
    for turn, true in zip(turns, REFERENCE, strict=True):
        assert (turn.start, turn.end) == pytest.approx((true.start, true.end), abs=0.04)
    assert [turn.speaker for turn in turns] == ["0", "1", "0"]
