"""Conversations: what was asked for is what is measured on the signals."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import wavfile

from fluidaudio_cli.cli.simulate import simulate as simulate_command
from fluidaudio_cli.errors import HostError, InputError, UsageError
from fluidaudio_cli.resources import datasets_dir
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.simulate.batch import Made, Sources, read_voices, simulate
from fluidaudio_cli.simulate.bundled import bundled_recipe, bundled_voices, made_dataset
from fluidaudio_cli.simulate.channel import Clip, PacketLoss
from fluidaudio_cli.simulate.codecs import CODECS, coded, find_codec, narrowed
from fluidaudio_cli.simulate.plan import plan_conversation
from fluidaudio_cli.simulate.recipe import Recipe, format_recipe, parse_recipe, read_recipe
from fluidaudio_cli.simulate.render import Renderer
from fluidaudio_cli.simulate.room import draw_room, impulse_response, seat
from fluidaudio_cli.simulate.signals import GRID, rms, to_db
from fluidaudio_cli.simulate.turn_taking import (
    PAUSE,
    SAME,
    converse,
    overlap_share,
    shipped_model,
)
from fluidaudio_cli.simulate.voices import Voice, read_audio, read_voice, voice_files
from tests import forked


@pytest.fixture(scope="module")
def voices() -> tuple[Voice, ...]:
    return read_voices(bundled_voices())


def recipe(**keys: object) -> Recipe:
    return parse_recipe({"seconds": 40, "speakers": 3, **keys})


def levels_of(folder: Path, stems: Path) -> tuple[float, float, dict[str, object]]:
    """Level of speech where somebody speaks, SNR, and the document."""
    document = json.loads(next(folder.glob("*.json")).read_text())
    _, speech = wavfile.read(next(stems.glob("*.speech.wav")))
    _, noise = wavfile.read(next(stems.glob("*.noise.wav")))
    spoken = np.zeros(speech.size, np.bool_)
    for turn in document["turns"]:
        spoken[turn["start_sample"] : turn["end_sample"]] = True
    level = to_db(rms(speech[spoken]))
    return level, level - to_db(rms(noise)), document


@pytest.mark.parametrize("kind", ["noise", "music", "babble", "white", "pink"])
def test_level_and_snr_are_as_asked_on_the_stems(
    kind: str, voices: tuple[Voice, ...], tmp_path: Path
) -> None:
    asked = recipe(
        level=-30, room={"rt60": 0.4}, noise={"kind": kind, "snr": 7}, seconds=25, speakers=2
    )
    folder, stems = tmp_path / "made", tmp_path / "stems"
    simulate(asked, Sources(bundled_voices(), None, stems), folder, voices=voices)
    level, snr, document = levels_of(folder, stems)
    assert level == pytest.approx(-30, abs=0.2)
    assert snr == pytest.approx(7, abs=0.2)
    assert (document["level_dbfs"], document["snr_db"]) == (-30, 7)


def test_the_reference_is_exact_to_a_sample(voices: tuple[Voice, ...], tmp_path: Path) -> None:
    asked = recipe(room={"rt60": 0.0}, turn_spread=0, voice_spread=0)
    plan = plan_conversation(asked, 0, voices)
    for speaker in range(3):
        dry = np.concatenate(list(Renderer(plan, voices, None).speech(speaker)))
        heard = np.zeros(dry.size, np.bool_)
        for turn in plan.turns:
            if turn.speaker == speaker:
                start, end = turn.start_ms * GRID, turn.end_ms * GRID
                heard[start:end] = True
                # The first and the last sample of each turn sound.
                assert dry[start : start + 3].any()
                assert dry[end - 3 : end].any()
        assert not dry[~heard].any()
    simulate(asked, Sources(bundled_voices()), tmp_path / "made", voices=voices)
    (turns,) = read_rttm(next((tmp_path / "made").glob("*.rttm"))).values()
    written = sorted((t.start * 16000, t.end * 16000) for t in turns)
    planned = sorted((t.start_ms * GRID, t.end_ms * GRID) for t in plan.turns)
    assert np.allclose(written, planned, atol=1e-3)


def test_a_turns_level_is_that_of_its_own_sound(voices: tuple[Voice, ...], tmp_path: Path) -> None:
    asked = recipe(speakers=1, seconds=30, room={"rt60": 0.0})
    folder, stems = tmp_path / "made", tmp_path / "stems"
    simulate(asked, Sources(bundled_voices(), None, stems), folder, voices=voices)
    document = json.loads(next(folder.glob("*.json")).read_text())
    _, speech = wavfile.read(next(stems.glob("*.speech.wav")))
    assert len(document["turns"]) > 1
    for turn in document["turns"]:
        measured = to_db(rms(speech[turn["start_sample"] : turn["end_sample"]]))
        assert turn["level_dbfs"] == pytest.approx(measured, abs=0.2)


def reverberation_time(response: NDArray[np.float32]) -> float:
    """RT60 (s) of a response: T20 of Schroeder's backward integral (ISO 3382-1), here from 20 dB.

    From where the energy to come has fallen by 5 dB to where it has fallen by 25, times three.
    """
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    decibels = 10 * np.log10(energy / energy[0] + 1e-30)
    first, last = int(np.argmax(decibels <= -5)), int(np.argmax(decibels <= -25))
    slope = np.polyfit(np.arange(first, last) / 16_000, decibels[first:last], 1)[0]
    return float(-60 / slope)


@pytest.mark.parametrize("rt60", [0.3, 0.6, 1.0])
def test_rooms_reverberate_as_long_as_asked(rt60: float) -> None:
    for number in range(8):
        rng = np.random.default_rng(number)
        room = draw_room(rt60, 2.0, rng)
        response = impulse_response(room, seat(room, rng.uniform(0.6, 2), rng.uniform(0, 6)), rng)
        assert reverberation_time(response) == pytest.approx(rt60, rel=0.1)
        assert int(np.argmax(np.abs(response))) == 0


@pytest.mark.parametrize("name", [*CODECS, "opus-6k", "opus-16k", "opus-24k", "mp3-32k", "aac-32k"])
def test_codecs_neither_delay_nor_lengthen(name: str) -> None:
    voice = read_audio(next(bundled_voices().glob("*.opus")))[: 4 * 16000 + 123]
    stage = coded(find_codec(name))
    pieces = [stage.push(voice[at : at + 10_007]) for at in range(0, voice.size, 10_007)]
    heard = np.concatenate([*pieces, stage.flush()])
    assert heard.size == voice.size
    size = 2 * voice.size
    lags = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(voice, size)), size)
    lag = int(np.argmax(lags))
    assert min(lag, size - lag) <= 2
    assert np.corrcoef(voice, heard)[0, 1] > 0.4


def test_channel_stages_do_what_they_say() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(160_000).astype(np.float32)
    assert np.abs(Clip(0.5).push(noise)).max() == 0.5
    stage = narrowed(3400)
    narrow = np.concatenate([stage.push(noise[:70_000]), stage.push(noise[70_000:]), stage.flush()])
    power = np.abs(np.fft.rfft(narrow)) ** 2
    frequency = np.fft.rfftfreq(narrow.size, 1 / 16000)
    assert narrow.size == noise.size
    assert power[frequency > 3500].sum() < 1e-6 * power.sum()
    loss = PacketLoss(20, rng)
    heard = np.concatenate([loss.push(noise[:99_999].copy()), loss.push(noise[99_999:].copy())])
    changed = (heard != noise[: heard.size]).reshape(-1, 320).any(axis=1)
    assert changed.mean() == pytest.approx(0.2, abs=0.06)


def digest(folder: Path) -> str:
    hashed = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        hashed.update(path.name.encode() + path.read_bytes())
    return hashed.hexdigest()


def test_the_same_bytes_in_any_number_of_processes(
    voices: tuple[Voice, ...], tmp_path: Path
) -> None:
    asked = recipe(
        conversations=3,
        seconds=15,
        speakers=1,
        room={"rt60": [0.2, 0.5]},
        noise={"kind": ["babble", "pink"], "snr": [5, 20]},
        channel={"codec": "g711-mulaw", "loss": 5},
    )
    for jobs in (1, 2):
        simulate(asked, Sources(bundled_voices()), tmp_path / str(jobs), voices=voices, jobs=jobs)
    assert digest(tmp_path / "1") == digest(tmp_path / "2")
    again = parse_recipe(read_recipe(tmp_path / "1" / "recipe.yaml"))
    assert again == asked
    assert format_recipe(again) == format_recipe(asked)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_cut_off_at_full_scale_is_told(
    voices: tuple[Voice, ...], tmp_path: Path, jobs: int
) -> None:
    loud = recipe(conversations=2, seconds=10, speakers=1, level=-6)
    made = simulate(loud, Sources(bundled_voices()), tmp_path / "a", voices=voices, jobs=jobs)
    assert len(made.cut_off) == len(made.conversations) == 2
    for plan, seconds in zip(made.conversations, made.cut_off, strict=True):
        _, pcm = wavfile.read(tmp_path / "a" / f"{plan.uri}.wav")
        full = np.count_nonzero((pcm == 32767) | (pcm == -32768)) / 16000
        assert seconds == pytest.approx(full, abs=0.001)
        assert seconds > 0.05
    usual = recipe(seconds=10, speakers=1)
    made = simulate(usual, Sources(bundled_voices()), tmp_path / "b", voices=voices)
    assert made.cut_off == (0.0,)


def test_the_model_talks_as_meetings_do() -> None:
    made = [converse(shipped_model(), 4, 1200, np.random.default_rng(n)) for n in range(40)]
    assert np.mean([overlap_share(turns) for turns in made]) == pytest.approx(0.127, abs=0.025)
    seconds = np.concatenate([[turn.seconds for turn in turns] for turns in made])
    assert np.median(seconds) == pytest.approx(1.52, abs=0.25)
    interjected = np.mean([turn.interjected for turns in made for turn in turns])
    assert interjected == pytest.approx(0.35, abs=0.05)
    floors = [[turn for turn in turns if not turn.interjected] for turns in made]
    following = [pair for turns in floors for pair in pairwise(turns)]
    for kind, same in ((SAME, True), (PAUSE, False)):
        gaps = [
            after.start - before.end
            for before, after in following
            if (before.speaker == after.speaker) == same and after.start >= before.end
        ]
        of_meetings = np.quantile(shipped_model().gap[kind], (0.25, 0.5, 0.75))
        assert np.quantile(gaps, (0.25, 0.5, 0.75)) == pytest.approx(of_meetings, rel=0.1)


@pytest.mark.parametrize("share", [0, 10, 20, 40])
def test_overlap_is_as_asked(share: int, voices: tuple[Voice, ...]) -> None:
    plan = plan_conversation(recipe(overlap=share, seconds=180, speakers=4), 1, voices)
    spoken = np.zeros(plan.samples // GRID, np.int8)
    for turn in plan.turns:
        spoken[turn.start_ms : turn.end_ms] += 1
    assert 100 * (spoken > 1).sum() / (spoken > 0).sum() == pytest.approx(share, abs=1.5)


@pytest.mark.parametrize("count", [1, 2, 8, 20])
def test_everyone_asked_for_speaks_and_nobody_twice_at_once(
    count: int, voices: tuple[Voice, ...]
) -> None:
    plan = plan_conversation(recipe(speakers=count, seconds=240), 0, voices)
    assert len({turn.speaker for turn in plan.turns}) == count
    for speaker in range(count):
        own = [turn for turn in plan.turns if turn.speaker == speaker]
        assert all(a.end_ms < b.start_ms for a, b in pairwise(own))


def test_some_say_but_a_word_where_that_is_asked_for(voices: tuple[Voice, ...]) -> None:
    def least(introduction: float) -> float:
        asked = recipe(speakers=4, seconds=30, introduction=introduction)
        said: dict[tuple[int, int], float] = {}
        for number in range(12):
            for turn in plan_conversation(asked, number, voices).turns:
                key = number, turn.speaker
                said[key] = said.get(key, 0.0) + turn.length_ms / 1000
        return min(said.values())

    assert least(3.0) > 2.2  # words end where the voice is quiet: up to a quarter sooner
    assert least(0.0) < 1.0


def test_interjections_are_as_quiet_as_asked(voices: tuple[Voice, ...]) -> None:
    asked = recipe(speakers=4, seconds=120, turn_spread=0, interjected=-6)
    levels = {(turn.interjected, turn.level) for turn in plan_conversation(asked, 1, voices).turns}
    assert levels == {(False, 0.0), (True, -6.0)}


def test_similar_speakers_are_the_nearest(voices: tuple[Voice, ...]) -> None:
    angles = np.linspace(0, np.pi, len(voices))
    vectors = {
        voice.name: np.array([np.cos(a), np.sin(a)], np.float32)
        for voice, a in zip(voices, angles, strict=True)
    }
    plan = plan_conversation(recipe(similar=True), 5, voices, vectors)
    at = sorted([voice.name for voice in voices].index(seat.voice.name) for seat in plan.seats)
    assert at[-1] - at[0] == 2


def test_what_does_not_do_as_a_voice(tmp_path: Path, voices: tuple[Voice, ...]) -> None:
    files = {path.stem: (path,) for path in (datasets_dir() / "noise").glob("*.opus")}
    for name in ("music-piano", "noise-dishes", "noise-exercise-bike"):
        with pytest.raises(InputError, match="does not pause as speech does"):
            read_voice(name, files[name])
    short = tmp_path / "short.wav"
    wavfile.write(short, 16000, read_audio(next(bundled_voices().glob("*.opus")))[:16000])
    with pytest.raises(
        InputError, match=r"short.wav has 0\.\d s of speech: a voice needs at least"
    ):
        read_voice("short", [short])
    with pytest.raises(InputError, match="20 speakers need as many voices, and there are 3"):
        plan_conversation(recipe(speakers=20), 0, voices[:3])
    with pytest.raises(
        InputError, match="get no word in within 10 s: make the conversation longer"
    ):
        plan_conversation(recipe(speakers=20, seconds=10), 0, voices)
    with pytest.raises(UsageError, match="is not a folder"):
        voice_files(tmp_path / "nothing")


def test_no_more_of_a_voice_is_read_than_is_held_and_nothing_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "voices" / "ada"
    folder.mkdir(parents=True)
    speech = (read_audio(next(bundled_voices().glob("*.opus"))) * 32767).astype(np.int16)
    for name in ("a", "b", "c"):
        wavfile.write(folder / f"{name}.wav", 16000, speech)
    (folder / "._a.wav").write_bytes(b"what macOS leaves beside a file")
    files = voice_files(tmp_path / "voices")["ada"]
    assert [path.name for path in files] == ["a.wav", "b.wav", "c.wav"]
    (folder / "c.wav").write_bytes(b"no audio")
    monkeypatch.setattr("fluidaudio_cli.simulate.voices.MAX_VOICE_SECONDS", 20.0)
    assert 15 < read_voice("ada", files).milliseconds / 1000 < 21


def test_music_that_pauses_as_speech_does_is_no_voice(tmp_path: Path) -> None:
    time = np.arange(12 * 16000) / 16000
    folder = tmp_path / "voices"
    folder.mkdir()
    for name, pitch in (("bass", 110), ("lute", 330)):
        beat = time % 0.25  # four plucked strings a second
        plucked = np.sin(2 * np.pi * pitch * time) * np.exp(-beat / 0.03)
        wavfile.write(folder / f"{name}.wav", 16000, (9000 * plucked).astype(np.int16))
        read_voice(name, [folder / f"{name}.wav"])  # by its energy it could be one
    out = tmp_path / "out"
    done = forked.run("simulate", "--voices", str(folder), "-o", str(out), "--speakers", "2")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"fluidaudio: nobody speaks in voice bass of {folder} for most of its sound: music or "
        "noise: give recordings of one person each\n"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"speaker": 2}, "^recipe: speaker: Extra inputs"),
        ({"my-key": 2}, "^recipe: my-key: Extra inputs"),
        ({"room": {"float": 2}}, "^recipe: room.float: Extra inputs"),
        ({"speakers": 21}, "speakers: "),
        ({"overlap": [20, 10]}, "overlap: .*runs backwards"),
        ({"room": {"rt60": 9}}, "room.rt60: 9 is not between 0 and 3"),
        ({"seconds": 5}, "seconds: 5 is not between 10 and 36000"),
        ({"seed": 2**32}, "seed: 4294967296 is not between 0 and 4294967295"),
        (
            {"channel": {"codec": "opus-5k"}},
            "channel.codec: .*no codec opus-5k; there are none, .*, opus-6k to opus-256k, ",
        ),
    ],
)
def test_a_wrong_recipe_names_its_key(keys: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_recipe(keys)


def test_nothing_half_written(
    voices: tuple[Voice, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fluidaudio_cli.simulate.render.WavWriter.write", full)
    with pytest.raises(HostError, match="No space left on device: free space"):
        simulate(recipe(), Sources(bundled_voices()), tmp_path / "made", voices=voices)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    write = Path.write_text
    monkeypatch.setattr(
        Path,
        "write_text",
        lambda path, *text, **how: (full if path.suffix == ".yaml" else write)(path, *text, **how),
    )
    with pytest.raises(HostError, match=rf"^cannot write {tmp_path / 'made'}: No space left"):
        simulate(recipe(), Sources(bundled_voices()), tmp_path / "made", voices=voices)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(UsageError, match="is there and not empty: give a new folder"):
        simulate(recipe(), Sources(bundled_voices()), tmp_path / "full", voices=voices)


def test_stems_lie_beside_the_recordings_and_not_among_them(
    voices: tuple[Voice, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for stems in (out, out / "stems"):
        with pytest.raises(UsageError, match=r"is in --output .*: give another folder"):
            simulate(recipe(), Sources(bundled_voices(), None, stems), out, voices=voices)
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"cannot write stems to .*: choose another --stems"):
        simulate(recipe(), Sources(bundled_voices(), None, tmp_path / "file"), out, voices=voices)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match=r"--output \. is the folder you are in: give a new"):
        simulate(recipe(), Sources(bundled_voices()), Path(), voices=voices)
    assert not out.exists()


def test_conversations_of_the_program_are_made_once(tmp_path: Path) -> None:
    asked = bundled_recipe("conversations").model_copy(
        update={"conversations": 1, "seconds": 20.0, "speakers": 2}
    )
    first = made_dataset(asked, tmp_path)
    when = next(first.folder.glob("*.wav")).stat().st_mtime_ns
    second = made_dataset(asked, tmp_path)
    assert next(second.folder.glob("*.wav")).stat().st_mtime_ns == when
    assert first.fingerprint == second.fingerprint
    other = made_dataset(asked.model_copy(update={"seed": 1}), tmp_path)
    assert other.fingerprint != first.fingerprint


def test_the_pack_is_balanced_and_small() -> None:
    files = sorted(bundled_voices().glob("*.opus"))
    assert len(files) == 24
    assert sum(path.stem.endswith("-f") for path in files) == 12
    noises = (datasets_dir() / "noise").glob("*.opus")
    assert sum(path.stat().st_size for path in [*files, *noises]) < 6e6


def test_a_kind_of_noise_is_no_folder_that_is_here_by_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "music").mkdir()
    monkeypatch.chdir(tmp_path)
    made = forked.run("simulate", "-o", "a", "--duration", "10s", "--noise", "music", "--jobs", "1")
    assert (made.returncode, made.stderr) == (0, "")
    made = forked.run("simulate", "-o", "b", "--duration", "10s", "--noise", "./music")
    assert (made.returncode, made.stderr) == (
        3,
        "fluidaudio: no noise in music: put recordings of noise there\n",
    )


def test_the_command(tmp_path: Path) -> None:
    def run(*arguments: str) -> forked.Done:
        return forked.run("simulate", *arguments)

    made = run(
        "-o", str(tmp_path / "a"), "-n", "2", "--duration", "20s", "--speakers", "2", "--level=-30",
        "--noise", "pink", "--snr", "5-10", "--seed", "4", "--jobs", "1",
    )  # fmt: skip
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == f"2 conversations, 0.7 minutes, in {tmp_path / 'a'}\n"
    loud = run("-o", str(tmp_path / "l"), "--duration", "10s", "--speakers", "1", "--level", "0")
    assert loud.returncode == 0
    assert re.fullmatch(
        r"warning: [1-9]\.\d s are beyond full scale and cut off; give a lower --level\n",
        loud.stderr,
    )
    again = run("--recipe", str(tmp_path / "a" / "recipe.yaml"), "-o", str(tmp_path / "b"))
    assert again.returncode == 0
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    wrong = run("-o", str(tmp_path / "c"), "--speakers", "many")
    assert wrong.returncode == 2
    assert wrong.stderr == "fluidaudio: --speakers many: give a number or LOW-HIGH\n"
    wrong = run("-o", str(tmp_path / "c"), "--speakers", "30")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("fluidaudio: simulate: speakers: 30 is not between 1 and 20: ")
    wrong = run("-o", str(tmp_path / "c"), "--snr", "10")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "fluidaudio: --snr is of --noise: add --noise\n",
    )
    (tmp_path / "recipe.yaml").write_text("speakers: 30\n")
    wrong = run("-o", str(tmp_path / "c"), "--recipe", str(tmp_path / "recipe.yaml"))
    assert wrong.returncode == 3
    assert not (tmp_path / "c").exists()


def test_as_many_processes_as_processors_that_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def make(*_: object, jobs: int, **__: object) -> Made:
        asked.append(jobs)
        return Made((), ())

    monkeypatch.setattr("fluidaudio_cli.executors.machine.processors", lambda: 3)
    monkeypatch.setattr("fluidaudio_cli.simulate.batch.simulate", make)
    simulate_command(tmp_path / "out")
    assert asked == [3]


@pytest.mark.skipif(sys.platform == "win32", reason="no signals, pipes or terminals")
def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["-o", str(tmp_path / "out"), "-n", "2", "--duration", "3h", "--jobs", "2"]
    started = subprocess.Popen(
        [sys.executable, "-m", "fluidaudio_cli", "simulate", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as from a terminal, it reaches the processes it started, too
    )
    while not any(tmp_path.glob(".fluidaudio-*/out/*.wav")):
        assert started.poll() is None
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGINT)
    _, err = started.communicate(timeout=15)  # not at the conversations' end, 25 s away
    assert (started.returncode, err) == (130, "fluidaudio: interrupted\n")
    assert not list(tmp_path.iterdir())
