"""``fluidaudio diarize`` on bad and on odd recordings, and when it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

pytestmark = pytest.mark.usefixtures("models_loaded_once")

Command = Callable[..., tuple[int, str, str]]
WriteWav = Callable[..., Path]
Samples = npt.NDArray[np.float32]


def missing(folder: Path, speech: Samples) -> Path:
    return folder / "missing.wav"


def folder_without_audio(folder: Path, speech: Samples) -> Path:
    (folder / "texts").mkdir()
    (folder / "texts" / "notes.txt").write_text("nothing to hear", encoding="utf-8")
    return folder / "texts"


def empty_file(folder: Path, speech: Samples) -> Path:
    (folder / "empty.wav").touch()
    return folder / "empty.wav"


def renamed_text(folder: Path, speech: Samples) -> Path:
    (folder / "text.wav").write_text("This is no audio.\n" * 50, encoding="utf-8")
    return folder / "text.wav"


def truncated_flac(folder: Path, speech: Samples) -> Path:
    path = folder / "cut.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (speech[None, : 5 * 16_000] * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def truncated_wav(folder: Path, speech: Samples) -> Path:
    path = folder / "cut.wav"
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes((speech * 32767).astype("<i2").tobytes())
    path.write_bytes(path.read_bytes()[:500_000])
    return path


def no_samples(folder: Path, speech: Samples) -> Path:
    with wave.open(str(folder / "none.wav"), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
    return folder / "none.wav"


def _float_wav(path: Path, samples: Samples) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def not_a_number(folder: Path, speech: Samples) -> Path:
    samples = speech[: 3 * 16_000].copy()
    samples[20_000] = np.nan
    return _float_wav(folder / "nan.wav", samples)


def infinite(folder: Path, speech: Samples) -> Path:
    samples = speech[: 3 * 16_000].copy()
    samples[20_000] = np.inf
    return _float_wav(folder / "inf.wav", samples)


def picture_only(folder: Path, speech: Samples) -> Path:
    path = folder / "silent film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


BAD_INPUT = [
    (missing, "does not exist: check the path"),
    (folder_without_audio, "has no audio files: give a folder with WAV, FLAC, MP3, M4A, … in it"),
    (empty_file, "is an empty file (0 bytes): record or copy it again"),
    (renamed_text, "is not a media file that can be decoded"),
    (truncated_flac, "is damaged after 1.94 s"),
    (truncated_wav, "is cut off or damaged: its header states 30.00 s, only 15.62 s"),
    (no_samples, "has no audio samples: give a recording"),
    (not_a_number, "has a sample that is not a usable number (nan) at 1.250 s"),
    (infinite, "has a sample that is not a usable number (inf) at 1.250 s"),
    (picture_only, "has no audio"),
]


@pytest.mark.parametrize(("make", "reason"), BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_3(
    command: Command,
    tmp_path: Path,
    speech: Samples,
    make: Callable[[Path, Samples], Path],
    reason: str,
) -> None:
    path = make(tmp_path, speech)
    target = tmp_path / "result" / "turns.rttm"
    code, out, err = command("diarize", path, "--output", target)
    assert (code, out) == (3, "")
    assert err.startswith(f"fluidaudio: {path} {reason}")
    assert err.count("\n") == 1
    assert not target.exists()


def test_all_bad_input_at_once_does_not_stop_the_good(
    command: Command, tmp_path: Path, speech: Samples, write_wav: WriteWav
) -> None:
    good = write_wav(speech[: 12 * 16_000], "good.wav")
    bad = [make(tmp_path, speech) for make, _ in BAD_INPUT if make is not folder_without_audio]
    out_dir = tmp_path / "out"
    code, _, err = command("diarize", *bad[:4], good, *bad[4:], "--output-dir", out_dir)
    assert code == 3
    assert sorted(path.name for path in out_dir.iterdir()) == ["good.rttm", "manifest.jsonl"]
    lines = err.splitlines()
    assert len([line for line in lines if line.startswith("fluidaudio: ")]) == len(bad)
    assert lines[-1] == f"{len(bad)} of {len(bad) + 1} recordings failed"


def silence(speech: Samples) -> tuple[Samples, int]:
    return np.zeros(12 * 16_000, np.float32), 16_000


def faint_noise(speech: Samples) -> tuple[Samples, int]:
    noise = np.random.default_rng(1).normal(0, 0.001, 12 * 16_000)
    return noise.astype(np.float32), 16_000


def fifty_milliseconds(speech: Samples) -> tuple[Samples, int]:
    return speech[8 * 16_000 :][:800], 16_000


def one_sample(speech: Samples) -> tuple[Samples, int]:
    return np.full(1, 0.5, np.float32), 16_000


def eight_kilohertz_stereo(speech: Samples) -> tuple[Samples, int]:
    return np.stack([speech[::2], 0.5 * speech[::2]], axis=1), 8_000


def clipped(speech: Samples) -> tuple[Samples, int]:
    return np.clip(speech * 10, -1, 1), 16_000


def offset(speech: Samples) -> tuple[Samples, int]:
    return np.asarray(speech * 0.5 + 0.4, np.float32), 16_000


@pytest.mark.parametrize(
    ("make", "speakers"),
    [
        (silence, {0}),
        (faint_noise, {0}),
        (fifty_milliseconds, {0, 1}),
        (one_sample, {0}),
        (eight_kilohertz_stereo, {2}),
        (clipped, {2, 3}),
        (offset, {2}),
    ],
)
def test_odd_input_gives_a_valid_result(
    command: Command,
    speech: Samples,
    write_wav: WriteWav,
    make: Callable[[Samples], tuple[Samples, int]],
    speakers: set[int],
) -> None:
    samples, rate = make(speech)
    path = write_wav(samples, f"{make.__name__}.wav", rate)
    code, out, err = command("diarize", path, "--format", "json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    seconds = len(samples) / rate
    assert document["audio"]["duration_seconds"] == pytest.approx(seconds, abs=1e-6)
    assert len(document["speakers"]) in speakers
    assert bool(document["segments"]) == bool(document["speakers"])
    assert all(0 <= s["start"] < s["end"] <= seconds + 0.001 for s in document["segments"])


@pytest.mark.parametrize(
    ("kind", "text"),
    [("rttm", ""), ("srt", ""), ("vtt", "WEBVTT\n"), ("csv", "uri,start,end,duration,speaker\n")],
)
def test_silence_in_every_format(
    command: Command, speech: Samples, write_wav: WriteWav, kind: str, text: str
) -> None:
    path = write_wav(silence(speech)[0], "silence.wav")
    note = "note: there is no sound in it: every sample is zero\n"
    assert command("diarize", path, "--format", kind) == (0, text, note)
    code, out, _ = command("diarize", path, "--format", "table")
    assert code == 0
    assert "nobody speaks" in out


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process on Windows")
def test_interrupt_ends_with_130_and_leaves_nothing_half_written(
    tmp_path: Path, speech: Samples, write_wav: WriteWav
) -> None:
    """Many recordings: interrupted once the first result is there."""
    for number in range(40):
        write_wav(speech, f"talks/{number:02d}.wav")
    out_dir = tmp_path / "out"
    arguments = ["diarize", str(tmp_path / "talks"), "--output-dir", str(out_dir)]
    arguments += ["--format", "json", "--performance-mode", "fast"]
    started = subprocess.Popen(
        [sys.executable, "-m", "fluidaudio_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (out_dir.is_dir() and any(out_dir.glob("*.json"))):
        assert started.poll() is None, started.stderr.read() if started.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=180)
    assert started.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    written = list(out_dir.glob("*.json"))
    assert 1 <= len(written) < 40
    for path in written:
        assert json.loads(path.read_text(encoding="utf-8"))["schema"] == "fluidaudio.diarization/1"
