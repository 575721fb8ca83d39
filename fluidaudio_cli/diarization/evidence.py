"""What the networks say of a recording, before anybody decides who is who.

One :class:`WindowEvidence` for each window; an :class:`EvidenceLog` keeps those of a recording,
small enough for hours, and goes into a file and back.
"""

from __future__ import annotations

import json
import stat
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import InputError, reason_of
from fluidaudio_cli.files import atomic_path

Vectors = NDArray[np.float32]
Presence = NDArray[np.uint8]

FULL_SCALE = 255
"""Presence that stands for probability 1."""

SCHEMA = "fluidaudio.evidence/1"

# Level of zlib: 4 packs as small as 6 here, in half the time.
_PACKING = 4

# A year at the smallest step that ships.
_MOST_WINDOWS = 16_000_000
# Of a window that a voice can speak alone, with what frames at its ends add.
_MOST_SECONDS = 10.1
_ROUNDING = 1e-3


def unit_length(vectors: NDArray[np.floating[Any]]) -> Vectors:
    """Rows scaled to length one; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


class LocalVoice(NamedTuple):
    """One speaker of one window.

    ``slot``: its column in the window's presence. ``clean_seconds``: how long it speaks alone
    there. ``vector`` (d,) float32: its voice, unit length; zeros where there was too little.
    """

    slot: int
    clean_seconds: float
    vector: Vectors


@dataclass(frozen=True, slots=True)
class WindowEvidence:
    """What was found in window ``number``, which starts at as many steps.

    ``voices`` in order of their slots. ``packed``: compressed presence, empty where nobody
    speaks. ``shape``: (frames, slots) of it. ``crops`` and ``copied_bytes``: what it took.
    ``placed``: a slot is one speaker in all windows, as networks say that follow speakers
    themselves; else slots are the window's own.
    """

    number: int
    voices: tuple[LocalVoice, ...]
    packed: bytes
    shape: tuple[int, int]
    crops: int = 0
    copied_bytes: int = 0
    placed: bool = False

    @classmethod
    def of(
        cls,
        number: int,
        voices: tuple[LocalVoice, ...],
        presence: Presence,
        crops: int = 0,
        copied_bytes: int = 0,
        placed: bool = False,
    ) -> WindowEvidence:
        """Evidence with ``presence`` (frames, slots) uint8, full scale 255."""
        packed = zlib.compress(presence.tobytes(), _PACKING) if voices else b""
        frames, slots = presence.shape
        return cls(number, voices, packed, (frames, slots), crops, copied_bytes, placed)

    def presence(self) -> Presence:
        """(frames, slots) uint8: probability that each local speaker speaks, full scale 255."""
        if not self.packed:
            return np.zeros(self.shape, np.uint8)
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(self.shape)


class EvidenceLog:
    """All evidence of a recording, in order of its windows.

    Vectors lie together in one store, which grows by little: beside them a window takes some
    hundred bytes. ``facts`` say where the evidence is from, and are saved with it.
    """

    def __init__(self, facts: Mapping[str, Any] | None = None) -> None:
        self.facts = dict(facts or {})
        self.samples = 0
        self.placed = False
        self.crops = 0
        self.copied_bytes = 0
        self._packed: list[bytes] = []
        self._frames = 0
        self._columns = array("B")
        self._windows = array("q")
        self._slots = array("q")
        self._seconds = array("d")
        self._store: Vectors = np.zeros((0, 0), np.float32)

    @property
    def windows(self) -> int:
        """Windows so far."""
        return len(self._packed)

    @property
    def voice_windows(self) -> NDArray[np.intp]:
        """(n,): window of each voice, ascending."""
        return np.array(self._windows, np.intp)

    @property
    def slots(self) -> NDArray[np.intp]:
        """(n,): column of each voice in its window's presence."""
        return np.array(self._slots, np.intp)

    @property
    def clean_seconds(self) -> NDArray[np.float64]:
        """(n,): seconds for which each voice is heard alone in its window."""
        return np.array(self._seconds, np.float64)

    @property
    def vectors(self) -> Vectors:
        """(n, d) view: unit-length voices, zeros where there is none."""
        return self._store[: len(self._windows)]

    def append(self, evidence: WindowEvidence) -> None:
        """Take in the next window."""
        self._packed.append(evidence.packed)
        self._frames = evidence.shape[0]
        self._columns.append(evidence.shape[1])
        self.placed = evidence.placed
        self.crops += evidence.crops
        self.copied_bytes += evidence.copied_bytes
        for voice in evidence.voices:
            used = len(self._windows)
            if used == len(self._store):
                # Large arrays grow where they lie. By little, because all of it is touched.
                self._store.resize((max(256, used + used // 16), len(voice.vector)), refcheck=False)
            self._store[used] = voice.vector
            self._windows.append(evidence.number)
            self._slots.append(voice.slot)
            self._seconds.append(voice.clean_seconds)

    def __iter__(self) -> Iterator[WindowEvidence]:
        """Window by window, as they came (what they took is not kept)."""
        begin = 0
        for number, (packed, columns) in enumerate(zip(self._packed, self._columns, strict=True)):
            end = begin
            while end < len(self._windows) and self._windows[end] == number:
                end += 1
            voices = tuple(
                LocalVoice(self._slots[row], self._seconds[row], self._store[row])
                for row in range(begin, end)
            )
            begin = end
            shape = self._frames, columns
            yield WindowEvidence(number, voices, packed, shape, placed=self.placed)

    def recent(self, most: int) -> tuple[EvidenceLog, int]:
        """A copy of the last windows, ``most`` at most, and the number of the first of them.

        Numbers begin anew there.
        """
        first = max(0, self.windows - most)
        row = int(np.searchsorted(self.voice_windows, first))
        log = EvidenceLog(self.facts)
        log.placed, log._frames = self.placed, self._frames
        log._packed, log._columns = self._packed[first:], self._columns[first:]
        log._windows.extend(number - first for number in self._windows[row:])
        log._slots, log._seconds = self._slots[row:], self._seconds[row:]
        log._store = self.vectors[row:].copy()
        return log, first

    def save(self, path: Path) -> None:
        """Write an ``.npz`` that :meth:`load` reads; see docs/evidence.md for its arrays."""
        spoken = [number for number, packed in enumerate(self._packed) if packed]
        shape = len(spoken), self._frames, max(self._columns, default=0)
        presence = np.zeros(shape, np.uint8)
        for row, number in enumerate(spoken):
            found = np.frombuffer(zlib.decompress(self._packed[number]), np.uint8)
            columns = self._columns[number]
            presence[row, :, :columns] = found.reshape(self._frames, columns)
        header = {
            "schema": SCHEMA,
            "samples": self.samples,
            "windows": self.windows,
            "placed": self.placed,
            **self.facts,
        }
        with atomic_path(path) as draft, draft.open("wb") as file:
            np.savez_compressed(
                file,
                header=np.frombuffer(json.dumps(header).encode(), np.uint8),
                window=np.array(self._windows, np.int64),
                slot=np.array(self._slots, np.uint8),
                clean_seconds=np.array(self._seconds, np.float64),
                vector=self.vectors,
                spoken_window=np.array(spoken, np.int64),
                presence=presence,
            )

    @classmethod
    def load(cls, path: Path) -> EvidenceLog:
        """Read what :meth:`save` wrote; raises ``InputError`` for a file that is not that."""
        remedy = "give a file written by fluidaudio diarize --save-evidence"
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe waits for who writes to it
                raise ValueError("no regular file")
            with path.open("rb") as file:
                if not zipfile.is_zipfile(file):
                    raise ValueError("not an .npz")
                file.seek(0)
                with np.load(file, allow_pickle=False) as content:
                    return cls._of(content)
        except OSError as error:
            raise InputError(f"cannot read {path}: {reason_of(error)}", remedy) from error
        except Exception as error:  # NumPy and zipfile raise a dozen kinds
            raise InputError(f"{path} is not a file of evidence: {error}", remedy) from error

    @classmethod
    def _of(cls, content: Mapping[str, NDArray[Any]]) -> EvidenceLog:
        header = json.loads(content["header"].tobytes(), parse_constant=_no_number)
        if header.pop("schema", None) != SCHEMA:
            raise ValueError("another schema")
        samples, windows = int(header.pop("samples")), int(header.pop("windows"))
        placed = bool(header.pop("placed", False))
        presence, spoken = content["presence"], content["spoken_window"]
        window, slot, seconds = content["window"], content["slot"], content["clean_seconds"]
        vectors = np.ascontiguousarray(content["vector"], np.float32)
        voices = window, slot, seconds, vectors
        shapes = [each.ndim for each in (*voices, spoken, presence)]
        lengths = {len(each) for each in voices}, {len(spoken), len(presence)}
        if shapes != [1, 1, 1, 2, 1, 3] or any(len(each) > 1 for each in lengths):
            raise ValueError("its arrays do not belong together")
        in_order = (np.diff(window * 256 + slot) > 0).all() and np.array_equal(
            spoken, np.unique(window)
        )
        if not in_order or not ((spoken >= 0) & (spoken < windows)).all():
            raise ValueError("its windows are out of order")
        if windows > _MOST_WINDOWS:
            raise ValueError(f"{windows} windows are more than any recording has")
        if samples < 1:
            raise ValueError(f"no recording has {samples} samples")
        if presence.dtype != np.uint8 or not set(slot.tolist()) <= set(range(presence.shape[2])):
            raise ValueError("a voice has no presence")
        lengths = np.linalg.norm(vectors, axis=1)
        unit = (np.abs(lengths - 1.0) < _ROUNDING) | (lengths == 0.0)
        if not ((seconds >= 0) & (seconds <= _MOST_SECONDS)).all() or not unit.all():
            raise ValueError("a voice is not a vector of unit length with its seconds")
        log = cls(header)
        log.samples, log.placed = samples, placed
        log._frames = presence.shape[1]
        log._columns = array("B", [presence.shape[2]]) * windows
        log._packed = [b""] * windows
        for number, found in zip(spoken.tolist(), presence, strict=True):
            log._packed[number] = zlib.compress(found.tobytes(), _PACKING)
        log._windows.extend(window.tolist())
        log._slots.extend(slot.tolist())
        log._seconds.extend(seconds.tolist())
        log._store = vectors
        return log


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")
