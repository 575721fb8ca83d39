"""What counts as a recording, what it is called, and that its results can be used."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.io import wavfile

from fluidaudio_cli.cli import diarize_run
from fluidaudio_cli.diarization.clock import Span
from fluidaudio_cli.diarization.evidence import EvidenceLog
from fluidaudio_cli.files import write_text_atomic

Command = Callable[..., tuple[int, str, str]]
WriteWav = Callable[..., Path]
Samples = npt.NDArray[np.float32]

FAST = ("--performance-mode", "fast")


@pytest.fixture
def piece(speech: Samples) -> Samples:
    """Twelve seconds of the bundled conversation."""
    return speech[: 12 * 16_000]


def test_standard_input_gives_what_the_file_gives(
    command: Command, models_loaded_once: None, write_wav: WriteWav, piece: Samples
) -> None:
    path = write_wav(piece, "talk.wav")
    _, expected, _ = command("diarize", path, *FAST, "--format", "rttm")
    assert expected.count("SPEAKER talk ") >= 1
    done = subprocess.run(
        [sys.executable, "-m", "fluidaudio_cli", "diarize", "-", *FAST, "--format", "rttm"],
        input=path.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == expected.replace(" talk ", " stdin ")


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes: Linux")
def test_a_bad_name_is_said_before_the_work_and_the_rest_is_done(
    command: Command, models_loaded_once: None, write_wav: WriteWav, piece: Samples, tmp_path: Path
) -> None:
    write_wav(piece, "in/good.wav")
    write_wav(piece, f"in/{'n' * 251}.wav")
    with open(os.fsencode(tmp_path / "in") + b"/bad\xff\xfe.wav", "wb") as file:  # noqa: PTH123
        file.write((tmp_path / "in" / "good.wav").read_bytes())
    code, out, err = command("diarize", tmp_path / "in", *FAST, "--output-dir", tmp_path / "out")
    assert (code, out) == (3, "")
    first, *_, last = err.splitlines()
    assert first == (
        f"fluidaudio: cannot write the result of {tmp_path}/in/{'n' * 251}.wav: "
        "File name too long: rename it, or write to stdout"
    )
    assert last == "1 of 3 recordings failed"
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["bad%FF%FE.rttm", "good.rttm", "manifest.jsonl"]
    assert (tmp_path / "out" / "bad%FF%FE.rttm").read_text().startswith("SPEAKER bad%FF%FE 1 ")


def test_a_name_of_any_bytes_fits_into_json(
    command: Command, models_loaded_once: None, write_wav: WriteWav, piece: Samples, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("file names of any bytes: Linux")
    path = os.fsencode(tmp_path) + b"/bad\xff.wav"
    os.rename(write_wav(piece), path)  # noqa: PTH104
    code, out, _ = command("diarize", os.fsdecode(path), *FAST, "--format", "json")
    assert code == 0
    document = json.loads(out)
    assert document["uri"] == "bad%FF"
    assert document["audio"]["path"] == f"{tmp_path}/bad\\xff.wav"
    assert (document["audio"]["tracks"], document["audio"]["track"]) == (1, 1)
    assert document["audio"]["lost"] == []


@pytest.mark.skipif(not hasattr(os, "link"), reason="no links on this system")
def test_links_to_one_file_are_recordings_of_their_own(
    command: Command, models_loaded_once: None, write_wav: WriteWav, piece: Samples, tmp_path: Path
) -> None:
    path = write_wav(piece, "in/a.wav")
    (tmp_path / "in" / "b.wav").symlink_to("a.wav")
    (tmp_path / "in" / "c.wav").hardlink_to(path)
    arguments = (tmp_path / "in", path, tmp_path / "in" / ".." / "in" / "a.wav")
    code, _, err = command("diarize", *arguments, *FAST, "--output-dir", tmp_path / "out")
    assert code == 0, err
    written = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.rttm")}
    assert sorted(written) == ["a.rttm", "b.rttm", "c.rttm"]
    assert written["b.rttm"] == written["a.rttm"].replace(" a ", " b ")


def test_recordings_in_which_nobody_speaks_can_be_scored(
    command: Command, models_loaded_once: None, write_wav: WriteWav, piece: Samples, tmp_path: Path
) -> None:
    talk, quiet = write_wav(piece, "one.wav"), write_wav(np.zeros(80_000, np.float32), "two.wav")
    reference = tmp_path / "refs.rttm"
    reference.write_text(
        "SPEAKER one 1 7 3 <NA> <NA> x <NA> <NA>\nSPEAKER two 1 1 2 <NA> <NA> x <NA> <NA>\n"
    )
    both, nobody = tmp_path / "all.rttm", tmp_path / "none.rttm"
    assert command("diarize", talk, quiet, *FAST, "--output", both)[0] == 0
    code, out, err = command("score", reference, both, "--format", "json")
    assert (code, err) == (
        0,
        f"note: {both} has no turns of two: nobody speaks, all of it is missed\n",
    )
    files = {item["uri"]: item["conditions"]["strict"]["der"] for item in json.loads(out)["files"]}
    assert (files["two"]["missed_detection"], files["two"]["rate"]) == (2.0, 1.0)
    assert files["one"]["missed_detection"] < 0.5
    # Of several that are all silent the file is empty.
    nobody.write_text("")
    code, out, _ = command("score", reference, nobody, "--format", "json")
    assert code == 0
    assert json.loads(out)["pooled"]["conditions"]["strict"]["der"]["missed_detection"] == 5.0


def test_a_very_quiet_recording_is_heard(
    command: Command, models_loaded_once: None, write_wav: WriteWav, speech: Samples, tmp_path: Path
) -> None:
    # Levels differ in last digits only, which bf16 would make frames of.
    fast = (*FAST, "--precision", "fp32")
    loud = write_wav(speech, "talk.wav")
    _, expected, _ = command("diarize", loud, *fast, "--format", "rttm")
    quiet = tmp_path / "quiet" / "talk.wav"
    quiet.parent.mkdir()
    wavfile.write(quiet, 16_000, speech / np.float32(1_000))  # 60 dB less
    _, found, _ = command("diarize", quiet, *fast, "--format", "rttm")
    # Rounding of last digits may move a boundary by a frame.
    loud_rows, quiet_rows = ([line.split() for line in r.splitlines()] for r in (expected, found))
    assert [row[7] for row in quiet_rows] == [row[7] for row in loud_rows]
    assert len(quiet_rows) >= 6
    for column in (3, 4):
        assert [float(row[column]) for row in quiet_rows] == pytest.approx(
            [float(row[column]) for row in loud_rows], abs=0.02
        )
    wavfile.write(quiet, 16_000, np.rint(speech * 2**15 / 10_000).astype("<i2"))  # 80 dB less
    assert command("diarize", quiet, *fast, "--format", "rttm") == (
        0,
        "",
        "note: its loudest sample is at -90 dB of full scale: too quiet to tell voices from "
        "rounding\n",
    )


@pytest.mark.parametrize("track", ["0", "-1", "two", "1.5"])
def test_a_track_is_a_number_or_all(
    track: str, command: Command, write_wav: WriteWav, piece: Samples
) -> None:
    code, _, err = command("diarize", write_wav(piece), "--track", track)
    assert (code, err) == (
        2,
        f"fluidaudio: --track {track}: give a track's number from 1, or all\n",
    )


def test_a_recording_that_is_done_is_forgotten(
    command: Command,
    models_loaded_once: None,
    write_wav: WriteWav,
    piece: Samples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither evidence nor timings pile up over a folder, whatever its size."""
    for number in range(12):
        write_wav(piece[: 4 * 16_000], f"talks/{number:02d}.wav")
    logs: list[int] = []
    waits: list[int] = []

    def alive() -> tuple[int, int]:
        found = gc.get_objects()
        # What no recording waits for is nobody's, and would be kept until the end.
        waiting = sum(type(each) is Span and each.stage[:4] == "wait" for each in found)
        return sum(type(each) is EvidenceLog for each in found), waiting

    # Of tests before this one.
    gc.collect()
    old_logs, old_waits = alive()

    def counting(target: Path, text: str) -> None:
        now_logs, now_waits = alive()
        logs.append(now_logs - old_logs)
        waits.append(now_waits - old_waits)
        write_text_atomic(target, text)

    monkeypatch.setattr(diarize_run, "write_text_atomic", counting)
    code, _, _ = command("diarize", tmp_path / "talks", *FAST, "--output-dir", tmp_path / "out")
    assert (code, len(logs)) == (0, 12)
    assert max(logs) <= 2  # of the one being written and of the one being made
    assert max(waits) <= 0
