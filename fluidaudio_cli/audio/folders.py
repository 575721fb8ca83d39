"""Which recordings the user means: files and addresses, folders searched, lists read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeGuard

from fluidaudio_cli.errors import AudioError, os_errors
from fluidaudio_cli.files import resolved
from fluidaudio_cli.recordings import (
    STDIN,
    Place,
    Url,
    is_audio_name,
    place_from,
    uri_from,
    uri_of,
)

LIST_SUFFIX = ".txt"
_PROBED_BYTES = 4096
"""Looked at to tell a list from a recording that is called ``.txt``, which has zeros there."""


def each_audio(places: Iterable[Place], within: tuple[Path, ...] = ()) -> Iterator[Place]:
    """The recordings that ``places`` name, in the order given, one at a time.

    A file is kept as it is, whatever its name and whether it exists (opening it says so). A
    folder stands for all files below it, at any depth, with an extension of ``AUDIO_SUFFIXES``,
    sorted by path; hidden files and folders (``.name``) are left out. A URL that ends in a slash
    is such a folder. A text file ``NAME.txt`` is a list: a file, folder or URL in each line,
    relative to the list's folder; empty lines and those that begin with ``#`` are left out.
    Raises ``AudioError`` for a folder or a list without any, and for a list that leads back to
    itself; ``within``: those that are being read.
    """
    for place in places:
        if isinstance(place, Url):
            yield from _behind(place)
        elif is_folder(place):
            audio = files_below(place, is_audio_name)
            yield from _or_none(audio, place, "audio files", _FOLDER_REMEDY)
        elif is_list(place):
            list_file = resolved(place)
            if list_file in within:
                raise AudioError(f"the list {place} leads back to itself", "delete that line")
            listed = each_audio(_listed(place), (*within, list_file))
            yield from _or_none(listed, place, "lines", "name one in each line")
        else:
            yield place


def uris_by_place(places: Iterable[Place]) -> dict[Place, str]:
    """The recordings that ``places`` name (:func:`each_audio`), and a name that no other has.

    Each is there once; two links to one file are two recordings, by their names. The name is the
    file's without extension (``uri_of``); where several share it, those get their extension back
    (``a.wav``, ``a.mp3``), then as many parent folders as it takes (``monday/a.wav`` becomes
    ``monday__a.wav``), then a number.
    """
    found: dict[Place, Place] = {}
    for recording in each_audio(places):
        found.setdefault(place_of(recording), recording)
    uris = {path: uri_of(path) for path in found.values()}
    deepest = max((len(path.parts) for path in uris), default=0)
    for depth in range(1, deepest + 1):
        counts = Counter(uris.values())
        shared = [path for path, uri in uris.items() if counts[uri] > 1]
        if not shared:
            break
        for path in shared:
            uris[path] = uri_from("__".join(path.parts[-depth:]))
    taken: set[str] = set()
    for path, uri in uris.items():
        number = 2
        while uris[path] in taken:
            uris[path] = f"{uri}_{number}"
            number += 1
        taken.add(uris[path])
    return uris


def place_of(recording: Place) -> Place:
    """Where the name is: links in its folder's path are followed, the name itself is kept."""
    if isinstance(recording, Url) or recording == STDIN:
        return recording
    return resolved(recording.parent) / recording.name


def is_list(path: Path) -> bool:
    """Whether ``path`` is a text file that lists recordings."""
    if path.suffix.lower() != LIST_SUFFIX:
        return False
    try:
        with path.open("rb") as stream:
            return path.is_file() and b"\0" not in stream.read(_PROBED_BYTES)
    except (OSError, ValueError):  # opening it says so
        return False


def is_folder(place: Place) -> TypeGuard[Path]:
    """Whether ``place`` is a folder; ``-`` is standard input, whatever else is called so."""
    if not isinstance(place, Path) or place == STDIN:
        return False
    try:
        return place.is_dir()
    except (OSError, ValueError):  # a name too long, or with a NUL: opening it says so
        return False


def files_below(folder: Path, wanted: Callable[[Path], bool]) -> Iterator[Path]:
    """Files whose path is ``wanted``, at any depth, sorted; hidden ones are left out."""
    refused = os_errors(f"cannot list {folder}", "check its rights", AudioError)
    with refused, os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        path = folder / name
        if path.is_dir():
            if not path.is_symlink():  # might lead in a circle
                yield from files_below(path, wanted)
        elif wanted(path) and path.is_file():
            yield path


_FOLDER_REMEDY = "give a folder with WAV, FLAC, MP3, M4A, … in it"


def _or_none(found: Iterable[Place], place: Place, what: str, remedy: str) -> Iterator[Place]:
    empty = True
    for each in found:
        empty = False
        yield each
    if empty:
        raise AudioError(f"{place} has no {what}", remedy)


def _listed(path: Path) -> Iterator[Place]:
    # Names on disk need not be text.
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        for line in stream:
            name = line.strip()
            if name and not name.startswith("#"):
                place = place_from(name)
                yield place if isinstance(place, Url) else path.parent / place


def _behind(url: Url) -> Iterator[Place]:
    from fluidaudio_cli.audio import remote

    if url.text.endswith("/"):
        names = (each for each in remote.files_below(url) if is_audio_name(each))
        yield from _or_none(names, url, "audio files", _FOLDER_REMEDY)
    else:
        remote.check_readable(url)
        yield url
