"""Which recordings the user means: files as given, folders searched for audio."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fluidaudio_cli.errors import AudioError
from fluidaudio_cli.recordings import STDIN, is_audio_name, uri_from, uri_of


def find_audio(paths: Iterable[Path]) -> list[Path]:
    """The recordings that ``paths`` name, in the order given, each once.

    A file is kept as it is, whatever its name and whether it exists (opening it says so). Two
    links to one file are two recordings, by their names; one name given twice is one. A
    folder stands for all files below it, at any depth, with an extension of ``AUDIO_SUFFIXES``,
    sorted by path; hidden files and folders (``.name``) are left out. Raises ``AudioError`` for a
    folder without any.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for recording in _below(path) if _is_folder(path) else [path]:
            found.setdefault(_place_of(recording), recording)
    return list(found.values())


def unique_uris(paths: Iterable[Path]) -> dict[Path, str]:
    """A name for each recording that no other has.

    The file's name without extension (``uri_of``); where several share it, those get their
    extension back (``a.wav``, ``a.mp3``), then as many parent folders as it takes
    (``monday/a.wav`` becomes ``monday__a.wav``), then a number.
    """
    recordings = list(dict.fromkeys(paths))
    uris = {path: uri_of(path) for path in recordings}
    deepest = max((len(path.parts) for path in recordings), default=0)
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


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, or with a NUL: opening it says so
        return False


def _place_of(path: Path) -> Path:
    """Where the name is: links in its folder's path are followed, the name itself is kept."""
    if path == STDIN:
        return path
    return Path(os.path.realpath(path.parent)) / path.name


def _below(folder: Path) -> list[Path]:
    try:
        recordings = sorted(
            path
            for path in folder.rglob("*")
            if is_audio_name(path)
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        )
    except OSError as error:
        raise AudioError(
            f"cannot list {folder}: {error.strerror or error}", "check its rights"
        ) from error
    if not recordings:
        raise AudioError(
            f"{folder} has no audio files", "give a folder with WAV, FLAC, MP3, M4A, … in it"
        )
    return recordings
