"""Drafts of model cards: what is read off packages, and what is said to be unknown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_packages import tone_diarizer

from fluidaudio_cli.errors import ModelFormatError, UsageError
from fluidaudio_cli.models.card import load_card, read_card
from fluidaudio_cli.models.draft import draft_card
from fluidaudio_cli.resources import packages_dir

SHIPPED = [packages_dir() / f"{name}.mlpackage" for name in ("segmentation", "fbank", "embedding")]
GUESSED = {"licence", "title", "thresholds", "calibration", "name", "path", "places"}


def test_the_bundled_packages_draft_the_bundled_card(tmp_path: Path) -> None:
    draft = draft_card(SHIPPED, tmp_path)
    path = tmp_path / "drafted.yaml"
    path.write_text(draft.text, encoding="utf-8")
    drafted, ours = read_card(path), load_card("published")
    for role, network in ours.networks.items():
        found = drafted.networks[role]
        unknown = {"file": network.file, "licence": network.licence}
        # A draft is of three packages.
        unknown |= {key: "" for key in ("narrow_file", "distilled_file") if hasattr(network, key)}
        assert {**vars(found), **unknown} == {**vars(network), **unknown}
        assert drafted.packages[role] == ours.packages[role]
    assert "segmentation.hop_samples: 270 is a guess: as pyannote's, which has these shapes" in (
        draft.unknown
    )
    assert not any("scores" in line for line in draft.unknown)


def test_features_are_of_the_bundled_filter_bank_where_no_other_is_given(tmp_path: Path) -> None:
    draft = draft_card([SHIPPED[2], SHIPPED[0]], tmp_path)
    assert "front_end:\n  file: bundled:fbank.mlpackage  # none was given" in draft.text


def test_names_are_quoted_where_yaml_reads_something_else(tmp_path: Path) -> None:
    names = ("[seg] #1: ü.mlpackage", "2024.mlpackage")
    for name, package in zip(names, (SHIPPED[0], SHIPPED[2]), strict=True):
        shutil.copytree(package, tmp_path / name)
    draft = draft_card([tmp_path / name for name in names], tmp_path)
    path = tmp_path / "drafted.yaml"
    path.write_text(draft.text, encoding="utf-8")
    drafted = read_card(path)
    assert drafted.title == "[seg] #1: ü, 2024"
    assert drafted.packages["segmentation"] == tmp_path / names[0]


def test_states_are_told_by_names_and_shapes(tmp_path: Path) -> None:
    tone_diarizer(tmp_path / "tones.mlpackage")
    draft = draft_card([tmp_path / "tones.mlpackage"], tmp_path)
    assert "  file: tones.mlpackage\n" in draft.text
    assert "  states: {top_buffer: top_buffer_out}\n" in draft.text
    assert "  hop_samples: 1600  # of the shapes" in draft.text
    assert (
        "  constants: {ingest: 1, decode: 1}  # what they are for is not in the pac" in draft.text
    )
    assert "diarizer.delay_frames: 0 is a guess: not in the package" in draft.unknown
    path = tmp_path / "drafted.yaml"
    path.write_text(draft.text, encoding="utf-8")
    assert read_card(path).diarizer is not None


@pytest.mark.parametrize(
    ("packages", "line"),
    [
        (SHIPPED[1:], "the packages have no segmentation"),
        ([SHIPPED[0], SHIPPED[0]], "two packages have the role segmentation, the second is "),
    ],
)
def test_what_is_no_set_is_named(tmp_path: Path, packages: list[Path], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        draft_card(packages, tmp_path)


def test_sizes_that_are_free_are_asked_for(tmp_path: Path) -> None:
    package = tmp_path / "voices.mlmodelc"
    package.mkdir()
    (package / "model.mil").write_text(
        "program(1.0)\n{ func main<ios15>(tensor<fp32, [?, ?, 80]> fbank) {"
        " tensor<fp32, [?, 80]> y = reduce_mean(axes = tensor<int32, [1]>([1]),"
        ' keep_dims = bool(false), x = fbank)[name = string("y")]; } -> (y); }'
    )
    draft = draft_card([SHIPPED[0], package], tmp_path)
    line = "inputs: {fbank: [batch, fbank_1, 80]}"
    why = "free in the package: a number for fbank_1"
    assert f"  {line}  # {why}\n" in draft.text
    assert f"embedding.{line} is a guess: {why}" in draft.unknown


def test_a_network_without_results(tmp_path: Path) -> None:
    package = tmp_path / "none.mlmodelc"
    package.mkdir()
    (package / "model.mil").write_text(
        "program(1.0)\n{ func main<ios15>(tensor<fp32, [1, 2]> x) { } -> (); }"
    )
    with pytest.raises(
        ModelFormatError, match=r"none\.mlmodelc has no output, or a tensor without"
    ):
        draft_card([package], tmp_path)
