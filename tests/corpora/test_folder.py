from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fluidaudio_cli.corpora.dataset import open_dataset
from fluidaudio_cli.corpora.folder import annotation_uris, scan_folder
from fluidaudio_cli.errors import AnnotationError, InputError
from tests.corpora.faulty_server import rttm_line


def put(folder: Path, name: str, content: bytes = b"audio") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_matches_audio_reference_and_uem_by_uri(tmp_path: Path) -> None:
    audio_b = put(tmp_path, "audio/b.FLAC")
    audio_a = put(tmp_path, "audio/a.wav")
    reference_a = put(tmp_path, "rttm/a.rttm", rttm_line("a"))
    reference_b = put(tmp_path, "rttm/b.rttm", rttm_line("b"))
    uem_b = put(tmp_path, "b.uem", b"b 1 0.0 12.5\n")
    put(tmp_path, ".cache/c.wav")
    put(tmp_path, "._a.wav")
    put(tmp_path, "README.md")
    dataset = open_dataset(tmp_path)
    assert [(i.uri, i.audio, i.reference, i.uem, i.duration) for i in dataset.items] == [
        ("a", audio_a, reference_a, None, None),
        ("b", audio_b, reference_b, uem_b, 12.5),
    ]
    assert dataset.name == tmp_path.name
    assert dataset.split is None
    assert dataset.missing() == ()


def test_one_rttm_may_hold_many_recordings(tmp_path: Path) -> None:
    put(tmp_path, "a.wav")
    put(tmp_path, "Grüße.wav")
    text = b"\xef\xbb\xbf;; comment\r\nSPKR-INFO a 1 x\r\n" + rttm_line("a") + b"\r\n"
    reference = put(tmp_path, "all.rttm", text + rttm_line("Grüße") + rttm_line("a"))
    uem = put(tmp_path, "all.uem", "a 1 0 3\nGrüße 1 0 4\n".encode())
    assert annotation_uris(reference) == ("a", "Grüße")
    items = open_dataset(tmp_path).items
    assert [(i.uri, i.reference, i.uem, i.duration) for i in items] == [
        ("Grüße", reference, uem, 4.0),
        ("a", reference, uem, 3.0),
    ]


@pytest.mark.parametrize(
    ("files", "kind", "said"),
    [
        ({}, InputError, "no audio files in"),
        ({"a.wav": b""}, AnnotationError, "no RTTM files in"),
        (
            {"a.wav": b"", "b.wav": b"", "a.rttm": rttm_line("a")},
            AnnotationError,
            "b.wav has no reference: add an RTTM for uri b",
        ),
        (
            {"a.wav": b"", "x.rttm": rttm_line("a") + rttm_line("b")},
            AnnotationError,
            "x.rttm speaks of b, of which there is no audio",
        ),
        (
            {"a.wav": b"", "a.rttm": rttm_line("a"), "x.uem": b"z 1 0 1\n"},
            AnnotationError,
            "x.uem speaks of z, of which there is no audio",
        ),
        (
            {"a.wav": b"", "a.flac": b"", "a.rttm": rttm_line("a")},
            InputError,
            "two audio files for a",
        ),
        (
            {"a.wav": b"", "a.rttm": rttm_line("a"), "b.rttm": rttm_line("a")},
            InputError,
            "two rttm files for a",
        ),
        ({"a.wav": b"", "a.rttm": b"\n"}, AnnotationError, "a.rttm holds no recording: an empty"),
        ({"a.wav": b"", "a.rttm": b"\xff\xfe"}, AnnotationError, "a.rttm, line 1: not UTF-8 text"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, files: dict[str, bytes], kind: type[InputError], said: str
) -> None:
    for name, content in files.items():
        put(tmp_path, name, content)
    with pytest.raises(kind) as caught:
        scan_folder(tmp_path)
    assert said in str(caught.value)


def test_a_folder_that_cannot_be_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.wav")
    put(tmp_path, "a.rttm", b"SPEAKER a 1 0 1 <NA> <NA> x <NA> <NA>\n")
    secret = put(tmp_path, "more/b.wav").parent
    scandir = os.scandir

    def refused(path: Path) -> Any:
        if Path(path) == secret:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError) as caught:
        scan_folder(tmp_path)
    assert str(caught.value) == f"cannot list {secret}: Permission denied: check its rights"


def test_partial_leaves_out_what_has_no_counterpart(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        put(tmp_path, name)
    put(tmp_path, "all.rttm", rttm_line("b") + rttm_line("c"))
    assert [item.uri for item in scan_folder(tmp_path, partial=True)] == ["b"]


def test_partial_with_no_pair_at_all_is_still_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a.wav")
    put(tmp_path, "all.rttm", rttm_line("b"))
    with pytest.raises(AnnotationError, match=r"no audio in .* has a reference"):
        scan_folder(tmp_path, partial=True)


@pytest.mark.parametrize(("name", "count"), [("sim-meetings", 10), ("ami-excerpts", 14)])
def test_the_development_meetings_are_a_dataset(shared_data: Path, name: str, count: int) -> None:
    dataset = open_dataset(shared_data / name)
    assert dataset.name == name
    assert len(dataset.items) == count
    assert all(item.uem is not None and item.duration is not None for item in dataset.items)
    assert all(item.audio.stem == item.uri for item in dataset.items)


def test_other_references_may_lie_in_a_folder_beside(shared_data: Path) -> None:
    """Of AMI's excerpts there are two; the one in the audio's own folder counts."""
    folder = shared_data / "ami-excerpts"
    if not (folder / "only-words").is_dir():
        pytest.skip("development data not found: only-words")
    assert {item.reference.parent for item in scan_folder(folder)} == {folder}
