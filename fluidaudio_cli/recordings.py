"""What a recording is called, and which files are taken for one: for every command alike."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fluidaudio_cli.errors import UsageError

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".w64", ".rf64", ".bwf", ".flac", ".aif", ".aifc", ".aiff", ".au", ".snd", ".caf",
    ".sph", ".tta", ".wv", ".ape",
    ".mp2", ".mp3", ".m4a", ".m4b", ".aac", ".ac3", ".amr", ".oga", ".ogg", ".opus", ".spx",
    ".ra", ".wma",
    ".3gp", ".asf", ".avi", ".flv", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".rm", ".ts", ".webm", ".wmv",
})
# fmt: on
"""Extensions taken from a folder, in any case. A file named by itself may have any name."""

STDIN = Path("-")
"""Standard input, where a recording is named."""

STDIN_URI = "stdin"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Url:
    """A recording elsewhere (``s3://…``, ``https://…``): a ``Path`` would change its slashes."""

    text: str

    def __str__(self) -> str:
        """As it was given."""
        return self.text

    @property
    def parts(self) -> tuple[str, ...]:
        """Host, folders and file name, without scheme and query."""
        return PurePosixPath(re.split(r"[?#]", _URL.sub("", self.text, count=1))[0]).parts

    @property
    def stem(self) -> str:
        """The file's name without its extension."""
        return PurePosixPath(*self.parts).stem

    @property
    def suffix(self) -> str:
        """The file's extension, with its dot."""
        return PurePosixPath(*self.parts).suffix


Place = Path | Url
"""Where a recording is."""


def place_from(text: str) -> Place:
    """The place that ``text`` names: a URL where it begins as one, else a path.

    Raises ``UsageError`` for an empty one, which as a path would be the current folder.
    """
    if not text:
        raise UsageError("a recording has no name", "give its path, or - for standard input")
    return Url(text) if _URL.match(text) else Path(text)


def is_audio_name(path: Place) -> bool:
    """Whether a file called so is taken for a recording when its folder is named."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def uri_of(path: Place) -> str:
    """The recording's name in RTTM, UEM and results, made of its file's name.

    The name without its extension: NFC, each run of white space as ``_`` (RTTM and UEM split
    there), bytes that are not UTF-8 as ``%FF``. The uri of standard input is ``stdin``.
    """
    return STDIN_URI if path == STDIN else uri_from(path.stem)


def uri_from(name: str) -> str:
    """``name`` as a uri (see :func:`uri_of`)."""
    text = "".join(_readable(character) for character in name.strip())
    joined = re.sub(r"\s+", "_", canonical_name(text))
    if joined.startswith((";", "#")):  # would be a comment where a UEM line begins with it
        joined = f"_{joined}"
    return {"": "audio", "<NA>": "_NA_"}.get(joined, joined)


def canonical_name(name: str) -> str:
    """NFC form of a uri or speaker name: macOS file names decompose accents, RTTM rarely does."""
    return unicodedata.normalize("NFC", name)


def shown_path(path: Place) -> str:
    r"""``path`` as text that any file can hold; bytes that are not UTF-8 as ``\xff``."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")


def _readable(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8 (PEP 383)
        return f"%{code - 0xDC00:02X}"
    if character.isspace() or unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    # Controls and lone surrogates: as the bytes UTF-8 would have.
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
