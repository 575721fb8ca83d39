"""What the commands of ``fluidaudio speakers`` share: the store, telling what is damaged there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.cli import messages

if TYPE_CHECKING:
    from fluidaudio_cli.voices.store import Changes
    from fluidaudio_cli.voices.voice import StoredVoice


def read(store: Path | None) -> tuple[Path, dict[str, StoredVoice]]:
    """The store's file, and all voices in it that can be read."""
    from fluidaudio_cli.voices.store import VoiceStore

    kept = VoiceStore(store)
    contents = kept.read()
    _warn_of(contents.damaged)
    return kept.path, dict(contents.voices)


@contextmanager
def changing(store: Path | None) -> Iterator[Changes]:
    """``VoiceStore(store).changing()``."""
    from fluidaudio_cli.voices.store import VoiceStore

    with VoiceStore(store).changing() as changes:
        _warn_of(changes.damaged)
        yield changes
    for name, uri in changes.replaced:
        messages.say(f"note: {name}: what was heard in {uri} before is replaced")


def _warn_of(damaged: Mapping[str, str]) -> None:
    for reason in damaged.values():
        messages.say(f"warning: a voice cannot be read ({reason}); speakers remove --damaged")
