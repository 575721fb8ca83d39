"""``benchmark --scaling`` as users run it: real processes and models, short lengths."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fluidaudio_cli.benchmark.results import read_result
from fluidaudio_cli.cli.process import main
from tests import forked

SCALING = [sys.executable, "-m", "fluidaudio_cli", "benchmark", "--scaling", "--dataset", "sample"]
QUICK = ["--warmup", "0", "--latency-windows", "0", "--threads", "2"]


def test_lengths_are_measured_with_one_thread_and_with_all(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    lengths = ["--scaling-lengths", "40s,20s", "--iterations", "1"]
    done = forked.run(
        *(*SCALING[3:], *QUICK, *lengths),
        *("--output", tmp_path / "r.json", "--output", tmp_path / "r.md"),
        env={"TMPDIR": str(scratch)},
    )
    assert done.returncode == 0, done.stderr
    found = read_result(tmp_path / "r.json")
    cells = found.of_study("scaling")
    assert [(each.cell.length, each.cell.threads) for each in cells] == [
        (20.0, 1),
        (40.0, 1),
        (20.0, 2),
        (40.0, 2),
    ]
    for each in cells:
        assert each.cell.mode == "fast"
        (file,) = each.finished
        assert file.audio_seconds == each.cell.length
        assert file.memory is not None
        assert file.memory.peak_rss_bytes > file.memory.baseline_rss_bytes
        # A window of 10 s each, that of the first iteration only.
        assert [sample.windows for sample in file.iterations] == [file.audio_seconds // 10]
    wanted = [each.name for each in cells]
    firsts = [line.strip().split("  ")[0] for line in done.stdout.splitlines()]
    names = [first for first in firsts if first in wanted]
    assert names[:4] == wanted
    assert "too few lengths from 10 min on" in done.stdout
    assert "too few lengths from 10 min on" in (tmp_path / "r.md").read_text(encoding="utf-8")
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to one process")
def test_an_interruption_deletes_the_audio_and_keeps_what_is_measured(tmp_path: Path) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "r.json"
    scratch.mkdir()
    process = subprocess.Popen(
        [*SCALING, *QUICK, "--scaling-lengths", "5s,1h", "--iterations", "1", "--output", output],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    deadline = time.monotonic() + 90
    while not list(scratch.glob(".fluidaudio-*/*-3600s.wav")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 130
    assert stderr.splitlines()[-2:] == [
        f"finished files are kept in {output}; go on with --resume",
        "fluidaudio: interrupted",
    ]
    assert "Traceback" not in stderr
    assert list(scratch.iterdir()) == []
    assert [len(each.finished) for each in read_result(output).of_study("modes")] == [1]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (
            ["--scaling-lengths", "10m,soon"],
            2,
            "--scaling-lengths 10m,soon: 'soon' is no length of a second or more: "
            "give lengths such as 20s,1m,10h",
        ),
        (
            ["--scaling-lengths", "50h"],
            2,
            "a length of 50.0 hours does not fit in a WAV file: give at most 37 hours",
        ),
        (
            [],
            4,
            "the audio of --scaling takes 1.29 GB, and /scratch has 1.00 GB free, of which "
            "0.2 GB are left alone: free space, set TMPDIR to another disk, or give shorter "
            "--scaling-lengths",
        ),
    ],
)
def test_what_cannot_be_done_is_said_before_measuring(
    arguments: list[str],
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["fluidaudio", *SCALING[3:], *arguments])
    monkeypatch.setattr("tempfile.tempdir", "/scratch")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000_000_000))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert capsys.readouterr() == ("", f"fluidaudio: {line}\n")
