"""Take wanted members out of a downloaded archive, trusting nothing it says.

Targets are chosen by the caller, so a member's name never becomes a path; still an archive with
one unsafe name is refused as a whole, for it was made to do harm. Only regular files are taken,
and what is unpacked is counted while it is unpacked: declared sizes are claims.
"""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fluidaudio_cli.corpora.manifest import Archive, is_plain_relative
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.files import atomic_path

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BLOCK_BYTES = 1 << 20


class _Limited(io.RawIOBase):
    """A stream that refuses to yield more than ``limit`` bytes in all."""

    def __init__(self, stream: gzip.GzipFile, limit: int, path: Path) -> None:
        self._stream = stream
        self._left = limit
        self._path = path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        # BadGzipFile is an OSError: passed on, it would read as trouble with the target's disk.
        with _damage_named(self._path):
            count = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise _bomb(self._path)
        return count


def member_names(path: Path, archive: Archive) -> tuple[str, ...]:
    """Names of all regular files in the archive. Raises ``InputError`` as ``extract``."""
    names: list[str] = []
    _visit(path, archive, lambda name, _: names.append(name))
    return tuple(names)


def extract(
    path: Path,
    archive: Archive,
    wanted: Mapping[str, Path],
    done: Callable[[str], None] = lambda name: None,
) -> None:
    """Write each wanted member to its target, whole or not at all.

    Raises:
        InputError: The archive is damaged or encrypted, names a file outside itself, unpacks to
            more than its limit, or lacks a wanted member (a link or folder does not count).
        HostError: A target cannot be written.
    """
    found: set[str] = set()

    def take(name: str, stream: IO[bytes]) -> None:
        if name not in wanted:
            return
        if name in found:
            raise InputError(f"{path} holds {name} twice", "report the archive's URL")
        found.add(name)
        with atomic_path(wanted[name]) as draft, draft.open("wb") as out:
            while block := stream.read(_BLOCK_BYTES):
                out.write(block)
        done(name)

    _visit(path, archive, take)
    missing = sorted(wanted.keys() - found)
    if missing:
        raise InputError(
            f"{path} lacks {missing[0]}"
            + (f" and {len(missing) - 1} more wanted files" if len(missing) > 1 else ""),
            "the published archive has changed; report its URL",
        )


def _visit(path: Path, archive: Archive, visit: Callable[[str, IO[bytes]], None]) -> None:
    with _damage_named(path):
        if archive.format == "zip":
            _visit_zip(path, archive.unpacked_limit_bytes, visit)
        else:
            _visit_tar(path, archive.unpacked_limit_bytes, visit)


def _visit_zip(path: Path, limit: int, visit: Callable[[str, IO[bytes]], None]) -> None:
    with zipfile.ZipFile(path) as opened:
        members = opened.infolist()
        for member in members:
            _check_name(path, member.orig_filename)
        if sum(member.file_size for member in members) > limit:
            raise _bomb(path)
        for member in members:
            mode = member.external_attr >> 16
            if member.is_dir() or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
                continue
            if member.flag_bits & 0x1:
                raise InputError(f"{path} is encrypted ({member.filename})", "report its URL")
            with opened.open(member) as stream:
                # zipfile yields at most file_size bytes, whatever the data would unpack to.
                visit(member.filename, stream)


def _visit_tar(path: Path, limit: int, visit: Callable[[str, IO[bytes]], None]) -> None:
    with (
        gzip.open(path) as unzipped,
        io.BufferedReader(_Limited(unzipped, limit, path)) as limited,
        tarfile.open(fileobj=limited, mode="r|") as opened,
    ):
        for member in opened:
            _check_name(path, member.name)
            if not member.isreg():
                continue
            stream = opened.extractfile(member)
            if stream is not None:
                visit(member.name, stream)


def _check_name(path: Path, name: str) -> None:
    if not is_plain_relative(name):
        raise InputError(
            f"{path} holds a file named {name!r}, outside the archive",
            "nothing was unpacked from there on; delete the archive and report its URL",
        )


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path} is damaged: {error}", "delete it and download again") from error
    except NotImplementedError as error:
        raise InputError(f"{path} cannot be unpacked: {error}", "report its URL") from error


def _bomb(path: Path) -> InputError:
    return InputError(
        f"{path} unpacks to more than the manifest allows", "delete it and report its URL"
    )
