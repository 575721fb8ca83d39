"""``--memory-limit`` on the real program: same turns in less memory, or one line why not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fluidaudio_cli.benchmark.memory_limit import hold
from fluidaudio_cli.diarization.loading import make_plan

Command = Callable[..., tuple[int, str, str]]

FAST = ("--performance-mode", "fast", "--threads", "2")
SAMPLE_SECONDS = 30.0

# The system counts what a process was before it became another program (this one is large), so
# that a small one stands between.
PEAK_OF = """
import os, sys
process = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(process, 0)
print(f"PEAK {usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024)}", file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.fixture(scope="module")
def one_worker_bytes() -> int:
    """What fast needs here with one worker, measured as the command measures it."""
    serial = make_plan("fast", threads=2).with_workers(1)
    held = hold(serial, 10**11, SAMPLE_SECONDS)
    return held.peak_bytes + held.reserve_bytes


@pytest.mark.skipif(sys.platform == "win32", reason="os.wait4 is not on Windows")
def test_one_worker_gives_the_same_bytes_under_the_limit(
    one_worker_bytes: int, process: Command, sample_wav: Path
) -> None:
    arguments = ("diarize", sample_wav, *FAST, "--format", "rttm")
    code, free, _ = process(*arguments)
    assert code == 0
    limit = -(-one_worker_bytes // 1000)
    held = (*arguments, "--memory-limit", f"{limit}kB")
    process(*held)  # measures what is not yet; a child's peak would count below
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF, "-m", "fluidaudio_cli", *map(str, held)],
        capture_output=True,
        text=True,
        check=False,
    )
    note, peak = done.stderr.splitlines()
    assert done.returncode == 0
    assert ": 1 worker, batches of 8; " in note
    assert note.startswith("note: held under ")
    assert done.stdout == free
    assert 50_000_000 < int(peak.split()[1]) <= limit * 1000


def test_what_cannot_be_held_is_one_line_and_code_4(process: Command, sample_wav: Path) -> None:
    code, out, err = process("diarize", sample_wav, *FAST, "--memory-limit", "50MB")
    assert (code, out) == (4, "")
    (line,) = err.splitlines()
    assert line.startswith("fluidaudio: --memory-limit 50 MB cannot be held: mode fast needs ")
    assert line.endswith("or use a mode that needs less")


def test_a_size_without_a_unit_is_a_usage_error(process: Command, sample_wav: Path) -> None:
    code, out, err = process("diarize", sample_wav, "--memory-limit", "300")
    assert (code, out) == (2, "")
    assert (
        err == "fluidaudio: --memory-limit 300 is no size: give one such as 300MB, 1GB or 512MiB\n"
    )
