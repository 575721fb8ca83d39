"""``fluidaudio speakers``: the voices that are known, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluidaudio_cli.cli import messages, options, report_output
from fluidaudio_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from fluidaudio_cli.diarization.pipeline import Pipeline
    from fluidaudio_cli.voices.enrol import Part
    from fluidaudio_cli.voices.store import Changes, VoiceStore
    from fluidaudio_cli.voices.voice import Heard, StoredVoice

app = typer.Typer(
    help="Voices known by name: enrol, look, change, remove. They are personal data, kept in a "
    "file that only you can read, never sent anywhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a voice.")]


@app.command()
def enrol(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="What turns of this voice will carry.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE…", help="Recordings in which the person speaks."),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option("--from", metavar="LABEL", help="Who of several, as --turns calls them."),
    ] = None,
    turns: Annotated[
        Path | None,
        typer.Option("--turns", metavar="F.rttm", help="Who speaks when in FILE (with --from)."),
    ] = None,
    start: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.0, help="Hear FILE from here only.")
    ] = None,
    end: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.0, help="Hear FILE up to here only.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="To a voice that is there: more recordings of it.")
    ] = False,
    keep_audio: Annotated[
        bool,
        typer.Option("--keep-audio", help="Keep the speech, to hear it again by other networks."),
    ] = False,
    again: Annotated[
        bool,
        typer.Option("--again", help="Hear the kept audio of NAME, or of all voices, again."),
    ] = False,
    store: options.StoreOption = None,
    performance_mode: options.ModeOption = "balanced",
    models: options.ModelsOption = "bundled",
    executor: options.ExecutorOption = options.ExecutorChoice.auto,
    precision: options.PrecisionOption = options.PrecisionChoice.auto,
    threads: options.ThreadsOption = None,
) -> None:
    """Get to know a voice from recordings of one person.

    10 s of speech are good, 30 s better, in several recordings best. Of a recording of several
    people, say which: by --from and --turns (RTTM or lab), or by --start and --end.
    """
    from fluidaudio_cli.diarization.loading import load_pipeline
    from fluidaudio_cli.voices.enrol import ENOUGH_SECONDS, hear, network_of
    from fluidaudio_cli.voices.store import VoiceStore
    from fluidaudio_cli.voices.voice import StoredVoice, check_name

    kept = VoiceStore(store)

    def pipeline() -> Pipeline:
        return load_pipeline(
            performance_mode,
            executor=executor.value,
            precision=precision.value,
            threads=threads,
            models=models,
        )

    if again:
        if files or add or keep_audio:
            raise UsageError("--again hears what was kept", "leave out FILE, --add, --keep-audio")
        _hear_again(kept, name, pipeline)
        return
    if name is None or not files:
        raise UsageError("whose voice, and from what?", "give NAME and FILE…")
    tidy = check_name(name)
    parts = list(_parts(files, speaker, turns, start, end))
    if not add and tidy in kept.read().voices:
        # Said before the work; said again under the lock.
        raise UsageError(
            f"there is a voice '{tidy}' in {kept.path}", "choose another name, or --add to it"
        )
    loaded = pipeline()
    heard = [hear(loaded, part, keep_audio=keep_audio) for part in parts]
    with _changing(kept) as changes:
        voice = StoredVoice(tidy, network_of(loaded.models), tuple(heard))
        voice = changes.add(voice, existing=add)
    messages.say(f"{tidy}: {voice.seconds:.1f} s of speech, {_recordings(voice)}, in {kept.path}")
    if voice.seconds < ENOUGH_SECONDS:
        messages.say(f"note: with less than {ENOUGH_SECONDS:g} s, more recordings would help")


@app.command("list")
def list_voices(
    store: options.StoreOption = None,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """List the voices: seconds heard, recordings, last date, quality."""
    from fluidaudio_cli.voices.store import VoiceStore

    kept = VoiceStore(store)
    voices = list(_read(kept).values())

    def render(console: Console) -> None:
        from fluidaudio_cli.cli.render.voices import render_voices

        render_voices(console, kept.path, voices)

    document = {
        "schema": "fluidaudio.voices-list/1",
        "store": str(kept.path),
        "voices": [_summary(voice) for voice in voices],
    }
    report_output.write_report(output, output_format, lambda: document, render)


@app.command()
def show(
    name: _Name,
    store: options.StoreOption = None,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Show a voice: every recording that it was heard in."""
    from fluidaudio_cli.voices.store import VoiceStore

    voice = VoiceStore(store).voice(name)

    def render(console: Console) -> None:
        from fluidaudio_cli.cli.render.voices import render_voice

        render_voice(console, voice)

    def document() -> dict[str, Any]:
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
        return {"schema": "fluidaudio.voices-show/1", **_summary(voice), "heard": recordings}

    report_output.write_report(output, output_format, document, render)


@app.command()
def rename(
    name: _Name,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="Its name from now on.")],
    store: options.StoreOption = None,
) -> None:
    """Give a voice another name."""
    from fluidaudio_cli.voices.store import VoiceStore
    from fluidaudio_cli.voices.voice import check_name

    with _changing(VoiceStore(store)) as changes:
        changes.add(replace(changes.take(name), name=check_name(new_name)))


@app.command()
def merge(
    name: _Name,
    others: Annotated[
        list[str], typer.Argument(metavar="OTHER…", help="Voices of the same person.")
    ],
    store: options.StoreOption = None,
) -> None:
    """Make several voices one, called NAME."""
    from fluidaudio_cli.voices.store import VoiceStore, find
    from fluidaudio_cli.voices.voice import check_name

    with _changing(VoiceStore(store)) as changes:
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
    from fluidaudio_cli.voices.store import VoiceStore, find

    if bool(names) == damaged:
        raise UsageError("what is to be removed?", "give NAME…, or --damaged alone")

    def goes(heard: Heard) -> bool:
        return (recording in (None, heard.uri)) and (heard.learned or not learned)

    with _changing(VoiceStore(store)) as changes:
        if damaged:
            messages.say(f"removed {len(changes.damaged)} damaged lines")
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
        typer.Option("--output", "-o", metavar="FILE", help="A store of its own, to be imported."),
    ] = Path("voices.jsonl"),
    store: options.StoreOption = None,
) -> None:
    """Copy voices into a file, that only you can read."""
    from fluidaudio_cli.voices.store import VoiceStore, find

    kept, target = VoiceStore(store), VoiceStore(output)
    voices = _read(kept)
    chosen = [find(voices, name, kept.path) for name in names] if names else list(voices.values())
    if not chosen:
        raise InputError(f"there are no voices in {kept.path}", "enrol some")
    if target.path.exists():
        raise UsageError(f"{target.path} is there already", "choose another --output")
    with target.changing() as changes:
        for voice in chosen:
            changes.add(voice)
    messages.say(f"wrote {target.path}: {_counted(chosen)}")


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
    voices = list(_read(source).values())
    with _changing(VoiceStore(store)) as changes:
        for voice in voices:
            changes.add(voice, existing=add)
    messages.say(f"took in {_counted(voices)}")


@app.command()
def check(
    max_false_accept: options.MaxFalseAcceptOption = "1%",
    store: options.StoreOption = None,
    models: options.ModelsOption = "bundled",
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Tell who could be mistaken for whom, and of whom too little is known."""
    from fluidaudio_cli.diarization.modes import calibration_of
    from fluidaudio_cli.models.card import load_card
    from fluidaudio_cli.voices.check import check_voices
    from fluidaudio_cli.voices.store import VoiceStore

    kept = VoiceStore(store)
    voices = list(_read(kept).values())
    calibration = calibration_of(load_card(models))
    found = check_voices(voices, calibration, options.parse_rate(max_false_accept))

    def render(console: Console) -> None:
        from fluidaudio_cli.cli.render.voices import render_check

        render_check(console, kept.path, len(voices), found)

    report_output.write_report(output, output_format, found.as_dict, render)


def _parts(
    files: Sequence[Path],
    speaker: str | None,
    turns: Path | None,
    start: float | None,
    end: float | None,
) -> Iterator[Part]:
    """What of each file is to be heard; raises ``UsageError`` for options at odds."""
    from fluidaudio_cli.audio.folders import find_audio, unique_uris
    from fluidaudio_cli.audio.source import AudioSource
    from fluidaudio_cli.voices.enrol import Part, spans_of

    if (speaker is None) != (turns is None):
        raise UsageError("--from LABEL is of --turns F.rttm", "give both, or none")
    if end is not None and end <= (start or 0.0):
        raise UsageError(f"--end {end:g} is not after --start {start or 0.0:g}", "swap them")
    recordings = unique_uris(find_audio(files))
    timed = start is not None or end is not None
    if timed and turns is not None:
        raise UsageError("--turns and --start/--end both say when", "give one of them")
    if timed and len(recordings) > 1:
        raise UsageError("--start and --end are of one file", "enrol one file, then --add others")
    known = {}
    if turns is not None:
        from fluidaudio_cli.scoring.matching import read_annotations

        known = read_annotations(turns).turns
    for path, uri in recordings.items():
        spans: tuple[tuple[float, float], ...] = ()
        if speaker is not None:
            of_file = known.get(uri)
            if of_file is None:
                if len(known) > 1 or len(recordings) > 1:
                    raise UsageError(f"{turns} does not mention '{uri}'", "give turns of the file")
                (of_file,) = known.values()
            spans = spans_of(of_file, speaker, str(turns))
        elif timed:
            spans = ((start or 0.0, float("inf") if end is None else end),)
        yield Part(AudioSource(path, uri), uri, spans)


def _hear_again(kept: VoiceStore, name: str | None, pipeline: Any) -> None:
    """Replace what is known of voices by what today's network hears in their kept audio."""
    from fluidaudio_cli.voices.enrol import hear_again, network_of
    from fluidaudio_cli.voices.store import find

    voices = _read(kept)
    chosen = list(voices.values()) if name is None else [find(voices, name, kept.path)]
    usable = [v for v in chosen if any(heard.audio for heard in v.recordings)]
    if not usable:
        raise InputError(
            f"no audio was kept of {'any voice' if name is None else repr(chosen[0].name)}",
            "enrol from recordings, with --keep-audio to be able to do this",
        )
    loaded = pipeline()
    network = network_of(loaded.models)
    renewed = [(voice, hear_again(loaded, voice, network)) for voice in usable]
    with _changing(kept) as changes:
        for old, new in renewed:
            changes.voices[new.name] = new
            lost = len(old.recordings) - len(new.recordings)
            messages.say(f"{new.name}: {_recordings(new)} heard again, {lost} without audio left")


def _read(kept: VoiceStore) -> dict[str, StoredVoice]:
    contents = kept.read()
    _warn_of(contents.damaged)
    return dict(contents.voices)


def _changing(kept: VoiceStore) -> Any:
    """``kept.changing()``, telling what is damaged."""
    from contextlib import contextmanager

    @contextmanager
    def changing() -> Iterator[Changes]:
        with kept.changing() as changes:
            _warn_of(changes.damaged)
            yield changes

    return changing()


def _warn_of(damaged: Any) -> None:
    for reason in damaged.values():
        messages.say(f"warning: a voice cannot be read ({reason}); speakers remove --damaged")


def _summary(voice: StoredVoice) -> dict[str, Any]:
    from fluidaudio_cli.voices.voice import quality_of

    return {
        "name": voice.name,
        "seconds": round(voice.seconds, 3),
        "recordings": len(voice.recordings),
        "date": max(heard.date for heard in voice.recordings),
        "quality": quality_of(voice),
        "network": voice.network,
        "keeps_audio": any(heard.audio for heard in voice.recordings),
    }


def _recordings(voice: StoredVoice) -> str:
    count = len(voice.recordings)
    return f"{count} recording{'' if count == 1 else 's'}"


def _counted(voices: Sequence[StoredVoice]) -> str:
    return f"{len(voices)} voice{'' if len(voices) == 1 else 's'}"
