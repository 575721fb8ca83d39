"""What is finished stays, and nothing half-written, whenever a command is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and links as POSIX has")


def test_one_file_of_many_recordings_keeps_what_was_finished(
    tmp_path: Path, sample_wav: Path
) -> None:
    talks, target = tmp_path / "talks", tmp_path / "out" / "all.rttm"
    talks.mkdir()
    for number in range(40):
        os.link(sample_wav, talks / f"{number:02d}.wav")
    command = ("-m", "fluidaudio_cli", "diarize", *map(str, sorted(talks.iterdir())))
    started = subprocess.Popen(
        [sys.executable, *command, "--performance-mode", "fast", "--output", target],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any(target.parent.glob(".fluidaudio-*/all.rttm")):
        assert started.poll() is None
        time.sleep(0.01)
    assert not target.exists()  # under its own name only when whole
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=180)
    assert started.returncode == 130
    assert err == f"wrote {target}\nfluidaudio: interrupted\n"
    assert list(target.parent.iterdir()) == [target]
    uris = [line.split()[1] for line in target.read_text().splitlines()]
    assert set(uris) == {f"{number:02d}" for number in range(len(set(uris)))}
    # Whole: all are one recording, to its last turn.
    rows = [line.split() for line in target.read_text().splitlines()]
    first, *others = ([row[2:] for row in rows if row[1] == uri] for uri in sorted(set(uris)))
    assert len(first) >= 6
    assert float(first[-1][1]) == pytest.approx(27.8, abs=0.2)
    assert all(other == first for other in others)
    assert 1 <= len(set(uris)) < 40


def test_a_link_is_written_through(tmp_path: Path, sample_wav: Path) -> None:
    link, real = tmp_path / "link.csv", tmp_path / "elsewhere" / "real.csv"
    link.symlink_to(real)
    rttm = sample_wav.with_suffix(".rttm")
    assert forked.run("score", rttm, rttm, "--output", link).returncode == 0
    assert link.is_symlink()
    assert real.read_text().startswith("uri,")
