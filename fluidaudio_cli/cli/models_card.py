"""``fluidaudio models card``: draft a model card from packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluidaudio_cli.cli import messages, report_output

_ENDINGS = (".yaml", ".yml")


def card(
    packages: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="The .mlpackage or .mlmodelc of each role."),
    ],
    output: Annotated[
        Path,
        typer.Option(*report_output.OUTPUT_NAMES, metavar="CARD.yaml|-", help="Where it goes."),
    ] = report_output.STDOUT,
) -> None:
    """Draft a model card from what packages say of themselves.

    What it could not know is a comment in the card, and a line on stderr.
    """
    from fluidaudio_cli.files import write_text_atomic
    from fluidaudio_cli.models.draft import draft_card

    if output != report_output.STDOUT:
        report_output.check_ending("--output", output, _ENDINGS)
    folder = Path() if output == report_output.STDOUT else output.parent
    draft = draft_card(packages, folder)
    if output == report_output.STDOUT:
        typer.echo(draft.text, nl=False)
    else:
        write_text_atomic(output, draft.text)
    for line in draft.unknown:
        messages.say(line)
    if output != report_output.STDOUT:
        messages.say(f"wrote {output}; try it with fluidaudio models check {output}")
