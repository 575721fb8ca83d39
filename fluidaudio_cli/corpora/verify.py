"""Check that a corpus is still what was downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fluidaudio_cli.corpora.dataset import download_command
from fluidaudio_cli.corpora.manifest import find_split
from fluidaudio_cli.corpora.store import Placed, Store, data_root, own_manifests
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.files import file_sha256


@dataclass(frozen=True)
class FileCheck:
    """One file of a corpus against its hash.

    ``ok``; ``changed``: other bytes than on record; ``lost``: recorded or bundled, now gone;
    ``absent``: never downloaded; ``unrecorded``: there, but with no hash to hold it to.
    """

    path: Path
    status: Literal["ok", "changed", "lost", "absent", "unrecorded"]


def verify_dataset(
    name: str, split: str | None = None, *, data_dir: Path | None = None
) -> tuple[FileCheck, ...]:
    """Hash every file of a split (of all splits if None).

    Raises ``UsageError`` for an unknown name, ``HostError`` where nothing was downloaded.
    """
    root = data_root(data_dir)
    manifest, chosen = find_split(name, split, own_manifests(root))
    splits = tuple(manifest.splits) if chosen is None else (chosen,)
    store = Store.open(manifest, root)
    checks = tuple(
        _check(store, placed)
        for part in splits
        for uri in store.uris(part)
        for placed in store.files(part, uri)
    )
    if all(check.status == "absent" for check in checks):
        command = download_command(manifest, chosen or manifest.default_split, data_dir)
        raise HostError(
            f"dataset {manifest.name} is not on this machine", f"download it with `{command}`"
        )
    return checks


def _check(store: Store, placed: Placed) -> FileCheck:
    if not placed.path.is_file():
        recorded = store.manifest.bundled or store.relative(placed.path) in store.lock.files
        return FileCheck(placed.path, "lost" if recorded else "absent")
    if placed.sha256 is None:
        return FileCheck(placed.path, "unrecorded")
    same = file_sha256(placed.path) == placed.sha256
    return FileCheck(placed.path, "ok" if same else "changed")
