"""``fluidaudio speakers``: look at the voices that are known by name, change and remove them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluidaudio_cli.cli import messages, options, report_output
from fluidaudio_cli.cli.known import changing, read
from fluidaudio_cli.cli.speakers_enrol import enrol
from fluidaudio_cli.errors import InputError, UsageError
from fluidaudio_cli.wording import counted

if TYPE_CHECKING:
    from fluidaudio_cli.voices.voice import Heard, StoredVoice

app = typer.Typer(
    help="Voices known by name: enrol, look, change, remove. They are personal data, kept in a "
    "file that only you can read, never sent anywhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.command()(enrol)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a voice.")]


@app.command("list")
def list_voices(
    store: options.StoreOption = None,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """List the voices: seconds heard, recordings, last date, quality."""
    from fluidaudio_cli.cli.render.voices import render_voices
    from fluidaudio_cli.voices.store import VoiceStore

    kept = VoiceStore(store)
    voices = [_summary(voice) for voice in read(kept).values()]

    document = {
        "schema": "fluidaudio.voices-list/1",
        "store": str(kept.path),
        "voices": voices,
    }
    report_output.write_report(output, output_format, document, render_voices, kept.path, voices)


@app.command()
def show(
    name: _Name,
    store: options.StoreOption = None,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Show a voice: every recording that it was heard in."""
    from fluidaudio_cli.cli.render.voices import render_voice
    from fluidaudio_cli.voices.store import VoiceStore, find

    kept = VoiceStore(store)
    voice = find(read(kept), name, kept.path)
    recordings = [
        {
            "uri": heard.uri,
            "seconds": round(heard.seconds, 3),
            "date": heard.date,
            "quality": heard.quality,
            "learned": heard.learned,
            "audio_bytes": len(heard.audio),
        }
        for heard in voice.recordings
    ]
    document = {"schema": "fluidaudio.voices-show/1", **_summary(voice), "heard": recordings}
    report_output.write_report(output, output_format, document, render_voice, voice)


@app.command()
def rename(
    name: _Name,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="Its name from now on.")],
    store: options.StoreOption = None,
) -> None:
    """Give a voice another name."""
    from fluidaudio_cli.voices.voice import check_name

    with changing(store) as changes:
        voice, tidy = changes.take(name), check_name(new_name)
        if tidy in changes.voices:
            raise UsageError(
                f"there is a voice '{tidy}' in {changes.path}",
                "choose another name, or make them one: speakers merge",
            )
        changes.add(replace(voice, name=tidy))


@app.command()
def merge(
    name: _Name,
    others: Annotated[
        list[str], typer.Argument(metavar="OTHER…", help="Voices of the same person.")
    ],
    store: options.StoreOption = None,
) -> None:
    """Make several voices one, called NAME."""
    from fluidaudio_cli.voices.store import find
    from fluidaudio_cli.voices.voice import check_name

    with changing(store) as changes:
        kept = find(changes.voices, name, changes.path)
        for other in others:
            if check_name(other) == kept.name:
                raise UsageError(f"'{kept.name}' is one voice already", "name another")
            changes.add(replace(changes.take(other), name=kept.name), existing=True)


@app.command()
def remove(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Voices to be forgotten.")
    ] = None,
    recording: Annotated[
        str | None, typer.Option(metavar="URI", help="Only what was heard in this recording.")
    ] = None,
    learned: Annotated[
        bool, typer.Option("--learned", help="Only what --learn added: back to what was enrolled.")
    ] = False,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Lines of the store that cannot be read.")
    ] = False,
    store: options.StoreOption = None,
) -> None:
    """Forget voices: nothing of them stays in the store.

    Backups and copies (speakers export) are yours to remove.
    """
    from fluidaudio_cli.voices.store import find

    if bool(names) == damaged:
        raise UsageError("what is to be removed?", "give NAME…, or --damaged alone")

    def goes(heard: Heard) -> bool:
        return (recording in (None, heard.uri)) and (heard.learned or not learned)

    with changing(store) as changes:
        if damaged:
            messages.say(f"removed {counted(len(changes.damaged), 'damaged line')}")
            changes.damaged.clear()
        for name in names or ():
            voice = find(changes.voices, name, changes.path)
            left = tuple(heard for heard in voice.recordings if not goes(heard))
            if len(left) == len(voice.recordings):
                raise UsageError(
                    f"'{voice.name}' has no such recording", "see fluidaudio speakers show"
                )
            if left:
                changes.voices[voice.name] = replace(voice, recordings=left)
            else:
                changes.take(voice.name)


@app.command()
def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Default: all voices.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="A store of its own; - is stdout."),
    ] = Path("voices.jsonl"),
    store: options.StoreOption = None,
) -> None:
    """Copy voices into a file, that only you can read."""
    from fluidaudio_cli.voices.store import VoiceStore, find, store_text, write_voices

    kept, target = VoiceStore(store), VoiceStore(output)
    voices = read(kept)
    chosen = [find(voices, name, kept.path) for name in names] if names else list(voices.values())
    if not chosen:
        raise InputError(f"there are no voices in {kept.path}", "enrol some")
    if output == report_output.STDOUT:
        typer.echo(store_text(chosen), nl=False)
        return
    if target.path.exists():
        raise UsageError(f"{target.path} is there already", "choose another --output")
    write_voices(target.path, chosen)
    messages.say(f"wrote {target.path}: {counted(len(chosen), 'voice')}")


@app.command("import")
def import_voices(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by speakers export.")],
    add: Annotated[
        bool, typer.Option("--add", help="To voices of the same names: more recordings of them.")
    ] = False,
    store: options.StoreOption = None,
) -> None:
    """Take in voices from a file: all of them, or none where a name is taken."""
    from fluidaudio_cli.voices.store import VoiceStore

    source = VoiceStore(file)
    if not source.path.exists():
        raise InputError(f"there is no file {source.path}", "check the path")
    voices = list(read(source).values())
    with changing(store) as changes:
        for voice in voices:
            changes.add(voice, existing=add)
    messages.say(f"took in {counted(len(voices), 'voice')}")


@app.command()
def check(
    max_false_accept: options.MaxFalseAcceptOption = "1%",
    store: options.StoreOption = None,
    models: options.ModelsOption = "bundled",
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Tell who could be mistaken for whom, and of whom too little is known."""
    from fluidaudio_cli.cli.render.voices import render_check
    from fluidaudio_cli.diarization.modes import calibration_of
    from fluidaudio_cli.diarization.result import ModelRef
    from fluidaudio_cli.models.card import load_card
    from fluidaudio_cli.models.registry import packages_of
    from fluidaudio_cli.voices.check import check_voices
    from fluidaudio_cli.voices.enrol import network_of
    from fluidaudio_cli.voices.store import VoiceStore, check_networks

    kept = VoiceStore(store)
    voices = list(read(kept).values())
    card = load_card(models)
    rate = options.parse_rate(max_false_accept)
    packages = packages_of(card).items()
    network = network_of([ModelRef(role, each.sha256, {}, {}) for role, each in packages])
    check_networks(voices, network, kept.path)
    found = check_voices(voices, calibration_of(card), rate)
    shown = kept.path, len(voices), found
    report_output.write_report(output, output_format, found.as_dict, render_check, *shown)


def _summary(voice: StoredVoice) -> dict[str, Any]:
    return {
        "name": voice.name,
        "seconds": round(voice.seconds, 3),
        "recordings": len(voice.recordings),
        "date": max(heard.date for heard in voice.recordings),
        "quality": voice.quality,
        "network": voice.network,
        "keeps_audio": any(heard.audio for heard in voice.recordings),
    }
