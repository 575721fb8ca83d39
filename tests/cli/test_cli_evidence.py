"""``diarize --save-evidence``, and ``diarize`` on what it wrote."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.diarization import loading, saved_evidence
from fluidaudio_cli.errors import InputError
from tests.cli.conftest import Command


@pytest.fixture
def evidence(command: Command, sample_wav: Path, tmp_path: Path) -> Path:
    path = tmp_path / "sample.npz"
    code, out, err = command(
        "diarize", str(sample_wav), "--format", "rttm", "--save-evidence", str(path)
    )
    assert code == 0
    assert f"wrote {path}\n" in err
    (tmp_path / "then.rttm").write_text(out, encoding="utf-8")
    return path


def test_same_turns_without_any_network(
    command: Command, evidence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(loading, "load", never)
    code, out, err = command("diarize", str(evidence), "--format", "rttm")
    assert (code, err) == (0, "note: made from evidence: no network was run\n")
    assert out == (evidence.parent / "then.rttm").read_text(encoding="utf-8")


def test_another_number_of_speakers(command: Command, evidence: Path, sample_wav: Path) -> None:
    wanted = ("--format", "rttm", "--num-speakers", "1")
    code, out, _ = command("diarize", str(evidence), *wanted)
    assert code == 0
    assert {line.split()[7] for line in out.splitlines()} == {"SPEAKER_00"}
    assert out == command("diarize", str(sample_wav), *wanted)[1]


def test_json_says_what_found_the_evidence(command: Command, evidence: Path) -> None:
    code, out, _ = command("diarize", str(evidence), "--format", "json")
    assert code == 0
    document = json.loads(out)
    assert document["uri"] == "sample"
    assert document["audio"]["duration_seconds"] == 30.0
    assert document["config"]["mode"]["name"] == "balanced"
    assert [model["name"] for model in document["models"]][:3] == [
        "segmentation",
        "fbank",
        "embedding",
    ]
    assert [stage["name"] for stage in document["timings"]["stages"]] == [
        "clustering",
        "reconstruction",
        "other",
    ]
    assert "made from evidence: no network was run" in document["notes"]
    table = command("diarize", str(evidence), "--format", "table")[1]
    assert "no network was run" in table
    assert "Models loaded" not in table


@pytest.mark.usefixtures("models_loaded_once")
def test_what_a_plan_left_out_is_told_again(
    command: Command, sample_wav: Path, tmp_path: Path
) -> None:
    """Also of each recording of a job that links, whose results are made from evidence."""
    mode = tmp_path / "exact.yaml"
    mode.write_text("extends: fast\nembedding: {exact_below_seconds: 1.0, exact_precision: bf16}\n")
    asked = ("--performance-mode", mode, "--precision", "fp32", "--format", "json")
    kept, found = tmp_path / "kept", tmp_path / "found"
    _, out, _ = command("diarize", sample_wav, *asked, "--save-evidence", kept)
    notes = json.loads(out)["notes"]
    assert "embedding.exact_below_seconds of the mode is left out" in notes[-1]
    again = [*notes, "made from evidence: no network was run"]
    assert json.loads(command("diarize", kept, "--format", "json")[1])["notes"] == again
    _, _, err = command("diarize", kept, "--format", "rttm")
    assert err.splitlines() == [f"note: {note}" for note in again]
    other = shutil.copy(sample_wav, tmp_path / "other.wav")
    _, _, err = command("diarize", sample_wav, other, *asked, "--link", "--output-dir", found)
    assert [err.splitlines().count(f"note: {note}") for note in again] == [1] * len(again), err
    for path in found.glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["notes"] == again


def test_one_file_for_each_of_several(command: Command, sample_wav: Path, tmp_path: Path) -> None:
    other = shutil.copy(sample_wav, tmp_path / "other.wav")
    folder = tmp_path / "found"
    code, _, _ = command(
        "diarize", str(sample_wav), str(other), "--format", "rttm", "--save-evidence", str(folder)
    )
    assert code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["other.npz", "sample.npz"]


def test_what_cannot_be_is_said_before_the_work(
    command: Command, evidence: Path, sample_wav: Path, tmp_path: Path
) -> None:
    other = shutil.copy(sample_wav, tmp_path / "other.wav")
    file = tmp_path / "note.txt"
    file.write_text("a note", encoding="utf-8")
    no_evidence = tmp_path / "no.npz"
    np.savez(no_evidence, a=np.zeros(1))
    for arguments, expected, line in (
        (
            (str(evidence), str(other)),
            2,
            "other.wav is not: diarize them apart",
        ),
        (
            (str(evidence), "--save-evidence", "x.npz"),
            2,
            "before: leave out --save-evidence",
        ),
        (
            (str(evidence), "--no-resume"),
            2,
            "before: leave out --no-resume",
        ),
        (
            (str(sample_wav), "--save-evidence", "-"),
            2,
            "--save-evidence - is neither a folder nor",
        ),
        (
            (str(sample_wav), str(other), "--save-evidence", "x.npz"),
            2,
            "holds one recording",
        ),
        (
            (str(sample_wav), "--save-evidence", str(file)),
            2,
            "is neither a folder nor",
        ),
        ((str(no_evidence),), 3, "no.npz is not a file of evidence: "),
        ((str(tmp_path / "gone.npz"),), 3, "gone.npz: No such file or directory: give a file"),
    ):
        code, out, err = command("diarize", *arguments, "--format", "rttm")
        assert (code, out) == (expected, ""), arguments
        assert line in err
        assert err.count("\n") == 1


def changed(evidence: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write ``evidence`` anew with another header."""
    with np.load(evidence) as content:
        arrays = dict(content)
    header = json.loads(arrays["header"].tobytes())
    change(header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(evidence, **arrays)


def test_a_bad_file_does_not_stop_those_behind_it(
    command: Command, evidence: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.npz"
    bad.write_text("no evidence", encoding="utf-8")
    code, out, err = command("diarize", bad, evidence, "--format", "rttm")
    assert code == 3
    assert out == (tmp_path / "then.rttm").read_text(encoding="utf-8")
    note, refused, summed_up, last = err.splitlines()
    assert note == "note: made from evidence: no network was run"
    assert refused.startswith(f"fluidaudio: {bad} is not a file of evidence: ")
    assert summed_up.startswith("1 recording, 30.0 s of audio in ")
    assert summed_up.endswith("no network was run)")
    assert last == "1 of 2 recordings failed"


def test_a_disk_that_fails_once_is_one_line(
    command: Command, evidence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be read was read again to tell why, and then could be: a traceback."""
    read, reads = saved_evidence.read_evidence, []

    def fails_second(path: Path) -> saved_evidence.SavedEvidence:
        reads.append(path)
        if len(reads) == 2:
            raise InputError(f"cannot read {path}: Input/output error")
        return read(path)

    monkeypatch.setattr(saved_evidence, "read_evidence", fails_second)
    assert command("diarize", evidence, "--format", "rttm") == (
        3,
        "",
        f"fluidaudio: cannot read {evidence}: Input/output error\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has")
def test_ctrl_c_never_gives_an_empty_file_the_name_of_the_result(
    command: Command, evidence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening it and writing to it, what was there before was lost."""
    target, opens = evidence.with_name("turns.rttm"), Path.open
    target.write_text("before", encoding="utf-8")

    def interrupted(path: Path, *arguments: Any, **more: Any) -> Any:
        stream = opens(path, *arguments, **more)
        if path.name == target.name:
            signal.raise_signal(signal.SIGINT)
        return stream

    monkeypatch.setattr(Path, "open", interrupted)
    assert command("diarize", evidence, "-o", target)[0] == 130
    monkeypatch.undo()
    then = evidence.parent / "then.rttm"
    assert target.read_text(encoding="utf-8") == then.read_text(encoding="utf-8")


def test_a_disk_that_is_full_for_a_moment_leaves_what_was_there(
    command: Command, evidence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had been written when it failed got the name of the result."""
    target, opens = evidence.with_name("turns.rttm"), Path.open
    target.write_text("before", encoding="utf-8")

    class Full(io.FileIO):
        def write(self, _: Any, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(path: Path, *arguments: Any, **more: Any) -> Any:
        return Full(path, "w") if path.name == target.name else opens(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", full)
    code, _, err = command("diarize", evidence, "-o", target)
    assert code == 4
    assert err.splitlines()[1:] == [
        f"fluidaudio: cannot write {target}: No space left on device: free space there, or choose "
        "another place"
    ]
    monkeypatch.undo()
    assert target.read_text(encoding="utf-8") == "before"


def test_the_same_networks_may_have_run_otherwise(
    command: Command, evidence: Path, tmp_path: Path
) -> None:
    """Each result tells how its own evidence was found, also where speakers are linked."""
    other = Path(shutil.copy(evidence, tmp_path / "other.npz"))
    changed(other, lambda header: header["models"][0]["ran"].update(threads=77))
    for more in ((), ("--link",)):
        folder = tmp_path / "-".join(("out", *more))
        code, _, _ = command(
            "diarize", evidence, other, "--output-dir", folder, "--format", "json", *more
        )
        assert code == 0
        threads = [
            json.loads((folder / name).read_text("utf-8"))["executor"]["ran"]["segmentation"][
                "threads"
            ]
            for name in ("sample.json", "other.json")
        ]
        assert threads[0] != 77
        assert threads[1] == 77
    changed(other, lambda header: header["models"][0].update(sha256="of another network"))
    code, _, err = command("diarize", evidence, other, "--format", "rttm")
    assert code == 3
    assert "other.npz was made by other networks, or in another mode, than those before" in err


def test_evidence_that_cannot_be_written_is_found_before_the_work(
    command: Command, sample_wav: Path, tmp_path: Path
) -> None:
    """And does not stop the others."""
    folder = tmp_path / "found"
    (folder / "sample.npz").mkdir(parents=True)
    code, out, err = command("diarize", sample_wav, "--save-evidence", folder)
    assert (code, out) == (4, "")
    assert err == (
        f"fluidaudio: cannot write to {folder / 'sample.npz'}: Is a directory: "
        "choose another place\n"
    )
    other = shutil.copy(sample_wav, tmp_path / "other.wav")
    code, out, err = command("diarize", sample_wav, other, "--save-evidence", folder)
    assert code == 3
    assert {line.split()[1] for line in out.splitlines()} == {"other"}
    assert (folder / "other.npz").is_file()
    assert err.splitlines()[-1] == "1 of 2 recordings failed"


def test_a_result_that_cannot_be_written_does_not_stop_the_others(
    command: Command, evidence: Path, tmp_path: Path
) -> None:
    evidence.rename(tmp_path / "one.npz")
    shutil.copy(tmp_path / "one.npz", tmp_path / "other.npz")
    out = tmp_path / "out"
    (out / "other.rttm").mkdir(parents=True)
    code, _, err = command("diarize", tmp_path, "--output-dir", out)
    assert code == 3
    then = (tmp_path / "then.rttm").read_text(encoding="utf-8")
    assert (out / "one.rttm").read_text(encoding="utf-8") == then.replace(" sample ", " one ")
    assert f"cannot write to {out / 'other.rttm'}: Is a directory" in err
    assert err.splitlines()[-1] == "1 of 2 recordings failed"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda header: header.update(samples=10**15), "samples have other windows"),
        (lambda header: header.update(windows=header["windows"] + 1), "samples have other windows"),
        (lambda header: header["audio"].update(uri="../over"), "cannot be called '../over'"),
        (lambda header: header.update(samples=-1), "no recording has -1 samples"),
        (lambda header: header["audio"].update(channels=float("nan")), "NaN is no number"),
        (lambda header: header["plan"]["mode"]["windows"].update(step_seconds=0), "it was written"),
        (lambda header: header["plan"]["mode"]["windows"].update(step_seconds=1e308), "it was wri"),
    ],
)
def test_header_that_does_not_fit_is_refused(
    command: Command,
    evidence: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    line: str,
) -> None:
    changed(evidence, change)
    code, out, err = command("diarize", evidence, "--output-dir", tmp_path / "out" / "inner")
    assert (code, out) == (3, "")
    assert line in err
    assert err.count("\n") == 1
    assert list(tmp_path.rglob("*.rttm")) == [tmp_path / "then.rttm"]
