"""``fluidaudio speakers enrol``: get to know a voice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.cli import messages, options
from fluidaudio_cli.cli.known import changing, read
from fluidaudio_cli.errors import InputError, UsageError
from fluidaudio_cli.wording import counted

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.pipeline import Pipeline
    from fluidaudio_cli.voices.enrol import Part


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
        _hear_again(store, name, pipeline)
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
    kept.check_writable()  # before the work, too
    loaded = pipeline()
    heard = [hear(loaded, part, keep_audio=keep_audio) for part in parts]
    with changing(store) as changes:
        voice = StoredVoice(tidy, network_of(loaded.models), tuple(heard))
        voice = changes.add(voice, existing=add)
    count = counted(len(voice.recordings), "recording")
    messages.say(f"{tidy}: {voice.seconds:.1f} s of speech, {count}, in {kept.path}")
    if voice.seconds < ENOUGH_SECONDS:
        messages.say(f"note: with less than {ENOUGH_SECONDS:g} s, more recordings would help")


def _parts(
    files: Sequence[Path],
    speaker: str | None,
    turns: Path | None,
    start: float | None,
    end: float | None,
) -> Iterator[Part]:
    """What of each file is to be heard; raises ``UsageError`` for options at odds."""
    from fluidaudio_cli.audio.folders import uris_by_place
    from fluidaudio_cli.audio.source import AudioSource
    from fluidaudio_cli.voices.enrol import Part, spans_of

    if (speaker is None) != (turns is None):
        raise UsageError("--from LABEL is of --turns F.rttm", "give both, or none")
    if end is not None and end <= (start or 0.0):
        raise UsageError(f"--end {end:g} is not after --start {start or 0.0:g}", "swap them")
    files_by_uri = uris_by_place(files)
    timed = start is not None or end is not None
    if timed and turns is not None:
        raise UsageError("--turns and --start/--end both say when", "give one of them")
    if timed and len(files_by_uri) > 1:
        raise UsageError("--start and --end are of one file", "enrol one file, then --add others")
    known = {}
    if turns is not None:
        from fluidaudio_cli.scoring.matching import read_annotations

        known = read_annotations(turns).turns
    for path, uri in files_by_uri.items():
        spans: tuple[tuple[float, float], ...] = ()
        if speaker is not None:
            of_file = known.get(uri)
            if of_file is None:
                if len(known) > 1 or len(files_by_uri) > 1:
                    raise UsageError(f"{turns} does not mention '{uri}'", "give turns of the file")
                (of_file,) = known.values()
            spans = spans_of(of_file, speaker, str(turns))
        elif timed:
            spans = ((start or 0.0, float("inf") if end is None else end),)
        yield Part(AudioSource(path, uri), uri, spans)


def _hear_again(store: Path | None, name: str | None, pipeline: Callable[[], Pipeline]) -> None:
    """Replace what is known of voices by what today's network hears in their kept audio."""
    from fluidaudio_cli.voices.enrol import hear_again, network_of
    from fluidaudio_cli.voices.store import VoiceStore, find

    kept = VoiceStore(store)
    voices = read(kept)
    chosen = list(voices.values()) if name is None else [find(voices, name, kept.path)]
    usable = [v for v in chosen if any(heard.audio for heard in v.recordings)]
    if not usable:
        raise InputError(
            f"no audio was kept of {'any voice' if name is None else repr(chosen[0].name)}",
            "enrol from recordings, with --keep-audio to be able to do this",
        )
    kept.check_writable()
    loaded = pipeline()
    network = network_of(loaded.models)
    renewed = [(voice, hear_again(loaded, voice, network)) for voice in usable]
    with changing(store) as changes:
        for old, new in renewed:
            now = changes.voices.get(old.name)
            if now is None or now.line() != old.line():
                messages.say(f"note: {old.name} was changed meanwhile, and stays as it is now")
                continue
            changes.voices[new.name] = new
            lost = len(old.recordings) - len(new.recordings)
            heard = counted(sum(bool(each.audio) for each in new.recordings), "recording")
            messages.say(f"{new.name}: {heard} heard again, {lost} without audio left")
