"""The per-user cache of what executors make from a package: built once, verified at every use.

An entry is a folder, named by its package and by a hash of everything that changes its content
(:class:`CacheKey`). Beside its files lies ``entry.json``: the whole key, and size and SHA-256 of
each file. An entry that is damaged, cut short or not what its name says is built anew; runtimes
are never handed bytes that were not checked, because some crash on damaged ones. Entries appear
by one rename, and a file lock lets one process build while the others wait for its result. What
a killed process left half built goes when the next one starts.

A cache that cannot be written does not stop a run: the entry is built in a folder that goes with
the process, and a warning says so once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from fluidaudio_cli.errors import HostError, os_errors, reason_of
from fluidaudio_cli.files import (
    atomic_path,
    file_sha256,
    folder_files,
    held,
    read_record,
    remove_orphans,
    temporary_folder,
    user_path,
)

SCHEMA = "fluidaudio.compile-cache/1"
ENVIRONMENT_VARIABLE = "FLUIDAUDIO_CACHE_DIR"
# A build takes seconds; a holder of the lock for longer than this has hung.
LOCK_TIMEOUT_SECONDS = 300.0
# Entries nobody loaded for this long, and their locks, are dropped when a new one is built.
UNUSED_AFTER_SECONDS = 90 * 86400.0
# The time of last use is refreshed at most this often, so that a warm start writes nothing.
TOUCH_AFTER_SECONDS = 86400.0

_META = "entry.json"


class CacheWarning(UserWarning):
    """The cache could not be used as it should; the run goes on without."""


def cache_dir() -> Path:
    """``$FLUIDAUDIO_CACHE_DIR``, or the system's per-user cache folder."""
    return user_path(ENVIRONMENT_VARIABLE, "cache")


@dataclass(frozen=True)
class CacheKey:
    """What an entry is made from.

    Attributes:
        package: SHA-256 of the package.
        executor: who made it, and for whom.
        version: versions of the executor and of the lowering, and the processor where it counts.
        options: the options that change the artifact.
    """

    package: str
    executor: str
    version: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        """Readable head, then a hash of the whole key."""
        text = json.dumps(asdict(self), sort_keys=True)
        return (
            f"{self.executor}-{self.package[:12]}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
        )


@dataclass(frozen=True)
class CacheEntry:
    """A verified entry: its folder, whether it was there before, and the builder's own notes."""

    folder: Path
    hit: bool
    details: Mapping[str, Any]


Loaded = TypeVar("Loaded")
# Writes an entry's files into the folder given; returns notes (JSON) to keep with them.
Builder = Callable[[Path], Mapping[str, Any]]


class CompileCache:
    """Entries under one root folder. Safe for several threads and processes."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache_dir() if root is None else root
        self._warned = False
        # Re-entrant: building one entry (a compiled blob) may fetch another (the lowered model).
        self._lock = threading.RLock()
        self._temporary: Path | None = None
        self._tidied = False

    def fetch(self, key: CacheKey, build: Builder) -> CacheEntry:
        """The entry for ``key``, built if it is not there whole.

        Errors of ``build`` pass through, except ``OSError`` (no space, no permission), which
        counts as a cache that cannot be written.
        """
        self._tidy_once()
        found = self._verified(self._folder(key), key)
        if found is not None:
            return found
        try:
            with self._building(key):
                # Another process may have built it while this one waited.
                found = self._verified(self._folder(key), key)
                if found is not None:
                    return found
                with atomic_path(self._folder(key)) as draft:
                    details = _build_into(draft, key, build)
                    shutil.rmtree(self._folder(key), ignore_errors=True)  # one that is damaged
                with suppress(OSError):  # another process may drop the same
                    self._drop_unused()
                return CacheEntry(self._folder(key), False, details)
        except HostError as error:
            # Any other host error is the builder's own.
            if not isinstance(error.__cause__, OSError):
                raise
            self.warn_once(reason_of(error.__cause__))
        return self._without_cache(key, build)

    def load(
        self, key: CacheKey, build: Builder, load: Callable[[Path], Loaded]
    ) -> tuple[Loaded, CacheEntry]:
        """What ``load`` makes of the entry's folder, and the entry.

        An entry from the cache that is whole and yet does not load (``HostError``) was made for
        something the key does not tell; it is built anew, once.
        """
        entry = self.fetch(key, build)
        try:
            return load(entry.folder), entry
        except HostError:
            if not entry.hit:
                raise
        shutil.rmtree(entry.folder, ignore_errors=True)
        entry = self.fetch(key, build)
        if entry.hit:
            # It is still there: the cache is read only.
            entry = self._without_cache(key, build)
        return load(entry.folder), entry

    def warn_once(self, reason: str) -> None:
        """Say once per cache that it cannot be written, and why."""
        with self._lock:
            if self._warned:
                return
            self._warned = True
        warnings.warn(
            f"the cache {self.root} cannot be written ({reason}), so models are compiled again "
            f"at each start: set {ENVIRONMENT_VARIABLE} to a folder that can",
            CacheWarning,
            stacklevel=3,
        )

    def _folder(self, key: CacheKey) -> Path:
        return self.root / "models" / key.folder_name

    def _without_cache(self, key: CacheKey, build: Builder) -> CacheEntry:
        refused = f"cannot write the compiled model to {tempfile.gettempdir()}"
        remedy = f"free space, or set {ENVIRONMENT_VARIABLE} to a folder with space"
        with self._lock, os_errors(refused, remedy):
            if self._temporary is None:
                stack = ExitStack()
                self._temporary = stack.enter_context(temporary_folder())
                weakref.finalize(self, stack.close)
            folder = self._temporary / key.folder_name
            found = self._verified(folder, key)
            return found or CacheEntry(folder, False, _build_into(folder, key, build))

    @contextmanager
    def _building(self, key: CacheKey) -> Iterator[None]:
        path = self.root / "locks" / f"{key.folder_name}.lock"
        refused = f"cannot lock {path}"
        with held(path, refused, "", HostError(refused), LOCK_TIMEOUT_SECONDS):
            with suppress(OSError):
                os.utime(path)  # locking does not change the file, and an old one is dropped
            yield

    def _verified(self, folder: Path, key: CacheKey) -> CacheEntry | None:
        """The entry in ``folder`` if it is whole and made from ``key``."""
        meta = read_record(folder / _META)
        files, details = meta.get("files"), meta.get("details")
        if (meta.get("schema"), meta.get("key")) != (SCHEMA, asdict(key)):
            return None
        if not isinstance(files, dict) or not isinstance(details, dict):
            return None
        try:
            for name, facts in files.items():
                path = folder / name
                if path.stat().st_size != facts["bytes"] or file_sha256(path) != facts["sha256"]:
                    return None
        except (OSError, KeyError, TypeError):
            return None
        with suppress(OSError):  # a cache that is read only is still a cache
            if time.time() - (folder / _META).stat().st_mtime > TOUCH_AFTER_SECONDS:
                os.utime(folder / _META)
        return CacheEntry(folder, True, details)

    def _tidy_once(self) -> None:
        """Remove what killed processes left: here, and beside the cache's other records."""
        with self._lock:
            if self._tidied:
                return
            self._tidied = True
        with suppress(OSError), os.scandir(self.root) as entries:
            for entry in entries:
                remove_orphans(Path(entry))

    def _drop_unused(self) -> None:
        oldest = time.time() - UNUSED_AFTER_SECONDS
        for folder in (self.root / "models").iterdir():
            if _last_used(folder) < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        from filelock import FileLock, Timeout

        for path in (self.root / "locks").iterdir():
            if path.stat().st_mtime < oldest:
                with suppress(OSError, Timeout), FileLock(path, timeout=0):
                    path.unlink()


def _build_into(folder: Path, key: CacheKey, build: Builder) -> Mapping[str, Any]:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    details = dict(build(folder))
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in folder_files(folder)
    }
    meta = {"schema": SCHEMA, "key": asdict(key), "files": files, "details": details}
    (folder / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
    return details


def _last_used(folder: Path) -> float:
    try:
        return (folder / _META).stat().st_mtime
    except OSError:
        return math.inf  # a draft of another process, or gone already


_shared = lru_cache(maxsize=8)(CompileCache)


def shared_cache() -> CompileCache:
    """The process's cache at :func:`cache_dir`; the same object as long as that stays the same."""
    return _shared(cache_dir())
