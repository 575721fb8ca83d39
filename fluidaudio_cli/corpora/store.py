"""Where corpora lie on this machine, and the record of what was downloaded.

``<data>/datasets/NAME/SPLIT/URI.wav`` (``.rttm``, ``.uem``) with one ``lock.json`` per corpus.
The lock file keeps the SHA-256 of every file at its first download; from then on that is what
the file must be (trust on first use), whether or not the manifest knew a hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fluidaudio_cli.corpora.manifest import KINDS, Kind, Manifest, Sha256, is_plain_relative
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.files import user_path, write_text_atomic

DATA_DIR_VARIABLE = "FLUIDAUDIO_DATA_DIR"
_SUFFIXES: Mapping[Kind, str] = {"reference": ".rttm", "uem": ".uem"}


def data_root(option: Path | None = None) -> Path:
    """Where downloads go: the option, else ``FLUIDAUDIO_DATA_DIR``, else the user's data folder."""
    return option or user_path(DATA_DIR_VARIABLE, "data", author=None)


def own_manifests(root: Path) -> Path:
    """Folder of the user's own manifests, read beside the shipped ones."""
    return root / "manifests"


class LockEntry(BaseModel):
    """One file as it was at its first download."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    bytes: int
    url: str


class Lock(BaseModel):
    """``lock.json``: files by path relative to the corpus' folder, and uris found per split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: str = Field(default="fluidaudio.dataset-lock/1", alias="schema")
    files: Mapping[str, LockEntry] = Field(default_factory=dict)
    uris: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Placed:
    """One file of the corpus: where it lies (or will), and what is known about it."""

    uri: str
    kind: Kind
    path: Path
    origin: str
    archive: str | None = None
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Store:
    """One corpus on disk."""

    manifest: Manifest
    root: Path
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def open(cls, manifest: Manifest, root: Path) -> Store:
        """The corpus below ``root``, with its lock file if there is one.

        Raises ``InputError`` where that is damaged.
        """
        store = cls(manifest, root)
        path = store.lock_path
        if not path.is_file():
            return store
        try:
            return replace(store, lock=Lock.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise InputError(
                f"the download record {path} is damaged",
                "delete it to record the files anew at the next download",
            ) from error

    @property
    def folder(self) -> Path:
        """Where the corpus' files are: beside the manifest if bundled, else the data folder."""
        if self.manifest.bundled:
            return self.manifest.folder / self.manifest.name
        return self.root / "datasets" / self.manifest.name

    def split_folder(self, split: str) -> Path:
        """Where the files of a split are."""
        return self.folder if self.manifest.bundled else self.folder / split

    @property
    def lock_path(self) -> Path:
        """The record of first downloads."""
        return self.root / "datasets" / self.manifest.name / "lock.json"

    def save(self) -> None:
        """Write the lock file, whole or not at all."""
        document = self.lock.model_dump(mode="json", by_alias=True)
        write_text_atomic(self.lock_path, json.dumps(document, indent=1, sort_keys=True) + "\n")

    def archive_path(self, name: str) -> Path:
        """Where an archive is kept while files are still to be taken out of it."""
        return self.folder / "archives" / f"{name}.{self.manifest.archives[name].format}"

    def uris(self, split: str) -> tuple[str, ...]:
        """The uris of a split; empty while they are still to be found in an archive."""
        return self.manifest.splits[split].uris or self.lock.uris.get(split, ())

    def files(self, split: str, uri: str) -> Iterator[Placed]:
        """The audio, the reference and, if the corpus has one, the UEM of one item."""
        for kind in KINDS:
            placed = self._place(kind, split, uri)
            if placed is not None:
                yield placed

    def _place(self, kind: Kind, split: str, uri: str) -> Placed | None:
        source = self.manifest.source(kind, split)
        if source is None:
            return None
        origin = source.template(uri, split)
        known, size = source.sha256.get(uri), source.bytes.get(uri)
        if source.path is not None:
            return Placed(uri, kind, self.manifest.folder / origin, origin, None, known, size)
        suffix = _SUFFIXES.get(kind) or PurePosixPath(origin).suffix
        path = self.split_folder(split) / f"{uri}{suffix}"
        locked = self.lock.files.get(self.relative(path))
        if known is None and locked is not None:
            known, size = locked.sha256, locked.bytes
        return Placed(uri, kind, path, origin, source.archive, known, size)

    def relative(self, path: Path) -> str:
        """The name of a file in the lock."""
        name = path.relative_to(self.folder).as_posix()
        assert is_plain_relative(name)
        return name
