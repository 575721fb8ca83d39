"""Long audio made of short."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.benchmark.grid import length_name
from fluidaudio_cli.benchmark.studies import parse_lengths
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.measure.long_audio import RepeatedAudio, check_space, speech_level

Floats = npt.NDArray[np.float64]


def write_wav(path: Path, samples: Floats) -> Path:
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(np.rint(samples * 32768).astype("<i2").tobytes())
    return path


def read_wav(path: Path) -> Floats:
    with wave.open(str(path)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (
            1,
            2,
            16000,
        )
        frames = reader.readframes(reader.getnframes())
        assert len(frames) == 2 * reader.getnframes()
    return np.frombuffer(frames, "<i2") / 32768


def tone(seconds: float, amplitude: float, hertz: float) -> Floats:
    time = np.arange(round(seconds * 16_000)) / 16_000
    return np.asarray(amplitude * np.sin(2 * np.pi * hertz * time))


# --- Lengths and audio ---


def test_lengths_are_read_in_order_and_once() -> None:
    assert parse_lengths("1m,10m,1h,10h") == (60.0, 600.0, 3600.0, 36_000.0)
    assert parse_lengths("2h, 20s,1.5m,90s") == (20.0, 90.0, 7200.0)
    names = [length_name(seconds) for seconds in (20.0, 90.0, 600.0, 3600.0, 5400.0, 36_000.0)]
    assert names == ["20 s", "1.5 min", "10 min", "1 h", "1.5 h", "10 h"]
    # Lengths that differ are cells that differ, in tables and in gates.
    near = [length_name(seconds) for seconds in parse_lengths("60m,3601s,100s,100.2s,100m,6001s")]
    assert near == ["100 s", "1.67 min", "1 h", "3601 s", "100 min", "6001 s"]


@pytest.mark.parametrize("part", ["", "10", "x", "0.5s", "0h", "-1m", "1d"])
def test_what_is_no_length_is_refused(part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_lengths(f"20s,{part}")
    assert str(caught.value) == (
        f"--scaling-lengths 20s,{part}: {part!r} is no length of a second or more: "
        "give lengths such as 20s,1m,10h"
    )


def test_recordings_are_repeated_under_fresh_noise(tmp_path: Path) -> None:
    first, second = tone(0.5, 0.5, 200), tone(0.3, 0.125, 300)
    recordings = [write_wav(tmp_path / "a.wav", first), write_wav(tmp_path / "b.wav", second)]
    audio = RepeatedAudio(recordings)
    audio.write(tmp_path / "long.wav", 2.1, (0, 1))
    written = read_wav(tmp_path / "long.wav")
    assert written.size == 33_600
    noise = written - np.concatenate([first, second, first, second, first])[:33_600]
    # 50 dB below a tone of amplitude A is A / sqrt(2) / 316; rounding is far below that.
    for start, end, amplitude in ((0, 8000, 0.5), (8000, 12_800, 0.125), (12_800, 20_800, 0.5)):
        rms = float(np.sqrt(np.mean(noise[start:end] ** 2)))
        assert 20 * np.log10(rms / (amplitude / np.sqrt(2))) == pytest.approx(-50.0, abs=0.4)
    # Each repetition is its own: uncorrelated with the one before.
    assert abs(np.corrcoef(noise[:8000], noise[12_800:20_800])[0, 1]) < 0.06


def test_noise_is_that_of_its_seed(tmp_path: Path) -> None:
    audio = RepeatedAudio([write_wav(tmp_path / "a.wav", tone(0.5, 0.5, 200))])
    for name, seed in (("one", (0, 1)), ("same", (0, 1)), ("other", (0, 2))):
        audio.write(tmp_path / name, 1.0, seed)
    one, same, other = ((tmp_path / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same
    assert one != other


def test_digital_silence_gets_noise_too(tmp_path: Path) -> None:
    silence = write_wav(tmp_path / "silence.wav", np.zeros(16_000))
    RepeatedAudio([silence]).write(tmp_path / "long.wav", 2.0, (0, 0))
    written = read_wav(tmp_path / "long.wav") * 32768
    assert written.std() == pytest.approx(np.sqrt(1 + 1 / 12), rel=0.03)  # one step, and rounding
    assert not np.array_equal(written[:16_000], written[16_000:])


def test_pauses_do_not_lower_the_speech_level(tmp_path: Path) -> None:
    spoken = np.concatenate([tone(1.0, 0.5, 200), np.zeros(16_000)])
    assert speech_level(write_wav(tmp_path / "a.wav", spoken)) == pytest.approx(
        0.5 / np.sqrt(2), rel=1e-3
    )


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_350_000_000))
    check_space(tmp_path, [35_000.0])  # 1.12 GB, and 0.2 GB left alone
    with pytest.raises(HostError) as caught:
        check_space(tmp_path, [600.0, 36_000.0])
    assert str(caught.value) == (
        f"the audio of --scaling takes 1.17 GB, and {tmp_path} has 1.35 GB free, of which 0.2 GB "
        "are left alone: free space, set TMPDIR to another disk, or give shorter --scaling-lengths"
    )
    with pytest.raises(UsageError, match=r"38\.0 hours does not fit in a WAV file: .* 37 hours"):
        check_space(tmp_path, [38 * 3600.0])
