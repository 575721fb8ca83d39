"""``fluidaudio modes``: performance modes and where each of their values comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.cli import report_output

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    help="Performance modes: how much work is done, and where each value comes from.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_modes(
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """List the modes that ship with the program."""
    from fluidaudio_cli.diarization.modes import DEFAULT_MODE, MODE_NAMES, mode_title

    modes = [
        {"name": name, "title": mode_title(name), "default": name == DEFAULT_MODE}
        for name in MODE_NAMES
    ]

    def render(console: Console) -> None:
        for mode in modes:
            console.print(f"{mode['name']:<12}{mode['title']}", soft_wrap=True)

    document = {"schema": "fluidaudio.modes/1", "modes": modes}
    report_output.write_report(output, output_format, document, render)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A mode, or a file of one.")],
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Show every value of a mode: what it is, the file and line it comes from, and why."""
    from fluidaudio_cli.diarization.modes import load_mode
    from fluidaudio_cli.settings import spelt

    mode = load_mode(name)
    rows = [(key, value, mode.origins[key]) for key, value in mode.values().items()]
    values = {
        key: {"value": value, "file": place.file, "line": place.line, "reason": place.reason}
        for key, value, place in rows
    }
    document = {"schema": "fluidaudio.mode/1", "name": mode.name, "values": values}

    def render(console: Console) -> None:
        keys = max(len(key) for key, _, _ in rows)
        places = max(len(str(place)) for _, _, place in rows)
        for key, value, place in rows:
            line = f"{key:<{keys}}  {spelt(value):<12}  {place!s:<{places}}  {place.reason}"
            console.print(line, soft_wrap=True)

    report_output.write_report(output, output_format, document, render)
