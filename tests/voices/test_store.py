"""The store of voices: what is written comes back, whatever happens to it or beside it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.diarization.result import ModelRef
from fluidaudio_cli.errors import HostError, InputError, UsageError
from fluidaudio_cli.voices import store as store_module
from fluidaudio_cli.voices.enrol import network_of
from fluidaudio_cli.voices.learn import learn
from fluidaudio_cli.voices.store import FILE_NAME, VoiceStore, check_networks, find
from fluidaudio_cli.voices.voice import Heard, StoredVoice, check_name

NETWORK = "ab" * 32


def heard(uri: str = "r", seed: int = 0, **values: object) -> Heard:
    vector = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    base = Heard(uri, 12.5, "2026-01-02T03:04:05+00:00", vector / np.linalg.norm(vector), 0.9)
    return replace(base, **values)  # type: ignore[arg-type]


def stored(name: str, *recordings: Heard) -> StoredVoice:
    return StoredVoice(name, NETWORK, recordings or (heard(),))


def filled(place: Path, *names: str) -> VoiceStore:
    kept = VoiceStore(place)
    with kept.changing() as changes:
        for name in names:
            changes.add(stored(name))
    return kept


def test_a_voice_comes_back_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    kept = VoiceStore(tmp_path / "new" / "folder")
    voice = stored("Ada Lovelace", heard("a", audio=b"fLaC"), heard("b", 1, quality=None))
    with kept.changing() as changes:
        changes.add(voice)
    assert kept.path == tmp_path / "new" / "folder" / FILE_NAME
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    back = find(kept.read().voices, "Ada  Lovelace", kept.path)
    assert (back.name, back.network, back.seconds) == ("Ada Lovelace", NETWORK, 25.0)
    assert [(h.uri, h.quality, h.audio) for h in back.recordings] == [
        ("a", 0.9, b"fLaC"),
        ("b", None, b""),
    ]
    assert np.array_equal(back.known.vectors[1], voice.recordings[1].vector)
    assert back.known.seconds.tolist() == [12.5, 12.5]


def test_a_store_may_be_a_file_and_loses_its_mode_to_nobody(tmp_path: Path) -> None:
    kept = filled(tmp_path / "team.jsonl", "Bob")
    kept.path.chmod(0o644)
    with kept.changing() as changes:
        changes.add(stored("Ada"))
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    lines = kept.path.read_text(encoding="utf-8").splitlines()
    assert (
        [json.loads(line)["name"] for line in lines] == list(kept.read().voices) == ["Ada", "Bob"]
    )


def test_what_is_removed_is_not_in_the_file_any_more(tmp_path: Path) -> None:
    kept = filled(tmp_path / "s.jsonl", "Ada", "Bob")
    with kept.changing() as changes:
        changes.take("Bob")
    assert "Bob" not in kept.path.read_text(encoding="utf-8")
    with kept.changing() as changes:
        changes.take("Ada")
    assert not kept.path.exists()
    assert not kept.read().voices


def test_good_voices_survive_a_damaged_line(tmp_path: Path) -> None:
    kept = filled(tmp_path / "s.jsonl", "Ada", "Bob", "Cid")
    lines = kept.path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"12.5", b"92.5")
    lines[2] = lines[2][:100] + b"\xff"
    kept.path.write_bytes(b"\n".join(lines))
    contents = kept.read()
    assert list(contents.voices) == ["Ada"]
    (changed, cut) = contents.damaged.values()
    assert changed == "line 2: its checksum is another"
    assert cut.startswith("line 3: ")
    with kept.changing() as changes:
        changes.add(stored("Dan"))
    assert list(kept.read().voices) == ["Ada", "Dan"]
    assert lines[1] in kept.path.read_bytes()  # kept for whoever can mend it
    with kept.changing() as changes:
        changes.damaged.clear()
    assert not kept.read().damaged
    second = stored("Ada", heard("s", 1)).line()
    kept.path.write_text(kept.path.read_text() + second + '{"a":' * 100_000, encoding="utf-8")
    named, nested = kept.read().damaged.values()
    assert named == "line 3: a second voice is called 'Ada'"
    assert nested.startswith("line 4: ")
    assert [each.uri for each in kept.read().voices["Ada"].recordings] == ["r"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"seconds": 0.0}, "0.0 seconds of speech"),
        ({"seconds": float("nan")}, "nan seconds of speech"),
        ({"vector": np.full(8, 0.5, np.float32)}, "a vector is not of unit length"),
    ],
)
def test_a_recording_that_cannot_be_is_damage(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        StoredVoice.of_line(stored("Ada", heard(**values)).line())


@pytest.mark.parametrize("content", [b"hello\n", b"\x00\xff\n", b"[" * 100_000])
def test_what_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no voices"):
        VoiceStore(path).read()


def test_an_error_inside_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    kept = filled(tmp_path / "s.jsonl", "Ada")
    before = kept.path.read_bytes()

    def change() -> None:
        with kept.changing() as changes:
            changes.add(stored("Bob"))
            changes.add(stored("Ada"))

    with pytest.raises(UsageError, match="there is a voice 'Ada'"):
        change()
    assert kept.path.read_bytes() == before


def test_processes_that_enrol_at_once_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.voices.test_store import stored;"
        "from fluidaudio_cli.voices.store import VoiceStore\n"
        "for number in range(5):\n"
        "    with VoiceStore(Path(sys.argv[1])).changing() as changes:\n"
        "        changes.add(stored(f'{sys.argv[2]} {number}'))\n"
    )
    place = tmp_path / "s.jsonl"
    running = [subprocess.Popen([sys.executable, "-c", script, str(place), name]) for name in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    assert list(VoiceStore(place).read().voices) == [f"{n} {i}" for n in "ab" for i in range(5)]


def test_a_lock_that_is_not_given_back_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_LOCK_SECONDS", 0.0)
    kept = VoiceStore(tmp_path / "s.jsonl")
    with (
        kept.changing(),
        pytest.raises(HostError, match="another process has been changing"),
        VoiceStore(kept.path).changing(),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["", "  ", "a,b", "SPEAKER_00", "person_7", "-x", "a\0", "x" * 101]
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a voice's name"):
        check_name(name)


@pytest.mark.parametrize("name", ["O'Neil \\ /x:y", "👩\u200d💻", "a\u200cb", "20%20 <b>"])
def test_names_that_can_be(name: str) -> None:
    assert check_name(name) == name


def test_a_name_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    kept = filled(tmp_path / "s.jsonl", *"ABCDEFG")
    with pytest.raises(UsageError, match=r"no voice 'Z' in .*'A', 'B', 'C', 'D', 'E' and 2 more"):
        find(kept.read().voices, "Z", kept.path)


def test_voices_of_another_network_are_refused_with_what_helps() -> None:
    with pytest.raises(InputError, match=r"another embedding network.*enrol them anew"):
        check_networks([stored("Ada")], "cd" * 32, Path("s.jsonl"))
    again = stored("Ada", heard(audio=b"fLaC"))
    with pytest.raises(InputError, match="speakers enrol --again"):
        check_networks([again], "cd" * 32, Path("s.jsonl"))
    with pytest.raises(InputError, match="enrol them anew"):  # Bob's audio was not kept
        check_networks([again, stored("Bob")], "cd" * 32, Path("s.jsonl"))
    with pytest.raises(UsageError, match="no embedding network"):
        network_of([ModelRef("diarizer", "cd" * 32, {}, {})])


def test_learning_forgets_the_oldest_and_never_what_was_enrolled(tmp_path: Path) -> None:
    kept = filled(tmp_path / "s.jsonl", "Ada")
    with kept.changing() as changes:
        for number in range(12):
            date = f"2026-01-{number + 3:02d}T00:00:00+00:00"
            learn(changes, "Ada", heard(f"l{number}", number, learned=True, date=date))
        learn(changes, "Gone", heard(learned=True))
    voices = kept.read().voices
    assert list(voices) == ["Ada"]
    assert [h.uri for h in voices["Ada"].recordings] == ["r", *(f"l{n}" for n in range(2, 12))]


def test_a_line_says_what_it_is(tmp_path: Path) -> None:
    kept = filled(tmp_path / "s.jsonl", "Ada")
    document = json.loads(kept.path.read_text(encoding="utf-8"))
    assert document["schema"] == "fluidaudio.voice/1"
    assert set(document["recordings"][0]) == {
        "uri", "seconds", "date", "quality", "learned", "vector", "audio",
    }  # fmt: skip
