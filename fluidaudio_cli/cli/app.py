"""The ``fluidaudio`` command: registers one file per command, and turns errors into exit codes."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Annotated, NoReturn

import typer

from fluidaudio_cli import __version__, errors
from fluidaudio_cli.cli import datasets, models
from fluidaudio_cli.cli.benchmark import benchmark
from fluidaudio_cli.cli.compare import compare
from fluidaudio_cli.cli.diarize import diarize
from fluidaudio_cli.cli.doctor import doctor
from fluidaudio_cli.cli.profile import profile
from fluidaudio_cli.cli.score import score
from fluidaudio_cli.cli.simulate import simulate
from fluidaudio_cli.cli.tune import tune

EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_BAD_INPUT = 3
EXIT_ENVIRONMENT = 4
EXIT_INTERRUPTED = 130

_EXIT_CODES: tuple[tuple[type[errors.FluidAudioError], int], ...] = (
    (errors.GateError, EXIT_GATE_FAILED),
    (errors.UsageError, EXIT_USAGE),
    (errors.InputError, EXIT_BAD_INPUT),
    (errors.HostError, EXIT_ENVIRONMENT),
)

app = typer.Typer(
    name="fluidaudio",
    help="Speaker diarization on Core ML packages: run, score, profile and gate them anywhere.",
    epilog="Exit codes: 0 done, 1 gate failed, 2 usage, 3 bad input, 4 environment, "
    "130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fluidaudio {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Hold the options that come before any command."""


def exit_code(error: errors.FluidAudioError) -> int:
    """The documented exit code of an error's class."""
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


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
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # Python's own end reports what could not be written.
        sys.exit(code)
    os._exit(code)


def main() -> NoReturn:
    """Run the command line, print any expected error as one line, exit."""
    # Before NumPy is imported: OpenBLAS's threads spin on processors that the networks need, and
    # sums would depend on how many there are. NumPy's share of the work is small.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except errors.FluidAudioError as error:
        _fail(str(error), exit_code(error))
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader went away (`| head`).
        _drop_stdout()
    except OSError as error:
        if error.filename is not None:
            raise
        # Not a file: a full disk, say, where stdout goes.
        _drop_stdout()
        _fail(
            f"cannot write to stdout: {error.strerror or error}: free space where it goes",
            EXIT_ENVIRONMENT,
        )
    except MemoryError:
        _fail("out of memory: lower --memory-limit or close other programs", EXIT_ENVIRONMENT)
    sys.exit(0)


def _drop_stdout() -> None:
    """Point stdout at nothing, so that what is still to be flushed fails no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(line: str, code: int) -> NoReturn:
    sys.stdout.flush()
    typer.echo(f"fluidaudio: {line}", err=True)
    sys.exit(code)


# Commands
app.command("diarize")(diarize)
app.command("doctor")(doctor)
app.command("score")(score)
app.add_typer(datasets.app, name="datasets")
app.add_typer(models.app, name="models")
app.command("diarization-benchmark")(benchmark)
app.command("benchmark", help="Alias of diarization-benchmark.")(benchmark)
app.command("compare")(compare)
app.command("profile")(profile)
app.command("tune")(tune)
app.command("simulate")(simulate)
