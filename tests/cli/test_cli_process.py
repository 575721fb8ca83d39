"""The installed command starts lean, ends at once, and yet loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluidaudio_cli import __version__


def script(
    *arguments: str, before: str = "pass", stdout: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """What the installed ``fluidaudio ARGUMENTS`` does, after the statement ``before``."""
    code = (
        f"import atexit, sys; sys.argv = {['fluidaudio', *arguments]}\n{before}\n"
        "from fluidaudio_cli.cli.process import script\nscript()"
    )
    command = [sys.executable, "-c", code]
    # Without a buffer there would be nothing to lose; the threads are the command's to choose.
    unset = ("PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    if stdout is None:
        return subprocess.run(command, capture_output=True, text=True, env=env)
    with stdout.open("w") as target:
        return subprocess.run(command, stdout=target, stderr=subprocess.PIPE, text=True, env=env)


def test_output_still_buffered_and_what_was_registered_for_the_end_are_done() -> None:
    # A pipe is buffered: without a flush, the line would be lost.
    done = script("--version", before="atexit.register(print, 'the last line')")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"fluidaudio {__version__}\nthe last line\n"


def test_exit_codes_are_kept(tmp_path: Path) -> None:
    usage = script("diarize", "--threads", "0", "x.wav")
    assert usage.returncode == 2
    assert "0 is not in the range" in usage.stderr
    missing = tmp_path / "no.wav"
    bad_input = script("diarize", str(missing))
    assert bad_input.returncode == 3
    assert bad_input.stderr == f"fluidaudio: {missing} does not exist: check the path\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_last_line_that_cannot_be_written_is_not_passed_over() -> None:
    done = script(
        "diarize",
        "no.wav",
        before="atexit.register(lambda: sys.stdout.write('the last line'))",
        stdout=Path("/dev/full"),
    )
    # The command itself ended with 3; this is how Python tells that its last flush failed.
    assert done.returncode == 120
    assert "No space left on device" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    done = script("models", "list", stdout=Path("/dev/full"))
    assert done.returncode == 4
    assert done.stderr == (
        "fluidaudio: cannot write to stdout: No space left on device: free space where it goes\n"
    )


def test_errors_nobody_expected_still_show_where_they_came_from() -> None:
    done = script(
        before="import fluidaudio_cli.cli.app as app; app.app = lambda _: [][1]",
    )
    assert done.returncode == 1
    assert done.stderr.endswith("IndexError: list index out of range\n")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted on Linux")
def test_numpy_brings_no_threads_of_its_own() -> None:
    count = "import numpy, os; print(len(os.listdir('/proc/self/task')))"
    done = script("--version", before=f"atexit.register(exec, {count!r})")
    assert done.stdout.splitlines()[1:] == ["1"]
