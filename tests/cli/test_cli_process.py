"""The installed command starts lean, ends at once, and yet loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from fluidaudio_cli import __version__
from tests.cli.terminal import Terminal


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


# --- Ctrl-C, on a terminal ---


on_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="terminals are POSIX's")


@on_a_terminal
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["diarize", "{long}", "--performance-mode", "accurate"], b"diarizing"),
        (["benchmark", "--iterations", "99", "--output", "{folder}/r.json"], b"benchmarking"),
    ],
)
def test_ctrl_c_prints_its_line_and_ends_with_130(
    arguments: list[str], shown: bytes, tmp_path: Path, sample_wav: Path
) -> None:
    long = tmp_path / "long.wav"
    with wave.open(str(sample_wav)) as reader, wave.open(str(long), "wb") as writer:
        writer.setparams(reader.getparams())
        writer.writeframes(reader.readframes(reader.getnframes()) * 60)
    terminal = Terminal([each.format(long=long, folder=tmp_path) for each in arguments])
    terminal.wait_for(shown)
    terminal.ctrl_c()
    assert terminal.end() == 130, terminal.shown
    assert terminal.shown.endswith(b"fluidaudio: interrupted\r\n")
    assert b"Traceback" not in terminal.shown
    assert b"Aborted" not in terminal.shown


@on_a_terminal
def test_ctrl_c_while_a_pipe_is_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    terminal = Terminal(["diarize", pipe])
    with pipe.open("wb"):  # opens when the command has it open
        terminal.ctrl_c()
        assert terminal.end() == 130, terminal.shown
    assert terminal.shown.endswith(b"fluidaudio: interrupted\r\n")


# --- Pipes that nobody reads ---


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has them")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["models", "list"],
        ["models", "list", "--format", "json"],
    ],
)
def test_a_pipe_that_nobody_reads_ends_quietly(arguments: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "fluidaudio_cli", *arguments],
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


# --- Errors of the system ---


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("PermissionError(13, 'Permission denied', '/x/y')", "/x/y: Permission denied: check that "
         "it is there, and its permissions"),
        ("OSError(24, 'Too many open files')", "Too many open files: allow more open files "
         "(ulimit -n)"),
        ("OSError(28, 'No space left on device', b'/x/\\xff')", "/x/\\udcff: No space left on "
         "device: free space there"),
        ("OSError('two\\nlines')", "two lines: try again"),
        ("MemoryError()", "out of memory: lower --memory-limit or close other programs"),
    ],
)  # fmt: skip
def test_any_error_of_the_system_is_one_line_and_code_4(error: str, line: str) -> None:
    raising = f"import fluidaudio_cli.cli.{{0}} as c\ndef fail(*_, **__): raise {error}\n"
    done = script(
        "datasets",
        "list",
        before=raising.format("datasets")
        + "import fluidaudio_cli.corpora.catalogue as k\n"
        + "for name in dir(k):\n    if callable(getattr(k, name)): setattr(k, name, fail)",
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"fluidaudio: {line}\n"


def test_a_warning_is_one_line_without_source() -> None:
    done = script(
        "--version",
        before="import fluidaudio_cli.cli.app as app, warnings\n"
        "run = app.app\n"
        "app.app = lambda _: (warnings.warn('two\\nlines'), run(_))",
    )
    assert (done.returncode, done.stderr) == (0, "warning: two lines\n")


def test_streams_that_are_closed_are_not_taken_by_files(tmp_path: Path) -> None:
    target = tmp_path / "target"
    command = f'exec "{sys.executable}" -m fluidaudio_cli --version >&- 2>&- <&-; echo > {target}'
    assert subprocess.run(["sh", "-c", command]).returncode == 0


# --- Files that are written from a terminal ---


@on_a_terminal
@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "{truth}", "{truth}", "--output", "{file}"],
        ["profile", "{audio}", "--performance-mode", "fast", "--output", "{file}",
         "--output-format", "table"],
    ],
    ids=["score", "profile"],
)  # fmt: skip
def test_a_file_has_neither_colours_nor_the_width_of_the_terminal(
    arguments: list[str], tmp_path: Path, sample_wav: Path
) -> None:
    file = tmp_path / "table.txt"
    truth = sample_wav.with_suffix(".rttm")
    terminal = Terminal(
        [each.format(truth=truth, audio=sample_wav, file=file) for each in arguments]
    )
    assert terminal.end() == 0, terminal.shown
    text = file.read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) > 60  # the terminal has 40
