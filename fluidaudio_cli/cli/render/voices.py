"""Known voices as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.voices.check import StoreCheck
from fluidaudio_cli.voices.voice import StoredVoice, quality_of


def render_voices(console: Console, path: Path, voices: Sequence[StoredVoice]) -> None:
    """One line a voice."""
    table = _table(f"Voices in {path}", "name", "seconds", "recordings", "last", "quality", "audio")
    for voice in voices:
        table.add_row(
            Text(voice.name),
            f"{voice.seconds:.1f}",
            str(len(voice.recordings)),
            max(heard.date for heard in voice.recordings)[:10],
            _quality(quality_of(voice)),
            "kept" if any(heard.audio for heard in voice.recordings) else "",
        )
    console.print(table)
    if not voices:
        console.print("no voices: fluidaudio speakers enrol NAME FILE…")


def render_voice(console: Console, voice: StoredVoice) -> None:
    """One line a recording."""
    table = _table(voice.name, "recording", "seconds", "date", "quality", "audio", "how")
    for heard in voice.recordings:
        table.add_row(
            Text(heard.uri),
            f"{heard.seconds:.1f}",
            heard.date,
            _quality(heard.quality),
            f"{len(heard.audio) / 1e6:.1f} MB" if heard.audio else "",
            "learned" if heard.learned else "enrolled",
        )
    console.print(table)
    console.print(f"embedding network {voice.network}", soft_wrap=True)


def render_check(console: Console, path: Path, count: int, found: StoreCheck) -> None:
    """Who could be mistaken for whom, who has too little speech."""
    if found.mistakable:
        table = _table(f"Could be mistaken, in {path}", "name", "for", "one person", "strangers")
        for pair in found.mistakable:
            table.add_row(
                Text(pair.name),
                Text(pair.other),
                f"{pair.probability:.0%}",
                f"{100 * pair.false_accept:.2g} % are as alike",
            )
        console.print(table)
    for name, seconds in found.little:
        line = f"{name}: {seconds:.1f} s of speech are little; speakers enrol --add more"
        console.print(Text(line), soft_wrap=True)
    if not (found.mistakable or found.little):
        console.print(f"{count} voices: told apart, and heard enough")


def render_identities(console: Console, result: Diarization) -> None:
    """Who a recording's speakers are."""
    table = _table(result.uri, "speaker", "seconds", "probability", "strangers as alike", "others")
    for speaker in result.speakers:
        found = speaker.identity
        if found is None:  # nothing of it could be heard
            table.add_row(Text(speaker.label), f"{speaker.speech_seconds:.1f}", "", "", "")
            continue
        others = (f"{n} {p:.0%}" for n, p in found.candidates if n != found.name and p >= _WORTH)
        table.add_row(
            Text(speaker.label),
            f"{speaker.speech_seconds:.1f}",
            f"{found.probability:.1%}",
            f"{100 * found.false_accept:.2g} %",
            Text(", ".join(others)),
        )
    console.print(table)


_WORTH = 0.01


def _quality(quality: float | None) -> str:
    return "" if quality is None else f"{quality:.2f}"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    return table
