"""A package's hash without reading 18 MB at every start.

The hash is remembered per package path, with a fingerprint of every file in it: relative path,
size, modification time, change time and inode. Any edit moves one of them. A file that changed
within the last seconds could change again within the clock's grain, unseen, so the hash of such a
package is not remembered yet (as in git's index).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from fluidaudio_cli.errors import HostError, ModelFormatError, os_errors, reason_of
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.files import folder_files, read_record, write_text_atomic

# Coarsest timestamps in use (FAT) have a grain of 2 s.
SETTLED_AFTER_SECONDS = 3.0


def package_digest(package: Path, cache: CompileCache) -> str:
    """SHA-256 of a package folder, from the cache's memory when no file of it changed.

    Raises:
        ModelFormatError: the package is missing or cannot be read.
    """
    path = package.resolve()
    fingerprint, changed = _fingerprint(path)
    memo = cache.root / "hashes" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    remembered = read_record(memo)
    known = remembered.get("sha256")
    if remembered.get("fingerprint") == fingerprint and isinstance(known, str) and len(known) == 64:
        return known
    from fluidaudio_cli.coreml.package import package_sha256

    digest = package_sha256(path)
    settled = time.time() - changed > SETTLED_AFTER_SECONDS
    if settled and _fingerprint(path)[0] == fingerprint:
        record = {"fingerprint": fingerprint, "sha256": digest}
        try:
            write_text_atomic(memo, json.dumps(record))
        except HostError as error:
            cache.warn_once(reason_of(error.__cause__ or error))
    return digest


def _fingerprint(package: Path) -> tuple[str, float]:
    """Hash over the facts of every file, and when the last of them changed (seconds, epoch)."""
    digest = hashlib.sha256()
    latest = 0.0
    with os_errors(f"cannot read {package}", "check the path", ModelFormatError):
        files = [package] if package.is_file() else folder_files(package)
        if not files:
            raise ModelFormatError(f"no model package at {package}", "check the path")
        for file in files:
            facts = file.stat()
            name = file.relative_to(package).as_posix()
            changed = max(facts.st_mtime_ns, facts.st_ctime_ns)
            digest.update(
                f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ctime_ns}\0"
                f"{facts.st_ino}\n".encode()
            )
            latest = max(latest, changed / 1e9)
    return digest.hexdigest(), latest
