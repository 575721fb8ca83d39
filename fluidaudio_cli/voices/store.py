"""Where voices are kept: a text file of one line a voice, which its owner alone can read.

Voices are personal data. A store is changed under a lock and replaced whole, so that what was
removed is not in the file any more, and a killed process leaves the store as it was. A line that
is damaged is kept as it is and passed over: the other voices stay usable.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fluidaudio_cli.errors import HostError, InputError, UsageError, os_errors
from fluidaudio_cli.files import atomic_path, check_folder, held, user_path
from fluidaudio_cli.voices.voice import StoredVoice, check_name
from fluidaudio_cli.wording import listed

FILE_NAME = "voices.jsonl"
"""The file of a store that is named by its folder."""

ENVIRONMENT_VARIABLE = "FLUIDAUDIO_VOICES"

_OWNER_ONLY = 0o600
# Another process may be adding hours of kept audio.
_LOCK_SECONDS = 60.0


def default_store() -> Path:
    """``$FLUIDAUDIO_VOICES``, or the system's per-user data folder."""
    return user_path(ENVIRONMENT_VARIABLE, "data", "voices")


class VoiceStore:
    """The store at ``place``: a file, or a folder that has or gets one."""

    def __init__(self, place: Path | None = None) -> None:
        place = place or default_store()
        is_folder = place.is_dir() or (not place.exists() and not place.suffix)
        self.path = place / FILE_NAME if is_folder else place

    def read(self) -> Contents:
        """All voices. A store that is not there is empty.

        Raises ``InputError`` for a file that cannot be read or is no store at all.
        """
        with os_errors(f"cannot read the voices in {self.path}", "check the path", InputError):
            try:
                if not stat.S_ISREG(self.path.stat().st_mode):  # a device may have no end
                    raise InputError(f"{self.path} is not a file", "give a store's file or folder")
                raw = self.path.read_bytes()
            except FileNotFoundError:
                return Contents({}, {}, self.path)
        voices: dict[str, StoredVoice] = {}
        damaged: dict[str, str] = {}
        for number, line in enumerate(raw.decode("utf-8", "surrogateescape").split("\n"), 1):
            if not line.strip():
                continue
            try:
                voice = StoredVoice.of_line(line)
                if voices.setdefault(voice.name, voice) is not voice:
                    raise ValueError(f"a second voice is called '{voice.name}'")
            except (ValueError, RecursionError) as error:
                damaged[line] = f"line {number}: {error}"
        if damaged and not voices and not raw.lstrip().startswith(b"{"):
            raise InputError(f"{self.path} holds no voices", "give a store of fluidaudio speakers")
        return Contents(dict(sorted(voices.items())), damaged, self.path)

    def check_writable(self) -> None:
        """Make its folder, and make sure that it can be written to; ``HostError`` says if not."""
        check_folder(self.path.parent, "choose another --store", mode=0o700)

    @contextmanager
    def changing(self) -> Iterator[Contents]:
        """Read under the lock what may be changed; written when the block ends without error."""
        self.check_writable()
        lock = self.path.with_name(f".{self.path.name}.lock")
        busy = HostError(
            f"another process has been changing {self.path} for {_LOCK_SECONDS:.0f} s",
            "try again when it has ended",
        )
        remedy = "choose another --store"
        with held(lock, f"cannot write {self.path}", remedy, busy, _LOCK_SECONDS):
            changes = self.read()
            yield changes
            if changes.voices or changes.damaged:
                write_voices(self.path, changes.voices.values(), changes.damaged)
            else:
                self.path.unlink(missing_ok=True)


@dataclass
class Contents:
    """What a store has, or will have once changes are written.

    ``voices`` by name, in order of their names; ``damaged``: lines that are none, and why.
    ``replaced``: name and uri of recordings in whose place another of the same uri came.
    """

    voices: dict[str, StoredVoice]
    damaged: dict[str, str]
    path: Path
    replaced: list[tuple[str, str]] = field(default_factory=list)

    def add(self, voice: StoredVoice, *, existing: bool = False) -> StoredVoice:
        """Add a voice, or with ``existing`` its recordings to the voice of that name.

        Raises ``UsageError`` for a name that is taken, ``InputError`` where another network heard
        the voice that is there.
        """
        there = self.voices.get(voice.name)
        if there is not None:
            if not existing:
                raise UsageError(
                    f"there is a voice '{voice.name}' in {self.path}",
                    "choose another name, or --add to it",
                )
            check_networks([there], voice.network, self.path)
            origins = {heard.origin for heard in voice.recordings}
            self.replaced += [
                (there.name, heard.uri) for heard in there.recordings if heard.origin in origins
            ]
            voice = there.with_recordings(voice.recordings)
        self.voices[voice.name] = voice
        return voice

    def take(self, name: str) -> StoredVoice:
        """Remove and return a voice; raises ``UsageError`` where there is none of that name."""
        voice = find(self.voices, name, self.path)
        return self.voices.pop(voice.name)


def find(voices: Mapping[str, StoredVoice], name: str, path: Path) -> StoredVoice:
    """The voice of that name; raises ``UsageError`` naming those that there are."""
    tidy = check_name(name)
    if tidy in voices:
        return voices[tidy]
    has = f"it has {listed(voices)}" if voices else "it is empty"
    raise UsageError(
        f"there is no voice '{tidy}' in {path} ({has})", "see fluidaudio speakers list"
    )


def store_text(voices: Iterable[StoredVoice], damaged: Iterable[str] = ()) -> str:
    """What a store's file holds: voices in order of their names."""
    lines = sorted((voice.name, voice.line()) for voice in voices)
    return "".join((*(line for _, line in lines), *(f"{line}\n" for line in damaged)))


def write_voices(path: Path, voices: Iterable[StoredVoice], damaged: Iterable[str] = ()) -> None:
    """A store at ``path``, whole and for its owner alone."""
    text = store_text(voices, damaged)
    with atomic_path(path) as draft:
        draft.touch(mode=_OWNER_ONLY)
        draft.chmod(_OWNER_ONLY)
        draft.write_bytes(text.encode("utf-8", "surrogateescape"))


def check_networks(voices: Iterable[StoredVoice], network: str, path: Path | str) -> None:
    """Refuse voices that another network than ``network`` heard: vectors have no common meaning."""
    others: Sequence[StoredVoice] = [voice for voice in voices if voice.network != network]
    if others:
        kept = all(heard.audio for voice in others for heard in voice.recordings)
        remedy = (
            "hear their kept audio again: fluidaudio speakers enrol --again"
            if kept
            else "enrol them anew from recordings, or give the --models that heard them"
        )
        raise InputError(
            f"{others[0].name!r} in {path} was heard by another embedding network "
            f"({others[0].network[:12]}…, not {network[:12]}…)",
            remedy,
        )
