"""One name for a recording, whatever file it comes from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fluidaudio_cli.recordings import is_audio_name, shown_path, uri_from, uri_of


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("talk.wav", "talk"),
        ("two  words\t.tar.wav", "two_words_.tar"),
        (" .wav", "audio"),
        ("re\u0301union.rttm", "r\u00e9union"),
        ("family \U0001f469\u200d\U0001f4bb.wav", "family_\U0001f469\u200d\U0001f4bb"),
        ("bell\x07.wav", "bell%07"),
        ("<NA>.wav", "_NA_"),
        (";comment.wav", "_;comment"),
        ("#1.wav", "_#1"),
        ("-", "stdin"),
    ],
)
def test_uri_of_a_file(name: str, uri: str) -> None:
    assert uri_of(Path("x") / name if name != "-" else Path(name)) == uri


def test_bytes_that_are_not_utf_8() -> None:
    name = os.fsdecode(b"bad\xff\xfe.wav")
    assert uri_of(Path(name)) == "bad%FF%FE"
    assert shown_path(Path(name)) == r"bad\xff\xfe.wav"
    assert uri_from("\ud800") == "%ED%A0%80"


def test_what_a_folder_is_searched_for() -> None:
    assert is_audio_name(Path("a.WAV"))
    assert is_audio_name(Path("a.amr"))
    assert not is_audio_name(Path("a.txt"))
