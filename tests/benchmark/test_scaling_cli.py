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

SCALING = [sys.executable, "-m", "fluidaudio_cli", "benchmark", "--scaling"]
QUICK = ["--warmup", "0", "--latency-windows", "0", "--threads", "2"]


def test_lengths_are_measured_with_one_thread_and_with_all(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    lengths = ["--scaling-lengths", "40s,20s", "--iterations", "1"]
    done = subprocess.run(
        [
            *SCALING,
            *QUICK,
            *lengths,
            "--output",
            tmp_path / "r.json",
            "--output",
            tmp_path / "r.md",
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "TMPDIR": str(scratch)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = read_result(tmp_path / "r.json")
    assert found.plan.modes == ("fast",)
    cells = [(each.variant, each.length_seconds, each.threads) for each in found.scaling]
    assert cells == [("fast", 20.0, 1), ("fast", 20.0, 2), ("fast", 40.0, 1), ("fast", 40.0, 2)]
    for record in found.scaling:
        (run,) = record.finished
        assert run.audio_seconds == record.length_seconds
        assert run.memory is not None
        assert run.memory.peak_rss_bytes > run.memory.baseline_rss_bytes
        # A window of 10 s each, that of the first iteration only.
        assert [sample.windows for sample in run.iterations] == [record.length_seconds // 10]
    rows = [line.split()[:4] for line in done.stdout.splitlines() if line.startswith("  fast ")]
    assert rows[1:] == [
        ["fast", "20", "s", "1"],
        ["fast", "20", "s", "2"],
        ["fast", "40", "s", "1"],
        ["fast", "40", "s", "2"],
    ]
    verdict = "fast: memory growth not judged, fewer than two lengths from 10 min on"
    assert verdict in done.stdout.splitlines()
    assert f"- {verdict}" in (tmp_path / "r.md").read_text(encoding="utf-8").splitlines()
    assert list(scratch.glob("fluidaudio-scaling-*")) == []


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
    while not list(scratch.glob("fluidaudio-scaling-*/1h.wav")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == f"what was measured is kept in {output}"
    assert "Traceback" not in stderr
    assert list(scratch.glob("fluidaudio-scaling-*")) == []
    assert [len(each.finished) for each in read_result(output).variants] == [1]


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
    monkeypatch.setattr(sys, "argv", ["fluidaudio", "benchmark", "--scaling", *arguments])
    monkeypatch.setattr("tempfile.tempdir", "/scratch")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000_000_000))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert capsys.readouterr() == ("", f"fluidaudio: {line}\n")
