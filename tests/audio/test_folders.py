"""Which files a folder stands for, and what they are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fluidaudio_cli.audio.folders import uris_by_place
from fluidaudio_cli.cli.diarize_evidence import evidence_among
from fluidaudio_cli.errors import AudioError, UsageError
from fluidaudio_cli.recordings import STDIN, place_from


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_is_searched_to_any_depth_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.WAV", "a.flac", "notes.txt", "sub/deep/c.Mp3", ".hidden.wav", ".git/d.wav")
    names = [os.path.relpath(str(path), tmp_path) for path in uris_by_place([tmp_path])]
    assert names == ["a.flac", "b.WAV", str(Path("sub/deep/c.Mp3"))]


def test_files_stay_as_given_and_once(tmp_path: Path) -> None:
    touch(tmp_path, "x/b.wav", "x/a.wav")
    odd, b = tmp_path / "no-such.xyz", tmp_path / "x" / "b.wav"
    found = list(uris_by_place([odd, b, tmp_path / "x", b]))
    assert found == [odd, b, tmp_path / "x" / "a.wav"]


def test_a_folder_without_audio_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(AudioError) as caught:
        uris_by_place([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path} has no audio files: give a folder with WAV, FLAC, MP3, M4A, … in it"
    )


def test_a_dash_is_standard_input_whatever_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "-/a.wav", "-/a.npz")
    monkeypatch.chdir(tmp_path)
    assert list(uris_by_place([STDIN])) == [STDIN]
    assert evidence_among(None, [STDIN]) == {}


def test_a_list_that_leads_back_to_itself_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("a.wav\nother.txt\n")
    other.write_text("b.wav\n")
    assert list(uris_by_place([one, other])) == [tmp_path / "a.wav", tmp_path / "b.wav"]
    other.write_text("b.wav\none.txt\n")
    with pytest.raises(AudioError, match=r"one\.txt leads back to itself: delete that line"):
        uris_by_place([one])


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(UsageError, match="a recording has no name: give its path, or -"):
        place_from("")


def test_uris_are_stems_where_they_differ() -> None:
    paths = [Path("x/a b.wav"), Path("y/c.mp3")]
    assert uris_by_place(paths) == {paths[0]: "a_b", paths[1]: "c"}


def test_shared_stems_get_extension_then_folder_then_number() -> None:
    paths = [Path(p) for p in ("a.wav", "a.mp3", "x/b.wav", "y/b.wav", "z/c d.wav", "z/c_d.wav")]
    assert list(uris_by_place(paths).values()) == [
        "a.wav",
        "a.mp3",
        "x__b.wav",
        "y__b.wav",
        "z__c_d.wav",
        "z__c_d.wav_2",
    ]
