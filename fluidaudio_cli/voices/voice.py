"""A voice in a store: one person, all recordings that the person was heard in.

As text it is one line of JSON (``fluidaudio.voice/1``) that carries its own checksum.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.speakers.known import KnownVoice
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.recordings import canonical_name

SCHEMA = "fluidaudio.voice/1"

# What people nobody knows are called: a known voice of that name could not be told from them.
_RESERVED = re.compile(r"(SPEAKER|PERSON)_\d+|<NA>|UNKNOWN", re.IGNORECASE)
_LONGEST_NAME = 100
# Not printable by themselves, but parts of Persian and Indic names and of emoji.
_JOINERS = {0x200C: None, 0x200D: None}


@dataclass(frozen=True, eq=False)
class Heard:
    """One recording of a person.

    ``vector`` (d,) float32: the voice, unit length; ``seconds``: of speech that it was taken from.
    ``date``: when it was added, ISO 8601. ``quality``: 0 to 1, how alike its parts are, ``None``
    where there is only one. ``learned``: added by ``--learn``, not enrolled. ``audio``: the speech
    itself (FLAC), empty unless it was to be kept.
    """

    uri: str
    seconds: float
    date: str
    vector: NDArray[np.float32]
    quality: float | None = None
    learned: bool = False
    audio: bytes = b""

    @property
    def origin(self) -> tuple[str, bool]:
        """What a voice has one recording of: enrolled and learned ones stand beside each other."""
        return self.uri, self.learned


@dataclass(frozen=True, eq=False)
class StoredVoice:
    """One person: ``name``, ``network`` (SHA-256 of the embedding that heard all recordings)."""

    name: str
    network: str
    recordings: tuple[Heard, ...]

    @property
    def seconds(self) -> float:
        """Of speech heard, all recordings."""
        return sum(heard.seconds for heard in self.recordings)

    @property
    def quality(self) -> float | None:
        """Of all recordings, by their seconds; ``None`` where none has one."""
        rated = [(h.quality, h.seconds) for h in self.recordings if h.quality is not None]
        whole = sum(seconds for _, seconds in rated)
        return round(sum(q * seconds for q, seconds in rated) / whole, 3) if rated else None

    @property
    def known(self) -> KnownVoice:
        """As the speaker models take it."""
        return KnownVoice(
            self.name,
            np.stack([heard.vector for heard in self.recordings]),
            np.array([heard.seconds for heard in self.recordings]),
        )

    def with_recordings(self, more: Sequence[Heard]) -> StoredVoice:
        """With ``more``; a recording of the same uri and origin is replaced."""
        kept = {heard.origin: heard for heard in (*self.recordings, *more)}
        return replace(self, recordings=tuple(kept.values()))

    def line(self) -> str:
        """The voice as one line of JSON, ending in a newline."""
        body = {
            "schema": SCHEMA,
            "name": self.name,
            "network": self.network,
            "recordings": [_document(heard) for heard in self.recordings],
        }
        text = json.dumps({**body, "sha256": _checksum(body)}, ensure_ascii=False)
        return text + "\n"

    @classmethod
    def of_line(cls, line: str) -> StoredVoice:
        """Read what :meth:`line` wrote; raises ``ValueError`` saying what is wrong."""
        document = json.loads(line)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"no voice of schema {SCHEMA}")
        told = document.pop("sha256", None)
        if told != _checksum(document):
            raise ValueError("its checksum is another")
        try:
            recordings = tuple(_heard(each) for each in document["recordings"])
            if not recordings or len({heard.vector.shape for heard in recordings}) > 1:
                raise ValueError("no recordings of one network")
            return cls(check_name(document["name"]), str(document["network"]), recordings)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a value is missing or of another type: {error}") from error


def check_name(name: str) -> str:
    """``name`` as it is stored (NFC, single blanks); raises ``UsageError`` for one that cannot be.

    Commas separate names on the command line, and ``SPEAKER_00`` is somebody unknown.
    """
    tidy = canonical_name(" ".join(name.split()))
    shown = tidy.translate(_JOINERS)
    if not shown or len(tidy) > _LONGEST_NAME or not shown.isprintable():
        raise UsageError(
            f"{name[:_LONGEST_NAME]!r} cannot be a voice's name",
            f"give 1 to {_LONGEST_NAME} printable characters",
        )
    if "," in tidy or tidy.startswith("-") or _RESERVED.fullmatch(tidy):
        raise UsageError(
            f"'{tidy}' cannot be a voice's name",
            "leave out commas, a leading -, and names of unknown people such as SPEAKER_00",
        )
    return tidy


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _document(heard: Heard) -> dict[str, Any]:
    vector = np.ascontiguousarray(heard.vector, "<f4").tobytes()
    return {
        "uri": heard.uri,
        "seconds": round(heard.seconds, 3),
        "date": heard.date,
        "quality": None if heard.quality is None else round(heard.quality, 3),
        "learned": heard.learned,
        "vector": base64.b64encode(vector).decode(),
        "audio": base64.b64encode(heard.audio).decode(),
    }


def _heard(document: Mapping[str, Any]) -> Heard:
    vector = np.frombuffer(base64.b64decode(document["vector"], validate=True), "<f4")
    seconds = float(document["seconds"])
    if not np.isfinite(vector).all() or abs(float(np.linalg.norm(vector)) - 1.0) > 1e-3:
        raise ValueError("a vector is not of unit length")
    if not seconds > 0.0:
        raise ValueError(f"{seconds} seconds of speech")
    quality = document["quality"]
    return Heard(
        str(document["uri"]),
        seconds,
        str(document["date"]),
        vector.astype(np.float32),
        None if quality is None else float(quality),
        bool(document["learned"]),
        base64.b64decode(document["audio"], validate=True),
    )
