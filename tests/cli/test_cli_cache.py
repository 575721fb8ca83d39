"""A cache that cannot be written costs time, never the result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("executor", ["auto", "onnxruntime"])
def test_unwritable_cache_is_said_once_and_worked_without(executor: str, sample_wav: Path) -> None:
    command = [sys.executable, "-m", "fluidaudio_cli", "diarize", str(sample_wav)]
    done = subprocess.run(
        [*command, "--format", "rttm", "--executor", executor],
        env={**os.environ, "FLUIDAUDIO_CACHE_DIR": "/dev/null/cache"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SPEAKER sample 1 6.6")
    assert done.stderr.count("cannot be written") == 1
