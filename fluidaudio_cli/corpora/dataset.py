"""A corpus ready to be used: recordings with their references, by name or by path."""

from __future__ import annotations

import hashlib
import shlex
import wave
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from fluidaudio_cli.corpora.folder import DatasetItem, scan_folder
from fluidaudio_cli.corpora.manifest import (
    Manifest,
    all_manifests,
    find_manifest,
    find_split,
)
from fluidaudio_cli.corpora.store import Store, data_root, own_manifests
from fluidaudio_cli.errors import AnnotationError, HostError, UsageError
from fluidaudio_cli.files import file_sha256
from fluidaudio_cli.scoring.uem import read_uem

# Enough of the middle of a recording to tell it from any other, without reading gigabytes.
_PROBE_BYTES = 1 << 16


@dataclass(frozen=True)
class Dataset:
    """Recordings to diarize and score. ``split`` is None for a folder given by path.

    ``pending`` is a file without which not even the list of recordings is known yet.
    ``identity``: the fingerprint of what was made by a recipe, of which the files are one copy.
    """

    name: str
    title: str
    split: str | None
    folder: Path
    items: tuple[DatasetItem, ...]
    download_command: str | None = None
    pending: Path | None = None
    identity: str | None = None

    def missing(self) -> tuple[Path, ...]:
        """Files that are not there (yet)."""
        absent = tuple(p for item in self.items for p in item.paths if not p.is_file())
        return absent if self.pending is None else (self.pending, *absent)

    def require(self) -> Dataset:
        """This dataset, all of whose files are there.

        Raises ``HostError`` naming the first that is not, and the command that downloads it.
        """
        absent = self.missing()
        if not absent:
            return self
        what = self.name if self.split is None else f"{self.name} ({self.split})"
        command = self.download_command
        remedy = f"download it with `{command}`" if command else "restore it"
        if not any(path.is_file() for item in self.items for path in item.paths):
            raise HostError(f"dataset {what} is not on this machine", remedy)
        more = f" and {len(absent) - 1} more files" if len(absent) > 1 else ""
        raise HostError(f"dataset {what} lacks {absent[0]}{more}", remedy)

    def head(self, max_files: int | None) -> Dataset:
        """The first ``max_files`` recordings in the published order; all if None."""
        if max_files is None:
            return self
        if max_files < 1:
            raise UsageError(f"--max-files {max_files}", "give a number of at least 1")
        command = self.download_command and f"{self.download_command} --max-files {max_files}"
        return replace(self, items=self.items[:max_files], download_command=command)

    def single(self, uri: str) -> Dataset:
        """Only the recording ``uri``; raises ``UsageError`` naming some that there are."""
        found = tuple(item for item in self.items if item.uri == uri)
        if not found:
            known = ", ".join(item.uri for item in self.items[:5])
            more = ", …" if len(self.items) > 5 else ""
            raise UsageError(
                f"dataset {self.name} has no recording {uri!r}", f"it has {known}{more}"
            )
        return replace(self, items=found)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over uris, references, UEMs and a probe of each recording; needs the files.

        Results whose fingerprints differ were not obtained on the same data. Independent of the
        dataset's name and place, and of the order of its items.
        """
        self.require()
        digest = hashlib.sha256()
        if self.identity is not None:
            uris = sorted(item.uri for item in self.items)
            digest.update("\n".join((self.identity, *uris)).encode())
            return digest.hexdigest()
        for item in sorted(self.items, key=lambda item: item.uri):
            uem = file_sha256(item.uem) if item.uem else "-"
            parts = (item.uri, file_sha256(item.reference), uem, _audio_probe(item.audio))
            digest.update("\0".join(parts).encode() + b"\n")
        return digest.hexdigest()


def open_dataset(
    name_or_path: str | Path,
    split: str | None = None,
    *,
    data_dir: Path | None = None,
    partial: bool = False,
) -> Dataset:
    """The dataset ``NAME``, ``NAME:SPLIT``, or the folder at a path.

    A name wins over a folder called the same (write ``./NAME`` for that). Files of a named
    dataset need not be there: see ``Dataset.missing`` and ``Dataset.require``. ``partial`` lets
    a folder hold audio without reference, and the other way round.

    Raises:
        UsageError: No such dataset, split or folder; lists those there are.
        InputError: The folder's files do not fit together (see ``scan_folder``).
    """
    text = str(name_or_path)
    root = data_root(data_dir)
    manifests = all_manifests(own_manifests(root))
    known = {name for manifest in manifests for name in (manifest.name, *manifest.aliases)}
    if text.partition(":")[0] in known and not isinstance(name_or_path, Path):
        manifest, chosen = find_split(text, split, own_manifests(root))
        return _named(manifest, chosen or manifest.default_split, root, data_dir)
    path = Path(name_or_path)
    if path.is_dir():
        if split is not None:
            raise UsageError(f"the folder {path} has no splits", "leave out --split")
        return _folder(path, partial)
    if path.exists():
        raise UsageError(f"{path} is a file", "give the folder that holds audio and RTTM files")
    if len(path.parts) > 1:
        raise UsageError(f"no folder {path}", "give a folder of audio and RTTM, or a dataset name")
    find_manifest(text, own_manifests(root))
    raise AssertionError(text)  # an unknown name has raised


def download_command(manifest: Manifest, split: str, data_dir: Path | None) -> str:
    """The command line that downloads a split."""
    words = ["fluidaudio", "datasets", "download", manifest.name]
    if split != manifest.default_split:
        words += ["--split", split]
    if data_dir is not None:
        words += ["--data-dir", str(data_dir)]
    return shlex.join(words)


def _named(manifest: Manifest, split: str, root: Path, data_dir: Path | None) -> Dataset:
    store = Store.open(manifest, root)
    uris = store.uris(split)
    pending = None
    if not uris:
        source = manifest.source("reference", split)
        assert source is not None
        assert source.archive is not None
        pending = store.archive_path(source.archive)
    items = []
    for uri in uris:
        by_kind = {placed.kind: placed.path for placed in store.files(split, uri)}
        item = DatasetItem(uri, by_kind["audio"], by_kind["reference"], by_kind.get("uem"))
        items.append(_measured(item))
    command = None if manifest.bundled else download_command(manifest, split, data_dir)
    folder = store.split_folder(split)
    return Dataset(manifest.name, manifest.title, split, folder, tuple(items), command, pending)


def _folder(path: Path, partial: bool) -> Dataset:
    items = tuple(map(_measured, scan_folder(path, partial=partial)))
    return Dataset(path.resolve().name, f"folder {path}", None, path, items)


def _measured(item: DatasetItem) -> DatasetItem:
    return replace(item, duration=_wav_seconds(item.audio) or _uem_end(item.uem, item.uri))


def _wav_seconds(path: Path) -> float | None:
    with suppress(OSError, EOFError, wave.Error), wave.open(str(path)) as opened:
        return float(opened.getnframes() / opened.getframerate())
    return None


def _uem_end(uem: Path | None, uri: str) -> float | None:
    """The last scored second; a broken UEM gives no hint here and an error when scoring."""
    if uem is None or not uem.is_file():
        return None
    with suppress(AnnotationError):
        extents = read_uem(uem).get(uri)
        return extents[-1][1] if extents else None
    return None


def _audio_probe(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, (size - _PROBE_BYTES) // 2))
        return f"{size}:{hashlib.sha256(stream.read(_PROBE_BYTES)).hexdigest()}"
