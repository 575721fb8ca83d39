"""Bring a corpus here: what is missing of it, in parallel, checked and recorded."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fluidaudio_cli.corpora.archive import extract, member_names
from fluidaudio_cli.corpora.manifest import Manifest, find_split
from fluidaudio_cli.corpora.store import (
    LockEntry,
    Placed,
    Store,
    data_root,
    own_manifests,
)
from fluidaudio_cli.corpora.transfer import CancelledDownloadError, RetryPolicy, fetch
from fluidaudio_cli.errors import DownloadError, HostError, InputError, UsageError
from fluidaudio_cli.files import file_sha256, held
from fluidaudio_cli.progress import ProgressCallback, no_progress

# Research servers are shared; more connections get a client blocked, not served faster.
DEFAULT_JOBS = 4

_SAFE_URI = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class DownloadSummary:
    """What a download did. ``recorded`` files had no known hash: theirs is now on record."""

    name: str
    split: str
    folder: Path
    downloaded: int
    present: int
    bytes: int
    recorded: int


def download_dataset(
    name: str,
    split: str | None = None,
    *,
    max_files: int | None = None,
    single: str | None = None,
    data_dir: Path | None = None,
    jobs: int | None = None,
    progress: ProgressCallback = no_progress,
    policy: RetryPolicy | None = None,
) -> DownloadSummary:
    """Download what is missing of a split, or of its first ``max_files`` or its ``single`` one.

    ``name`` may be ``NAME:SPLIT``. ``progress`` is told downloads done (with fractions) of
    downloads in all. One file that fails does not stop the others.

    Raises:
        UsageError: No such dataset or split, or a number below 1.
        DownloadError: Some downloads failed, or do not match their hash; what arrived is kept.
        HostError: The disk is full or not writable, or another download of it is running.
    """
    for option, value in (("--max-files", max_files), ("--jobs", jobs)):
        if value is not None and value < 1:
            raise UsageError(f"{option} {value}", "give a number of at least 1")
    root = data_root(data_dir)
    manifest, named = find_split(name, split, own_manifests(root))
    chosen = named or manifest.default_split
    if manifest.bundled:
        return _bundled_summary(manifest, root, chosen)
    folder = root / "datasets" / manifest.name
    busy = HostError(f"another download of {manifest.name} is running", "wait for it")
    remedy = "choose another --data-dir"
    with held(folder / ".download.lock", f"cannot write {folder}", remedy, busy):
        run = _Run(Store.open(manifest, root), chosen, policy, progress)
        return run.run(max_files, single, jobs or DEFAULT_JOBS)


class _Run:
    """One download: the store as it grows, and what the threads share."""

    def __init__(
        self, store: Store, split: str, policy: RetryPolicy | None, progress: ProgressCallback
    ) -> None:
        self._store = store
        self._split = split
        self._policy = policy
        self._progress = progress
        self._guard = threading.Lock()
        self._cancel = threading.Event()
        self._fractions: dict[str, float] = {}
        self._bytes = 0
        self._downloaded = 0
        self._recorded = 0

    def run(self, max_files: int | None, single: str | None, jobs: int) -> DownloadSummary:
        everything = self._store.uris(self._split) or self._find_uris()
        uris = [uri for uri in everything if single in (None, uri)][:max_files]
        wanted = [p for uri in uris for p in self._store.files(self._split, uri)]
        todo = [placed for placed in wanted if not _is_present(placed)]
        self._download_all(todo, jobs)
        self._drop_spent_archives(everything)
        return DownloadSummary(
            self._store.manifest.name,
            self._split,
            self._store.folder,
            self._downloaded,
            len(wanted) - len(todo),
            self._bytes,
            self._recorded,
        )

    def _find_uris(self) -> tuple[str, ...]:
        """The uris of a split whose list is what its archive of references holds."""
        manifest = self._store.manifest
        source = manifest.source("reference", self._split)
        assert source is not None
        assert source.archive is not None
        before, after = source.template("{uri}", self._split).split("{uri}")
        path, fetched = self._ensure_archive(source.archive)
        with _as_download_error():
            names = member_names(path, manifest.archives[source.archive])
        matching = [n for n in names if n.startswith(before) and n.endswith(after)]
        uris = tuple(sorted(n.removeprefix(before).removesuffix(after) for n in matching))
        uris = tuple(uri for uri in uris if _SAFE_URI.fullmatch(uri))
        count = manifest.splits[self._split].count
        if len(uris) != count:
            raise DownloadError(
                f"{manifest.archives[source.archive].url} holds {len(uris)} references of "
                f"{manifest.name} {self._split} where {count} were published",
                "the published archive has changed; report its URL",
            )
        self._record_archive(path, fetched)
        self._keep("uris", self._split, uris)
        return uris

    def _download_all(self, todo: Sequence[Placed], jobs: int) -> None:
        from_archives: dict[str, list[Placed]] = {}
        for placed in todo:
            if placed.archive is not None:
                from_archives.setdefault(placed.archive, []).append(placed)
        direct = [placed for placed in todo if placed.archive is None]
        self._fractions |= dict.fromkeys((placed.origin for placed in direct), 0.0)
        self._fractions |= dict.fromkeys(from_archives, 0.0)
        if not todo:
            return
        pool = ThreadPoolExecutor(jobs, thread_name_prefix="download")
        try:
            futures = [
                pool.submit(self._download_archived, *each) for each in from_archives.items()
            ]
            futures += [pool.submit(self._download_file, placed) for placed in direct]
            failures = _failures(futures)
        finally:
            self._cancel.set()
            # Not waited for: a server that says nothing would hold up Ctrl-C until its time is up.
            pool.shutdown(wait=False, cancel_futures=True)
        if failures:
            count = (
                "" if len(futures) == 1 else f"{len(failures)} of {len(futures)} downloads failed: "
            )
            raise DownloadError(count + failures[0].message, failures[0].remedy) from failures[0]

    def _download_file(self, placed: Placed) -> None:
        fetched = self._fetch(
            placed.origin, placed.origin, placed.path, placed.sha256, placed.bytes
        )
        self._record(placed, fetched)
        self._report(placed.origin, 1.0)

    def _download_archived(self, name: str, wanted: Sequence[Placed]) -> None:
        archive = self._store.manifest.archives[name]
        path, fetched = self._ensure_archive(name)
        by_member = {placed.origin: placed for placed in wanted}

        def extracted(member: str) -> None:
            if self._cancel.is_set():
                raise CancelledDownloadError(f"{path}: given up")
            placed = by_member[member]
            sha256, size = file_sha256(placed.path), placed.path.stat().st_size
            if placed.sha256 not in (None, sha256):
                placed.path.unlink()
                raise DownloadError(
                    f"{member} in {archive.url} is not what it was at the first download",
                    "the published archive has changed; report its URL",
                )
            entry = LockEntry(sha256=sha256, bytes=size, url=f"{archive.url}#{member}")
            self._record(placed, entry)

        with _as_download_error():
            extract(path, archive, {m: p.path for m, p in by_member.items()}, extracted)
        self._record_archive(path, fetched)
        self._report(name, 1.0)

    def _ensure_archive(self, name: str) -> tuple[Path, LockEntry | None]:
        """The archive's path, and what was fetched if it was not there."""
        archive, path = self._store.manifest.archives[name], self._store.archive_path(name)
        if path.is_file():
            return path, None
        locked = self._store.lock.files.get(self._store.relative(path))
        sha256 = archive.sha256 or (locked.sha256 if locked else None)
        return path, self._fetch(name, archive.url, path, sha256, archive.bytes)

    def _fetch(
        self, key: str, url: str, target: Path, sha256: str | None, size: int | None
    ) -> LockEntry:
        """Download one file; ``key``: of its progress."""
        fetched = fetch(
            url,
            target,
            sha256=sha256,
            size=size,
            policy=self._policy,
            progress=lambda done, total: self._report(key, done / total if total else 0.0),
            cancel=self._cancel,
        )
        with self._guard:
            self._bytes += fetched.bytes
        return fetched

    def _record_archive(self, path: Path, fetched: LockEntry | None) -> None:
        # Only after it proved readable: a damaged archive on record could never be replaced.
        if fetched is not None:
            self._keep("files", self._store.relative(path), fetched)

    def _record(self, placed: Placed, entry: LockEntry) -> None:
        self._keep("files", self._store.relative(placed.path), entry)
        with self._guard:
            self._downloaded += 1
            self._recorded += placed.sha256 is None

    def _keep(self, kind: str, name: str, value: object) -> None:
        """Add to the ``files`` or ``uris`` of the lock file."""
        with self._guard:
            if self._cancel.is_set():  # by now another process may be at it
                raise CancelledDownloadError(f"{name}: given up")
            lock = self._store.lock
            update = {kind: {**getattr(lock, kind), name: value}}
            self._store = replace(self._store, lock=lock.model_copy(update=update))
            self._store.save()

    def _report(self, key: str, fraction: float) -> None:
        with self._guard:
            self._fractions[key] = fraction
            self._progress(sum(self._fractions.values()), float(len(self._fractions)))

    def _drop_spent_archives(self, uris: Sequence[str]) -> None:
        """Delete the split's archives once every recording is out: they double the space."""
        files = [p for uri in uris for p in self._store.files(self._split, uri)]
        if all(_is_present(placed) for placed in files):
            for name in {placed.archive for placed in files if placed.archive is not None}:
                self._store.archive_path(name).unlink(missing_ok=True)


def _is_present(placed: Placed) -> bool:
    if not placed.path.is_file():
        return False
    return placed.bytes is None or placed.path.stat().st_size == placed.bytes


def _failures(futures: Sequence[Future[None]]) -> list[DownloadError]:
    """Failed downloads; anything that concerns them all (disk, a bug, Ctrl-C) is raised."""
    failures: list[DownloadError] = []
    for future in as_completed(futures):
        error = future.exception()
        if isinstance(error, DownloadError):
            failures.append(error)
        elif error is not None:
            raise error
    return failures


@contextmanager
def _as_download_error() -> Iterator[None]:
    """A bad archive is not the user's input: they asked for a download, and it failed."""
    try:
        yield
    except InputError as error:
        raise DownloadError(error.message, error.remedy) from error


def _bundled_summary(manifest: Manifest, root: Path, split: str) -> DownloadSummary:
    store = Store(manifest, root)
    files = [p for uri in store.uris(split) for p in store.files(split, uri)]
    for placed in files:
        if not placed.path.is_file():
            raise HostError(f"the bundled {placed.path} is missing", "install the program again")
    return DownloadSummary(manifest.name, split, store.folder, 0, len(files), 0, 0)
