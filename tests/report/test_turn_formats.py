"""Each format, read back by code that shares nothing with the writer."""

from __future__ import annotations

import csv
import html
import io
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.report.turn_formats import FORMATS
from fluidaudio_cli.turns import Turn

TURNS = [
    Turn(1.5, 3.0, 'Ann "A" O\'Neil'),
    Turn(2.25, 61.9996, "Bob <b> & co"),
    Turn(3.0, 3.5, 'Ann "A" O\'Neil'),
]


def write(name: str, turns: list[Turn], uri: str = "meeting", seconds: float = 100.0) -> str:
    return FORMATS[name](turns, uri, seconds)


def read_textgrid(text: str) -> dict[str, list[tuple[float, float, str]]]:
    """Praat's own view of a text file: numbers, quoted strings and flags; all else is comment."""
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\n')
    body = text.split("\n\n", 1)[1]
    tokens = re.findall(r'"((?:[^"]|"")*)"|(?<=[= ])(\d+(?:\.\d+)?)(?=\s)|(<exists>)', body)
    values = [
        string.replace('""', '"') if not number and not flag else number or flag
        for string, number, flag in tokens
    ]
    stream = iter(values)
    assert float(next(stream)) == 0.0
    end = float(next(stream))
    assert next(stream) == "<exists>"
    tiers: dict[str, list[tuple[float, float, str]]] = {}
    for _ in range(int(next(stream))):
        assert next(stream) == "IntervalTier"
        name = next(stream)
        assert (float(next(stream)), float(next(stream))) == (0.0, end)
        tiers[name] = [
            (float(next(stream)), float(next(stream)), next(stream))
            for _ in range(int(next(stream)))
        ]
        assert tiers[name][0][0] == 0.0
        assert tiers[name][-1][1] == end
        for before, after in zip(tiers[name], tiers[name][1:], strict=False):
            assert before[0] < before[1] == after[0] < after[1]
    assert not list(stream)
    return tiers


def test_rttm_is_the_scorer_s() -> None:
    assert write("rttm", [Turn(0.5, 2.0, "A")]) == (
        "SPEAKER meeting 1 0.500 1.500 <NA> <NA> A <NA> <NA>\n"
    )


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(write("csv", TURNS, uri='a,"b"'))))
    assert rows[0] == {
        "uri": 'a,"b"',
        "start": "1.500",
        "end": "3.000",
        "duration": "1.500",
        "speaker": 'Ann "A" O\'Neil',
    }
    assert [(r["start"], r["end"]) for r in rows[1:]] == [("2.250", "62.000"), ("3.000", "3.500")]


def test_srt() -> None:
    assert write("srt", TURNS[:2]) == (
        '1\n00:00:01,500 --> 00:00:03,000\nAnn "A" O\'Neil\n\n'
        "2\n00:00:02,250 --> 00:01:02,000\nBob <b> & co\n"
    )


def test_srt_text_is_never_an_arrow() -> None:
    assert write("srt", [Turn(0, 1, "a\n--> b")]).splitlines()[2:] == ["a -> b"]


def test_vtt() -> None:
    assert write("vtt", TURNS[:2]) == (
        "WEBVTT\n"
        '\n00:00:01.500 --> 00:00:03.000\n<v Ann "A" O\'Neil>Ann "A" O\'Neil</v>\n'
        "\n00:00:02.250 --> 00:01:02.000\n"
        "<v Bob &lt;b&gt; &amp; co>Bob &lt;b&gt; &amp; co</v>\n"
    )


def test_audacity() -> None:
    assert write("audacity", [Turn(1.5, 3.0, "a\tb")]) == "1.500000\t3.000000\ta b\n"


def test_textgrid_text() -> None:
    assert write("textgrid", [Turn(1.5, 3.0, 'A"B')], seconds=10.0) == (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
        "xmin = 0\nxmax = 10\ntiers? <exists>\nsize = 1\nitem []:\n"
        '    item [1]:\n        class = "IntervalTier"\n        name = "A""B"\n'
        "        xmin = 0\n        xmax = 10\n        intervals: size = 3\n"
        "        intervals [1]:\n            xmin = 0\n            xmax = 1.5\n"
        '            text = ""\n'
        "        intervals [2]:\n            xmin = 1.5\n            xmax = 3\n"
        '            text = "A""B"\n'
        "        intervals [3]:\n            xmin = 3\n            xmax = 10\n"
        '            text = ""\n'
    )


def test_textgrid_has_a_tier_per_speaker_and_keeps_overlap() -> None:
    tiers = read_textgrid(write("textgrid", TURNS))
    ann, bob = TURNS[0].speaker, TURNS[1].speaker
    assert tiers == {
        ann: [(0, 1.5, ""), (1.5, 3, ann), (3, 3.5, ann), (3.5, 100, "")],
        bob: [(0, 2.25, ""), (2.25, 62, bob), (62, 100, "")],
    }


def test_textgrid_joins_a_speaker_s_overlap_with_themselves() -> None:
    turns = [Turn(1, 5, "A"), Turn(2, 3, "A"), Turn(4, 6, "A"), Turn(6, 7, "A")]
    assert read_textgrid(write("textgrid", turns, seconds=7.0)) == {
        "A": [(0, 1, ""), (1, 6, "A"), (6, 7, "A")]
    }


@pytest.mark.parametrize("seconds", [0.0, 0.05, 3.9996])
def test_textgrid_without_turns_still_opens(seconds: float) -> None:
    length = max(0.001, math.ceil(seconds * 1000) / 1000)
    assert read_textgrid(write("textgrid", [], seconds=seconds)) == {
        "no speech": [(0.0, length, "")]
    }


def test_a_turn_beyond_the_stated_length_extends_the_grid() -> None:
    assert read_textgrid(write("textgrid", [Turn(0, 2.0006, "A")], seconds=2.0)) == {
        "A": [(0.0, 2.001, "A")]
    }


def test_no_turns() -> None:
    assert write("rttm", []) == ""
    assert write("csv", []) == "uri,start,end,duration,speaker\n"
    assert write("srt", []) == ""
    assert write("vtt", []) == "WEBVTT\n"
    assert write("audacity", []) == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.9996, "00:00:01,000"),
        (59.9995001, "00:01:00,000"),
        (3599.9999, "01:00:00,000"),
        (360_000.0014, "100:00:00,001"),
    ],
)
def test_rounding_carries(seconds: float, shown: str) -> None:
    assert write("srt", [Turn(0, seconds, "A")]).splitlines()[1] == f"00:00:00,000 --> {shown}"


@pytest.mark.parametrize("name", ["csv", "srt", "vtt", "textgrid", "audacity"])
def test_the_order_given_does_not_matter(name: str) -> None:
    assert write(name, TURNS) == write(name, TURNS[::-1])


@pytest.mark.parametrize("name", ["csv", "srt", "vtt", "textgrid", "audacity"])
@pytest.mark.parametrize(
    "turn", [Turn(math.nan, 1, "A"), Turn(0, math.inf, "A"), Turn(-1, 1, "A"), Turn(2, 1, "A")]
)
def test_impossible_times_are_refused(name: str, turn: Turn) -> None:
    with pytest.raises(AnnotationError) as caught:
        write(name, [turn])
    assert str(caught.value) == (
        f"'A' speaks from {turn.start} to {turn.end} s: "
        "a turn needs finite times from 0 on and an end after its start"
    )


def test_a_turn_shorter_than_a_millisecond_is_left_out() -> None:
    assert write("audacity", [Turn(1.0001, 1.0004, "A")]) == ""


TURN_LISTS = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start, start + length, speaker),
        st.floats(0, 50_000),
        st.floats(0.002, 5_000),
        # NUL is left out of CSV.
        st.text(
            st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=8
        ).filter(lambda name: name.split() == [name]),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(TURN_LISTS)
def test_every_format_tells_the_same_times(turns: list[Turn]) -> None:
    expected = sorted((round(t.start * 1000), round(t.end * 1000), t.speaker) for t in turns)

    rows = list(csv.reader(io.StringIO(write("csv", turns), newline="")))[1:]
    assert [(_ms(r[1]), _ms(r[2]), r[4]) for r in rows] == expected

    clock = r"(\d{2,}):([0-5]\d):([0-5]\d)[,.](\d{3})"
    for name in ("srt", "vtt"):
        times = re.findall(rf"(?m)^{clock} --> {clock}$", write(name, turns))
        assert [(_clock_ms(t[:4]), _clock_ms(t[4:])) for t in times] == [e[:2] for e in expected]
    voices = re.findall(r"<v ([^<>]*)>([^<>]*)</v>", write("vtt", turns))
    assert [html.unescape(voice) for voice, _ in voices] == [e[2] for e in expected]

    labels = [line.split("\t") for line in write("audacity", turns).split("\n")[:-1]]
    assert [(_ms(a), _ms(b), c) for a, b, c in labels] == expected

    tiers = read_textgrid(write("textgrid", turns))
    assert set(tiers) == {e[2] for e in expected} or not expected
    for speaker, intervals in tiers.items():
        spoken = _union([e[:2] for e in expected if e[2] == speaker])
        told = _union([(_ms(a), _ms(b)) for a, b, text in intervals if text])
        assert told == spoken


def _ms(seconds: str | float) -> int:
    return round(float(seconds) * 1000)


def _clock_ms(parts: tuple[str, ...]) -> int:
    hours, minutes, seconds, thousandths = map(int, parts)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


def _union(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
