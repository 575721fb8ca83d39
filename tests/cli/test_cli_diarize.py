"""``fluidaudio diarize`` on good recordings: formats, destinations, scores, speaker counts."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.cli.diarize_output import EXTENSIONS, Format
from fluidaudio_cli.cli.options import ComputeUnitsChoice, ExecutorChoice, PrecisionChoice
from fluidaudio_cli.executors.base import COMPUTE_UNITS, PRECISIONS
from fluidaudio_cli.executors.select import EXECUTOR_NAMES
from fluidaudio_cli.report.turn_formats import FORMATS
from fluidaudio_cli.scoring.rttm import read_rttm

Command = Callable[..., tuple[int, str, str]]
WriteWav = Callable[..., Path]
Samples = npt.NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("models_loaded_once")

REFERENCE_RTTM = "sample.rttm"


def test_choices_spelt_out_for_a_quick_help_are_those_of_the_executors() -> None:
    assert tuple(choice.value for choice in ExecutorChoice) == EXECUTOR_NAMES
    assert tuple(choice.value for choice in PrecisionChoice) == PRECISIONS
    assert tuple(choice.value for choice in ComputeUnitsChoice) == COMPUTE_UNITS


def test_formats_and_extensions_are_those_of_the_writers() -> None:
    assert {kind.value for kind in Format} == {"table", "json", *FORMATS}
    assert {kind.value: extension for kind, extension in EXTENSIONS.items()} == {
        "table": ".txt",
        "json": ".json",
        "rttm": ".rttm",
        "csv": ".csv",
        "srt": ".srt",
        "vtt": ".vtt",
        "textgrid": ".TextGrid",
        "audacity": ".txt",
    }


def modules_loaded(suspects: set[str], *arguments: str) -> list[str]:
    """Which of ``suspects`` ``fluidaudio ARGUMENTS`` imports, in its own process."""
    script = (
        f"import sys; sys.argv = {['fluidaudio', *arguments]}\n"
        "from fluidaudio_cli.cli.process import main\n"
        "try: main()\n"
        "except SystemExit as ended: print('ENDED', ended.code or 0)\n"
        f"print(*sorted({suspects} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    *_, ended, loaded = done.stdout.splitlines()
    assert ended == "ENDED 0", done.stderr
    return loaded.split()


def test_help_imports_neither_numpy_nor_a_runtime() -> None:
    heavy = {"numpy", "av", "openvino", "onnxruntime", "coremltools", "onnx", "scipy", "yaml"}
    assert modules_loaded(heavy, "diarize", "--help") == []


# Each costs a short run 20 ms and more: what a run needs, it has, and nothing else.
NEVER_NEEDED = {
    "coremltools",
    "filelock",
    "fluidaudio_cli.benchmark.results",
    "fluidaudio_cli.coreml",
    "importlib.metadata",
    "numpy.ma",
    "onnx",
    "onnxruntime",
    "openvino.tools.ovc",
    "pandas",
    "plotly",
    "psutil",
    "pyannote",
    "pydantic",
    "requests",
    "scipy",
    "torch",
}


@pytest.mark.parametrize(
    ("format_name", "more"),
    [("rttm", {"rich"}), ("table", {"rich.progress", "rich._emoji_codes"})],
)
def test_a_run_imports_only_what_it_needs(
    process: Command, sample_wav: Path, format_name: str, more: set[str]
) -> None:
    arguments = ("diarize", str(sample_wav), "--format", format_name)
    # The first run may have to lower and test the models.
    process(*arguments)
    assert modules_loaded(NEVER_NEEDED | more, *arguments) == []


def test_rttm_on_stdout_is_rttm_and_nothing_else(process: Command, sample_wav: Path) -> None:
    code, out, err = process("diarize", sample_wav, "--format", "rttm")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert {(len(line), line[0], line[1]) for line in lines} == {(10, "SPEAKER", "sample")}
    assert {line[7] for line in lines} == {"SPEAKER_00", "SPEAKER_01"}


def test_two_processes_write_the_same_bytes(process: Command, sample_wav: Path) -> None:
    first = process("diarize", sample_wav, "--format", "rttm", "--threads", "1")
    second = process("diarize", sample_wav, "--format", "rttm", "--threads", "2")
    assert first == second


def test_table_for_people(command: Command, sample_wav: Path) -> None:
    code, out, err = command("diarize", sample_wav, "--format", "table")
    assert (code, err) == (0, "")
    assert out.startswith("sample: 0:30.00 of pcm_s16le, 16000 Hz, mono\n")
    for part in ("Turns", "Speakers", "Time", "segmentation", "RTFx", "in all"):
        assert part in out
    assert "Mode balanced; asked executor auto, precision auto; ran segmentation" in out
    assert "\x1b" not in out  # no colours in a pipe


def test_json_has_everything_the_schema_says(command: Command, sample_wav: Path) -> None:
    code, out, err = command("diarize", sample_wav, "--format", "json", "--max-speakers", "4")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert list(document) == [
        "schema",
        "fluidaudio_version",
        "uri",
        "audio",
        "segments",
        "exclusive_segments",
        "speakers",
        "speaker_counts",
        "timings",
        "plan",
        "config",
        "executor",
        "environment",
        "models",
        "notes",
    ]
    assert document["schema"] == "fluidaudio.diarization/1"
    assert document["uri"] == "sample"
    assert document["audio"] == {
        "path": str(sample_wav),
        "container": "wav",
        "codec": "pcm_s16le",
        "sample_rate": 16_000,
        "channels": 1,
        "duration_seconds": 30.0,
        "tracks": 1,
        "track": 1,
        "lost": [],
    }
    assert document["config"]["mode"]["name"] == "balanced"
    assert document["config"]["speakers"] == {"exactly": None, "at_least": None, "at_most": 4}
    assert document["executor"]["asked"] == {
        "executor": "auto",
        "precision": "auto",
        "compute_units": "all",
        "threads": None,
        "low_latency": False,
    }
    likeliest = max(document["speaker_counts"], key=lambda each: each["probability"])
    assert likeliest["speakers"] == len(document["speakers"]) == 2
    names = ["segmentation", "fbank", "embedding"]
    assert list(document["executor"]["ran"]) == names
    assert document["executor"]["ran"]["fbank"]["precision"] == "fp32"
    assert [model["name"] for model in document["models"]] == names
    assert {len(model["sha256"]) for model in document["models"]} == {64}
    assert document["environment"]["packages"]["numpy"] == np.__version__
    assert document["notes"] == []


def test_segments_of_json_are_sorted_in_milliseconds_and_consistent(
    command: Command, sample_wav: Path
) -> None:
    _, out, _ = command("diarize", sample_wav, "--format", "json")
    document = json.loads(out)
    segments = document["segments"]
    assert segments == sorted(segments, key=lambda s: (s["start"], s["end"], s["speaker"]))
    for segment in [*segments, *document["exclusive_segments"]]:
        assert list(segment) == ["start", "end", "speaker"]
        assert 0 <= segment["start"] < segment["end"] <= 30.0
        assert {round(segment[k], 3) for k in ("start", "end")} == {
            segment["start"],
            segment["end"],
        }
    exclusive = document["exclusive_segments"]
    for earlier, later in itertools.pairwise(exclusive):
        assert earlier["end"] <= later["start"]
    for speaker in document["speakers"]:
        own = [s for s in segments if s["speaker"] == speaker["label"]]
        assert list(speaker) == ["label", "speech_seconds", "turns"]
        assert speaker["turns"] == len(own)
        spoken = sum(s["end"] - s["start"] for s in own)
        assert speaker["speech_seconds"] == pytest.approx(spoken, abs=0.001 * (len(own) + 1))


def test_timings_of_a_serial_run_add_up(command: Command, sample_wav: Path) -> None:
    _, out, _ = command("diarize", sample_wav, "--format", "json", "--threads", "1")
    timings = json.loads(out)["timings"]
    assert timings["overlapped"] is False
    assert {stage["concurrent"] for stage in timings["stages"]} == {False}
    assert sum(stage["seconds"] for stage in timings["stages"]) == pytest.approx(
        timings["processing_seconds"], rel=0.02
    )
    assert timings["rtfx"] == pytest.approx(30.0 / timings["processing_seconds"], rel=0.001)
    names = [stage["name"] for stage in timings["stages"]]
    assert {"decode", "segmentation", "fbank", "embedding", "clustering", "reconstruction"} <= set(
        names
    )


def test_embeddings_are_unit_vectors_and_only_there_when_asked(
    command: Command, sample_wav: Path
) -> None:
    _, out, _ = command("diarize", sample_wav, "--format", "json", "--embeddings")
    voices = np.array([speaker["embedding"] for speaker in json.loads(out)["speakers"]])
    assert voices.shape == (2, 192)
    assert np.linalg.norm(voices, axis=1) == pytest.approx([1.0, 1.0], abs=1e-4)
    assert voices[0] @ voices[1] < 0.5
    code, _, err = command("diarize", sample_wav, "--embeddings")
    assert (code, err) == (
        2,
        "fluidaudio: --embeddings has no place in rttm: add --format json\n",
    )


@pytest.mark.parametrize("kind", [kind for kind in Format if kind is not Format.table])
def test_every_format_goes_to_stdout_and_to_a_file(
    command: Command, sample_wav: Path, tmp_path: Path, kind: Format
) -> None:
    code, out, _ = command("diarize", sample_wav, "--format", kind.value)
    assert code == 0
    target = tmp_path / "new folder" / f"turns{EXTENSIONS[kind]}"
    # .txt could be the table too; of the others the ending tells the format.
    given = ["--format", "audacity"] if kind is Format.audacity else []
    code, nothing, err = command("diarize", sample_wav, "--output", target, *given)
    assert (code, nothing, err) == (0, "", f"wrote {target}\n")
    written = target.read_text(encoding="utf-8")
    if kind is Format.json:
        assert json.loads(written)["segments"] == json.loads(out)["segments"]
    else:
        assert written == out
    assert sorted(path.name for path in target.parent.iterdir()) == [target.name]


def test_all_formats_agree_on_the_turns(command: Command, sample_wav: Path) -> None:
    _, document, _ = command("diarize", sample_wav, "--format", "json")
    _, table, _ = command("diarize", sample_wav, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [
        {"start": float(r["start"]), "end": float(r["end"]), "speaker": r["speaker"]} for r in rows
    ] == json.loads(document)["segments"]


def test_table_can_go_to_a_file(command: Command, sample_wav: Path, tmp_path: Path) -> None:
    target = tmp_path / "turns.txt"
    code, _, err = command("diarize", sample_wav, "--output", target)
    assert code == 2
    assert err == (
        f"fluidaudio: the name of --output {target} does not tell the format: add --format, or "
        "end it in .csv, .json, .rttm, .srt, .textgrid, .vtt\n"
    )
    code, _, _ = command("diarize", sample_wav, "--output", target, "--format", "table")
    assert code == 0
    assert "Speakers" in target.read_text(encoding="utf-8")


def test_exclusive_turns_never_overlap(command: Command, sample_wav: Path) -> None:
    _, both, _ = command("diarize", sample_wav, "--format", "json")
    _, out, _ = command("diarize", sample_wav, "--format", "csv", "--exclusive")
    rows = [(float(r["start"]), float(r["end"])) for r in csv.DictReader(io.StringIO(out))]
    assert rows == [(s["start"], s["end"]) for s in json.loads(both)["exclusive_segments"]]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(rows))


def test_dash_is_stdout(command: Command, sample_wav: Path) -> None:
    plain = command("diarize", sample_wav, "--format", "rttm")
    assert command("diarize", sample_wav, "--format", "rttm", "--output", "-") == plain


# --- Scores ---


def test_scores_strict_and_lenient_are_in_json(command: Command, sample_wav: Path) -> None:
    reference = sample_wav.with_name(REFERENCE_RTTM)
    code, out, _ = command("diarize", sample_wav, "--format", "json", "--reference", reference)
    assert code == 0
    scores = json.loads(out)["scores"]
    assert scores["reference"] == str(reference)
    assert scores["uem"] == {"source": "audio", "intervals": [[0.0, 30.0]]}
    assert scores["conditions"]["strict"]["der"]["rate"] < 0.15
    assert scores["conditions"]["lenient"]["der"]["rate"] < 0.05
    assert scores["speakers"]["hypothesis"] == scores["speakers"]["reference"] == 2


def test_scores_are_those_of_the_score_command(
    command: Command, sample_wav: Path, tmp_path: Path
) -> None:
    reference, uem = sample_wav.with_name(REFERENCE_RTTM), sample_wav.with_suffix(".uem")
    given = ("--reference", reference, "--uem", uem)
    _, out, _ = command("diarize", sample_wav, "--format", "json", *given)
    hypothesis = tmp_path / "sample.rttm"
    command("diarize", sample_wav, "--output", hypothesis)
    _, again, _ = command("score", reference, hypothesis, "--uem", uem, "--format", "json")
    ours, theirs = json.loads(out)["scores"], json.loads(again)["files"][0]
    assert ours["uem"]["source"] == theirs["uem"]["source"] == "given"
    for name in ("strict", "lenient"):
        # The RTTM is rounded to the millisecond.
        assert ours["conditions"][name]["der"]["rate"] == pytest.approx(
            theirs["conditions"][name]["der"]["rate"], abs=0.001
        )


def test_scores_are_shown_in_the_table_and_else_on_stderr(
    command: Command, sample_wav: Path
) -> None:
    reference = sample_wav.with_name(REFERENCE_RTTM)
    _, out, err = command("diarize", sample_wav, "--reference", reference, "--format", "table")
    assert "Error rates, %" in out
    assert err == ""
    _, out, err = command("diarize", sample_wav, "--reference", reference, "--format", "rttm")
    assert all(line.startswith("SPEAKER sample ") for line in out.splitlines())
    assert err.startswith("DER ")
    assert " % strict, DER " in err
    assert err.endswith(" % lenient\n")


def test_only_recording_of_a_reference_may_have_another_name(
    command: Command, sample_wav: Path, tmp_path: Path
) -> None:
    text = sample_wav.with_name(REFERENCE_RTTM).read_text(encoding="utf-8")
    other = tmp_path / "other.rttm"
    other.write_text(text.replace(" sample ", " elsewhere "), encoding="utf-8")
    code, out, _ = command("diarize", sample_wav, "--format", "json", "--reference", other)
    assert code == 0
    assert json.loads(out)["scores"]["conditions"]["strict"]["der"]["rate"] < 0.15
    other.write_text(
        text.replace(" sample ", " a ") + text.replace(" sample ", " b "), encoding="utf-8"
    )
    code, out, err = command("diarize", sample_wav, "--reference", other)
    assert (code, out) == (3, "")
    assert err == (
        f"fluidaudio: {other} has no recording 'sample' (it has 'a', 'b'): the second field of "
        "its lines must be the audio file's name without extension\n"
    )


def test_reference_without_speech_keeps_the_result_and_fails(
    command: Command, sample_wav: Path, tmp_path: Path
) -> None:
    uem = tmp_path / "start.uem"
    uem.write_text("sample 1 0.000 1.000\n", encoding="utf-8")
    target = tmp_path / "turns.json"
    given = ("--reference", sample_wav.with_name(REFERENCE_RTTM), "--uem", uem)
    code, _, err = command("diarize", sample_wav, "--output", target, *given)
    assert code == 3
    assert "the reference of 'sample' has no speech in the scored time" in err
    assert "scores" not in json.loads(target.read_text(encoding="utf-8"))


# --- Several recordings ---


@pytest.fixture
def folder(tmp_path: Path, speech: Samples, write_wav: WriteWav) -> Path:
    """Two conversations and, between them by name, a file that is no audio."""
    write_wav(speech[: 15 * 16_000], "talks/first.wav")
    write_wav(speech[10 * 16_000 :], "talks/third.wav")
    (tmp_path / "talks" / "second.wav").write_text("no audio\n", encoding="utf-8")
    return tmp_path / "talks"


def test_folder_gives_one_file_each_and_goes_on_after_a_bad_one(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    out_dir = tmp_path / "a" / "b"
    code, out, err = command("diarize", folder, "--output-dir", out_dir, "--format", "srt")
    assert (code, out) == (3, "")
    assert sorted(path.name for path in out_dir.iterdir()) == [
        "first.srt",
        "manifest.jsonl",
        "third.srt",
    ]
    lines = err.splitlines()
    (bad,) = [line for line in lines if line.startswith("fluidaudio: ")]
    assert f"{folder / 'second.wav'} " in bad
    assert f"wrote {out_dir / 'first.srt'}" in lines
    assert lines[-1] == "1 of 3 recordings failed"


def test_result_in_company_is_the_result_alone(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    command("diarize", folder, "--output-dir", tmp_path / "out")
    for name in ("first", "third"):
        _, alone, _ = command("diarize", folder / f"{name}.wav", "--format", "rttm")
        assert (tmp_path / "out" / f"{name}.rttm").read_text(encoding="utf-8") == alone


def test_rttm_of_several_is_one_stream(command: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "second.wav").unlink()
    code, out, err = command("diarize", folder, "--format", "rttm")
    assert code == 0
    target = tmp_path / "all.rttm"
    command("diarize", folder, "--output", target)
    assert target.read_text(encoding="utf-8") == out
    assert list(read_rttm(target)) == ["first", "third"]
    assert err.startswith("2 recordings, 35.0 s of audio in ")


def test_several_in_a_format_for_one_need_a_folder(command: Command, folder: Path) -> None:
    code, out, err = command("diarize", folder, "--format", "json")
    assert (code, out) == (2, "")
    assert err == (
        "fluidaudio: 3 recordings do not fit into one json output: add --output-dir DIR, which "
        "gets one file for each\n"
    )


def test_several_are_scored_each_and_pooled(
    command: Command, folder: Path, sample_wav: Path, tmp_path: Path
) -> None:
    (folder / "second.wav").unlink()
    shutil.copy(sample_wav, folder / "first.wav")
    shutil.copy(sample_wav, folder / "third.wav")
    text = sample_wav.with_name(REFERENCE_RTTM).read_text(encoding="utf-8")
    reference = tmp_path / "all.rttm"
    reference.write_text(
        text.replace(" sample ", " first ") + text.replace(" sample ", " third "), encoding="utf-8"
    )
    code, _, err = command("diarize", folder, "--format", "rttm", "--reference", reference)
    assert code == 0
    first, third, pooled, _ = err.splitlines()
    rates = first.removeprefix("first: ")
    assert rates.startswith("DER ")
    assert third == f"third: {rates}"
    assert pooled == f"pooled: {rates}"
    code, _, err = command("diarize", folder / "first.wav", sample_wav, "--reference", reference)
    assert code == 3
    assert f"{reference} has no recording 'sample'" in err


def test_same_names_are_kept_apart(command: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "sub").mkdir()
    shutil.copy(folder / "third.wav", folder / "sub" / "first.wav")
    out_dir = tmp_path / "out"
    command("diarize", folder / "first.wav", folder / "sub", "--output-dir", out_dir)
    assert sorted(path.name for path in out_dir.iterdir()) == [
        "manifest.jsonl",
        "sub__first.wav.rttm",
        "talks__first.wav.rttm",
    ]


# --- Speaker counts ---


@pytest.mark.parametrize("count", [1, 2])
def test_number_of_speakers_is_honoured(command: Command, sample_wav: Path, count: int) -> None:
    _, out, _ = command("diarize", sample_wav, "--format", "json", "--num-speakers", str(count))
    document = json.loads(out)
    assert len(document["speakers"]) == count
    assert document["notes"] == []


def test_speakers_that_are_not_there_are_said(command: Command, sample_wav: Path) -> None:
    given = ("--num-speakers", "40", "--format", "json")
    code, out, _ = command("diarize", sample_wav, *given)
    document = json.loads(out)
    found = len(document["speakers"])
    note = (
        f"40 speakers were asked for, but only {found} speakers could be given turns: "
        "the others' voices cannot be told apart, or never speak alone"
    )
    assert code == 0
    assert 2 <= found < 40
    assert document["notes"] == [note]
    _, out, err = command("diarize", sample_wav, "--num-speakers", "40", "--format", "rttm")
    assert err == f"note: {note}\n"
    _, out, err = command("diarize", sample_wav, "--num-speakers", "40", "--format", "table")
    assert f"note: {note}" in out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("--num-speakers", "2", "--max-speakers", "3"),
            "--num-speakers excludes --min-speakers and --max-speakers: give one of them",
        ),
        (
            ("--min-speakers", "3", "--max-speakers", "2"),
            "--min-speakers 3 is more than --max-speakers 2: swap them",
        ),
    ],
)
def test_bounds_that_contradict_each_other(
    command: Command, sample_wav: Path, given: tuple[str, ...], message: str
) -> None:
    assert command("diarize", sample_wav, *given) == (2, "", f"fluidaudio: {message}\n")


# --- Modes and executors ---


def test_unknown_mode_and_unknown_key(command: Command, sample_wav: Path, tmp_path: Path) -> None:
    code, out, err = command("diarize", sample_wav, "--performance-mode", "quick")
    assert (code, out) == (2, "")
    assert err == (
        "fluidaudio: there is no performance mode 'quick': use reference, accurate, balanced, "
        "fast, turbo or the path of a .yaml file\n"
    )
    mode = tmp_path / "mine.yaml"
    source = Path(__file__).parents[2] / "configs" / "fast.yaml"
    mode.write_text(source.read_text(encoding="utf-8") + "\nspeed: 9\n", encoding="utf-8")
    code, _, err = command("diarize", sample_wav, "--performance-mode", mode)
    assert code == 2
    assert f"{mode}: unknown key speed" in err


def test_executor_asked_for_and_run_are_both_told(command: Command, sample_wav: Path) -> None:
    given = ("--executor", "onnxruntime", "--precision", "fp32", "--threads", "1")
    _, out, _ = command("diarize", sample_wav, "--format", "json", *given)
    document = json.loads(out)
    assert document["executor"]["asked"]["executor"] == "onnxruntime"
    assert document["executor"]["asked"]["threads"] == 1
    ran = document["executor"]["ran"]["segmentation"]
    assert (ran["executor"], ran["precision"]) == ("onnxruntime", "fp32")


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_executor_that_is_not_here_is_an_environment_error(
    command: Command, sample_wav: Path
) -> None:
    code, out, err = command("diarize", sample_wav, "--executor", "coreml")
    assert (code, out) == (4, "")
    assert err.count("\n") == 1
    assert err.startswith("fluidaudio: executor coreml is not available: ")


# --- Destinations that cannot be written ---


def test_place_that_cannot_be_written_is_found_before_the_work(
    command: Command, sample_wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fluidaudio_cli.diarization import loading

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("models were loaded")

    monkeypatch.setattr(loading, "load", never)
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    for given in (("--output", blocked / "turns.rttm"), ("--output-dir", blocked)):
        code, out, err = command("diarize", sample_wav, *given)
        assert (code, out) == (4, "")
        assert err.startswith(f"fluidaudio: cannot write to {blocked}: ")
        assert err.count("\n") == 1
    code, _, err = command("diarize", sample_wav, "--output", tmp_path, "--format", "rttm")
    assert code == 4
    assert err.startswith(f"fluidaudio: cannot write to {tmp_path}: Is a directory")


def test_a_recording_is_not_overwritten(
    command: Command, speech: Samples, write_wav: WriteWav
) -> None:
    path = write_wav(speech[:16_000], "talk.wav")
    before = path.read_bytes()
    code, _, err = command("diarize", path, "--output", path, "--format", "rttm")
    assert (code, err) == (
        2,
        f"fluidaudio: {path} is a recording itself: choose another --output\n",
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("reference", ["talk.rttm", "."])
def test_a_reference_is_not_overwritten(
    command: Command, sample_wav: Path, tmp_path: Path, reference: str
) -> None:
    path = tmp_path / "talk.rttm"
    before = sample_wav.with_suffix(".rttm").read_text().replace(" sample ", " talk ")
    path.write_text(before)
    talk = shutil.copy(sample_wav, tmp_path / "talk.wav")
    asked = (talk, "--reference", tmp_path / reference)
    for place in (("--output", path), ("--output-dir", tmp_path)):
        code, out, err = command("diarize", *asked, *place)
        assert (code, out) == (2, "")
        assert err == f"fluidaudio: {path} is the reference itself: choose another --output\n"
    assert path.read_text() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_stdout_is_one_line(sample_wav: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fluidaudio_cli", "diarize", sample_wav, "--format", "rttm"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ.copy(),
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr == (
        "fluidaudio: cannot write to stdout: No space left on device: free space where it goes\n"
    )


def test_output_and_output_dir_exclude_each_other(
    command: Command, sample_wav: Path, tmp_path: Path
) -> None:
    given = ("--output", tmp_path / "a.rttm", "--output-dir", tmp_path)
    code, _, err = command("diarize", sample_wav, *given)
    assert (code, err) == (
        2,
        "fluidaudio: --output and --output-dir exclude each other: give one of them\n",
    )
