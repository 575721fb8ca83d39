r"""What is done of a job, in a file that outlives it: ``manifest.jsonl`` in the results' folder.

JSON, one record a line, added and never changed; each line is on the disk (``fsync``) before the
next result is written. A line that was cut off by the end of a process counts as not written::

    {"schema": "fluidaudio.job/1", "plan": …}    first: what was asked for
    {"ran": ID, "architecture": …, "plan": …}    before the first result that ran so
    {"uri": …, "recording": …, "state": "done", "seconds": …, "audio_seconds": …, "host": …,
     "ran": ID, "bytes": …, "modified_ns": …, "result_bytes": …}
    {"uri": …, "recording": …, "state": "failed" | "set aside", "why": …, "host": …, …}

``bytes`` and ``modified_ns`` are of the recording, where it is a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluidaudio_cli.errors import HostError, InputError, UsageError, os_errors
from fluidaudio_cli.files import lock_file
from fluidaudio_cli.jobs.recordings import Recording, Recordings, State
from fluidaudio_cli.jobs.work import Facts
from fluidaudio_cli.recordings import Place, Url, shown_path

SCHEMA = "fluidaudio.job/1"
NAME = "manifest.jsonl"
DONE, FAILED, SET_ASIDE = "done", "failed", "set aside"


@dataclass(frozen=True)
class Stamp:
    """By what a file is known to be as it was."""

    bytes: int | None = None
    modified_ns: int | None = None

    @classmethod
    def of(cls, place: Place) -> Stamp:
        """Of a file as it is now; empty for what has none."""
        try:
            facts = None if isinstance(place, Url) else place.stat()
        except (OSError, ValueError):  # opening it says why
            return cls()
        if facts is None or not stat.S_ISREG(facts.st_mode):
            return cls()
        return cls(facts.st_size, facts.st_mtime_ns)


class Manifest:
    """The manifest of ``folder``, open for adding, to be closed; one process at a time."""

    def __init__(self, folder: Path, plan: Mapping[str, Any], *, resume: bool = True) -> None:
        self.path = folder / NAME
        self._ran: set[str] = set()
        self._file: int | None = None
        asked = json.loads(json.dumps(plan))
        with os_errors(f"cannot write {self.path}", "free space or choose another --output-dir"):
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
                self._file = os.open(self.path, flags, 0o666)
                if not lock_file(self._file):
                    raise HostError(
                        f"another job writes to {folder}",
                        "wait for it, or choose another --output-dir",
                    )
                # Only under the lock: another job's manifest is not to be taken from under it.
                if not resume or self._header_is_cut():
                    os.ftruncate(self._file, 0)
                if not os.fstat(self._file).st_size:
                    self._write({"schema": SCHEMA, "plan": asked})
                self._check(asked)
                self._end_line()
            except BaseException:
                self.close()
                raise

    def settle(
        self,
        recordings: Recordings,
        result_of: Callable[[str], Path],
        beside: Callable[[str], Path] | None = None,
    ) -> int:
        """Mark what is done, and what a worker was lost with; how many are done.

        Done is what the manifest says so of, unless the recording has changed since, its result
        (``result_of`` of the uri) is not there as it was written, or what is kept ``beside`` it is
        gone. Raises ``UsageError`` where another recording's result has the name of one of
        ``recordings``.
        """
        for entry in self._entries():
            recording = recordings.called(entry.get("uri", ""))
            if recording is None:
                continue
            state = self._state(entry, recording, result_of(recording.uri))
            if state is State.settled and beside and not beside(recording.uri).is_file():
                state = State.waiting
            recordings.set(recording.number, state)
        return recordings.count(State.settled)

    def add(self, recording: Recording, stamp: Stamp, facts: Facts | None, **record: Any) -> None:
        """Add what became of ``recording``; on the disk when this returns."""
        lines: list[dict[str, Any]] = []
        entry: dict[str, Any] = {
            "uri": recording.uri,
            "recording": _absolute(recording.place),
            **record,
        }
        if facts is not None:
            ran = {"architecture": facts.architecture, "plan": facts.plan}
            text = json.dumps(ran, sort_keys=True)
            name = hashlib.sha256(text.encode()).hexdigest()[:12]
            if name not in self._ran:
                self._ran.add(name)
                lines.append({"ran": name, **ran})
            entry |= {"host": facts.host, "ran": name}
        if stamp.bytes is not None:
            entry |= {"bytes": stamp.bytes, "modified_ns": stamp.modified_ns}
        lines.append(entry)
        with os_errors(f"cannot write {self.path}", "free space; what is done stays done"):
            self._write(*lines)

    def close(self) -> None:
        """Release the file and its lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _header_is_cut(self) -> bool:
        """Whether there is no more than a part of the first line: a disk was full, or the end came.

        After a loss of power zeros may stand for what was not on the disk.
        """
        begins = json.dumps({"schema": SCHEMA}).removesuffix("}").encode()
        with self.path.open("rb") as stream:
            first = stream.readline()
        there = first.rstrip(b"\0")[: len(begins)]
        return not first.endswith(b"\n") and begins.startswith(there)

    def _check(self, asked: Any) -> None:
        header = next(self._lines(), {})
        if header.get("schema") != SCHEMA:
            raise InputError(
                f"{self.path} is not the manifest of a job", "choose another --output-dir"
            )
        difference = _difference(header.get("plan"), asked)
        if difference:
            raise UsageError(
                f"{self.path.parent} holds results of another plan ({difference})",
                "choose another --output-dir, or begin anew with --no-resume",
            )

    def _end_line(self) -> None:
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            whole = stream.read(1) == b"\n"
        if not whole:  # the process that wrote it was killed
            self._write_bytes(b"\n")

    def _write(self, *lines: Mapping[str, Any]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self._write_bytes(text.encode("utf-8", "backslashreplace"))

    def _write_bytes(self, data: bytes) -> None:
        assert self._file is not None
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def _entries(self) -> Iterator[dict[str, Any]]:
        for line in self._lines():
            if "ran" in line and "uri" not in line:
                self._ran.add(line["ran"])
            elif "uri" in line:
                yield line

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as stream:
            for line in stream:
                try:
                    content = json.loads(line)
                except ValueError:
                    continue
                if isinstance(content, dict):
                    yield content

    def _state(self, entry: dict[str, Any], recording: Recording, result: Path) -> State:
        if entry.get("state") == SET_ASIDE:
            return State.suspect
        if entry.get("state") != DONE:
            return State.waiting
        if entry.get("recording") != _absolute(recording.place):
            raise UsageError(
                f"{result} is the result of another recording, {entry.get('recording')}",
                "choose another --output-dir, or begin anew with --no-resume",
            )
        current = Stamp.of(recording.place)
        known = Stamp(entry.get("bytes"), entry.get("modified_ns"))
        same = current == known and (current != Stamp() or isinstance(recording.place, Url))
        there = Stamp.of(result).bytes == entry.get("result_bytes")
        return State.settled if same and there else State.waiting


def _absolute(place: Place) -> str:
    return str(place) if isinstance(place, Url) else shown_path(Path(os.path.abspath(place)))  # noqa: PTH100 - keeps links


def _difference(before: Any, now: Any, name: str = "") -> str:
    """The first value that differs, as ``speakers.exactly 2, not 3``; empty where none does."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            inner = f"{name}.{key}" if name else key
            if found := _difference(before.get(key), now.get(key), inner):
                return found
        return ""
    return "" if before == now else f"{name} {_shown(before)}, not {_shown(now)}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
