"""The command run in this process (quick) or in one of its own (as users do), and recordings."""

from __future__ import annotations

import json
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.cli.process import main
from fluidaudio_cli.diarization import loading
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.jobs import local
from fluidaudio_cli.jobs.pool import Inline
from tests import forked

Command = Callable[..., tuple[int, str, str]]
WriteWav = Callable[..., Path]


@pytest.fixture(scope="session")
def loaded_once() -> Callable[..., Pipeline]:
    """``load`` that gives the same pipeline for the same plan."""
    load, known = loading.load, dict[str, Pipeline]()

    def load_once(plan: Plan, **options: Any) -> Pipeline:
        key = json.dumps(plan.as_dict())
        if key not in known:
            known[key] = load(plan, **options)
        return known[key]

    return load_once


@pytest.fixture
def models_loaded_once(
    monkeypatch: pytest.MonkeyPatch, loaded_once: Callable[..., Pipeline]
) -> None:
    """Spare commands in this process from loading the models anew each time, also in jobs."""
    monkeypatch.setattr(loading, "load", loaded_once)
    monkeypatch.setattr(local, "LocalPool", lambda work, workers, threads: Inline(work, threads))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``fluidaudio ARGUMENTS`` in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fluidaudio", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def process() -> Command:
    """``fluidaudio ARGUMENTS`` in its own process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path, **env: str) -> tuple[int, str, str]:
        done = forked.run(*arguments, env=env)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="session")
def speech(sample_wav: Path) -> npt.NDArray[np.float32]:
    """The bundled conversation: (480000,) float32 at 16 kHz."""
    with wave.open(str(sample_wav)) as reader:
        content = reader.readframes(reader.getnframes())
    return (np.frombuffer(content, "<i2") / 32768.0).astype(np.float32)


@pytest.fixture
def write_wav(tmp_path: Path) -> WriteWav:
    """Float samples (n,) or (n, channels) as 16-bit WAV, clipped at full scale."""

    def write(samples: npt.NDArray[Any], name: str = "audio.wav", rate: int = 16_000) -> Path:
        frames = samples[:, None] if samples.ndim == 1 else samples
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as writer:
            writer.setnchannels(frames.shape[1])
            writer.setsampwidth(2)
            writer.setframerate(rate)
            writer.writeframes((np.clip(frames, -1, 1) * 32767).astype("<i2").tobytes())
        return path

    return write
