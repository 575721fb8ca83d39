"""The recordings of a job and how far each is, on disk: memory does not grow with their number.

A private SQLite database that goes with the process. What lasts is the manifest.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from fluidaudio_cli.audio.folders import place_of
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.recordings import Place, place_from, uri_from, uri_of

_CACHE_KIB = 2048
"""Pages of the database held in memory: enough for the look-ups of one recording at a time."""


class State(IntEnum):
    """``suspect``: it is to be tried by itself, since a worker was lost with it."""

    waiting = 0
    suspect = 1
    settled = 2
    failed = 3


@dataclass(frozen=True)
class Recording:
    """One recording: its number in the order given, where it is, what it is called."""

    number: int
    place: Place
    uri: str


@contextmanager
def _in_temporary_file() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise HostError(
            f"cannot keep the list of recordings in a temporary file: {error}",
            "free space, or set TMPDIR to a larger place",
        ) from error


class Recordings:
    """All that ``places`` name, each once (by its ``place_of``), with uris that no other has."""

    @_in_temporary_file()
    def __init__(self, places: Iterable[Place]) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # "": in a temporary file of its own
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA temp_store = FILE")
        self._db.execute(
            "CREATE TABLE recordings (number INTEGER PRIMARY KEY, path BLOB NOT NULL,"
            " place BLOB NOT NULL UNIQUE, uri TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0)"
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO recordings (path, place, uri) VALUES (?, ?, ?)",
            ((_bytes(each), _bytes(place_of(each)), uri_of(each)) for each in places),
        )
        self._db.execute("CREATE INDEX by_uri ON recordings (uri)")
        self._part_uris()
        self._db.execute("CREATE INDEX by_state ON recordings (state, number)")

    def __len__(self) -> int:
        """How many there are."""
        return self._count("1")

    def __iter__(self) -> Iterator[Recording]:
        """All, in the order given."""
        return self._where("1")

    def holds(self, place: Place) -> bool:
        """Whether ``place`` is one of them."""
        return self._count("place = ?", _bytes(place)) > 0

    def at(self, number: int) -> Recording:
        """The recording ``number``."""
        return next(self._where("number = ?", number))

    def called(self, uri: str) -> Recording | None:
        """The recording ``uri``."""
        return next(self._where("uri = ?", uri), None)

    def all_in(self, state: State) -> Iterator[Recording]:
        """Those in ``state``, in the order given."""
        return self._where("state = ?", state)

    def count(self, state: State) -> int:
        """How many are in ``state``."""
        return self._count("state = ?", state)

    @_in_temporary_file()
    def set(self, number: int, state: State) -> None:
        """Note that a recording is in ``state``."""
        self._db.execute("UPDATE recordings SET state = ? WHERE number = ?", (state, number))

    def following(self, number: int, state: State) -> Recording | None:
        """The next one after ``number`` that is in ``state``."""
        return next(self._where("state = ? AND number > ?", state, number), None)

    def close(self) -> None:
        """Remove the database."""
        self._db.close()

    def _where(self, condition: str, *values: Any) -> Iterator[Recording]:
        select = f"SELECT number, path, uri FROM recordings WHERE {condition} ORDER BY number"
        with _in_temporary_file():
            for number, path, uri in self._db.execute(select, values):
                yield Recording(number, place_from(os.fsdecode(path)), uri)

    @_in_temporary_file()
    def _count(self, condition: str, *values: Any) -> int:
        select = f"SELECT COUNT(*) FROM recordings WHERE {condition}"
        return int(self._db.execute(select, values).fetchone()[0])

    def _part_uris(self) -> None:
        """Part uris that several share, by the rule of ``folders.uris_by_place``."""
        shared = "SELECT uri FROM recordings GROUP BY uri HAVING COUNT(*) > 1"
        self._db.create_function("depth", 1, _depth, deterministic=True)
        self._db.create_function("uri_with", 2, _uri_with_folders, deterministic=True)
        depth = 0
        while True:
            depth += 1
            self._db.execute("DROP TABLE IF EXISTS alike")
            self._db.execute(
                "CREATE TEMP TABLE alike AS SELECT number, path FROM recordings"
                f" WHERE uri IN ({shared})"
            )
            deepest = self._db.execute("SELECT MAX(depth(path)) FROM alike").fetchone()[0]
            if depth > (deepest or 0):
                break
            self._db.execute(
                "UPDATE recordings SET uri = uri_with(path, ?)"
                " WHERE number IN (SELECT number FROM alike)",
                (depth,),
            )
        later = self._db.execute(
            "SELECT number, uri FROM recordings AS one WHERE EXISTS (SELECT 1 FROM recordings"
            " AS other WHERE other.uri = one.uri AND other.number < one.number) ORDER BY number"
        ).fetchall()
        for number, uri in later:
            count = 2
            while self.called(f"{uri}_{count}") is not None:
                count += 1
            self._db.execute(
                "UPDATE recordings SET uri = ? WHERE number = ?", (f"{uri}_{count}", number)
            )


def _depth(path: bytes) -> int:
    return len(place_from(os.fsdecode(path)).parts)


def _uri_with_folders(path: bytes, depth: int) -> str:
    return uri_from("__".join(place_from(os.fsdecode(path)).parts[-depth:]))


def _bytes(place: Place) -> bytes:
    # Names on disk need not be text.
    return os.fsencode(str(place))
