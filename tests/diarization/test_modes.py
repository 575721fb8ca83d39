"""Mode files: differences from another, values of the model card, the origin of each value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fluidaudio_cli.benchmark.gates import read_gates
from fluidaudio_cli.diarization.modes import (
    DEFAULT_MODE,
    MODE_NAMES,
    ModeConfig,
    load_mode,
    mode_title,
)
from fluidaudio_cli.errors import InputError, UsageError
from fluidaudio_cli.models.card import load_card
from fluidaudio_cli.resources import configs_dir
from fluidaudio_cli.settings import flattened, read_settings


def file(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def changes(mode: ModeConfig, base: ModeConfig) -> dict[str, object]:
    values = base.values()
    return {key: value for key, value in mode.values().items() if value != values[key]}


def test_shipped_modes_are_balanced_but_for_what_they_say() -> None:
    balanced = load_mode("balanced")
    assert changes(load_mode("fast"), balanced) == {
        "windows.step_seconds": 10.0,
    }
    assert changes(load_mode("turbo"), balanced) == {
        "windows.step_seconds": 10.0,
        "crops.utterances": False,
        "execution.kernels": "narrow",
    }
    assert changes(load_mode("accurate"), balanced) == {
        "windows.step_seconds": 2.0,
        "crops.per_speaker": 2,
        "embedding.exact_below_seconds": 2.0,
    }
    assert changes(load_mode("reference"), balanced) == {
        "windows.batch": 1,
        "embedding.batch": 1,
        "embedding.narrow": False,
        "execution.executor": "onnxruntime",
        "execution.precision": "fp32",
        "execution.kernels": "runtime",
        "execution.workers": 1,
    }


@pytest.mark.parametrize("name", MODE_NAMES)
def test_every_value_has_a_line_and_a_reason_of_its_own(name: str) -> None:
    mode = load_mode(name)
    assert set(mode.origins) >= set(mode.values())
    folders = {"bundled.yaml": load_card().path.parent}
    for key in mode.values():
        place = mode.origins[key]
        path = folders.get(place.file, configs_dir()) / place.file
        line = path.read_text(encoding="utf-8").splitlines()[place.line - 1]
        assert line.strip().startswith(f"{key.split('.')[-1]}:")
        assert len(place.reason) > 5, f"{key} of {place} has no reason"


@pytest.mark.parametrize("name", sorted({*MODE_NAMES} - {DEFAULT_MODE}))
def test_no_shipped_mode_repeats_what_it_extends(name: str) -> None:
    content, _ = read_settings(configs_dir() / f"{name}.yaml", UsageError)
    base = load_mode(content.pop("extends")).values()
    for key, value in flattened(content).items():
        assert value != base[key], f"{name} repeats {key}"


def test_titles_are_the_files_first_comments() -> None:
    assert mode_title("fast") == 'Faster than "balanced": every moment is seen once.'


def test_a_file_extends_a_mode_or_another_file_and_keeps_their_lines(tmp_path: Path) -> None:
    file(tmp_path, "extends: fast\nwindows:\n  # Less memory.\n  batch: 2\n", "half.yaml")
    mode = load_mode(file(tmp_path, "extends: half.yaml\ncrops:\n  per_speaker: 2\n"))
    assert changes(mode, load_mode("fast")) == {"windows.batch": 2, "crops.per_speaker": 2}
    assert mode.name == "mine"
    assert str(mode.origins["windows.batch"]) == "half.yaml:4"
    assert mode.origins["windows.batch"].reason == "Less memory."
    assert mode.origins["windows.step_seconds"].file == "fast.yaml"


def test_networks_give_the_thresholds(tmp_path: Path) -> None:
    card = load_card()
    rules = {**card.thresholds["reconstruction"], "onset": 0.45}
    other = replace(card, thresholds={**card.thresholds, "reconstruction": rules})
    assert load_mode("balanced", other).reconstruction.onset == 0.45
    # What a mode says of them goes before what their card says.
    mine = file(tmp_path, "extends: balanced\nreconstruction:\n  onset: 0.4\n")
    assert load_mode(mine, other).reconstruction.onset == 0.4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "the file holds no keys: see the documentation for an example"),
        ("speed: 1\n", "unknown key speed: known here: crops, embedding, "),
        ("extends: fast\nwindows:\n  size: 1\n", "unknown key windows.size: known here: batch, "),
        ("extends: fast\nwindows: 5\n", "windows holds no keys: known: batch, silence_dbfs, "),
        ("windows:\n  batch: 8\n", "windows.step_seconds is missing: add it"),
        ("extends: fast\nwindows:\n  batch: x\n", "windows.batch is 'x': give a value of type int"),
        ("extends: fast\nwindows:\n  batch: true\n", "windows.batch is True: give a value of type"),
        (
            "extends: fast\nexecution:\n  precision: int4\n",
            "execution.precision is 'int4': use auto, fp32, bf16, fp16",
        ),
        (
            "extends: fast\nembedding:\n  exact_precision: auto\n",
            "embedding.exact_precision is 'auto': use fp32, bf16, fp16",
        ),
        (
            "extends: fast\nembedding:\n  narrow: 1\n",
            "embedding.narrow is 1: use true, false, auto",
        ),
        (
            "extends: fast\nexecution:\n  executor: tpu\n",
            "execution.executor is 'tpu': use auto, coreml, openvino, onnxruntime, cuda",
        ),
        ("extends: fast\nwindows:\n  step_seconds: 3\n", "windows.step_seconds must divide 10 s"),
        ("extends: fast\nwindows:\n  step_seconds: 0\n", "windows.step_seconds must divide 10 s"),
        (
            "extends: fast\nwindows:\n  step_seconds: 0.0000152587890625\n",
            "windows.step_seconds must be at least 0.1 s",
        ),
        (
            "extends: fast\nreconstruction:\n  onset: 2.0\n  overlap_onset: 1.5\n",
            "reconstruction.overlap_onset must not be below reconstruction.onset",
        ),
        (
            "extends: fast\nreconstruction:\n  fill_gap_seconds: -1\n",
            "reconstruction.fill_gap_seconds must not be negative",
        ),
        (
            "extends: fast\nreconstruction:\n  min_turn_seconds: -1\n",
            "reconstruction.min_turn_seconds must not be negative",
        ),
        ("extends: fast\nwindows:\n  batch: 1_000_000\n", "windows.batch must be from 1 to 4096"),
        ("extends: fast\nembedding:\n  batch: 0\n", "embedding.batch must be from 1 to 4096"),
        (
            "extends: fast\nwindows:\n  silence_dbfs: 900\n",
            "windows.silence_dbfs must not be above",
        ),
        (
            "extends: fast\nwindows:\n  silence_dbfs: .nan\n",
            "windows.silence_dbfs is nan: give a nu",
        ),
        (
            f"extends: fast\nembedding:\n  exact_below_seconds: 1{400 * '0'}\n",
            f"embedding.exact_below_seconds is 1{400 * '0'}: give a number",
        ),
        (
            "extends: fast\nwindows: &all\n  of: *all\n",
            "unknown key windows.of: known here: batch, ",
        ),
        ("extends: mine.yaml\n", "extends goes in a circle: extend another mode"),
        ("extends: 3\n", "extends is 3: give a mode's name or path"),
    ],
)
def test_what_does_not_belong_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(UsageError) as refusal:
        load_mode(path)
    assert str(refusal.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2020-13-45", "month must be in 1..12"),
        ("!!int abc", "invalid literal for int() with base 10: 'abc'"),
        ("!!bool perhaps", "'perhaps'"),
        ("!!timestamp abc", "'NoneType' object has no attribute 'groupdict'"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 1000 levels"),
        ("- " * 100_000, "nested deeper than 1000 levels"),
    ],
    ids=lambda text: text[:12],
)
def test_a_value_that_yaml_itself_fails_on_is_one_line(
    tmp_path: Path, value: str, reason: str
) -> None:
    path = file(tmp_path, f"step_seconds:\n  {value}\n")
    with pytest.raises(UsageError) as refusal:
        load_mode(path)
    assert str(refusal.value).startswith(f"cannot read {path}: {reason}")
    with pytest.raises(InputError) as refused:
        read_gates(path)
    assert str(refused.value).startswith(f"cannot read the gates {path}: {reason}")


def test_a_key_given_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = file(tmp_path, "extends: fast\nwindows:\n  batch: 1\n  batch: 2\n")
    with pytest.raises(UsageError) as refusal:
        load_mode(path)
    assert str(refusal.value) == f"{path}:4: windows.batch is there twice"


def test_an_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(UsageError) as refusal:
        load_mode("quick")
    assert str(refusal.value) == (
        "there is no performance mode 'quick': use reference, accurate, balanced, fast, turbo or "
        "the path of a .yaml file"
    )
