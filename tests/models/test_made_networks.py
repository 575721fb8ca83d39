"""Networks of other kinds than the bundled ones: pooling under a mask, and one network for all."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_packages import HOP_SAMPLES, TONES_HZ, masked_embedding, tone_diarizer

from fluidaudio_cli.diarization.chunk_diarizer import ChunkNetwork
from fluidaudio_cli.diarization.loading import load_pipeline, make_plan
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.diarization.saved_evidence import read_evidence, save_evidence
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.errors import AudioError, ModelFormatError, UsageError
from fluidaudio_cli.executors.base import Feeds, TensorSpec
from fluidaudio_cli.models.card import DiarizerCard, read_card
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.scoring.sweep import score_turns
from fluidaudio_cli.turns import Turn

MASKED = """
schema: fluidaudio.card/1
title: FluidAudio's interface
licence: MIT AND Apache-2.0
sample_rate: 16000
segmentation:
  file: bundled:segmentation.mlpackage
  inputs: {audio: [batch, 1, 160000]}
  outputs: {log_probabilities: [batch, 589, 7]}
  hop_samples: 270
  receptive_field_samples: 991
  classes: powerset
  speakers: 3
  scores: log-probabilities
embedding:
  file: masked.mlpackage
  inputs: {waveform: [3, 160000], mask: [3, 589]}
  outputs: {embedding: [3, 192]}
  pooling: mask
  mask_input: mask
  lowest_precision: fp32
"""
TONES = """
schema: fluidaudio.card/1
title: two tones
licence: CC0-1.0
sample_rate: 16000
diarizer:
  file: tones.mlpackage
  inputs: {frame: [1, 1600], top_buffer: [1, 2], ingest: [1], decode: [1]}
  outputs: {full_logits: [1, 1, 4], top_buffer_out: [1, 2]}
  audio_input: frame
  activity_output: full_logits
  not_speakers: [0, -1]
  states: {top_buffer: top_buffer_out}
  scores: logits
  hop_samples: 1600
  delay_frames: 1
  hearing_input: ingest
  deciding_input: decode
"""


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    masked_embedding(folder / "masked.mlpackage")
    (folder / "masked.yaml").write_text(MASKED, encoding="utf-8")
    return folder / "masked.yaml"


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    tone_diarizer(folder / "tones.mlpackage")
    (folder / "tones.yaml").write_text(TONES, encoding="utf-8")
    return folder / "tones.yaml"


def test_pooling_under_a_mask_is_as_good_as_crops(masked: Path, sample_wav: Path) -> None:
    def rate(models: Path | str) -> float:
        pipeline = load_pipeline("balanced", executor="onnxruntime", models=models)
        result = pipeline.diarize(sample_wav)
        pipeline.close()
        assert result.evidence is not None
        assert result.evidence.vectors.shape[1] == 192
        reference = read_rttm(sample_wav.with_suffix(".rttm"))["sample"]
        return score_turns(reference, result.turns, ((0.0, result.duration_seconds),)).rate

    assert rate(masked) == pytest.approx(rate("bundled"), abs=0.01)


def test_a_fixed_batch_stays_where_others_shrink(masked: Path) -> None:
    plan = make_plan("balanced", executor="onnxruntime", models=masked).with_batches(2, 4)
    assert {role: each.batch for role, each in plan.networks.items()} == {
        "segmentation": 2,
        "embedding": 3,
    }
    # A network that pools under a mask hears all of a window.
    assert plan.mode.crops.per_speaker == 5


@pytest.fixture(scope="module")
def follower(tones: Path) -> Iterator[Pipeline]:
    pipeline = load_pipeline("balanced", executor="onnxruntime", models=tones)
    yield pipeline
    pipeline.close()


def sung(path: Path, seconds: float, *turns: Turn) -> Path:
    """A recording in which speaker 0 or 1 is a tone."""
    times = np.arange(round(seconds * 16_000)) / 16_000
    audio = np.zeros(len(times))
    for start, end, who in turns:
        sounding = (times >= start) & (times < end)
        audio += 0.2 * np.sin(2 * np.pi * TONES_HZ[int(who)] * times) * sounding
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((audio * 32767).astype("<i2").tobytes())
    return path


SONG = (Turn(1.0, 9.0, "1"), Turn(7.0, 14.0, "0"), Turn(18.0, 23.5, "1"))


def near(found: tuple[Turn, ...], wanted: tuple[Turn, ...]) -> bool:
    frame = HOP_SAMPLES / 16_000
    return [turn.speaker for turn in found] == [turn.speaker for turn in wanted] and all(
        abs(one.start - other.start) <= frame and abs(one.end - other.end) <= frame
        for one, other in zip(found, wanted, strict=True)
    )


# The first to speak is SPEAKER_00, whatever its place in the network.
NAMED = tuple(turn._replace(speaker=f"SPEAKER_0{1 - int(turn.speaker)}") for turn in SONG)


def test_one_network_for_all_keeps_its_speakers_apart(follower: Pipeline, tmp_path: Path) -> None:
    assert follower.plan.workers == 1
    result = follower.diarize(sung(tmp_path / "song.wav", 24.0, *SONG))
    assert near(result.turns, NAMED)
    assert result.speaker_counts == {2: 1.0}
    assert [speaker.embedding.tolist() for speaker in result.speakers] == [[0, 1], [1, 0]]


def test_each_recording_begins_with_no_state(follower: Pipeline, tmp_path: Path) -> None:
    first = sung(tmp_path / "first.wav", 24.0, *SONG)
    # Ends while somebody speaks: the tail of the delay must not go to the next recording.
    cut = sung(tmp_path / "cut.wav", 12.0, Turn(2.0, 12.0, "0"))
    silence = sung(tmp_path / "silence.wav", 3.0, Turn(0.0, 0.0, "0"))
    found = list(follower.diarize_many([(first, None), (cut, None), (silence, None)]))
    turns = [each.turns for each in found if not isinstance(each, AudioError)]
    assert near(turns[0], NAMED)
    assert near(turns[1], (Turn(2.0, 12.0, "SPEAKER_00"),))
    assert turns[2] == ()


def test_places_are_kept_with_the_evidence(follower: Pipeline, tmp_path: Path) -> None:
    result = follower.diarize(sung(tmp_path / "song.wav", 24.0, *SONG))
    plan: Plan = follower.plan
    save_evidence(result, plan, follower.models, tmp_path / "song.npz")
    again = read_evidence(tmp_path / "song.npz").diarize(SpeakerBounds())
    assert again.turns == result.turns


class Chunks:
    """A network of two frames a chunk, whose activity is its mask; keeps what it was given."""

    inputs = (TensorSpec("audio", (1, 320), "float32"), TensorSpec("mask", (1, 2), "float32"))

    def __init__(self) -> None:
        self.fed: list[Feeds] = []

    def request(self) -> Any:
        return SimpleNamespace(run=self.run)

    def run(self, feeds: Feeds) -> Feeds:
        self.fed.append(dict(feeds))
        return {"activity": np.array(feeds["mask"])[:, :, None]}


def test_frames_within_the_delay_are_told_one_by_one_and_left_out() -> None:
    card = DiarizerCard(
        file="x",
        inputs={"audio": (1, 320), "mask": (1, 2)},
        outputs={"activity": (1, 2, 1)},
        audio_input="audio",
        activity_output="activity",
        scores="probabilities",
        hop_samples=160,
        delay_frames=3,
        deciding_input="mask",
    )
    model: Any = Chunks()
    network = ChunkNetwork(model, card)
    found = [network.run(np.zeros(320, np.float32)).tolist() for _ in range(3)]
    assert [feeds["mask"].tolist() for feeds in model.fed] == [[[0, 0]], [[0, 1]], [[1, 1]]]
    assert found == [[], [[1.0]], [[1.0], [1.0]]]


def test_a_number_of_speakers_cannot_be_asked_of_it(follower: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="follows speakers itself, and cannot be told their numb"):
        follower.diarize(
            sung(tmp_path / "song.wav", 24.0, *SONG), speakers=SpeakerBounds(exactly=3)
        )


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("hearing_input: ingest", "hop_samples: 1600", "hop_samples is there twice"),
        ("  hearing_input: ingest\n", "", "the card says of frame, top_buffer, decode what goes"),
        ("[0, -1]", "[0, 1, 2, 3]", "not_speakers leaves no speaker"),
        ("hop_samples: 1600", "hop_samples: 1601", "1 frames of 1601 samples are more than a chu"),
        ("top_buffer_out: [1, 2]", "top_buffer_out: [1, 3]", "top_buffer_out differ in shape"),
        ("delay_frames: 1", "context_frames: 1", "context_frames is 1, and a chunk has 1 frames"),
    ],
)
def test_what_does_not_go_together_is_named(tones: Path, old: str, new: str, line: str) -> None:
    path = tones.with_name("edited.yaml")
    assert old in TONES
    path.write_text(TONES.replace(old, new), encoding="utf-8")
    with pytest.raises(ModelFormatError, match=line):
        read_card(path)
