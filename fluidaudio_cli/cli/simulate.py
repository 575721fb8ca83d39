"""``fluidaudio simulate``: conversations on demand, with exact references."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from fluidaudio_cli.cli import messages
from fluidaudio_cli.errors import InputError, UsageError
from fluidaudio_cli.wording import counted

if TYPE_CHECKING:
    from fluidaudio_cli.simulate.plan import Vectors
    from fluidaudio_cli.simulate.voices import Voice

_SPAN = "X|LOW-HIGH"

_HEARD_SECONDS = 10
"""One window of the networks."""

_HEARD_LEVEL = 0.05
"""Root mean square, of full scale: a usual level."""

_LEAST_TOLD_SECONDS = 0.05
"""Cut off at full scale, of all conversations: less is told as 0.0."""

_LEAST_SPEECH = 0.4
"""Share of a voice in which speech is heard. Of 131 readers the least is 0.62; of music and noise
that pause as speech does, 0."""


def simulate(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="New folder for the recordings.")
    ],
    voices: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="One audio file or folder a voice. Default: the bundled readers."
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Recipe (YAML); the options below override it."),
    ] = None,
    conversations: Annotated[
        int | None, typer.Option("--conversations", "-n", metavar="N", min=1, help="How many.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of each: 90s, 3m, 1h. Default: 3m.")
    ] = None,
    speakers: Annotated[
        str | None, typer.Option(metavar="N|LOW-HIGH", help="1 to 20. Default: 2-4.")
    ] = None,
    overlap: Annotated[
        str | None,
        typer.Option(metavar=_SPAN, help="Overlap, % of speech. Default: as in meetings."),
    ] = None,
    similar: Annotated[
        bool | None, typer.Option("--similar", help="Speakers whose voices are alike.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(metavar=_SPAN, help="Level of speech, dBFS, as in ' -26'.")
    ] = None,
    rt60: Annotated[
        str | None, typer.Option(metavar=_SPAN, help="Reverberation time, s; 0: none.")
    ] = None,
    distance: Annotated[
        str | None, typer.Option(metavar=_SPAN, help="From the microphone, m. Default: 0.6-1.5.")
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="KIND|DIR", help="noise, music, babble, white, pink, or a folder of recordings."
        ),
    ] = None,
    snr: Annotated[
        str | None, typer.Option(metavar=_SPAN, help="Speech above noise, dB. Default: 20.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="g711-mulaw, g711-alaw, g722, amr-nb, opus-Nk, mp3-Nk or aac-Nk (kbit/s).",
        ),
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(metavar="HZ", help="Nothing above this frequency.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(metavar=_SPAN, help="Clip this far above the speech level, dB.")
    ] = None,
    drift: Annotated[
        str | None, typer.Option(metavar=_SPAN, help="Gain swings so far within a minute, dB.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(metavar=_SPAN, help="Packets of 20 ms that are lost, %.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Same seed, same bytes. Default: 0.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes. Default: one a processor.")
    ] = None,
    stems: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write speech and noise apart, before the channel."),
    ] = None,
) -> None:
    """Make conversations: audio, exact RTTM and UEM, each turn's level, and the recipe."""
    from fluidaudio_cli.executors.machine import processors
    from fluidaudio_cli.resources import datasets_dir
    from fluidaudio_cli.simulate.batch import Sources, read_voices
    from fluidaudio_cli.simulate.batch import simulate as make
    from fluidaudio_cli.simulate.recipe import NoiseKind, parse_recipe, read_recipe

    # Not what is here by chance: a folder of a kind's name is ./music.
    folder = None
    if noise is not None and noise not in get_args(NoiseKind):
        folder = Path(noise) if "/" in noise or Path(noise).is_dir() else None
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--noise {folder} is not a folder", "give a folder of recordings")
    given = {
        "conversations": conversations,
        "seconds": None if duration is None else _seconds(duration),
        "speakers": _span("--speakers", speakers, whole=True),
        "overlap": _span("--overlap", overlap),
        "similar": similar,
        "level": _span("--level", level),
        "seed": seed,
        "room": {"rt60": _span("--rt60", rt60), "distance": _span("--distance", distance)},
        "noise": {"kind": "noise" if folder else noise, "snr": _span("--snr", snr)},
        "channel": {
            "codec": codec,
            "bandwidth": bandwidth,
            "clip": _span("--clip", clip),
            "drift": _span("--drift", drift),
            "loss": _span("--loss", loss),
        },
    }
    document = read_recipe(recipe) if recipe is not None else {}
    parse_recipe(document, str(recipe))  # what is wrong from here on, options are to blame for
    try:
        checked = parse_recipe(_merged(document, given), "simulate")
    except InputError as error:
        raise UsageError(error.message, error.remedy) from error
    if snr is not None and checked.noise.kind == "none":
        raise UsageError("--snr is of --noise", "add --noise")
    sources = Sources(voices or datasets_dir() / "voices", folder, stems)
    people = read_voices(sources.voices)
    # The bundled voices are known to be readers.
    vectors = _heard(sources.voices, people) if voices or checked.similar else None
    with messages.progress_bar("simulating") as progress:
        made = make(
            checked,
            sources,
            output,
            voices=people,
            vectors=vectors,
            jobs=jobs or processors(),
            progress=progress,
        )
    minutes = sum(each.seconds for each in made.conversations) / 60
    number = counted(len(made.conversations), "conversation")
    typer.echo(f"{number}, {minutes:.1f} minutes, in {output}")
    if (seconds := sum(made.cut_off)) >= _LEAST_TOLD_SECONDS:
        messages.say(
            f"warning: {seconds:.1f} s are beyond full scale and cut off; give a lower --level"
        )


def _merged(document: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The recipe file's keys, replaced by those options that were given."""
    merged = dict(document)
    for key, value in given.items():
        if isinstance(value, dict):
            merged[key] = _merged(document.get(key, {}), value)
        elif value is not None:
            merged[key] = value
    return merged


def _span(option: str, text: str | None, whole: bool = False) -> Any:
    """``X`` or ``LOW-HIGH``, either of which may be negative."""
    if text is None:
        return None
    number = r"-?\d+(?:\.\d+)?"
    match = re.fullmatch(rf"\s*({number})(?:-({number}))?\s*", text)
    if match is None or (whole and "." in text):
        raise UsageError(f"{option} {text}", "give a number or LOW-HIGH")
    kind = int if whole else float
    low = kind(match[1])
    return low if match[2] is None else [low, kind(match[2])]


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text.strip())
    if match is None:
        raise UsageError(f"--duration {text}", "give a time such as 90s, 3m or 1h")
    return float(match[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


def _heard(folder: Path, voices: tuple[Voice, ...]) -> Vectors:
    """Each voice's direction, as the bundled networks hear it in ten seconds of it.

    Raises ``InputError`` for a voice in which they hear hardly any speech.
    """
    import numpy as np

    from fluidaudio_cli.diarization.loading import load_pipeline

    found = {}
    pipeline = load_pipeline("balanced", low_latency=True)
    try:
        for voice in voices:
            words = np.concatenate(list(voice.words(0, _HEARD_SECONDS * 1000)))
            heard = pipeline.process_window(words * np.float32(_HEARD_LEVEL))
            if np.mean(heard.presence().max(axis=1) > 127) < _LEAST_SPEECH or not heard.voices:
                raise InputError(
                    f"nobody speaks in voice {voice.name} of {folder} for most of its sound: "
                    "music or noise",
                    "give recordings of one person each",
                )
            total = np.sum([each.clean_seconds * each.vector for each in heard.voices], axis=0)
            found[voice.name] = (total / max(np.linalg.norm(total), 1e-9)).astype(np.float32)
    finally:
        pipeline.close()
    return found
