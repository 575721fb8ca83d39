"""The ``fluidaudio`` command line: registers one file per command."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from fluidaudio_cli import __version__
from fluidaudio_cli.cli import cache, conventions, datasets, models, modes, speakers
from fluidaudio_cli.cli.benchmark import benchmark
from fluidaudio_cli.cli.compare import compare
from fluidaudio_cli.cli.diarize import diarize
from fluidaudio_cli.cli.doctor import doctor
from fluidaudio_cli.cli.identify import identify
from fluidaudio_cli.cli.plan import plan
from fluidaudio_cli.cli.process import main as main
from fluidaudio_cli.cli.process import script as script
from fluidaudio_cli.cli.profile import profile
from fluidaudio_cli.cli.score import score
from fluidaudio_cli.cli.simulate import simulate
from fluidaudio_cli.cli.stream import stream
from fluidaudio_cli.cli.tune import tune


class _SealedError(Exception):
    """Holds what Typer must not catch."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@contextmanager
def _sealed() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, EOFError, OSError) as error:
        raise _SealedError(error) from error


class _Commands(conventions.Group):
    """Typer's group; what is raised inside leaves it as it is."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _sealed():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _sealed():
            return super().invoke(ctx)


app = typer.Typer(
    name="fluidaudio",
    cls=_Commands,
    help="Speaker diarization on Core ML packages: run, score, profile and gate them anywhere.",
    epilog="Exit codes: 0 done, 1 gate failed, 2 usage, 3 bad input, 4 environment, "
    "70 a fault of this program, 129 terminal gone, 130 interrupted, "
    "141 nobody read the output, 143 terminated.",
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


def run_command(arguments: Sequence[str] | None) -> int:
    """Run a command line, by default the process's own; the code that Typer would exit with.

    Errors pass through, those too that Typer answers by itself and otherwise than documented:
    ``OSError`` and ``KeyboardInterrupt``.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        # None stays None: then Typer expands wildcards where the shell does not.
        _holding(given[0] if given else "")(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except _SealedError as sealed:
        raise sealed.error from None
    return 0


def _holding(name: str) -> typer.Typer:
    """The command line with the one command of that ``name``, or with all if there is none.

    Typer builds all commands that there are before it runs one: 40 ms of each start.
    """
    if name == "--help":
        return _listing()
    one = copy.copy(app)
    one.registered_commands = [each for each in app.registered_commands if each.name == name]
    one.registered_groups = [each for each in app.registered_groups if each.name == name]
    return one if one.registered_commands or one.registered_groups else app


def _listing() -> typer.Typer:
    """The command line with commands that have a name and a help, but no options."""
    listed = copy.copy(app)
    listed.registered_commands = [copy.copy(each) for each in app.registered_commands]
    for each in listed.registered_commands:
        each.help = each.help or inspect.getdoc(each.callback)
        each.callback = lambda: None
    listed.registered_groups = [copy.copy(each) for each in app.registered_groups]
    for group in listed.registered_groups:
        group.typer_instance = copy.copy(group.typer_instance)
        if group.typer_instance:
            group.typer_instance.registered_commands = []
    return listed


# Commands
app.command("diarize")(diarize)
app.command("stream")(stream)
app.command("doctor")(doctor)
app.command("score")(score)
app.add_typer(datasets.app, name="datasets")
app.add_typer(models.app, name="models")
app.command("diarization-benchmark")(benchmark)
_alias = f"Alias of diarization-benchmark.\n\n{inspect.getdoc(benchmark)}"
app.command("benchmark", help=_alias)(benchmark)
app.command("compare")(compare)
app.command("profile")(profile)
app.command("simulate")(simulate)
app.command("tune")(tune)
app.command("plan")(plan)
app.command("identify")(identify)
app.add_typer(speakers.app, name="speakers")
app.add_typer(modes.app, name="modes")
app.add_typer(cache.app, name="cache")
conventions.adopt(app)
