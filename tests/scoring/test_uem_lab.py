from __future__ import annotations

from pathlib import Path

import pytest

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.scoring.lab import read_lab
from fluidaudio_cli.scoring.uem import format_uem, read_uem
from fluidaudio_cli.turns import Turn


def test_uem_is_sorted_and_merged_per_uri(tmp_path: Path) -> None:
    path = tmp_path / "all.uem"
    path.write_bytes(b"\xef\xbb\xbfb 1 5 9.5\r\n;; note\r\na NA 0 10\r\nb 1 0 2\r\nb 1 9 12\r\n")
    assert read_uem(path) == {"a": ((0.0, 10.0),), "b": ((0.0, 2.0), (5.0, 12.0))}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a 0 10", "a UEM line is 'uri channel start end', and this has 3 fields"),
        ("a 1 0 10 11", "and this has 5 fields"),
        ("a 1 5 5", "ends at 5 s, not after its start at 5 s"),
        ("a 1 zero 5", "the start is 'zero', not a number of seconds like 12.345"),
        ("a 1 0 -5", "the end is -5, and must not be negative"),
    ],
)
def test_bad_uem_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.uem"
    path.write_text(f"a 1 0 10\n{line}\n")
    with pytest.raises(AnnotationError) as caught:
        read_uem(path)
    assert caught.value.message.startswith(f"{path}, line 2: ")
    assert reason in caught.value.message


def test_empty_uem_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.uem"
    path.write_text("# nothing\n")
    with pytest.raises(AnnotationError, match="holds no intervals, so nothing would be scored"):
        read_uem(path)


def test_uem_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.uem"
    path.write_text(format_uem("my call", ((0.0, 1.5), (2.25, 9.0))))
    assert path.read_text() == "my_call 1 0.000 1.500\nmy_call 1 2.250 9.000\n"
    assert read_uem(path) == {"my_call": ((0.0, 1.5), (2.25, 9.0))}


def test_uem_needs_a_name() -> None:
    with pytest.raises(AnnotationError, match="UEM needs a name"):
        format_uem(" ", ((0.0, 1.0),))


def test_lab_labels_may_hold_blanks_and_self_overlap_is_merged(tmp_path: Path) -> None:
    path = tmp_path / "talk.lab"
    path.write_bytes(b"4.0\t5.5\tAnn B.\r\n0 2 ann\n# note\n1.5 3 ann\n")
    assert read_lab(path) == {"talk": (Turn(0.0, 3.0, "ann"), Turn(4.0, 5.5, "Ann B."))}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 2", "a lab line is 'start end label', and this has 2 fields"),
        ("2 1 ann", "ends at 1 s, not after its start at 2 s"),
        ("inf 1 ann", "the start is 'inf', not a number of seconds"),
    ],
)
def test_bad_lab_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.lab"
    path.write_text(f"\n{line}\n")
    with pytest.raises(AnnotationError) as caught:
        read_lab(path)
    assert caught.value.message.startswith(f"{path}, line 2: ")
    assert reason in caught.value.message
