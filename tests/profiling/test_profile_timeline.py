"""Errors along the timeline, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.profiling.records import ErrorSpan
from fluidaudio_cli.profiling.timeline import (
    error_spans,
    read_truth,
    renamed,
)
from fluidaudio_cli.scoring.sweep import score_turns
from fluidaudio_cli.turns import Turn

REFERENCE = (Turn(1.0, 4.0, "A"), Turn(4.0, 7.0, "B"), Turn(6.0, 8.0, "A"))
HYPOTHESIS = (Turn(0.0, 3.0, "A"), Turn(3.0, 5.0, "B"), Turn(5.0, 7.0, "C"))


def test_error_spans_by_hand() -> None:
    spans = error_spans(REFERENCE, HYPOTHESIS, ((0.0, 10.0),))
    assert spans == (
        ErrorSpan(0.0, 1.0, "false alarm"),
        ErrorSpan(3.0, 4.0, "confusion"),
        ErrorSpan(5.0, 7.0, "confusion"),
        ErrorSpan(6.0, 8.0, "missed"),
    )


def test_error_spans_add_up_to_the_score() -> None:
    extents = ((0.0, 6.5), (7.5, 9.0))
    found = renamed(REFERENCE, HYPOTHESIS, extents)
    # C shares most time with B; the speaker called B is then nobody's, whatever the name.
    assert [turn.speaker for turn in found] == ["A", "B (unmapped)", "B"]
    spans = error_spans(REFERENCE, found, extents)
    score = score_turns(REFERENCE, HYPOTHESIS, extents)
    totals = {
        kind: sum(span.end - span.start for span in spans if span.kind == kind)
        for kind in ("missed", "false alarm", "confusion")
    }
    assert totals == pytest.approx(
        {
            "missed": score.missed_detection,
            "false alarm": score.false_alarm,
            "confusion": score.confusion,
        }
    )


def test_a_turn_that_ends_where_the_next_of_the_same_speaker_starts() -> None:
    turns = (Turn(0.0, 1.0, "A"), Turn(1.0, 2.0, "A"))
    assert error_spans(turns, turns, ((0.0, 2.0),)) == ()


def test_reference_by_uri_or_the_only_one(tmp_path: Path) -> None:
    line = "SPEAKER {} 1 0.0 1.0 <NA> <NA> x <NA> <NA>\n"
    one, two = tmp_path / "one.rttm", tmp_path / "two.rttm"
    one.write_text(line.format("other"))
    two.write_text(line.format("a") + line.format("b"))
    for path, uri in ((one, "meeting"), (two, "b")):
        assert read_truth(path, None, uri, 9.0) == ((Turn(0.0, 1.0, "x"),), ((0.0, 9.0),))
    with pytest.raises(AnnotationError, match=r"two\.rttm has no recording 'meeting': give the"):
        read_truth(two, None, "meeting", 9.0)


def test_scored_is_the_audio_or_the_uem_less_what_the_reference_excludes(tmp_path: Path) -> None:
    reference, uem = tmp_path / "a.rttm", tmp_path / "a.uem"
    reference.write_text(
        "SPEAKER a 1 0.0 1.0 <NA> <NA> x <NA> <NA>\nNOSCORE a 1 3.0 1.5 <NA> <NA> <NA> <NA> <NA>\n"
    )
    assert read_truth(reference, None, "a", 12.5).extents == ((0.0, 3.0), (4.5, 12.5))
    uem.write_text("a 1 2.0 5.0\n")
    assert read_truth(reference, uem, "a", 12.5).extents == ((2.0, 3.0), (4.5, 5.0))
