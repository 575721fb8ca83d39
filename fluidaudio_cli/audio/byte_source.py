"""The bytes of a recording for FFmpeg: of a file, or read once and forward from a pipe.

What a header gets wrong about its samples is mended on the way (see ``headers``).
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import BinaryIO

from fluidaudio_cli.audio.headers import exceeds_file, read_header
from fluidaudio_cli.audio.stated import OGG_PAGE_BYTES, ogg_page_is_cut
from fluidaudio_cli.errors import AudioError, os_errors, reason_of, remedy_of
from fluidaudio_cli.recordings import STDIN, Place, Url

READ_BYTES = 256 * 1024
"""Per read of the file: each takes the GIL once, so few large ones."""

_HEAD_BYTES = 64 * 1024
"""Of a pipe, read before FFmpeg: more than headers take, and what a pipe holds."""

_TRAILER_BYTES = 1 << 20
"""Looked at behind the samples to tell sound from tags; those of a recorder are far shorter."""

_CUT_PACKET = "it ends within a packet: if it was cut off, what is missing is not known"

_SPOOLED = "it cannot be read forward: the pipe was copied to a temporary file first"


class ByteSource:
    """An open recording. What FFmpeg calls are ``read``, ``seek``, ``tell`` and ``seekable``.

    FFmpeg gives meaning to names (``image%03d``, ``scheme:rest``); a user's file name has none,
    so ``name`` has the extension only (a hint for probing).

    ``label``: what messages call it. ``header``: what was found at its beginning, ``magic``: its
    first four bytes. ``notes``: what was mended; may grow until the end is read. ``is_cut``: fewer
    bytes are there than the header states; of a pipe, known at its end. Raises ``AudioError`` for
    what is missing, unreadable, a folder, or empty.
    """

    def __init__(self, path: Place) -> None:
        self.path = path
        self.label = "standard input" if path == STDIN else str(path)
        suffix = path.suffix
        self.name = "audio" + (suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", suffix) else "")
        self.notes: list[str] = []
        self._raw = _open(path)
        self._head = b""
        self._tail = b""
        self._patches: Mapping[int, bytes] = {}
        self._position = self._total_bytes = 0
        self._end: int | None = None
        self.is_cut = self._has_failed = False
        self._open_bytes: int | None = None  # size of a file whose samples reach to its end
        try:
            if isinstance(path, Url):
                self._seekable = self._raw.seekable()
            else:
                self._seekable = stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode)
            if not self._seekable:
                self._head = _read_up_to(self._raw, _HEAD_BYTES)
            self.magic = self._read_at(0, 4) if self._seekable else self._head[:4]
            self._look()
            if self.header.endless:
                raise AudioError(f"{self.label} has no samples, only empty chunks", "record again")
        except BaseException as error:
            self._raw.close()
            if isinstance(error, OSError):  # this recording's: others may be sound
                raise _unreadable(self.label, error) from error
            raise

    @property
    def mended_seconds(self) -> float | None:
        """Length of its samples by the file's size, where the stated one is not believed."""
        header = self.header
        if self._open_bytes is None or header.data_start is None or not header.bytes_per_second:
            return None
        return (self._open_bytes - header.data_start) / header.bytes_per_second

    def seekable(self) -> bool:
        """Whether there is a way back."""
        return self._seekable

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._position if not self._direct else self._raw.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file, but -1 where that is not possible: PyAV prints what is raised here."""
        if not self._seekable:
            return -1
        try:
            self._position = self._raw.seek(offset, whence)
        except (OSError, ValueError, OverflowError):  # a damaged header points there
            return -1
        return self._position

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes, none at the end.

        A failure is raised once, and ends it: PyAV prints what is raised while one waits for it.
        """
        if self._has_failed:
            return b""
        try:
            return self._read(count)
        except Exception:
            self._has_failed = True
            raise

    def _read(self, count: int) -> bytes:
        if self._direct:
            return self._raw.read(count)
        if self._end is not None and self._position < self._end:
            count = min(count, self._end - self._position)
        elif self._position == self._end:
            self._decide_end()
            if self._position == self._end:
                return b""
        data = self._next(count)
        start = self._position
        self._position += len(data)
        if not self._seekable:
            self._tail = (self._tail + data)[-OGG_PAGE_BYTES:]
            if not data:
                self.is_cut = self.is_cut or exceeds_file(self.header, start)
                self.is_cut = self.is_cut or self._ogg_is_cut()
                self._note_cut_packet(start)
        return _patched(data, start, self._patches)

    def check_end(self) -> None:
        """A file that has become shorter since it was opened is cut, too: samples are just gone."""
        if self._seekable:
            self.is_cut = self.is_cut or self._raw.seek(0, os.SEEK_END) < self._total_bytes

    def note_cut_packet(self) -> None:
        """Nothing states how long such a recording is, and a recorder may have been stopped."""
        if _CUT_PACKET not in self.notes:
            self.notes.append(_CUT_PACKET)

    def close(self) -> None:
        """Close the file; standard input stays open for whoever owns it."""
        self._raw.close()

    @property
    def _direct(self) -> bool:
        return self._seekable and not self._patches

    def _next(self, count: int) -> bytes:
        if self._head:
            data, self._head = self._head[:count], self._head[count:]
            return data
        return self._raw.read(count) or b""

    def _look(self) -> None:
        if not self._seekable:
            head = self._head
            self.header = header = read_header(lambda start, count: head[start : start + count])
            if header.index_at_end:
                self._spool()
            elif not head:
                raise AudioError(f"{self.label} is empty (0 bytes)", "record or copy it again")
            else:
                # What follows the stated end is seen when it is there.
                self._patches = {**header.patches, **header.open_end(None)}
                self._end = header.data_end
                return
        self.header = header = read_header(self._read_at)
        self._total_bytes = total = self._raw.seek(0, os.SEEK_END)
        self._patches, end = header.patches, header.data_end
        self.is_cut = exceeds_file(header, total)
        if header.data_start is not None and (end is None or end < total):
            tail = b"" if end is None else self._read_at(end, _TRAILER_BYTES)
            if tail.startswith(self.magic):
                self._note_joined()
            elif end is None or not header.is_trailer(tail, end + len(tail) == total):
                self._patches = {**header.patches, **header.open_end(total)}
                self._open_bytes = total
                if end is not None:
                    self._note_longer()
        self._note_cut_packet(total)
        self._tail = self._read_at(max(0, total - OGG_PAGE_BYTES), OGG_PAGE_BYTES)
        self.is_cut = self.is_cut or self._ogg_is_cut()
        self._position = self._raw.seek(0)

    def _read_at(self, offset: int, count: int) -> bytes:
        if not 0 <= offset < self._raw.seek(0, os.SEEK_END):
            return b""
        self._raw.seek(offset)
        return self._raw.read(count)

    def _ogg_is_cut(self) -> bool:
        return self.magic == b"OggS" and ogg_page_is_cut(self._tail)

    def _decide_end(self) -> None:
        """At the stated end of a pipe's samples: is what follows sound?"""
        tail = _read_up_to(self._raw, _TRAILER_BYTES, self._head)
        if tail.startswith(self.magic):
            self._note_joined()
        elif not self.header.is_trailer(tail, len(tail) < _TRAILER_BYTES):
            self._head, self._end = tail, None
            self._note_longer()

    def _note_longer(self) -> None:
        header = self.header
        stated = f"{header.data_bytes} bytes" if not header.seconds else f"{header.seconds:.2f} s"
        self.notes.append(
            f"its header states {stated} and is not believed: what follows is sound as well"
        )

    def _note_cut_packet(self, total: int) -> None:
        if self.header.packet_bytes and total % self.header.packet_bytes:
            self.note_cut_packet()

    def _note_joined(self) -> None:
        self.notes.append("another recording follows in the same file, and was not read: part them")

    def _spool(self) -> None:
        """Copy a pipe to disk that cannot be read forward."""
        refused = f"cannot copy {self.label} to a temporary file"
        remedy = "free space, or set TMPDIR to a larger place"
        with os_errors(refused, remedy), ExitStack() as opened:
            copy = opened.enter_context(tempfile.TemporaryFile())
            copy.write(self._head)
            while data := self._raw.read(READ_BYTES):
                copy.write(data)
            copy.seek(0)
            opened.pop_all()  # closed by ``close``
        self._raw.close()
        self._raw, self._head, self._seekable = copy, b"", True
        self.notes.append(_SPOOLED)


def _open(path: Place) -> BinaryIO:
    if isinstance(path, Url):
        from fluidaudio_cli.audio.remote import open_remote

        return open_remote(path)
    if path == STDIN:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder, not a recording", "give the files in it")
        # A pipe's reader must not wait for a buffer to fill.
        file = path.open("rb", buffering=READ_BYTES if path.is_file() else 0)
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist", "check the path") from error
    except (OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise _unreadable(str(path), error) from error
    if path.is_file() and os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise AudioError(f"{path} is an empty file (0 bytes)", "record or copy it again")
    return file


def _unreadable(label: str, error: OSError | ValueError) -> AudioError:
    remedy = remedy_of(error, "check its access rights")
    return AudioError(f"cannot read {label}: {reason_of(error)}", remedy)


def _read_up_to(file: BinaryIO, count: int, begun: bytes = b"") -> bytes:
    """``count`` bytes, ``begun`` first; fewer only at the end."""
    data = bytearray(begun)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return bytes(data)


def _patched(data: bytes, start: int, patches: Mapping[int, bytes]) -> bytes:
    for offset, patch in patches.items():
        first, last = max(offset, start), min(offset + len(patch), start + len(data))
        if first < last:
            mended = patch[first - offset : last - offset]
            data = data[: first - start] + mended + data[last - start :]
    return data
