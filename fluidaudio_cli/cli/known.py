"""The store of voices, what is damaged there told; ``--known``: whom a command recognises."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.cli import messages, options
from fluidaudio_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.result import Diarization, ModelRef
    from fluidaudio_cli.diarization.speakers.calibration import Calibration
    from fluidaudio_cli.diarization.speakers.known import KnownPeople
    from fluidaudio_cli.voices.store import Contents, VoiceStore
    from fluidaudio_cli.voices.voice import StoredVoice


@dataclass(frozen=True)
class KnownVoices:
    """Voices of ``store`` to be recognised; a stranger is taken for one at ``false_accept``."""

    store: VoiceStore
    voices: dict[str, StoredVoice]
    false_accept: float
    learns: bool

    @property
    def facts(self) -> dict[str, object]:
        """What a result says of them; no name that is not found."""
        return {"voices": len(self.voices), "max_false_accept": self.false_accept}

    @property
    def enrolled(self) -> dict[str, object]:
        """What results depend on; not what ``--learn`` adds while they are made."""
        vectors = {
            name: b"".join(h.vector.tobytes() for h in voice.recordings if not h.learned)
            for name, voice in sorted(self.voices.items())
        }
        hashes = {name: hashlib.sha256(each).hexdigest()[:12] for name, each in vectors.items()}
        return {"voices": hashes, "max_false_accept": self.false_accept}

    def people(self, models: Sequence[ModelRef], calibration: Calibration) -> KnownPeople:
        """For the networks that run; raises ``InputError`` where others heard the voices."""
        from fluidaudio_cli.diarization.speakers.known import KnownPeople
        from fluidaudio_cli.voices.enrol import network_of
        from fluidaudio_cli.voices.store import check_networks

        check_networks(self.voices.values(), network_of(models), self.store.path)
        known = [voice.known for voice in self.voices.values()]
        return KnownPeople(known, calibration, self.false_accept)

    def learn(self, result: Diarization, calibration: Calibration) -> None:
        """Add what ``result`` tells beyond doubt to the store, and say so."""
        if not self.learns:
            return
        from fluidaudio_cli.voices.learn import learn, learnable

        found = learnable(result, self.voices, calibration)
        if not found:
            return
        with self.store.changing() as changes:
            for name, heard in found.items():
                learn(changes, name, heard)
        for name, heard in found.items():
            messages.say(f"learned {heard.seconds:.1f} s of {name} from {heard.uri}")


def known_voices(
    known: str | None, store: Path | None, max_false_accept: str, learns: bool = False
) -> KnownVoices | None:
    """The voices that ``--known`` means: of a store, or some by name; ``None`` without it.

    ``known``: empty for all of the store; else its path, or names with commas between. Raises
    ``UsageError`` for a name that is not there, ``InputError`` for a store without voices.
    """
    if known is None:
        return None
    from fluidaudio_cli.voices.store import VoiceStore, find

    kept = VoiceStore(store)
    names: list[str] = []
    if known and _is_place(known, kept):
        if store is not None:
            raise UsageError(f"--known {known} and --store {store} are two stores", "give one")
        kept = VoiceStore(Path(known))
    elif known:
        names = [name for name in known.split(",") if name.strip()] or [known]
    found = read(kept)
    if not found:
        raise InputError(
            f"there are no voices in {kept.path}", "fluidaudio speakers enrol NAME FILE…"
        )
    if learns:
        kept.check_writable()
    chosen = [find(found, name, kept.path) for name in names]
    voices = {voice.name: voice for voice in chosen} if names else found
    return KnownVoices(kept, voices, options.parse_rate(max_false_accept), learns)


def _is_place(text: str, kept: VoiceStore) -> bool:
    if "/" in text or "\\" in text or text.endswith(".jsonl"):
        return True
    # A folder here may be called as a voice is.
    return os.path.exists(text) and text not in kept.read().voices  # noqa: PTH110 - of any name


def read(kept: VoiceStore) -> dict[str, StoredVoice]:
    """All voices that can be read."""
    contents = kept.read()
    _warn_of(contents)
    return contents.voices


@contextmanager
def changing(store: Path | None) -> Iterator[Contents]:
    """``VoiceStore(store).changing()``."""
    from fluidaudio_cli.voices.store import VoiceStore

    with VoiceStore(store).changing() as changes:
        _warn_of(changes)
        yield changes
    for name, uri in changes.replaced:
        messages.say(f"note: {name}: what was heard in {uri} before is replaced")


def _warn_of(contents: Contents) -> None:
    for reason in contents.damaged.values():
        what = f"warning: a voice in {contents.path} cannot be read ({reason})"
        messages.say(f"{what}; speakers remove --damaged")
