"""Outputs that are whole or absent: written beside their target, then renamed.

What is being written lies in a folder whose name and lock only this module gives. The system
takes the lock back however a process ends, so what a killed one left can be told from what a
running one needs, and goes the next time something is written beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from fluidaudio_cli.errors import HostError, named_errors, os_errors

try:
    import fcntl
except ImportError:  # Windows: what was left there stays
    fcntl = None  # type: ignore[assignment]

_PREFIX = ".fluidaudio-"
_SCRATCH = re.compile(re.escape(_PREFIX) + "[a-z0-9_]{8}")  # as tempfile makes them
_swept: set[Path] = set()
_BLOCK_BYTES = 1 << 20


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary neighbour of ``target`` that replaces it when the block ends without error.

    Works for a file or a directory; a device or a pipe (``/dev/null``) is written directly.
    Raises ``HostError`` when the place cannot be written (missing permission, disk full);
    ``target`` is then as it was. A pipe nobody reads raises ``BrokenPipeError``, as stdout does.
    Where ``target`` is a link, what it points to is written. A folder is replaced if it is empty;
    who could not read the file that is replaced cannot read the new one.
    """
    with os_errors(f"cannot write {target}", "free space there, or choose another place"):
        if target.exists() and not (target.is_file() or target.is_dir()):
            yield target
            return
        if target.is_symlink():
            target = resolved(target)
            if target.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent) as scratch:
            draft = scratch / target.name
            yield draft
            if draft.is_dir() and target.is_dir():
                target.rmdir()  # not what another process may have put there meanwhile
            elif target.is_file():
                modes = draft.stat().st_mode, target.stat().st_mode
                if modes[0] & modes[1] != modes[0]:
                    draft.chmod(stat.S_IMODE(modes[0] & modes[1]))
            draft.replace(target)


def resolved(path: Path) -> Path:
    """``path`` with links followed; it need not exist, and links may lead in a circle.

    ``Path.resolve`` fails there before Python 3.13.
    """
    return Path(os.path.realpath(path))


def user_path(
    variable: str,
    kind: Literal["cache", "config", "data"],
    within: str = "",
    author: Literal[False] | None = False,
) -> Path:
    """What ``variable`` names, else ``within`` this user's folder of ``kind``.

    ``author``: as platformdirs has it, for Windows. Raises ``HostError`` where there is no home.
    """
    if chosen := os.environ.get(variable):
        return Path(chosen)
    import platformdirs

    try:
        folder = getattr(platformdirs, f"user_{kind}_dir")("fluidaudio", author)
    except RuntimeError as error:
        raise HostError(
            f"this user has no home, where the {kind} folder would be", f"set HOME or {variable}"
        ) from error
    return Path(folder, within)


def check_folder(folder: Path, remedy: str, refused: str = "", mode: int = 0o777) -> None:
    """Make ``folder``, and make sure that it can be written to; ``HostError`` says if not."""
    with os_errors(refused or f"cannot write to {folder}", remedy):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def write_text_atomic(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, whole or not at all."""
    with atomic_path(target) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def keep_record(path: Path, record: Mapping[str, Any]) -> None:
    """Keep what :func:`read_record` reads; where it cannot be written, the work is done again."""
    with suppress(HostError):
        write_text_atomic(path, json.dumps(record, indent=1) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """The keys of a JSON file that was kept to save work; none where it is not as it was kept."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder in ``parent`` that goes with the block, or after a ``kill -9`` with the next one.

    Raises ``OSError`` when none can be made.
    """
    if parent not in _swept:  # once is enough: a folder may hold thousands of results
        _swept.add(parent)
        remove_orphans(parent)
    folder, lock = _make_scratch(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """:func:`scratch_folder` where the system keeps what is temporary."""
    with scratch_folder(Path(tempfile.gettempdir())) as folder:
        yield folder


def remove_orphans(parent: Path) -> None:
    """Remove the scratch folders in ``parent`` that no running process holds."""
    try:
        with os.scandir(parent) as entries:
            found = [Path(entry) for entry in entries if _SCRATCH.fullmatch(entry.name)]
    except OSError:
        return  # not there yet, or not to be looked into
    for folder in found:
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def lock_file(descriptor: int) -> bool:
    """Hold an open file until it is closed or the process ends; whether nobody else does."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def held(
    path: Path, refused: str, remedy: str, busy: HostError, seconds: float = 0.0
) -> Iterator[None]:
    """Hold the lock file at ``path``, made for its owner alone, while the block runs.

    Raises ``HostError`` with ``refused`` and ``remedy`` where it cannot be made, ``busy`` where
    another process has it for more than ``seconds``.
    """
    # Imported here: a warm start changes nothing and need not pay for it.
    from filelock import FileLock, Timeout

    lock = FileLock(path, seconds, 0o600)
    with os_errors(refused, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise busy from error
    try:
        yield
    finally:
        lock.release()


def folder_files(folder: Path) -> list[Path]:
    """All files below ``folder`` and the folders it links to, each folder once, in order.

    Raises ``OSError`` for a folder that cannot be looked into; what is not there is left out.
    """
    found: list[Path] = []
    seen: set[str] = set()

    def refused(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for parent, folders, names in os.walk(folder, onerror=refused, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        found += (path for name in names if (path := Path(parent, name)).is_file())
    return sorted(found)


def folder_bytes(folder: Path) -> int:
    """How much the files below ``folder`` hold, without those that go meanwhile."""
    size = 0
    for path in folder_files(folder):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    hash_file(digest, path)
    return digest.hexdigest()


def hash_file(digest: hashlib._Hash, path: Path) -> None:
    """Add the content of a file, read in pieces."""
    with named_errors(path), path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)


def _make_scratch(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = _lock(folder, wait=True)
        if folder.exists():
            return folder, lock
        if lock is not None:  # another process took it for an orphan before the lock was ours
            os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """A descriptor that holds ``folder``; ``None`` if another does, or none can here."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
