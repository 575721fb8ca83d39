"""Known voices as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluidaudio_cli.cli.render.tables import print_line, titled_table
from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.voices.check import StoreCheck
from fluidaudio_cli.voices.voice import StoredVoice
from fluidaudio_cli.wording import counted

if TYPE_CHECKING:
    from rich.console import Console


def render_voices(console: Console, path: Path, voices: Sequence[Mapping[str, Any]]) -> None:
    """One line a voice, of what JSON says of it."""
    table = titled_table(
        f"Voices in {path}", "name", "seconds", "recordings", "last", "quality", "audio"
    )
    for voice in voices:
        table.add_row(
            voice["name"],
            f"{voice['seconds']:.1f}",
            str(voice["recordings"]),
            voice["date"][:10],
            _quality(voice["quality"]),
            "kept" if voice["keeps_audio"] else "",
        )
    console.print(table)
    if not voices:
        console.print("no voices: fluidaudio speakers enrol NAME FILE…")


def render_voice(console: Console, voice: StoredVoice) -> None:
    """One line a recording."""
    table = titled_table(voice.name, "recording", "seconds", "date", "quality", "audio", "how")
    for heard in voice.recordings:
        table.add_row(
            heard.uri,
            f"{heard.seconds:.1f}",
            heard.date,
            _quality(heard.quality),
            f"{len(heard.audio) / 1e6:.1f} MB" if heard.audio else "",
            "learned" if heard.learned else "enrolled",
        )
    console.print(table)
    print_line(console, f"embedding network {voice.network}")


def render_check(console: Console, path: Path, count: int, found: StoreCheck) -> None:
    """Who could be mistaken for whom, who has too little speech."""
    if found.mistakable:
        table = titled_table(
            f"Could be mistaken, in {path}", "name", "for", "one person", "strangers"
        )
        for pair in found.mistakable:
            table.add_row(
                pair.name,
                pair.other,
                f"{pair.probability:.0%}",
                f"{_rate(pair.false_accept)} are as alike",
            )
        console.print(table)
    for name, seconds in found.little:
        line = f"{name}: {seconds:.1f} s of speech are little; speakers enrol --add more"
        print_line(console, line)
    if not (found.mistakable or found.little):
        console.print(f"{counted(count, 'voice')}: told apart, and heard enough")


def render_identities(console: Console, results: Sequence[Diarization]) -> None:
    """Who the speakers of each recording are."""
    for result in results:
        table = titled_table(
            result.uri, "speaker", "seconds", "probability", "strangers as alike", "others"
        )
        for speaker in result.speakers:
            found = speaker.identity
            assert found is not None
            likely = ((n, p) for n, p in found.candidates if n != found.name and p >= _WORTH)
            table.add_row(
                speaker.label,
                f"{speaker.speech_seconds:.1f}",
                f"{found.probability:.1%}",
                _rate(found.false_accept),
                ", ".join(f"{name} {probability:.0%}" for name, probability in likely),
            )
        console.print(table)


_WORTH = 0.01


def _rate(share: float) -> str:
    return f"{100 * share:{'.0f' if share >= 0.1 else '.2g'}} %"


def _quality(quality: float | None) -> str:
    return "" if quality is None else f"{quality:.2f}"
