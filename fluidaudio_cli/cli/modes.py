"""``fluidaudio modes``: performance modes and where each of their values comes from."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fluidaudio_cli.cli import options

app = typer.Typer(
    help="Performance modes: how much work is done, and where each value comes from.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_modes(
    output_format: options.TextOrJsonOption = options.TextOrJson.text,
) -> None:
    """List the modes that ship with the program."""
    from fluidaudio_cli.diarization.modes import DEFAULT_MODE, MODE_NAMES, mode_title

    titles = {name: mode_title(name) for name in MODE_NAMES}
    if output_format is options.TextOrJson.json:
        modes = [
            {"name": name, "title": title, "default": name == DEFAULT_MODE}
            for name, title in titles.items()
        ]
        _print_json({"schema": "fluidaudio.modes/1", "modes": modes})
        return
    for name, title in titles.items():
        typer.echo(f"{name:<12}{title}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A mode, or a file of one.")],
    output_format: options.TextOrJsonOption = options.TextOrJson.text,
) -> None:
    """Show every value of a mode: what it is, the file and line it comes from, and why."""
    from fluidaudio_cli.diarization.modes import load_mode

    mode = load_mode(name)
    rows = [(key, value, mode.origins[key]) for key, value in mode.values().items()]
    if output_format is options.TextOrJson.json:
        values = {
            key: {"value": value, "file": place.file, "line": place.line, "reason": place.reason}
            for key, value, place in rows
        }
        _print_json({"schema": "fluidaudio.mode/1", "name": mode.name, "values": values})
        return
    keys = max(len(key) for key, _, _ in rows)
    places = max(len(str(place)) for _, _, place in rows)
    for key, value, place in rows:
        typer.echo(f"{key:<{keys}}  {value!s:<12}  {place!s:<{places}}  {place.reason}")


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
