from __future__ import annotations

from pathlib import Path

import pytest

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.scoring.matching import match_by_uri, read_annotations, read_uems
from fluidaudio_cli.scoring.metrics import STRICT, score_conditions
from fluidaudio_cli.scoring.rttm import Rttm
from fluidaudio_cli.turns import Turn


def test_lab_against_rttm_with_noscore(tmp_path: Path) -> None:
    reference = tmp_path / "ref.rttm"
    reference.write_text(
        "SPEAKER call 1 0 4 <NA> <NA> A <NA> <NA>\nNOSCORE call 1 3 5 <NA> <NA> <NA> <NA> <NA>\n"
    )
    hypothesis = tmp_path / "call.LAB"
    hypothesis.write_text("0 2 someone else\n4 9 another\n")
    (pair,) = match_by_uri(read_annotations(reference), read_annotations(hypothesis))
    assert pair.hypothesis == (Turn(0, 2, "someone else"), Turn(4, 9, "another"))
    assert (pair.uem, pair.no_score) == (None, ((3.0, 8.0),))
    found = score_conditions(
        (STRICT,), pair.reference, pair.hypothesis, pair.uem, no_score=pair.no_score
    )
    assert (found.uem, found.uem_source) == (((0.0, 3.0), (8.0, 9.0)), "extent")
    der = found.strict.der
    assert (der.missed_detection, der.false_alarm, der.total) == (1, 1, 3)


def test_folders_are_read_by_suffix_and_paired_in_order(tmp_path: Path) -> None:
    for name, uri in (("z", "a"), ("y", "b")):
        (tmp_path / f"{name}.rttm").write_text(f"SPEAKER {uri} 1 0 1 <NA> <NA> s <NA> <NA>\n")
        (tmp_path / f"{name}.uem").write_text(f"{uri} 1 0 5\n")
    (tmp_path / "notes.txt").write_text("not an annotation")
    both = read_annotations(tmp_path)
    pairs = match_by_uri(both, both, read_uems(tmp_path))
    assert [(pair.uri, pair.uem) for pair in pairs] == [("a", ((0.0, 5.0),)), ("b", ((0.0, 5.0),))]


def test_many_strangers_are_counted(tmp_path: Path) -> None:
    left = Rttm({f"call{index}": () for index in range(7)})
    with pytest.raises(AnnotationError) as caught:
        match_by_uri(left, Rttm({"call3": ()}))
    assert "in the reference only: 'call0', 'call1', 'call2', 'call4', 'call5' and 1 more" in str(
        caught.value
    )


def test_uem_of_one_recording_in_two_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.uem").write_text("call 1 0 5\n")
    with pytest.raises(AnnotationError, match=r"'call' is in both .*one\.uem and .*two\.uem"):
        read_uems(tmp_path)
    with pytest.raises(AnnotationError, match=r"has no \.rttm or \.lab file"):
        read_annotations(tmp_path)


def test_a_file_need_not_mention_whom_it_did_not_find(tmp_path: Path) -> None:
    line = "SPEAKER {} 1 0 4 <NA> <NA> A <NA> <NA>\n"
    reference, some, none = (tmp_path / f"{name}.rttm" for name in ("ref", "some", "none"))
    reference.write_text(line.format("one") + line.format("two"))
    some.write_text(line.format("one"))
    none.write_text("")
    truth = read_annotations(reference)
    pairs = match_by_uri(truth, read_annotations(some))
    assert [(pair.uri, pair.omitted, len(pair.hypothesis)) for pair in pairs] == [
        ("one", False, 1),
        ("two", True, 0),
    ]
    assert all(pair.omitted for pair in match_by_uri(truth, read_annotations(none)))
    # A recording that the reference lacks, or that a folder of results lacks, is a mistake.
    some.write_text(line.format("one") + line.format("three"))
    with pytest.raises(AnnotationError, match="in the hypothesis only: 'three'"):
        match_by_uri(truth, read_annotations(some))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one.rttm").write_text(line.format("one"))
    with pytest.raises(AnnotationError, match="in the reference only: 'two'"):
        match_by_uri(truth, read_annotations(tmp_path / "folder"))
