"""``fluidaudio models check``: run a model card's networks on the sample; one line a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_BAD_INPUT = 3


def check(
    card: Annotated[Path, typer.Argument(metavar="CARD", help="A model card (.yaml).")],
) -> None:
    """Run the networks of a model card on the bundled sample, and say what is wrong with it.

    One line for each fault, and exit code 3.
    """
    from fluidaudio_cli.diarization.card_check import check_card
    from fluidaudio_cli.models.card import load_card
    from fluidaudio_cli.resources import datasets_dir
    from fluidaudio_cli.scoring.rttm import read_rttm

    sample = datasets_dir() / "sample" / "sample.wav"
    reference = tuple(read_rttm(sample.with_suffix(".rttm"))["sample"])
    faults = check_card(load_card(card), sample, reference)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(_BAD_INPUT)
    typer.echo("no fault found: scores, frame grid and vectors are as the card says")
