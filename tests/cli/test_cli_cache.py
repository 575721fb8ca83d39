"""A cache that cannot be written costs time, never the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import forked


@pytest.mark.parametrize("executor", ["auto", "onnxruntime"])
def test_unwritable_cache_is_said_once_and_worked_without(executor: str, sample_wav: Path) -> None:
    done = forked.run(
        *("diarize", sample_wav, "--format", "rttm", "--executor", executor),
        env={"FLUIDAUDIO_CACHE_DIR": "/dev/null/cache"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SPEAKER sample 1 6.")
    assert done.stderr.count("cannot be written") == 1
