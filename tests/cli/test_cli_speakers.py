"""``speakers``, ``identify`` and ``diarize --known`` as users run them, on bundled readers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.io import wavfile

from fluidaudio_cli.audio.source import AudioSource, open_audio
from fluidaudio_cli.diarization import loading
from fluidaudio_cli.diarization.loading import make_plan
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.simulate.render import WavWriter
from fluidaudio_cli.voices.enrol import Part, hear, network_of
from fluidaudio_cli.voices.store import VoiceStore
from fluidaudio_cli.voices.voice import StoredVoice
from tests.cli.conftest import Command, WriteWav

Samples = npt.NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("models_loaded_once")
DATASETS = Path(__file__).resolve().parents[2] / "datasets"
ADA, BOB, CID = (DATASETS / "voices" / f"libri-{name}.opus" for name in ("40-f", "458-m", "5163-f"))


def samples_of(path: Path) -> Samples:
    buffer = np.empty(20 * 16_000, np.float32)
    with open_audio(path) as stream:
        return buffer[: stream.read_into(buffer)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own store, for one test."""
    path = tmp_path / "own" / "voices.jsonl"
    monkeypatch.setenv("FLUIDAUDIO_VOICES", str(path))
    return path


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of each reader 6 s to be enrolled; some seconds more of two of them in turn."""
    folder = tmp_path_factory.mktemp("pieces")
    ada, bob, cid = (samples_of(path) for path in (ADA, BOB, CID))
    cut = 6 * 16_000
    content = {
        "Ada L.": ada[:cut],
        "Bob": bob[:cut],
        "Cid": cid[:cut],
        "talk": np.concatenate([ada[-8 * 16_000 :], bob[-cut:]]),
    }
    found = {}
    for name, samples in content.items():
        found[name] = folder / f"{name[:4].strip().lower()}.wav"
        with WavWriter(found[name]) as wav:
            wav.write(samples)
    return found


@pytest.fixture(scope="module")
def lines(pieces: dict[str, Path], loaded_once: Callable[..., Pipeline]) -> dict[str, str]:
    """Each voice as a store has it."""
    pipeline = loaded_once(make_plan("balanced"))
    network = network_of(pipeline.models)
    found = {}
    for name in ("Ada L.", "Bob", "Cid"):
        path = pieces[name]
        heard = hear(pipeline, Part(AudioSource(path), path.stem), keep_audio=name == "Cid")
        found[name] = StoredVoice(name, network, (heard,)).line()
    return found


@pytest.fixture
def enrolled(place: Path, lines: dict[str, str]) -> Callable[..., None]:
    """Put voices into the user's store."""

    def put(*names: str) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(lines[name] for name in names), encoding="utf-8")

    return put


def test_voices_are_known_again_by_their_network_in_integers(
    loaded_once: Callable[..., Pipeline], tmp_path: Path
) -> None:
    models = []
    for name in ("false", "true"):
        mode = tmp_path / f"{name}.yaml"
        mode.write_text(f"extends: balanced\nembedding: {{narrow: {name}}}\n")
        models.append(loaded_once(make_plan(str(mode))).models)
    usual, narrow = models
    hashes = [{each.name: each.sha256 for each in models} for models in (usual, narrow)]
    assert hashes[0]["embedding"] != hashes[1]["embedding"]
    assert network_of(usual) == network_of(narrow) == hashes[0]["embedding"]


def test_a_much_quieter_recording_gives_the_same_voice(
    loaded_once: Callable[..., Pipeline], tmp_path: Path
) -> None:
    vectors = []
    for gain in (1.0, 1e-3):
        path = tmp_path / f"{gain}.wav"
        wavfile.write(path, 16_000, samples_of(ADA) * np.float32(gain))
        vectors.append(
            hear(loaded_once(make_plan("balanced")), Part(AudioSource(path), "a")).vector
        )
    assert vectors[0] @ vectors[1] > 0.99


def test_names_from_the_store_to_the_turns_and_back(
    command: Command,
    pieces: dict[str, Path],
    place: Path,
    tmp_path: Path,
    enrolled: Callable[..., None],
) -> None:
    enrolled("Cid")
    code, out, err = command("speakers", "enrol", "Ada L.", pieces["Ada L."])
    assert (code, out) == (0, "")
    assert err.startswith("Ada L.: ")
    assert f"s of speech, 1 recording, in {place}\n" in err
    rttm = tmp_path / "talk.rttm"
    code, _, _ = command("diarize", pieces["talk"], "--known", "-o", rttm)
    assert code == 0
    assert {turn.speaker for turn in read_rttm(rttm)["talk"]} == {"Ada L.", "SPEAKER_00"}
    named = [line.split() for line in rttm.read_text().splitlines() if "Ada%20L." in line]
    assert all(float(fields[8]) > 0.9 for fields in named)

    assert command("diarize", "--known", pieces["talk"], "--format", "rttm")[1] == rttm.read_text()

    code, out, _ = command("diarize", pieces["talk"], "--known", "Ada L.", "--format", "json")
    document = json.loads(out)
    ada, other = sorted(document["speakers"], key=lambda speaker: speaker["label"])
    assert document["config"]["known"] == {"voices": 1, "max_false_accept": 0.01}
    assert ada["known"]["name"] == "Ada L."
    assert ada["known"]["false_accept"] < 0.01
    assert other["known"]["name"] is None
    assert other["known"]["candidates"][0]["name"] == "Ada L."
    segments = [s for s in document["segments"] if s["speaker"] == "Ada L."]
    assert all(s["probability"] == ada["known"]["probability"] for s in segments)

    code, out, _ = command("identify", pieces["talk"], "--format", "json")
    (found,) = json.loads(out)["recordings"]
    assert [s["name"] for s in sorted(found["speakers"], key=lambda s: s["label"])] == [
        "Ada L.",
        None,
    ]
    # The name that came back says who is to be enrolled from the same recording.
    code, _, err = command(
        "speakers", "enrol", "Ada again", pieces["talk"], "--from", "Ada L.", "--turns", rttm
    )
    assert code == 0
    code, out, _ = command("speakers", "check", "--format", "json")
    found = json.loads(out)
    (pair,) = found["mistakable"]
    assert {pair["name"], pair["other"]} == {"Ada L.", "Ada again"}
    assert pair["probability"] > 0.9


def test_a_job_goes_on_with_the_voices_that_it_was_begun_with(
    command: Command, pieces: dict[str, Path], tmp_path: Path, enrolled: Callable[..., None]
) -> None:
    enrolled("Bob", "Cid")
    job = ("diarize", pieces["Bob"], pieces["Cid"], "--known", "--output-dir", tmp_path / "out")
    assert command(*job)[0] == 0
    with VoiceStore().changing() as changes:
        learned = replace(changes.voices["Cid"].recordings[0], learned=True)
        changes.voices["Bob"] = changes.voices["Bob"].with_recordings([learned])
    code, _, err = command(*job)
    assert (code, "2 of 2 recordings are done" in err) == (0, True)
    with VoiceStore().changing() as changes:
        changes.voices["Bob"] = replace(changes.voices["Cid"], name="Bob")
    code, _, err = command(*job)
    assert (code, "of another plan (known.voices.Bob " in err) == (2, True)


def test_learning_is_bounded_by_what_was_enrolled_and_taken_back(
    command: Command, pieces: dict[str, Path], enrolled: Callable[..., None]
) -> None:
    enrolled("Ada L.")
    code, _, err = command("diarize", pieces["talk"], "--known", "--learn", "-o", "-")
    assert code == 0
    assert "s of Ada L. from talk\n" in err
    recordings = VoiceStore().read().voices["Ada L."].recordings
    assert [(heard.uri, heard.learned) for heard in recordings] == [("ada", False), ("talk", True)]
    command("diarize", pieces["talk"], "--known", "--learn", "-o", "-")
    assert len(VoiceStore().read().voices["Ada L."].recordings) == 2  # the same is learned once
    assert command("speakers", "remove", "Ada L.", "--learned")[0] == 0
    assert [heard.uri for heard in VoiceStore().read().voices["Ada L."].recordings] == ["ada"]


def test_one_label_in_all_recordings_from_audio_and_from_evidence(
    command: Command, pieces: dict[str, Path], tmp_path: Path
) -> None:
    files = [pieces["talk"], pieces["Bob"], pieces["Cid"]]
    found, kept = tmp_path / "found", tmp_path / "kept"
    code, _, _ = command(
        "diarize", *files, "--link", "--output-dir", found, "--save-evidence", kept
    )
    assert code == 0
    speakers = {
        path.stem: {turn.speaker for turn in read_rttm(path)[path.stem]}
        for path in found.glob("*.rttm")
    }
    assert speakers["bob"] == {"PERSON_00"}
    assert speakers["talk"] == {"PERSON_00", "SPEAKER_00"}
    assert speakers["cid"] == {"SPEAKER_00"}
    again = tmp_path / "again"
    code, _, err = command("diarize", kept, "--link", "--output-dir", again)
    assert code == 0
    assert "3 recordings" in err
    for path in found.glob("*.rttm"):
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_who_was_heard_too_shortly_is_nobody_known(
    command: Command, pieces: dict[str, Path], enrolled: Callable[..., None], tmp_path: Path
) -> None:
    enrolled("Bob", "Cid")
    kept = tmp_path / "bob.npz"
    assert command("diarize", pieces["Bob"], "--save-evidence", kept)[0] == 0
    with np.load(kept) as content:
        arrays = dict(content)
    arrays["vector"][:], arrays["clean_seconds"][:] = 0.0, 0.1
    np.savez_compressed(kept, **arrays)
    (found,) = json.loads(command("diarize", kept, "--known", "--format", "json")[1])["speakers"]
    (same,) = json.loads(command("identify", kept, "--format", "json")[1])["recordings"]
    assert found["known"]["name"] is same["speakers"][0]["name"] is None
    assert found["known"]["probability"] == same["speakers"][0]["probability"] == 0.5
    (line,) = (line for line in command("identify", kept)[1].splitlines() if "SPEAKER" in line)
    assert line.split()[2:5] == ["50.0%", "100", "%"]


def test_a_stream_keeps_who_is_known_as_a_file_does(
    command: Command, pieces: dict[str, Path], enrolled: Callable[..., None], tmp_path: Path
) -> None:
    enrolled("Bob")
    kept = {ending: tmp_path / f"kept.{ending}" for ending in ("json", "rttm")}
    for path in kept.values():
        asked = ("--known", "--max-false-accept", "2%", "--save", path)
        assert command("stream", pieces["talk"], *asked)[0] == 0
    document = json.loads(kept["json"].read_text())
    assert document["config"]["known"] == {"voices": 1, "max_false_accept": 0.02}
    (bob,) = (each for each in document["speakers"] if each["label"] == "Bob")
    told = {line.split()[7]: line.split()[8] for line in kept["rttm"].read_text().splitlines()}
    assert told.pop("Bob") == f"{bob['known']['probability']:.4f}"
    assert set(told.values()) == {"<NA>"}


def test_evidence_is_not_heard_otherwise_than_it_was(
    command: Command, pieces: dict[str, Path], enrolled: Callable[..., None], tmp_path: Path
) -> None:
    enrolled("Bob")
    kept = tmp_path / "bob.npz"
    assert command("diarize", pieces["Bob"], "--save-evidence", kept)[0] == 0
    asked = ("--performance-mode", "fast", "--executor", "onnxruntime")
    for name in ("diarize", "identify"):
        assert command(name, kept, *asked) == (
            2,
            "",
            f"fluidaudio: {kept} is evidence, of what was heard before: "
            "leave out --performance-mode, --executor\n",
        )


def test_a_voice_is_renamed_merged_exported_and_taken_in(
    command: Command, tmp_path: Path, enrolled: Callable[..., None]
) -> None:
    enrolled("Bob", "Cid")
    with VoiceStore().path.open("a") as lines:
        lines.write("not a voice\n")
    code, _, err = command("speakers", "show", "Bob")
    assert (code, "cannot be read (line 3: " in err) == (0, True)
    assert command("speakers", "remove", "--damaged")[0] == 0
    code, _, err = command("speakers", "rename", "Cid", "Bob")
    assert (code, "or make them one: speakers merge" in err) == (2, True)
    assert command("speakers", "rename", "Cid", "Cid II")[0] == 0
    file = tmp_path / "some.jsonl"
    assert command("speakers", "export", "Bob", "-o", file)[0] == 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["some.jsonl"]
    assert command("speakers", "merge", "Bob", "Cid II")[0] == 0
    code, out, _ = command("speakers", "show", "Bob", "--format", "json")
    assert [heard["uri"] for heard in json.loads(out)["heard"]] == ["bob", "cid"]
    code, _, err = command("speakers", "import", file)
    assert code == 2
    assert "there is a voice 'Bob'" in err
    assert command("speakers", "remove", "Bob", "--recording", "bob")[0] == 0
    assert command("speakers", "import", file, "--add")[0] == 0
    code, out, _ = command("speakers", "list", "--format", "json")
    (voice,) = json.loads(out)["voices"]
    assert (voice["recordings"], voice["keeps_audio"]) == (2, True)
    before = VoiceStore().read().voices["Bob"].recordings[0]
    code, _, err = command("speakers", "enrol", "--again", "Bob")
    # The other was heard by the same network: it is as good as before.
    assert (code, err) == (0, "Bob: 1 recording heard again, 0 without audio left\n")
    after, _ = VoiceStore().read().voices["Bob"].recordings
    assert float(before.vector @ after.vector) > 0.9999
    code, out, err = command("speakers", "export", "-o", "-")
    assert (code, out, err) == (0, VoiceStore().path.read_text(encoding="utf-8"), "")
    code, _, err = command("speakers", "import", file, "--add")
    assert (code, err) == (
        0,
        "note: Bob: what was heard in bob before is replaced\ntook in 1 voice\n",
    )


def test_what_changed_while_it_was_heard_again_stays_as_it_is(
    command: Command, enrolled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled("Bob", "Cid")

    def heard(_pipeline: Pipeline, voice: StoredVoice, _network: str) -> StoredVoice:
        with VoiceStore().changing() as changes:
            changes.take("Cid")
        return voice

    monkeypatch.setattr("fluidaudio_cli.voices.enrol.hear_again", heard)
    code, _, err = command("speakers", "enrol", "--again")
    assert (code, err) == (0, "note: Cid was changed meanwhile, and stays as it is now\n")
    assert list(VoiceStore().read().voices) == ["Bob"]


def test_what_cannot_be_enrolled_is_said_in_one_line(
    command: Command,
    pieces: dict[str, Path],
    write_wav: WriteWav,
    sample_wav: Path,
    tmp_path: Path,
    enrolled: Callable[..., None],
) -> None:
    quiet = write_wav(np.zeros(5 * 16_000), "quiet.wav")
    short = write_wav(samples_of(ADA)[: 16_000 * 3 // 10], "short.wav")
    # Ten minutes are heard, and she speaks behind them.
    late = write_wav(np.concatenate([np.zeros(600 * 16_000), samples_of(ADA)]), "late.wav")
    turns = tmp_path / "t.rttm"
    turns.write_text("SPEAKER bob 1 0 9 <NA> <NA> B <NA> <NA>\n")
    enrolled("Bob")
    both, of_b = (pieces["Bob"], pieces["Cid"]), ("--from", "B", "--turns", turns)
    # Turns of one recording only are those of the file, whatever its name.
    code, _, err = command("speakers", "enrol", "Cid", pieces["Cid"], *of_b)
    assert code == 0
    assert err.endswith("note: with less than 10 s, more recordings would help\n")
    refused: tuple[tuple[tuple[object, ...], int, str], ...] = (
        ((quiet,), 3, "nobody speaks in "),
        ((DATASETS / "noise" / "music-piano.opus",), 3, "nobody speaks in "),
        ((short,), 3, "short.wav"),
        ((late,), 3, f"nobody speaks in the first 10 minutes of {late}: "),
        ((sample_wav,), 3, ": SPEAKER_00 6.7-14.8 s, "),
        ((tmp_path / "gone.wav",), 3, "gone.wav does not exist"),
        ((pieces["Bob"], "--from", "B"), 2, "--from LABEL is of --turns"),
        ((pieces["Bob"], "--from", "X", "--turns", turns), 2, "'X' does not speak in "),
        ((*both, *of_b), 2, "t.rttm does not mention 'cid'"),
        ((pieces["Bob"], "--start", "1", *of_b), 2, "--turns and --start/--end both say when"),
        ((*both, "--start", "1"), 2, "--start and --end are of one file"),
        ((pieces["Bob"], "--start", "5", "--end", "5"), 2, "--end 5 is not after --start 5"),
        ((pieces["Bob"], "--start", "60"), 3, "has nothing in the time given"),
        ((pieces["Bob"], "--start", "1e306"), 3, "has nothing in the time given"),
    )
    for arguments, expected, line in refused:
        code, out, err = command("speakers", "enrol", "Eve", *arguments)
        assert (code, out) == (expected, ""), arguments
        assert line in err
        assert err.count("\n") == 1, err
    refused = (
        (("enrol", "Bob", str(pieces["Cid"])), 2, "there is a voice 'Bob'"),
        (("enrol", "A,B", str(pieces["Cid"])), 2, "'A,B' cannot be a voice's name"),
        (("enrol", "Bob"), 2, "give NAME and FILE"),
        (("show", "Eve"), 2, "there is no voice 'Eve'"),
        (("remove",), 2, "what is to be removed?"),
        (("enrol", "--again"), 3, "no audio was kept of any voice"),
        (("enrol", "--again", "Bob", "--start", "3"), 2, "was kept, without --start"),
        (("enrol", "--again", "Bob", str(turns)), 2, f"was kept, without {turns}: "),
        (("remove", "--damaged", "--learned"), 2, "are no voices, without --learned"),
        (("export", "-o", str(turns)), 2, "is there already"),
        (("import", str(turns)), 3, "holds no voices"),
        (("list", "--store", os.devnull), 3, "is not a file"),
    )
    for arguments, expected, line in refused:
        code, out, err = command("speakers", *arguments)
        assert (code, out) == (expected, ""), arguments
        assert line in err
        assert err.count("\n") == 1, err
    assert list(VoiceStore().read().voices) == ["Bob", "Cid"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is of Linux")
def test_a_store_that_cannot_be_written_is_said_before_the_work(
    command: Command, pieces: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("models were loaded")

    monkeypatch.setattr(loading, "load", never)
    code, out, err = command("speakers", "enrol", "Eve", pieces["Bob"], "--store", "/proc/v.jsonl")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith("fluidaudio: cannot write to /proc: ")
    assert err.endswith(": choose another --store\n")


def test_known_voices_that_cannot_be_used_are_said_before_the_work(
    command: Command,
    pieces: dict[str, Path],
    place: Path,
    tmp_path: Path,
    enrolled: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = pieces["talk"]
    code, _, err = command("diarize", talk, "--known")
    assert (code, "there are no voices in" in err) == (3, True)
    enrolled("Bob")
    for arguments, expected, line in (
        (("--known", "Eve"), 2, "there is no voice 'Eve'"),
        (("--known", "E" * 300), 2, "cannot be a voice's name"),
        (("--known", "Bob", "--max-false-accept", "200%"), 2, "--max-false-accept 200%"),
        (("--known", str(tmp_path / "none.jsonl")), 3, "there are no voices in"),
        (("--learn",), 2, "--learn is of --known: add --known"),
    ):
        code, out, err = command("diarize", talk, *arguments)
        assert (code, out) == (expected, ""), arguments
        assert line in err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Bob").mkdir()  # a folder called as a voice is not taken for a store
    assert command("diarize", talk, "--known", "Bob")[0] == 0
    text = place.read_text(encoding="utf-8")
    voice = VoiceStore().read().voices["Bob"]
    other = type(voice)(voice.name, "0" * 64, voice.recordings)
    place.write_text(other.line(), encoding="utf-8")
    code, _, err = command("diarize", talk, "--known")
    assert code == 3
    assert "'Bob' in" in err
    assert "heard by another embedding network (000000000000…" in err
    assert command("speakers", "check") == (3, "", err)
    place.write_text("{" + text[5:] + text, encoding="utf-8")
    code, _, err = command("diarize", talk, "--known", "--format", "rttm")
    assert code == 0
    assert "warning: a voice in" in err
