"""``fluidaudio stream`` as users run it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.cli.render.stream import LiveView
from fluidaudio_cli.diarization.evidence import WindowEvidence
from fluidaudio_cli.diarization.ledger import Ledger, Revision
from fluidaudio_cli.diarization.live_frontend import LiveFrontend
from fluidaudio_cli.diarization.live_turns import LiveTurns
from fluidaudio_cli.diarization.windows import Window
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.turns import Turn
from tests.cli.conftest import Command

pytestmark = pytest.mark.usefixtures("models_loaded_once")


def _events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _as_read(events: list[dict[str, Any]]) -> list[Turn]:
    """The turns that somebody has who follows the events."""
    ledger = Ledger()
    for event in events:
        if event["event"] == "turns":
            ledger.add(Turn(each["start"], each["end"], each["speaker"]) for each in event["final"])
            ledger.apply(
                Revision(each["start"], each["end"], each["from"], each["to"])
                for each in event["revisions"]
            )
    return ledger.turns()


def test_events_add_up_to_what_is_saved(command: Command, sample_wav: Path, tmp_path: Path) -> None:
    saved = tmp_path / "end.RTTM"  # in any case
    code, out, err = command("stream", sample_wav, "--latency", "5", "--save", saved)
    assert (code, err) == (0, f"wrote {saved}\n")
    first, *steps, summary = _events(out)
    assert (first["event"], first["schema"]) == ("start", "fluidaudio.stream/1")
    assert (first["uri"], first["latency"], first["step"]) == ("sample", 5.0, 1.0)
    assert [each["event"] for each in steps] == ["turns"] * 30
    times = [each["time"] for each in steps]
    assert times == [*(number + 0.015 for number in range(1, 30)), 30.0]
    assert (summary["event"], summary["reason"], summary["time"]) == ("summary", "end", 30.0)
    assert summary["steps"] == 29
    kept = list(read_rttm(saved)["sample"])
    assert summary["turns"] == len(kept) == 6
    assert steps[-1]["speakers"] == sorted({turn.speaker for turn in kept})
    created, withdrawn = (
        [name for each in steps for name in each[key]] for key in ("created", "withdrawn")
    )
    assert sorted(set(created) - set(withdrawn)) == steps[-1]["speakers"]
    assert summary["speakers_created"] == len(created) == 2
    assert summary["speakers_withdrawn"] == len(withdrawn) == 0
    assert _as_read([first, *steps]) == kept
    finals = [turn for each in steps[:-1] for turn in each["final"]]
    assert len(finals) >= 3
    assert all(turn["end"] <= each["settled"] for each in steps[:-1] for turn in each["final"])
    code, out, _ = command("diarize", sample_wav, "--format", "rttm")
    offline = [line.split()[3:5] for line in out.splitlines()]
    assert offline == [line.split()[3:5] for line in saved.read_text().splitlines()]


def test_appended_formats_and_json_at_the_end(
    command: Command, sample_wav: Path, tmp_path: Path
) -> None:
    target, saved = tmp_path / "talk.vtt", tmp_path / "end.JSON"
    code, out, err = command("stream", sample_wav, "--latency", "10", "-o", target, "--save", saved)
    assert (code, out) == (0, "")
    assert "30.0 s, 2 speakers, 6 turns" in err
    assert target.read_text().startswith("WEBVTT\n\n00:00:0")
    assert target.read_text().count("WEBVTT") == 1
    # Nobody is renamed: what was said is corrected at its edges only.
    assert " from SPEAKER_00 to SPEAKER" not in target.read_text()
    assert " from SPEAKER_01 to SPEAKER" not in target.read_text()
    document = json.loads(saved.read_text())
    assert document["schema"] == "fluidaudio.diarization/1"
    labels = [speaker["label"] for speaker in document["speakers"]]
    assert labels == ["SPEAKER_00", "SPEAKER_01"]


def test_raw_samples_in_two_channels(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample_wav: Path
) -> None:
    import wave

    with wave.open(str(sample_wav)) as file:
        mono = np.frombuffer(file.readframes(8 * 16_000), "<i2")
    raw = tmp_path / "raw.f32"
    both = np.repeat(mono.astype("<f4") / 32768, 2)
    raw.write_bytes(both.tobytes() + b"\x01\x02\x03")  # ends in the middle of a sample
    with raw.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        options = ("--rate", "16000", "--channels", "2", "--format-of-samples", "f32le")
        code, out, _ = command("stream", "-", *options, "--format", "rttm")
    assert code == 0
    from_raw = [line for line in out.splitlines() if line.startswith("SPEAKER")]
    assert from_raw
    assert all(line.startswith("SPEAKER stdin 1 ") for line in from_raw)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("nowhere.wav",), 3, "nowhere.wav does not exist"),
        (("a.wav", "--latency", "0.2"), 2, "--latency 0.2 s: give 0.5 to 30 s"),
        (("a.wav", "--rate", "8000"), 2, "--rate is of raw samples, and a.wav is none"),
        (("-", "--channels", "2"), 2, "--channels is of --rate: add --rate"),
        (("-", "--format-of-samples", "f32le"), 2, "--format-of-samples is of --rate"),
        (("a.wav", "--save", "a.txt"), 2, "--save a.txt has no such ending"),
        (("a.wav", "-o", "a.txt"), 2, "--output a.txt does not tell the format"),
        (("a.wav", "-o", "a.rttm", "--save", "./a.rttm"), 2, "--output and --save are both a.rttm"),
        (("a.wav", "--save", "/dev/null/a.rttm"), 4, "cannot write to /dev/null: "),
    ],
)
def test_one_line_says_what_is_wrong(
    command: Command, arguments: tuple[str, ...], code: int, line: str
) -> None:
    found, out, err = command("stream", *arguments)
    assert (found, out) == (code, "")
    assert line in err
    assert err.count("\n") == 1


def test_a_recording_is_not_written_over(command: Command, tmp_path: Path) -> None:
    recording = tmp_path / "talk.wav"
    recording.write_bytes(b"somebody's only copy")
    code, out, err = command("stream", recording, "--format", "jsonl", "-o", recording)
    assert (code, out) == (2, "")
    assert err == f"fluidaudio: {recording} is a recording itself: choose another --output\n"
    assert recording.read_bytes() == b"somebody's only copy"


@pytest.mark.parametrize("name", ["end.TextGrid", "end.RTTM", "new/end.JSON"])
def test_endings_of_what_is_saved_in_any_case(
    command: Command, sample_wav: Path, tmp_path: Path, name: str
) -> None:
    saved, target = tmp_path / name, tmp_path / "also new" / "talk.vtt"
    code, _, err = command("stream", sample_wav, "--latency", "30", "--save", saved, "-o", target)
    assert (code, err.splitlines()[-1]) == (0, f"wrote {saved}")
    assert saved.read_text()[:4] == {"T": "File", "R": "SPEA", "J": "{\n  "}[saved.suffix[1]]
    assert target.read_text().startswith("WEBVTT\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk without room, as Linux has")
def test_what_is_saved_is_kept_where_no_more_events_fit(
    command: Command, sample_wav: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "end.rttm"
    target = ("--format", "rttm", "-o", "/dev/full")
    code, out, err = command("stream", sample_wav, "--latency", "10", *target, "--save", saved)
    assert (code, out) == (4, "")
    assert "fluidaudio: /dev/full: No space left on device: free space there\n" in err
    assert len(saved.read_text().splitlines()) == 6


def test_raw_samples_at_the_pace_of_speech(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(2 * 16_000))
    waits: list[float] = []
    monkeypatch.setattr("fluidaudio_cli.audio.live.time.sleep", waits.append)
    with raw.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        code, _, _ = command("stream", "-", "--rate", "16000", "--pace", "real")
    assert code == 0
    assert waits[-1] == pytest.approx(1.0, abs=0.5)


def test_no_microphone_library_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, out, err = command("stream", "mic")
    assert (code, out) == (4, "")
    assert "pip install 'fluidaudio[mic]'" in err
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (1, 129, "hung up"),  # SIGHUP, which Windows does not have
    ],
)
def test_a_signal_in_a_stalled_source_loses_nothing(
    sample_wav: Path,
    tmp_path: Path,
    number: int,
    code: int,
    word: str,
) -> None:
    saved = tmp_path / "end.rttm"
    read, write = os.pipe()
    # A shell's background processes do not hear Ctrl-C.
    hears = signal.signal(signal.SIGINT, signal.SIG_IGN) if code == 143 else None
    started = subprocess.Popen(
        [sys.executable, "-m", "fluidaudio_cli", "stream", "-", "--rate", "16000", "--save", saved],
        stdin=read,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if hears is not None:
        signal.signal(signal.SIGINT, hears)
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        pipe.write(sample_wav.read_bytes()[44 : 44 + 2 * 121_600])
        pipe.flush()
        assert started.stdout is not None
        lines: list[str] = []
        for line in started.stdout:
            lines.append(line)
            if '"time":7.515' in line:  # the last whole step
                break
        started.send_signal(number)
        out, err = started.communicate(timeout=180)
    assert started.returncode == code
    assert err == f"wrote {saved}\nfluidaudio: {word}\n"
    *_, summary = events = _events("".join(lines) + out)
    assert (summary["event"], summary["reason"]) == ("summary", "interrupted")
    assert summary["time"] == 7.6  # what is no whole step included
    assert _as_read(events) == list(read_rttm(saved)["stdin"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has")
@pytest.mark.parametrize("number", [10, 12])
def test_ctrl_c_while_a_window_is_computed_loses_nothing(
    command: Command,
    sample_wav: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """In a window that is kept for the end, and in one that is not."""
    compute = LiveFrontend.evidence

    def interrupted(self: LiveFrontend, window: Window, *rest: Any, **more: Any) -> WindowEvidence:
        if window.number == number:
            signal.raise_signal(signal.SIGINT)
        return compute(self, window, *rest, **more)

    monkeypatch.setattr(LiveFrontend, "evidence", interrupted)
    saved = tmp_path / "end.rttm"
    code, out, err = command("stream", sample_wav, "--latency", "5", "--save", saved)
    assert (code, err) == (130, f"wrote {saved}\nfluidaudio: interrupted\n")
    *_, summary = events = _events(out)
    assert (summary["event"], summary["reason"]) == ("summary", "interrupted")
    assert _as_read(events) == list(read_rttm(saved)["sample"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has")
@pytest.mark.parametrize(("times", "kept"), [(1, True), (2, False)])
def test_ctrl_c_at_the_end_waits_for_it_and_a_second_does_not(
    command: Command,
    sample_wav: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    kept: bool,
) -> None:
    conclude = LiveTurns.finish

    def interrupted(*arguments: Any) -> Any:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return conclude(*arguments)

    monkeypatch.setattr(LiveTurns, "finish", interrupted)
    saved = tmp_path / "end.rttm"
    code, out, err = command("stream", sample_wav, "--latency", "30", "--save", saved)
    assert (code, err) == (130, f"wrote {saved}\n" * kept + "fluidaudio: interrupted\n")
    *_, last = events = _events(out)
    assert (last.get("reason"), saved.exists()) == ("end" if kept else None, kept)
    if kept:
        assert _as_read(events) == list(read_rttm(saved)["sample"])


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has")
def test_what_is_saved_is_kept_where_nobody_reads_the_end(tmp_path: Path) -> None:
    saved = tmp_path / "end.rttm"
    started = subprocess.Popen(
        [sys.executable, "-m", "fluidaudio_cli", "stream", "-", "--rate", "16000", "--save", saved],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert started.stdin is not None
    assert started.stdout is not None
    assert started.stderr is not None
    assert b'"event":"start"' in started.stdout.readline()
    started.stdout.close()
    started.stdin.write(bytes(1_000))
    started.stdin.close()
    assert started.wait(180) == 141
    assert started.stderr.read() == f"wrote {saved}\n".encode()
    assert saved.exists()
    started.stderr.close()


def test_what_is_said_of_a_stream_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with LiveView(latency=1.0, step_seconds=0.5) as view:
        for text in ("nothing comes from the source", "the source goes on"):
            view.say(text)
            assert text in terminal.getvalue()
