"""Voices of little-heard speakers are embedded again, from the recording itself."""

from __future__ import annotations

import wave
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fluidaudio_cli.diarization.loading import load_pipeline

from fluidaudio_cli.audio.source import AudioInfo, open_audio
from fluidaudio_cli.diarization import second_look
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.clustering import Clusters, Voices
from fluidaudio_cli.diarization.config import load_mode
from fluidaudio_cli.diarization.crop_embedder import CropEmbedder
from fluidaudio_cli.diarization.frames import CROP_FRAMES
from fluidaudio_cli.diarization.pipeline import SECOND_LOOK
from fluidaudio_cli.diarization.recording import Recording
from fluidaudio_cli.diarization.second_look import (
    Glimpse,
    SecondLookRules,
    look_again,
    uncertain_voices,
)
from fluidaudio_cli.errors import AudioError
from fluidaudio_cli.executors.machine import has_amx_bf16

Floats = npt.NDArray[np.float32]


def test_voices_of_speakers_with_little_speech_are_uncertain() -> None:
    """Speaker 0 has (8 + 6) / 2 = 7 s, speaker 1 has 3 s; two looks at each moment."""
    vectors = np.eye(5, 192, dtype=np.float32)
    vectors[3] = 0  # never embedded, so that there is nothing to look at again
    voices = Voices(np.arange(5), vectors, np.array([8.0, 4.0, 6.0, 2.0, 9.0]), looks=2.0)
    clusters = Clusters(np.array([0, 1, 0, 1, -1]), vectors[:2])
    for seconds, expected in ((0.0, []), (2.9, []), (3.1, [1]), (7.0, [1]), (7.1, [0, 1, 2])):
        found = uncertain_voices(voices, clusters, SecondLookRules(seconds, "fp32"))
        assert found.tolist() == expected


class Hops:
    """Stands for the filter bank: each frame holds its hop's first sample, 80 times."""

    def run(
        self, feeds: Mapping[str, Floats], outputs: Mapping[str, Floats] | None = None
    ) -> Mapping[str, Floats]:
        assert outputs is not None
        starts = np.arange(CROP_FRAMES) * 160
        outputs["frames"][:] = feeds["audio"][:, 0, starts][:, :, None]
        return outputs


class FirstAndLast:
    """Stands for the embedding: the first and the last frame of the crop."""

    def run(self, feeds: Mapping[str, Floats]) -> Mapping[str, Floats]:
        frames = feeds["frames"]
        vectors = np.zeros((len(frames), 192), np.float32)
        vectors[:, 0], vectors[:, 1] = frames[:, 0, 0], frames[:, -1, 0]
        return {"embedding": vectors}


@pytest.fixture
def numbered(tmp_path: Path) -> AudioInfo:
    """70 s in which every hop of 10 ms holds its own number."""
    path = tmp_path / "numbered.wav"
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(np.repeat(np.arange(1, 7001), 160).astype("<i2").tobytes())
    with open_audio(path) as stream:
        return stream.info


def test_what_is_heard_again_is_what_was_heard(numbered: AudioInfo) -> None:
    """Windows that overlap, that are far apart, that are the same, and the last one."""
    fbank: Any = Hops()
    embedding: Any = FirstAndLast()
    embedder = CropEmbedder(fbank, embedding, batch=4, zero_copy=True)
    starts = (0, 2, 2, 6, 30, 38, 60)
    glimpses = [Glimpse(start * 16_000, (((100, 300),), ((500, 700),))) for start in starts]
    vectors = look_again(numbered, glimpses, embedder, StageClock())
    for vector, start in zip(vectors, starts, strict=True):
        crops = np.array(
            [[start * 100 + first + 1, start * 100 + first + 200] for first in (100, 500)], float
        )
        crops /= np.linalg.norm(crops, axis=1, keepdims=True)
        mean = crops.mean(axis=0)
        assert vector[:2] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


@pytest.mark.skipif(not has_amx_bf16(), reason="the processor computes in fp32 anyway")
def test_voices_looked_at_again_are_those_of_fp32(
    sample_wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Voices] = []
    plain = Recording._look_again

    def spy(recording: Recording, rows: Any, voices: Voices, *rest: Any) -> Voices:
        seen.append(replace(voices, windows=rows))
        seen.append(plain(recording, rows, voices, *rest))
        return seen[-1]

    monkeypatch.setattr(Recording, "_look_again", spy)
    mode = load_mode("accurate")
    # The sample's speakers speak for about ten seconds each: both are looked at again.
    mode = replace(mode, second_look=SecondLookRules(100.0, "fp32"))
    looking = load_pipeline(mode, executor="openvino", threads=1)
    result = looking.diarize(sample_wav)
    looking.close()
    assert [model.name for model in looking.models][-1] == SECOND_LOOK
    assert looking.models[-1].ran["precision"] == "fp32"
    assert "second look" in {stage.name for stage in result.timings.stages}
    first, again = seen
    # In fp32 from the beginning, with the same segmentation.
    rules = replace(mode.execution, embedding_precision="fp32")
    exact = load_pipeline(replace(mode, execution=rules), executor="openvino", threads=1)
    assert SECOND_LOOK not in [model.name for model in exact.models]
    voices: list[Voices] = []
    make = Recording._voices

    def keep(recording: Recording, looks: float) -> Voices:
        voices.append(make(recording, looks))
        return voices[-1]

    monkeypatch.setattr(Recording, "_voices", keep)
    exact.diarize(sample_wav)
    exact.close()
    rows = first.windows
    assert len(rows) > 20
    np.testing.assert_array_equal(again.vectors[rows], voices[0].vectors[rows])
    assert not np.array_equal(first.vectors[rows], again.vectors[rows])


@pytest.mark.skipif(not has_amx_bf16(), reason="the processor computes in fp32 anyway")
def test_recording_that_cannot_be_read_again(
    sample_wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path, uri: str | None = None) -> Any:
        raise AudioError(f"{path} is gone", "keep it")

    pipeline = load_pipeline("accurate", executor="openvino", threads=1)
    monkeypatch.setattr(second_look, "open_audio", gone)
    uncertain = replace(pipeline.mode, second_look=SecondLookRules(100.0, "fp32"))
    pipeline.mode = uncertain
    with pytest.raises(AudioError, match=r"sample\.wav is gone: keep it"):
        pipeline.diarize(sample_wav)
    pipeline.close()
