"""``fluidaudio models check``: run a model card's networks on the sample; one line a fault."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.cli import messages, report_output
from fluidaudio_cli.cli.process import EXIT_BAD_INPUT
from fluidaudio_cli.errors import UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.benchmark.identify import VoiceFolder
    from fluidaudio_cli.models.card import ModelCard

SCHEMA = "fluidaudio.models-check/1"
# As many digits as the bundled card has.
_DIGITS = 4


def check(
    card: Annotated[Path, typer.Argument(metavar="CARD", help="A model card (.yaml).")],
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Then fit the calibration to its recordings (or evidence) with references.",
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Tell what the calibration is worth on these voices."),
    ] = None,
    voices: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Fit known voices too: one file, or folder of files, a voice.",
        ),
    ] = None,
    performance_mode: Annotated[
        str, typer.Option(metavar="MODE", help="The mode to calibrate in.")
    ] = "balanced",
    search: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.0, help="Search for the other values too.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Run the networks of a model card on the bundled sample, and say what is wrong with it.

    One line for each fault, and exit code 3. With --calibrate, the card's calibration goes to
    stdout, to be put into the card.
    """
    report_output.check(output, output_format)
    from fluidaudio_cli.cli.render.tables import print_line
    from fluidaudio_cli.diarization.card_check import check_card
    from fluidaudio_cli.models.card import load_card
    from fluidaudio_cli.resources import datasets_dir
    from fluidaudio_cli.scoring.rttm import read_rttm

    sample = datasets_dir() / "sample" / "sample.wav"
    reference = tuple(read_rttm(sample.with_suffix(".rttm"))["sample"])
    loaded = load_card(card)
    people = None
    if calibrate is not None:
        people = _checked(loaded, calibrate, held_out, voices, performance_mode)
    faults = check_card(loaded, sample, reference)
    lines = faults or ["no fault found: scores, frame grid and vectors are as the card says"]
    if faults or calibrate is None:
        report_output.write_report(
            output,
            output_format,
            lambda: {"schema": SCHEMA, "card": str(loaded.path), "faults": faults},
            lambda console: print_line(console, "\n".join(lines)),
        )
        if faults:
            raise typer.Exit(EXIT_BAD_INPUT)
        return
    # Where the calibration goes to stdout, it is alone there.
    messages.say(*lines)
    _calibrate(loaded, calibrate, held_out, people, performance_mode, search, seed)


def _checked(
    card: ModelCard, folder: Path, held_out: Path | None, voices: Path | None, mode: str
) -> VoiceFolder | None:
    """Refuse, before anything is heard, what cannot be calibrated; the voices, if any."""
    from fluidaudio_cli.benchmark.calibrating_voices import check_enough
    from fluidaudio_cli.benchmark.identify import VoiceFolder
    from fluidaudio_cli.diarization.modes import load_mode
    from fluidaudio_cli.scoring.matching import read_annotations

    if card.diarizer is not None:
        raise UsageError(
            f"{card.path} has nothing to calibrate: its network follows speakers itself",
            "leave out --calibrate",
        )
    load_mode(mode, card)
    for each in (folder, held_out):
        if each is not None:
            read_annotations(each)
    people = None if voices is None else VoiceFolder.of(voices)
    if people is not None:
        check_enough(people)
    return people


def _calibrate(
    card: ModelCard,
    folder: Path,
    held_out: Path | None,
    people: VoiceFolder | None,
    mode: str,
    search: float,
    seed: int,
) -> None:
    import yaml

    from fluidaudio_cli.benchmark import calibrating, calibrating_voices
    from fluidaudio_cli.diarization.loading import load_pipeline

    pipeline = load_pipeline(mode, models=card.path, tuning=False)
    with messages.progress_bar("hearing recordings") as progress:
        known = calibrating.known_of(folder, pipeline, progress)
        others = None if held_out is None else calibrating.known_of(held_out, pipeline, progress)
    heard = None
    if people is not None:
        with messages.progress_bar("hearing voices") as progress:
            heard = calibrating_voices.hear(people, pipeline, progress)
    pipeline.close()
    # Before the search, which may be long: recordings without pairs end it here.
    told = [
        (f"{name}: {len(recordings)} recordings", calibrating.pairs_of(recordings, pipeline.mode))
        for name, recordings in (("fitted to", known), ("held out", others))
        if recordings is not None
    ]
    fitted = calibrating.fit(known, pipeline.mode, search, seed)
    for title, pairs in told:
        for line in (title, *calibrating.worth(pairs, fitted)):
            messages.say(line)
    if people is None or heard is None:
        messages.say(
            "across_… and stranger_…, which known voices and links need, are left as they are, or "
            "out: --voices DIR fits them"
        )
    else:
        fifths = calibrating_voices.Fifths.of(heard, fitted)
        fitted = calibrating_voices.fit_all(heard, fitted)
        messages.say(f"{len(people.items)} voices, each fifth by a fit to the others:")
        for line in fifths.worth():
            messages.say(line)
    values = fitted.rounded(_DIGITS)
    typer.echo(yaml.safe_dump({"calibration": values}, sort_keys=False), nl=False)
