"""``fluidaudio profile`` as a user runs it."""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.profiling.passes import Options
from fluidaudio_cli.profiling.session import profile, write_excerpt
from fluidaudio_cli.resources import packages_dir
from fluidaudio_cli.simulate.voices import read_audio
from tests import forked


def run(*arguments: object) -> forked.Done:
    return forked.run("profile", *arguments)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory, sample_wav: Path) -> Path:
    """JSON and trace of the sample, profiled once on ONNX Runtime."""
    folder = tmp_path_factory.mktemp("profile")
    done = run(
        sample_wav,
        "--performance-mode",
        "fast",
        "--executor",
        "onnxruntime",
        "--no-peaks",
        "--precision-report",
        "--reference",
        sample_wav.with_suffix(".rttm"),
        "--trace",
        folder / "trace.json",
        "--output",
        folder / "profile.json",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[-2:] == [
        f"wrote {folder / 'trace.json'}",
        f"wrote {folder / 'profile.json'}",
    ]
    return folder


# What takes the time of networks; runtimes make few of them part of another.
_PRODUCTS = {"conv", "lstm", "linear", "matmul"}


def document(profiled: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((profiled / "profile.json").read_text())
    return found


def test_document_holds_the_whole_profile(profiled: Path) -> None:
    found = document(profiled)
    assert (found["schema"], found["mode"]) == ("fluidaudio.profile/1", "fast")
    assert found["audio_seconds"] == pytest.approx(30.0, abs=0.01)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert {"decode", "segmentation", "fbank", "embedding", "clustering"} <= set(stages)
    assert sum(stage["share"] for stage in found["stages"]) == pytest.approx(1.0)
    # Three windows of 160 000 samples, and 589 frames of 7 classes for each, in fp32.
    assert stages["segmentation"]["bytes_in"] == stages["segmentation"]["items"] * 640_000
    assert stages["segmentation"]["bytes_out"] == stages["segmentation"]["items"] * 589 * 7 * 4
    assert stages["decode"]["bytes_out"] == 4 * round(16_000 * found["audio_seconds"])
    assert stages["decode"]["allocated_bytes"] > 0
    assert found["peak_rss_bytes"] >= found["baseline_rss_bytes"] > 10_000_000
    names = [model["name"] for model in found["models"]]
    assert names == ["segmentation", "fbank", "embedding"]
    for model in found["models"]:
        products = [layer for layer in model["layers"] if layer["op"] in _PRODUCTS]
        timed = [layer for layer in products if layer["seconds"] > 0]
        assert len(timed) > 0.9 * len(products) > 1, model["name"]
    assert found["models"][0]["peak"] == "unavailable: not measured (--no-peaks)"
    assert [cost["name"].split()[0] for cost in found["costs"]] == [
        "stage",
        "of",
        "operator",
        "allocations",
    ]
    reckoned = found["costs"][1]
    # A stage's clock costs less than 1 % of the run, however busy the machine.
    assert 1.0 < reckoned["ratio"] < 1.01
    assert found["bottleneck"]["limit"] in ("unknown", "waiting", "Python")


def test_precision_report_says_where_error_enters(profiled: Path) -> None:
    report = document(profiled)["precision"]
    rows = {(row["model"], row["precision"]): row for row in report["models"]}
    assert len(rows) == 9
    fbank = rows["fbank", "fp16"]
    # Infinite in the profile; JSON has no such number.
    assert fbank["figure"] is None
    assert sum(layer["overflow"] for layer in fbank["layers"]) > 0
    assert fbank["entry"] in [layer["layer"] for layer in fbank["layers"]]
    assert rows["embedding", "fp16"]["figure"] > 0.999
    assert rows["embedding", "bf16"]["figure"] < rows["embedding", "fp16"]["figure"]
    assert rows["segmentation", "fp16 as packaged"]["figure"] < 0.02
    assert rows["segmentation", "bf16"]["executed"] == (
        "unavailable: onnxruntime does not compute in bf16 here"
    )
    rates = {row["precision"]: row for row in report["der"]}
    assert rates["fp32"]["change"] == 0.0
    assert rates["fp32"]["der"] == pytest.approx(document(profiled)["timeline"]["der_strict"])
    assert rates["fp16"]["der"] == (
        "unavailable: --precision: onnxruntime does not run fp16 on this processor"
    )


def test_calls_lie_within_the_run(profiled: Path) -> None:
    found = document(profiled)
    ends = [call["end"] for call in found["calls"]]
    assert all(0 <= call["start"] <= call["end"] for call in found["calls"])
    assert max(ends) == pytest.approx(found["processing_seconds"], rel=0.2, abs=0.05)


def test_timeline_is_scored(profiled: Path) -> None:
    line = document(profiled)["timeline"]
    assert {turn["speaker"] for turn in line["reference"]} == {"speaker90", "speaker91"}
    wrong = sum(error["end"] - error["start"] for error in line["errors"])
    speech = sum(turn["end"] - turn["start"] for turn in line["reference"])
    assert line["der_strict"] == pytest.approx(wrong / speech, rel=0.05)


def test_trace_has_a_track_for_every_thread(profiled: Path) -> None:
    events = json.loads((profiled / "trace.json").read_text())["traceEvents"]
    threads = {call["thread"] for call in document(profiled)["calls"]}
    tracks = {
        event["args"]["name"]
        for event in events
        if event["name"] == "thread_name" and event["pid"] == 1
    }
    assert tracks == threads
    assert {event["name"] for event in events if event["ph"] == "C"} >= {"resident memory"}


def test_table_of_a_silent_recording(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    with wave.open(str(path), "wb") as stream:
        stream.setparams((2, 2, 8_000, 0, "NONE", ""))
        stream.writeframes(b"\0\0\0\0" * 8_000)
    reference = ("--executor", "onnxruntime", "--performance-mode", "reference")
    done = run(path, *reference, "--no-peaks")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("silence: 1.0 s of audio in ")
    assert any(line.startswith("Bottleneck: ") for line in lines)
    assert "Stages ran one after the other." in lines
    assert any(line.startswith("Core ML's plan (MLComputePlan) unavailable: ") for line in lines)
    assert any(line.startswith("What profiling costs") for line in lines)
    # No sound: no network ever ran, and each is named without operators.
    for name in ("segmentation", "fbank", "embedding"):
        assert f"{name}: onnxruntime, fp32: it was not needed" in lines
    assert "by kind" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("missing.wav",), 3, "does not exist"),
        (("--uem", "a.uem"), 2, "--uem is of --reference: add --reference"),
        (("--reference", "absent.rttm"), 3, "absent.rttm"),
        (("--executor", "coreml"), 4, "executor coreml is not available"),
        (("--top", "0"), 2, "--top"),
        (("--output", f"{__file__}/p.json"), 4, f"cannot write {__file__}/p.json: "),
        (("--trace", f"{__file__}/t.json"), 4, f"cannot write {__file__}/t.json: "),
        (
            ("--trace", "p.json", "--output", "p.json"),
            2,
            "--output p.json is given for something else too: write to another file",
        ),
        (
            ("--reference", "r.json", "--trace", "./r.json"),
            2,
            "--trace r.json is given for something else too: write to another file",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    sample_wav: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    if "coreml" in arguments and sys.platform == "darwin":
        pytest.skip("Core ML runs here")
    files = () if arguments[0].endswith(".wav") else (sample_wav,)
    done = run(*files, *arguments, "--no-peaks", "-v")
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "timing …" not in done.stderr


def test_folder_of_several_recordings_is_refused(tmp_path: Path, sample_wav: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(sample_wav.read_bytes()[:100_000])
    done = run(tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} holds 2 recordings: give one of them to profile" in done.stderr


def test_excerpt_is_the_beginning(tmp_path: Path, sample_wav: Path) -> None:
    part = tmp_path / "part.wav"
    assert write_excerpt(sample_wav, part, 2.5) == 2.5
    # Sample by sample, as 16 bits hold them.
    whole, beginning = (read_audio(each) for each in (sample_wav, part))
    assert beginning.size == 40_000
    np.testing.assert_array_equal(beginning, whole[:40_000])
    # Asked for more than there is: all of it.
    assert write_excerpt(sample_wav, part, 100.0) == pytest.approx(30.0, abs=0.01)


def test_precision_report_of_other_networks_is_refused(sample_wav: Path, tmp_path: Path) -> None:
    card = tmp_path / "mine.yaml"
    text = (packages_dir() / "bundled.yaml").read_text(encoding="utf-8")
    card.write_text(text.replace("file: ", "file: bundled:"), encoding="utf-8")
    wanted = Options(models=str(card), precision_report=True)
    with pytest.raises(UsageError, match="--precision-report compares networks that ship"):
        profile(sample_wav, wanted)
