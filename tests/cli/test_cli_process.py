"""The installed command starts lean, ends at once and loses nothing; how it ends is documented.

Real processes, with a real terminal where one makes the difference.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli import __version__
from fluidaudio_cli.cli import app as app_module
from fluidaudio_cli.cli import process
from fluidaudio_cli.files import write_text_atomic


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
        before="import fluidaudio_cli.cli.app as app; app.run_command = lambda _: [][1]",
    )
    assert done.returncode == 70
    assert done.stderr.endswith(
        "IndexError: list index out of range\n"
        "fluidaudio: this is a fault of the program: please report the above\n"
    )


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted on Linux")
def test_numpy_brings_no_threads_of_its_own() -> None:
    count = "import numpy, os; print(len(os.listdir('/proc/self/task')))"
    done = script("--version", before=f"atexit.register(exec, {count!r})")
    assert done.stdout.splitlines()[1:] == ["1"]


REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "datasets" / "sample"
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="no signals, pipes or terminals")


def in_terminal(
    *arguments: str | Path, ready: Callable[[], bool] | None = None, columns: int = 40
) -> tuple[int, str]:
    """``fluidaudio ARGUMENTS`` in a terminal, and Ctrl-C pressed there once ``ready()``."""
    import fcntl
    import pty
    import struct
    import termios

    command = [sys.executable, "-m", "fluidaudio_cli", *map(str, arguments)]
    child, terminal = pty.fork()
    if child == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        if ready is not None and ready():
            os.write(terminal, b"\x03")
            ready = None
        if not select.select([terminal], [], [], 0.02)[0]:
            continue
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), shown.decode().replace("\r\n", "\n")


@posix_only
def test_ctrl_c_in_a_terminal_says_so_and_ends_with_130(tmp_path: Path) -> None:
    """In the middle of a folder: what is finished is whole, and nothing else is there."""
    folder, out = tmp_path / "talks", tmp_path / "out"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.wav").write_bytes((SAMPLE / "sample.wav").read_bytes())
    code, shown = in_terminal(
        *("diarize", folder, "--output-dir", out, "--performance-mode", "fast"),
        ready=lambda: out.is_dir() and any(out.glob("*.rttm")),
    )
    assert code == 130
    assert shown.endswith("fluidaudio: interrupted\n")
    assert "Traceback" not in shown
    written = list(out.glob("*.rttm"))
    assert {path.name for path in out.iterdir()} == {"manifest.jsonl", *(w.name for w in written)}
    assert 1 <= len(written) < 30
    assert all(path.read_text().endswith("<NA>\n") for path in written)


@posix_only
def test_ctrl_c_while_a_pipe_says_nothing(tmp_path: Path) -> None:
    pipe, writers = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def read_from() -> bool:
        with suppress(OSError):  # nobody has its other end open yet
            writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    code, shown = in_terminal("diarize", pipe, ready=read_from)
    os.close(writers[0])
    assert (code, "Traceback" in shown) == (130, False)
    assert shown.endswith("fluidaudio: interrupted\n")


@posix_only
def test_ctrl_c_while_the_program_is_still_being_imported(tmp_path: Path) -> None:
    importing = tmp_path / "importing"
    code = (
        "import builtins, pathlib, sys, time\n"
        "sys.argv = ['fluidaudio', 'models', 'list']\n"
        "from fluidaudio_cli.cli.process import script\n"
        "load = builtins.__import__\n"
        "def slow(name, *rest):\n"
        "    if name == 'typer':\n"
        f"        pathlib.Path({str(importing)!r}).touch(); time.sleep(60)\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = slow\n"
        "script()"
    )
    started = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while not importing.exists():
        assert started.poll() is None
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=180)
    assert (started.returncode, err) == (130, "fluidaudio: interrupted\n")


@pytest.mark.parametrize("shown", ["", "; sys.excepthook(*sys.exc_info())"])
def test_ctrl_c_in_a_call_that_cannot_raise_is_not_lost(shown: str) -> None:
    """As where FFmpeg asks for the next bytes of a file; and as Cython shows what it loses."""
    lost = (
        "import sys, time\nclass Lost:\n  def __del__(self):\n"
        "    try: raise KeyboardInterrupt\n"
        f"    except KeyboardInterrupt: pass{shown}; raise\n"
        "def work(_):\n  Lost()\n  for _ in range(3000): time.sleep(0.01)\n  return 0\n"
        "import fluidaudio_cli.cli.app as app; app.run_command = work"
    )
    done = script(before=lost)
    assert (done.returncode, done.stderr) == (130, "fluidaudio: interrupted\n")


@posix_only
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("models", "list"),
        ("diarize", str(SAMPLE / "sample.wav"), "--format", "rttm"),
        ("diarize", str(SAMPLE / "sample.wav"), "--format", "table"),
        ("diarize", str(SAMPLE / "sample.wav"), "--format", "rttm", "--output", "/dev/stdout"),
    ],
)
def test_a_pipe_that_nobody_reads_ends_it_quietly(arguments: tuple[str, ...]) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "fluidaudio_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert started.stdout is not None
    assert started.stderr is not None
    started.stdout.close()
    assert started.stderr.read() == b""
    assert started.wait(60) == 141


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("PermissionError(13, 'Permission denied', 'some file')", "some file: Permission denied: "),
        ("OSError(24, 'Too many open files')", "Too many open files: allow more open files"),
        ("OSError(27, 'File too large', 'f')", "f: File too large: allow larger files (ulimit -f)"),
        ("OSError('no reason')", "no reason: try again"),
    ],
)
def test_any_error_of_the_system_is_one_line(error: str, line: str) -> None:
    # Inside Typer, as a command would raise it.
    raising = f"@app.command()\ndef fail(): raise {error}"
    done = script("fail", before=f"from fluidaudio_cli.cli.app import app\n{raising}")
    assert done.returncode == 4
    assert done.stderr.startswith(f"fluidaudio: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has")
def test_ctrl_c_that_a_background_process_ignores_is_not_heard_in_between() -> None:
    hears = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with process.interrupts_held():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, hears)


def test_a_terminal_that_is_gone_and_takes_no_more_is_why_it_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def says() -> int:
        raise OSError(errno.EIO, "Input/output error", "<stderr>")

    assert process.answered(says) == 4
    monkeypatch.setattr(process, "_ended_by", "SIGHUP")
    assert process.answered(says) == 129
    assert capsys.readouterr().err.endswith("\nfluidaudio: hung up\n")


def test_what_fails_because_of_ctrl_c_is_not_why_it_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python's removal of folders, interrupted, closes a descriptor twice."""
    remove = shutil.rmtree

    def interrupted(path: Path, **_: object) -> None:
        remove(path)
        try:
            raise KeyboardInterrupt
        finally:
            os.close(-1)

    def writes() -> int:
        write_text_atomic(tmp_path / "a.json", "{}")
        return 0

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    assert process.answered(writes) == 130
    assert capsys.readouterr().err == "fluidaudio: interrupted\n"


def test_a_warning_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"
    # The runtime that is quick to compile for.
    options = ("--format", "rttm", "--performance-mode", "fast", "--executor", "onnxruntime")
    done = subprocess.run(
        [sys.executable, "-m", "fluidaudio_cli", "diarize", SAMPLE / "sample.wav", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "FLUIDAUDIO_CACHE_DIR": str(cache)},
    )
    assert done.returncode == 0
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("SPEAKER sample 1 6.")
    assert last.startswith("SPEAKER sample 1 27.")
    assert done.stdout.count("\n") >= 6
    assert done.stderr == (
        f"warning: the cache {cache} cannot be written (Not a directory), so models are compiled "
        "again at each start: set FLUIDAUDIO_CACHE_DIR to a folder that can\n"
    )


@posix_only
@pytest.mark.parametrize("name", ["score", "profile", "diarize"])
def test_files_written_from_a_terminal_are_plain_and_as_wide_as_any(
    tmp_path: Path, name: str, speech: npt.NDArray[np.float32], write_wav: Callable[..., Path]
) -> None:
    rttm, audio = SAMPLE / "sample.rttm", SAMPLE / "sample.wav"
    brief = write_wav(speech[8 * 16_000 :][: 4 * 16_000], "brief.wav")
    arguments = {
        "score": ("score", rttm, rttm),
        "profile": ("profile", brief, "--performance-mode", "fast", "--no-peaks"),
        "diarize": ("diarize", audio, "--format", "table", "--reference", rttm),
    }[name]
    target = tmp_path / "out.txt"
    code, shown = in_terminal(*arguments, "--output", target)
    assert code == 0, shown
    text = target.read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) > 60  # not folded to the terminal's 40


@posix_only
def test_a_pipe_that_does_not_wait_has_not_ended() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    command = [sys.executable, "-m", "fluidaudio_cli", "diarize", "-"]
    started = subprocess.Popen(command, stdin=read, stderr=subprocess.PIPE, text=True)
    while started.poll() is None and not os.get_blocking(read):
        time.sleep(0.05)
    os.close(read)
    os.write(write, b"minutes")
    time.sleep(0.3)
    os.write(write, b" of the meeting")
    os.close(write)
    _, told = started.communicate(timeout=60)
    assert started.returncode == 3
    assert told.startswith("fluidaudio: standard input is not a media file that can be decoded")


@posix_only
def test_closed_stdout_takes_no_file_for_itself(tmp_path: Path) -> None:
    target = tmp_path / "out.rttm"
    audio = SAMPLE / "sample.wav"
    done = subprocess.run(
        f'"{sys.executable}" -m fluidaudio_cli diarize "{audio}" --output "{target}" >&-',
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, f"wrote {target}\n")
    assert target.read_text(encoding="utf-8").startswith("SPEAKER sample 1 6.")


@pytest.mark.parametrize("name", ["diarize", "benchmark", "models", "cache"])
def test_only_the_command_that_is_named_is_built(name: str) -> None:
    held = app_module._holding(name)
    names = [each.name for each in held.registered_commands]
    assert names + [str(each.name) for each in held.registered_groups] == [name]


def test_the_commands_are_listed_as_if_all_were_built(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for app in (app_module._holding("--help"), app_module.app):
        app(["--help"], prog_name="fluidaudio", standalone_mode=False)
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "diarization-benchmark" in shown[0]
    # What is listed was copied.
    assert all(each.callback.__doc__ for each in app_module.app.registered_commands)


@pytest.mark.parametrize("name", ["", "diarise"])
def test_all_commands_are_built_where_none_is_named(name: str) -> None:
    assert app_module._holding(name) is app_module.app
