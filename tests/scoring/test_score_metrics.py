"""Hand-computed scores. The recording, in seconds (A and B the truth, x y z the answer):

A |0---------10)          |16------20)        x |1------9)     |15-16)  |17---19)
B         |8-----14)                          y          |9------15)|16-17)
                                              z                                   |22-23)

miss 0-1, 8-9, 9-10, 19-20; false alarm 14-15, 15-16, 22-23; confusion 16-17 (A taken for y).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidaudio_cli.errors import AnnotationError, SelfTestError, UsageError
from fluidaudio_cli.scoring import metrics, pyannote_scorer
from fluidaudio_cli.scoring.metrics import (
    LENIENT,
    STRICT,
    FileScore,
    condition,
    pool,
    score_conditions,
)
from fluidaudio_cli.scoring.records import DiarizationErrorRate, OverlapError, SpeakerCount
from fluidaudio_cli.scoring.sweep import Regions, score_turns
from fluidaudio_cli.turns import Turn

Turns = Sequence[Turn]
TRUTH = (Turn(0, 10, "A"), Turn(8, 14, "B"), Turn(16, 20, "A"))
ANSWER = (
    Turn(1, 9, "x"),
    Turn(9, 15, "y"),
    Turn(15, 16, "x"),
    Turn(16, 17, "y"),
    Turn(17, 19, "x"),
    Turn(22, 23, "z"),
)
UEM = ((0.0, 24.0),)


def score_both(truth: Turns, answer: Turns, uem: Any = None, **options: Any) -> FileScore:
    return score_conditions((STRICT, LENIENT), truth, answer, uem, **options)


def score(
    truth: Turns,
    answer: Turns,
    uem: Any = None,
    *,
    collar_per_side: float = 0.0,
    skip_overlap: bool = False,
    **options: Any,
) -> FileScore:
    asked = condition(collar_per_side, skip_overlap)
    return score_conditions((asked,), truth, answer, uem, **options)


def close(found: DiarizationErrorRate, *expected: float) -> bool:
    return (found.missed_detection, found.false_alarm, found.confusion, found.total) == (
        pytest.approx(expected, abs=1e-9)
    )


def test_strict() -> None:
    strict = score_both(TRUTH, ANSWER, UEM).strict
    assert close(strict.der, 4, 3, 1, 20)
    assert close(score_turns(TRUTH, ANSWER, UEM), 4, 3, 1, 20)  # what it takes for granted
    assert strict.der.rate == pytest.approx(0.4)
    # A with x: 10 s shared of 15; B with y: 5 s shared of 8.
    assert strict.jer.rate == pytest.approx((1 - 10 / 15 + 1 - 5 / 8) / 2)


def test_lenient_leaves_a_quarter_second_on_each_side_and_overlap() -> None:
    # Out: 0-.25, 7.75-10.25, 13.75-14.25, 15.75-16.25, 19.75-20.25.
    lenient = score_both(TRUTH, ANSWER, UEM).lenient
    assert close(lenient.der, 1.5, 2.5, 0.75, 14.5)
    # A has 11 s, x 6.75 + .75 + 2, shared 8.75; B has 3.5 s, y 3.5 + .75 + .75, shared 3.5.
    expected = (1 - 8.75 / (11 + 9.5 - 8.75) + 1 - 3.5 / 5) / 2
    assert lenient.jer.rate == pytest.approx(expected)


def test_collar_alone_keeps_overlap() -> None:
    # Half a second per side: out 0-.5, 7.5-8.5, 9.5-10.5, 13.5-14.5, 15.5-16.5, 19.5-20.5.
    found = score(TRUTH, ANSWER, UEM, collar_per_side=0.5).conditions[0].der
    # miss .5-1, 8.5-9, 9-9.5, 19-19.5; FA 14.5-15.5, 22-23; confusion 16.5-17.
    assert close(found, 2, 2, 0.5, 7 + 2 + 3 + 3)


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ("all", (4, 3, 1, 20)),
        ("single", (2, 0, 1, 16)),
        ("overlap", (2, 0, 0, 4)),
        ("nonoverlap", (2, 3, 1, 16)),
    ],
)
def test_regions(regions: Regions, expected: tuple[float, ...]) -> None:
    assert close(score(TRUTH, ANSWER, UEM, regions=regions).conditions[0].der, *expected)


def test_uem_with_a_hole() -> None:
    uem = ((9.0, 14.5), (16.5, 30.0))
    # 9-10 miss 1; 14-14.5 FA; 16.5-17 confusion; 19-20 miss; 22-23 FA; A 1+3.5, B 5.
    assert close(score(TRUTH, ANSWER, uem).conditions[0].der, 2, 1.5, 0.5, 9.5)


def test_whole_recording_figures() -> None:
    found = score_both(TRUTH, ANSWER, UEM, tolerance=1.0)
    assert found.speakers == SpeakerCount(2, 3, absolute_error=1, correct_files=0, files=1)
    assert found.overlap == OverlapError(missed=2.0, false_alarm=0.0, total=2.0)
    # Onsets 0 8 16 with 1 9 16; offsets 10 14 20 with 9 15 19.
    assert found.boundaries.offsets == (1.0, 1.0, 0.0, -1.0, 1.0, -1.0)
    assert found.boundaries.precision == 6 / 12
    assert found.boundaries.recall == 1.0
    assert found.scored_seconds == 24.0


def test_falsely_added_overlap() -> None:
    found = score([Turn(0, 10, "A")], [Turn(0, 10, "x"), Turn(4, 7, "y")], ((0.0, 10.0),))
    assert found.overlap == OverlapError(missed=0.0, false_alarm=3.0, total=0.0)
    assert close(found.conditions[0].der, 0, 3, 0, 10)


def test_without_uem_the_extent_of_both_sides_is_scored_and_said() -> None:
    found = score(TRUTH, ANSWER)
    assert (found.uem, found.uem_source) == (((0.0, 23.0),), "extent")
    assert score(TRUTH, ANSWER, UEM).uem_source == "given"
    assert score(TRUTH, ANSWER, UEM, uem_source="audio").uem_source == "audio"


def test_noscore_time_is_left_out() -> None:
    found = metrics.score_conditions((STRICT,), TRUTH, ANSWER, UEM, no_score=((14.0, 20.0),))
    assert found.uem == ((0.0, 14.0), (20.0, 24.0))
    assert close(found.conditions[0].der, 3, 1, 0, 16)


def test_self_overlap_counts_once() -> None:
    twice = (Turn(0, 6, "A"), Turn(5, 10, "A"), *TRUTH[1:])
    assert score_both(twice, ANSWER, UEM) == score_both(TRUTH, ANSWER, UEM)


def test_equal_names_are_no_mapping() -> None:
    # B's name on A's speech: the mapping makes it right.
    assert close(
        score([Turn(0, 5, "A")], [Turn(0, 5, "B")], ((0.0, 5.0),)).conditions[0].der, 0, 0, 0, 5
    )
    # A third speaker of the answer who happens to be called like one of the reference.
    truth = [Turn(0, 6, "A"), Turn(6, 8, "B")]
    answer = [Turn(0, 6, "B"), Turn(6, 7, "A"), Turn(7, 8, "x")]
    for regions in ("all", "single"):
        assert close(
            score(truth, answer, ((0.0, 8.0),), regions=regions).conditions[0].der, 0, 0, 1, 8
        )


def test_silent_hypothesis_misses_everything() -> None:
    found = score_both(TRUTH, (), UEM)
    assert found.strict.der.rate == found.lenient.der.rate == found.strict.jer.rate == 1.0
    assert found.speakers == SpeakerCount(2, 0, absolute_error=2, correct_files=0, files=1)


@pytest.mark.parametrize("uem", [UEM, ((30.0, 40.0),), None])
def test_reference_without_speech_is_an_error(uem: tuple[tuple[float, float], ...] | None) -> None:
    truth = TRUTH if uem == ((30.0, 40.0),) else ()
    with pytest.raises(AnnotationError, match="the reference of 'call' has no speech in the sco"):
        score_both(truth, ANSWER, uem, uri="call")
    with pytest.raises(AnnotationError, match="no speech in the scored time"):
        score_both((), (), None)


def test_what_a_collar_or_region_leaves_empty_is_nan() -> None:
    truth = [Turn(0, 0.4, "A")]
    both = score_both(truth, truth, ((0.0, 1.0),))
    assert both.strict.der.rate == 0.0
    assert math.isnan(both.lenient.der.rate)
    assert math.isnan(score(truth, truth, ((0.0, 1.0),), regions="overlap").conditions[0].der.rate)


def test_rounding_leaves_no_speaker_where_collars_leave_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """3.1 - 0.05 is a little more than 3.0 + 0.05."""
    truth, custom = [Turn(3.0, 3.1, "A")], condition(0.05, skip_overlap=False)
    for turns in (pyannote_scorer._WHOLE_TURNS, 0):
        monkeypatch.setattr(pyannote_scorer, "_WHOLE_TURNS", turns)
        found = score_conditions([STRICT, custom], truth, truth, ((2.9, 4.0),))
        assert [each.jer.speaker_count for each in found.conditions] == [1, 0]


def test_pooled_by_duration() -> None:
    perfect = score_both([Turn(0, 80, "A")], [Turn(0, 80, "q")], ((0.0, 80.0),))
    alone = score_both(TRUTH, ANSWER, UEM)
    pooled = pool([alone, perfect])
    assert pooled.strict.der.rate == pytest.approx(8 / 100)
    assert pooled.lenient.der.rate == pytest.approx(4.75 / (14.5 + 79.5))
    for both, one in zip(pooled.conditions, alone.conditions, strict=True):
        # Of each speaker alike, however long each speaks.
        assert both.jer.speaker_error == pytest.approx(one.jer.speaker_error)
        assert both.jer.speaker_count == one.jer.speaker_count + 1
    assert (pooled.speakers.correct_files, pooled.speakers.files) == (1, 2)
    assert pooled.scored_seconds == 104.0


def test_pooling_different_conditions_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot add"):
        pool([score(TRUTH, ANSWER, UEM), score(TRUTH, ANSWER, UEM, collar_per_side=0.25)])
    with pytest.raises(KeyError, match="not scored under condition 'lenient'"):
        _ = score(TRUTH, ANSWER, UEM).lenient


def test_conditions_are_named_by_their_settings() -> None:
    assert metrics.condition(0.0, False) is STRICT
    assert metrics.condition(0.25, True) is LENIENT
    custom = metrics.condition(0.25, False)
    assert custom.description == "custom: collar ±0.25 s, overlap scored"


def test_bad_settings() -> None:
    with pytest.raises(UsageError, match=r"a collar of -1 s per side: give a time of 0 s or more"):
        score(TRUTH, ANSWER, UEM, collar_per_side=-1)
    with pytest.raises(UsageError, match="regions 'some': choose one of all, single, overlap"):
        score_turns(TRUTH, ANSWER, UEM, regions="some")  # type: ignore[arg-type]


def test_a_disagreement_of_the_two_scorers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = DiarizationErrorRate(4.1, 3, 1, 20)
    monkeypatch.setattr(metrics, "score_turns", lambda *args, **options: wrong)
    with pytest.raises(SelfTestError, match=r"two scorers disagree on missed_detection of 'call' "):
        score(TRUTH, ANSWER, UEM, uri="call")


grid = st.integers(0, 400)
turn_lists = st.lists(
    st.builds(
        lambda start, length, name: Turn(start / 8, (start + length) / 8, name),
        grid,
        st.integers(1, 80),
        st.sampled_from("abcd"),
    ),
    min_size=1,
    max_size=12,
)
PROPERTY_UEM = ((1.0, 20.0), (25.0, 60.0))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(turn_lists, turn_lists)
def test_both_scorers_agree_whole_and_in_parts(truth: list[Turn], answer: list[Turn]) -> None:
    """``score`` itself raises when the sweep and pyannote.metrics disagree."""
    truth = [Turn(30.0, 31.0, "a"), *truth]
    for regions in ("all", "overlap", "nonoverlap"):
        whole = score_both(truth, answer, PROPERTY_UEM, regions=regions)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pyannote_scorer, "_WHOLE_TURNS", 0)
            patch.setattr(pyannote_scorer, "_PART_SECONDS", 7.0)
            parts = score_both(truth, answer, PROPERTY_UEM, regions=regions)
        for left, right in zip(whole.conditions, parts.conditions, strict=True):
            assert left.der.error == pytest.approx(right.der.error, abs=1e-6)
            assert left.jer.speaker_count == right.jer.speaker_count


@settings(max_examples=60, derandomize=True, deadline=None)
@given(turn_lists, turn_lists)
def test_properties_of_the_sweep(truth: list[Turn], answer: list[Turn]) -> None:
    whole = score_turns(truth, answer, PROPERTY_UEM)
    parts = [
        score_turns(truth, answer, PROPERTY_UEM, regions=regions)
        for regions in ("overlap", "nonoverlap")
    ]
    assert close(parts[0] + parts[1], *vars(whole).values())
    assert score_turns(truth, truth, PROPERTY_UEM).error == pytest.approx(0, abs=1e-9)
    renamed = [Turn(start, end, f"speaker {name}") for start, end, name in answer]
    assert close(score_turns(truth, renamed, PROPERTY_UEM), *vars(whole).values())
    swapped = score_turns(answer, truth, PROPERTY_UEM)
    assert swapped.missed_detection == pytest.approx(whole.false_alarm, abs=1e-9)
    assert swapped.confusion == pytest.approx(whole.confusion, abs=1e-9)
