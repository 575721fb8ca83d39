"""The process around a command: what it ends with, and in what words, whatever happens inside.

Light to import: Ctrl-C while the command line itself is being imported is answered, too.
"""

from __future__ import annotations

import _thread
import atexit
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from fluidaudio_cli import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_BAD_INPUT = 3
EXIT_ENVIRONMENT = 4
# A fault of this program, as sysexits.h has it: Python's own 1 would say that a gate failed.
EXIT_INTERNAL = 70
# As a shell reports SIGHUP, SIGINT, SIGPIPE and SIGTERM.
EXIT_HUNG_UP = 129
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
EXIT_TERMINATED = 143

_EXIT_CODES: tuple[tuple[type[errors.FluidAudioError], int], ...] = (
    (errors.GateError, EXIT_GATE_FAILED),
    (errors.UsageError, EXIT_USAGE),
    (errors.InputError, EXIT_BAD_INPUT),
    (errors.HostError, EXIT_ENVIRONMENT),
)
_CHECK_FILE = "check that it is there, and its permissions"
_STDOUT = "<stdout>"
# Until a Ctrl-C that was lost is delivered again: the call in which it came is over by then.
_AGAIN_SECONDS = 0.01


def script() -> NoReturn:
    """The installed command: :func:`main`, after which the process is gone at once.

    Python would first free models and modules one by one, which takes a twentieth of a short
    run; the system takes all back as a whole. Output is flushed and what was registered for the
    end is done before. ``python -m fluidaudio_cli`` ends as Python does, for tools such as
    cProfile that look in afterwards.
    """
    try:
        main()
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        code = ended.code
    _leave(code)


def module() -> NoReturn:
    """``python -m fluidaudio_cli``: :func:`main`, after which Python ends as it does.

    Unless Ctrl-C left a thread behind in a runtime: that end would abort the process.
    """
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, int) and threading.active_count() > 1:
            _leave(ended.code)
        raise


def _leave(code: int) -> NoReturn:
    """End the process without freeing what it holds."""
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # Python's own end reports what could not be written.
        sys.exit(code)
    os._exit(code)


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no second; nohup ignores it
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default the process's own; the exit code."""
    # Before NumPy is imported: OpenBLAS's threads spin on processors that the networks need, and
    # sums would depend on how many there are. NumPy's share of the work is small.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _prepare_streams()
    warnings.showwarning = errors.show_warning
    sys.unraisablehook = _interrupt_again
    sys.excepthook = _show_fault

    def command() -> int:
        from fluidaudio_cli.cli.app import run_command

        return run_command(arguments)

    return answered(command)


def answered(action: Callable[[], int]) -> int:
    """The exit code that ``action`` returns, or that of the error that ended it.

    Whatever is expected to go wrong is one line on stderr. What is not, shows where it came from.
    """
    try:
        code = action()
        sys.stdout.flush()
    except errors.FluidAudioError as error:
        if _came_of_interrupt(error):
            return _told(*_ENDINGS[_ended_by])
        return _told(str(error), exit_code(error))
    except KeyboardInterrupt:
        return _told(*_ENDINGS[_ended_by])
    except BrokenPipeError:
        # The reader went away (`| head`).
        _drop_unwritable()
        return EXIT_PIPE_CLOSED
    except OSError as error:
        # The terminal that is gone takes no more words.
        if _ended_by == "SIGHUP" or _came_of_interrupt(error):
            return _told(*_ENDINGS[_ended_by])
        return _told(_line_of(error), EXIT_ENVIRONMENT)
    except MemoryError:
        return _told(errors.OUT_OF_MEMORY, EXIT_ENVIRONMENT)
    except Exception:  # noqa: BLE001 - whatever it is, it is no failed gate
        _drop_unwritable()
        with suppress(OSError):
            traceback.print_exc()
        return _told("this is a fault of the program: please report the above", EXIT_INTERNAL)
    return code


def exit_code(error: errors.FluidAudioError) -> int:
    """The documented exit code of an error's class."""
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


def _came_of_interrupt(error: BaseException | None) -> bool:
    """Whether a Ctrl-C came first: what it breaks off may fail, as removing what is temporary."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _line_of(error: OSError) -> str:
    reason = errors.reason_of(error)
    remedy = errors.remedy_of(error)
    if error.filename is None:
        return f"{reason}: {remedy or 'try again'}"
    if error.filename == _STDOUT:
        return f"cannot write to stdout: {reason}: free space where it goes"
    return f"{os.fsdecode(error.filename)}: {reason}: {remedy or _CHECK_FILE}"


def _told(line: str, code: int) -> int:
    """Say why the run ended, after all that it had to say; returns the code."""
    _drop_unwritable()
    with suppress(OSError):
        sys.stderr.write(f"fluidaudio: {' '.join(line.split())}\n")
        sys.stderr.flush()
    return code


def _drop_unwritable() -> None:
    """Point the streams that take no more at nothing, so that the end does not fail on them."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # noqa: PERF203 - there are two
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _prepare_streams() -> None:
    """Make stdin, stdout and stderr streams that can be used without a thought."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # Closed by the caller (`>&-`): else the first file opened takes its place, and what is
        # printed goes into that.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - kept open
    if sys.platform != "win32":
        for descriptor in range(3):
            # Else a pipe that whoever starts this does not wait for would be taken for ended.
            with suppress(OSError):
                os.set_blocking(descriptor, True)
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Stdout(sys.stdout.fileno(), "wb", closefd=False)),
            sys.stdout.encoding,
            # As stderr has it: a character that the terminal does not know stops no result.
            "backslashreplace",
            line_buffering=sys.stdout.line_buffering,
            write_through=sys.stdout.write_through,
        )


class _Stdout(io.FileIO):
    """stdout as a file whose errors name it, as those of other files do."""

    def write(self, data: Any, /) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = _STDOUT
            raise


_ended_by = "SIGINT"
"""What a ``KeyboardInterrupt`` stands for: Ctrl-C, unless another signal came."""
_ENDINGS = {
    "SIGINT": ("interrupted", EXIT_INTERRUPTED),
    "SIGTERM": ("terminated", EXIT_TERMINATED),
    "SIGHUP": ("hung up", EXIT_HUNG_UP),
}


def _terminate(number: int, _frame: object) -> None:
    """What service managers, ``timeout`` and a terminal that goes away send: else as Ctrl-C."""
    global _ended_by
    _ended_by = signal.Signals(number).name
    if callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)
    else:  # a shell's background processes do not hear Ctrl-C
        raise KeyboardInterrupt


@contextmanager
def interrupts_held(*, once: bool = False) -> Iterator[None]:
    """Ctrl-C waits until what is inside is whole; with ``once``, a second one does not."""
    interrupted: list[int] = []

    def hold(number: int, _frame: object) -> None:
        if previous is signal.SIG_IGN and _ended_by == "SIGINT":
            return  # a shell's background process: the Ctrl-C is for another
        interrupted.append(number)
        if once and len(interrupted) > 1:
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupted:
        raise KeyboardInterrupt


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Deliver once more a Ctrl-C that came where it could not be raised, as in a call from FFmpeg.

    Python would print it and go on.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(_AGAIN_SECONDS, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def _show_fault(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """An exception that nobody caught; not a Ctrl-C, which Cython shows here before it is lost."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
