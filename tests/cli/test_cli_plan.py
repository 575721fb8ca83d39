"""``plan`` and ``modes``: what would run, and where each value comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fluidaudio_cli.diarization.loading import make_plan
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    machine_identity,
    save_tuning,
)

Command = Callable[..., tuple[int, str, str]]


def test_a_plan_is_what_diarize_stores(
    command: Command, sample_wav: Path, models_loaded_once: None
) -> None:
    asked = ("--performance-mode", "fast", "--executor", "onnxruntime", "--threads", "1")
    code, out, err = command("plan", *asked, "--format", "json")
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert plan.pop("schema") == "fluidaudio.plan/1"
    assert plan == make_plan("fast", executor="onnxruntime", threads=1).as_dict()
    code, out, _ = command("diarize", sample_wav, *asked, "--format", "json")
    stored = json.loads(out)
    assert code == 0
    assert stored["plan"] == {
        key: value for key, value in plan.items() if key not in ("mode", "asked", "notes")
    }
    assert stored["config"]["mode"] | plan["mode"] == plan["mode"]
    assert stored["executor"]["asked"] == plan["asked"]


def test_a_plan_in_words(command: Command) -> None:
    code, out, err = command("plan", "--performance-mode", "reference")
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["mode"] == "reference"
    assert lines["executor"].startswith("onnxruntime (")
    assert lines["segmentation"] == "fp32, 1 at a time"
    assert lines["processors"].endswith(", 1 worker, one thread on each inference")
    assert lines["kernels"] == "the executor's own"
    assert lines["tuning"] == "none followed"


def test_a_narrow_network_that_runs_in_floats_says_so(command: Command, tmp_path: Path) -> None:
    mode = tmp_path / "mine.yaml"
    mode.write_text("extends: turbo\nembedding: {narrow: true}\n")
    _, out, _ = command("plan", "--performance-mode", str(mode), "--executor", "onnxruntime")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["embedding"] == "8-bit integers, computed in fp32, 8 at a time"


def test_a_tuning_is_in_the_plan_and_one_flag_leaves_it_out(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUIDAUDIO_TUNING", str(tmp_path / "tuning.json"))
    network = NetworkTuning("fp32", 3)
    tuning = Tuning("onnxruntime", "all", 1, network, network, machine_identity())
    save_tuning(tuning)
    _, out, _ = command("plan", "--format", "json")
    followed = json.loads(out)
    assert (followed["executor"], followed["tuning"]) == ("onnxruntime", str(tuning))
    wanted = {"precision": "fp32", "batch": 3, "fixed": False, "variant": ""}
    assert followed["networks"]["embedding"] == wanted
    _, out, _ = command("plan", "--format", "json", "--no-tuning")
    free = json.loads(out)
    assert free["tuning"] == ""
    assert free["networks"]["embedding"]["batch"] == 8


def test_what_was_asked_is_done_or_said(command: Command) -> None:
    code, out, err = command("plan", "--executor", "onnxruntime", "--precision", "bf16")
    assert (code, out) == (4, "")
    assert err == (
        "fluidaudio: --precision: onnxruntime does not run bf16 on this processor: use fp32, or "
        "another --executor\n"
    )


def test_modes_are_listed_with_what_they_are_for(command: Command) -> None:
    code, out, err = command("modes", "list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == [
        "reference",
        "accurate",
        "balanced",
        "fast",
        "turbo",
    ]
    assert out.splitlines()[3].endswith(": every moment is seen once.")
    _, out, _ = command("modes", "list", "--format", "json")
    modes = json.loads(out)["modes"]
    assert [mode["name"] for mode in modes if mode["default"]] == ["balanced"]


def test_a_mode_shows_every_value_with_its_line_and_reason(command: Command) -> None:
    code, out, err = command("modes", "show", "fast", "--format", "json")
    assert (code, err) == (0, "")
    shown = json.loads(out)["values"]
    assert {key: entry["value"] for key, entry in shown.items()} == load_mode("fast").values()
    assert shown["windows.step_seconds"]["file"] == "fast.yaml"
    assert shown["reconstruction.onset"]["file"] == "bundled.yaml"
    _, out, _ = command("modes", "show", "fast")
    (line,) = [line for line in out.splitlines() if line.startswith("windows.batch ")]
    assert line.split()[1:3] == ["8", "balanced.yaml:6"]
    assert line.endswith("Large enough to keep the matrix units busy, small enough for the cache.")
    code, out, err = command("modes", "show", "quick")
    assert (code, out) == (2, "")
    assert err.startswith("fluidaudio: there is no performance mode 'quick'")
