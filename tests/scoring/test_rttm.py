from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.scoring.rttm import format_rttm, parse_rttm, read_rttm
from fluidaudio_cli.scoring.uem import read_uem
from fluidaudio_cli.turns import Turn, merge_self_overlap

GOOD = "SPEAKER call 1 1.250 2.500 <NA> <NA> ann <NA> <NA>"


def write(folder: Path, data: str | bytes, name: str = "file.rttm") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_reads_several_recordings_sorted_and_merged(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "SPEAKER b 1 4 2 <NA> <NA> zoe <NA> <NA>\n"
        "SPEAKER a 1 9.5 1 <NA> <NA> ann <NA>\n"
        "SPEAKER b 1 0.5 2 <NA> <NA> ann 0.93 <NA>\n"
        "SPEAKER b 1 2.0 1.5 <NA> <NA> ann <NA> <NA>\n",
    )
    assert read_rttm(path) == {
        "a": (Turn(9.5, 10.5, "ann"),),
        "b": (Turn(0.5, 3.5, "ann"), Turn(4.0, 6.0, "zoe")),
    }


def test_turns_that_touch_in_decimals_are_merged(tmp_path: Path) -> None:
    assert 0.7 + 0.1 < 0.8
    path = write(
        tmp_path,
        "SPEAKER call 1 0.7 0.1 <NA> <NA> ann <NA>\nSPEAKER call 1 0.8 1 <NA> <NA> ann <NA>\n",
    )
    assert read_rttm(path) == {"call": (Turn(0.7, 1.8, "ann"),)}


def test_byte_order_mark_crlf_comments_blank_lines_tabs(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        b"\xef\xbb\xbf;; made by hand\r\n\r\n# so was this\r\n"
        b"  SPEAKER\tcall 1   1.250 2.500 <NA> <NA> ann <NA> <NA> \r\n",
    )
    assert read_rttm(path) == {"call": (Turn(1.25, 3.75, "ann"),)}


def test_unicode_names_are_composed_and_keep_no_break_spaces(tmp_path: Path) -> None:
    decomposed, composed = "re\u0301union", "r\u00e9union"
    speaker = "Zo\u00eb\u00a0\u2028\u3000李"
    path = write(tmp_path, f"SPEAKER {decomposed} 1 0 1 <NA> <NA> {speaker} <NA> <NA>\n")
    assert read_rttm(path) == {composed: (Turn(0.0, 1.0, speaker),)}


def test_other_types_follow_the_specification(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "SPKR-INFO call 1 <NA> <NA> <NA> unknown ann <NA> <NA>\n"
        "LEXEME call 1 1.3 0.2 hello lex ann 0.9 <NA>\n"
        "NOSCORE call 1 5 2 <NA> <NA> <NA> <NA> <NA>\n"
        "NO_RT_METADATA call 1 6 3 <NA> <NA> <NA> <NA> <NA>\n" + GOOD,
    )
    parsed = parse_rttm(path)
    assert parsed.turns == {"call": (Turn(1.25, 3.75, "ann"),)}
    assert parsed.no_score == {"call": ((5.0, 9.0),)}


def test_zero_length_turn_is_dropped_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, f"{GOOD}\nSPEAKER call 1 9 0.000 <NA> <NA> bob <NA> <NA>\n")
    parsed = parse_rttm(path)
    assert parsed.turns == {"call": (Turn(1.25, 3.75, "ann"),)}
    assert parsed.notes == (f"{path}, line 2: dropped a turn of zero length",)


@pytest.mark.parametrize("text", ["", "\n;; nothing\n"])
def test_file_without_turns_is_silence_under_its_own_name(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text, "quiet.rttm")
    parsed = parse_rttm(path)
    assert parsed.turns == {"quiet": ()}
    assert parsed.notes == (f"{path} holds no turns: read as 'quiet' with nobody speaking",)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("SPEAKER call 1 1.0 2.0 <NA> <NA> ann", "SPEAKER needs 9 or 10 fields and has 8"),
        (f"{GOOD} more", "SPEAKER needs 9 or 10 fields and has 11"),
        ("SPEAKER call 1 1e308 1e308 <NA> <NA> ann <NA>", "the start is '1e308', which is longer"),
        ("SPEAKER call 1 x 2.0 <NA> <NA> ann <NA>", "the start is 'x', not a number of seconds"),
        ("SPEAKER call 1 1,5 2 <NA> <NA> ann <NA>", "the start is '1,5', not a number of seconds"),
        ("SPEAKER call 1 1 nan <NA> <NA> ann <NA>", "the duration is 'nan', not a number"),
        ("SPEAKER call 1 1 1e999 <NA> <NA> ann <NA>", "the duration is '1e999', which is longer"),
        ("SPEAKER call 1 1 1_0 <NA> <NA> ann <NA>", "the duration is '1_0', not a number"),
        ("SPEAKER call 1 -1 2 <NA> <NA> ann <NA>", "the start is -1, and must not be negative"),
        ("SPEAKER call 1 1 -2 <NA> <NA> ann <NA>", "the duration is -2, and must not be negative"),
        ("SPEAKER call 1 1 2 <NA> <NA> <NA> <NA>", "the speaker's name is missing (<NA>)"),
        ("SPEAKER call 2 1 2 <NA> <NA> ann <NA>", "has turns on channel 2 after channel 1"),
        ("speaker call 1 1 2 <NA> <NA> ann <NA>", "'speaker' is not an RTTM type"),
        ("0.5 1.5 ann", "'0.5' is not an RTTM type"),
        ("SPEAKER call 1 1 2 <NA> <NA> a\0b <NA>", "holds a NUL byte"),
        ("SPEAKER " + "x" * 500, "SPEAKER needs 9 or 10 fields and has 2"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path, f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(AnnotationError) as caught:
        read_rttm(path)
    assert caught.value.message.startswith(f"{path}, line 3: ")
    assert reason in caught.value.message


def test_not_utf8_is_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.encode() + b"\nSPEAKER caf\xe9 1 0 1 <NA> <NA> a <NA>\n")
    with pytest.raises(AnnotationError, match=r"line 2: not UTF-8 text: save the file in UTF-8"):
        read_rttm(path)


def test_missing_file_and_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"cannot read .*none\.rttm: No such file"):
        read_rttm(tmp_path / "none.rttm")
    with pytest.raises(AnnotationError, match=r"cannot read .*: Is a directory"):
        read_rttm(tmp_path)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp(), data)
    try:
        parsed = read_rttm(path)
    except AnnotationError:
        return
    assert parsed


def test_format_is_exact_sorted_and_deterministic() -> None:
    turns = [Turn(2.0, 3.0004, "b b"), Turn(0.0006, 2.0, "a"), Turn(5.0, 5.0004, "gone")]
    expected = (
        "SPEAKER my_call 1 0.001 1.999 <NA> <NA> a <NA> <NA>\n"
        "SPEAKER my_call 1 2.000 1.000 <NA> <NA> b%20b <NA> <NA>\n"
    )
    assert format_rttm(" my\tcall ", turns) == expected
    assert format_rttm("my call", reversed(turns)) == expected


@pytest.mark.parametrize(
    ("uri", "turns", "reason"),
    [
        (" ", [], "a recording is named ' '"),
        ("u", [Turn(0, 1, "")], "a speaker is named ''"),
        ("u", [Turn(0, 1, "<NA>")], "a speaker is named '<NA>'"),
        ("u", [Turn(float("nan"), 1, "a")], "'a' speaks from nan to 1 s"),
        ("u", [Turn(0, float("inf"), "a")], "'a' speaks from 0 to inf s"),
        ("u", [Turn(2, 1, "a")], "'a' speaks from 2 to 1 s"),
        ("u", [Turn(-1, 1, "a")], "a turn needs finite times from 0 on"),
    ],
)
def test_format_refuses(uri: str, turns: list[Turn], reason: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        format_rttm(uri, turns)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["a b", "a  b", "a_b", "Ada\u00a0L.", "100%", "%20", "a%20b c", "%41", "%25", "é %C3%A9"],
)
def test_any_name_comes_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(format_rttm("r", [Turn(0.0, 1.0, name)], {name: 0.98765}), encoding="utf-8")
    assert parse_rttm(path).turns == {"r": (Turn(0.0, 1.0, name),)}
    assert path.read_text(encoding="utf-8").split()[-2:] == ["0.9877", "<NA>"]


milliseconds = st.integers(0, 36_000_000)
names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=5)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.tuples(milliseconds, st.integers(1, 10_000), names), min_size=1, max_size=20))
def test_round_trip_keeps_millisecond_times(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, str]]
) -> None:
    turns = [Turn(start / 1000, (start + length) / 1000, name) for start, length, name in rows]
    path = write(tmp_path_factory.getbasetemp(), format_rttm("call", merge_self_overlap(turns)))
    read = read_rttm(path)["call"]
    expected = sorted(merge_self_overlap(turns))
    assert [turn.speaker for turn in read] == [turn.speaker for turn in expected]
    for field in (0, 1):
        assert [turn[field] for turn in read] == pytest.approx(
            [turn[field] for turn in expected], abs=1e-9
        )
    assert format_rttm("call", read) == path.read_text()


def test_import_is_light() -> None:
    code = (
        "import sys, fluidaudio_cli.scoring.rttm as _; "
        "print(sorted({'numpy', 'scipy', 'pandas', 'pyannote'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "SPEAKER r 1 0 10 <NA> <NA> John Smith <NA>",
            "line 1: field 9 (behind the speaker John) is 'Smith', not a number or <NA>: "
            "write names without blanks: each separates two fields",
        ),
        (
            "SPEAKER r 1 0 10 <NA> <NA> John <NA> Smith",
            "line 1: field 10 (behind the speaker John) is 'Smith', not a number or <NA>",
        ),
    ],
)
def test_a_name_with_a_blank_is_refused(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(line + "\n")
    with pytest.raises(AnnotationError) as caught:
        parse_rttm(path)
    assert reason in str(caught.value)


def test_confidence_and_look_ahead_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        "SPEAKER r 1 0 1 <NA> <NA> a 0.9 <na>\nSPEAKER r 1 1 1 <NA> <NA> b <NA> 1e-3\n"
        "SPEAKER r 1 2 1 <NA> <NA> c 1\n"
    )
    assert [turn.speaker for turn in parse_rttm(path).turns["r"]] == ["a", "b", "c"]


def test_one_or_two_semicolons_begin_a_comment(tmp_path: Path) -> None:
    rttm, uem = tmp_path / "a.rttm", tmp_path / "a.uem"
    rttm.write_text("; one\n;; two\n # three\nSPEAKER r 1 0 1 <NA> <NA> a <NA> <NA>\n")
    uem.write_text("; one\n;; two\nr 1 0 5\n")
    assert parse_rttm(rttm).turns == {"r": (Turn(0.0, 1.0, "a"),)}
    assert read_uem(uem) == {"r": ((0.0, 5.0),)}
