"""What a corpus is made of: its files, where they come from, and what they must hash to.

A manifest is ``datasets/NAME.yaml``. It is read once, checked in full (unknown keys fail) and
never changed. File names are templates over ``{uri}`` and ``{split}``, so that a corpus of 170
meetings stays readable; a known hash is listed by uri, an unknown one is recorded at the first
download (see ``corpora.store``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from fluidaudio_cli.errors import InputError, UsageError
from fluidaudio_cli.resources import datasets_dir
from fluidaudio_cli.settings import first_problem, read_yaml

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# One path segment without anything a file system or a URL would read differently.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Kind = Literal["audio", "reference", "uem"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_PLACEHOLDER = re.compile(r"\{([^}]*)\}")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Archive(_Frozen):
    """A zip or gzipped tar that holds many files of the corpus."""

    url: str
    format: Literal["zip", "tar.gz"]
    unpacked_limit_bytes: int = Field(gt=0, description="more than this unpacked is refused")
    sha256: Sha256 | None = None
    bytes: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Archive:
        _check_url(self.url)
        return self


class FileSource(_Frozen):
    """Where one kind of file (audio, reference or UEM) of every item comes from.

    Exactly one of ``url``, ``path`` (beside the manifest, shipped with the program) and
    ``archive`` with ``member``. ``sha256`` and ``bytes`` are by uri, as far as they are known.
    """

    url: str | None = None
    path: str | None = None
    archive: str | None = None
    member: str | None = None
    sha256: Mapping[str, Sha256] = Field(default_factory=dict)
    bytes: Mapping[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> FileSource:
        if sum(value is not None for value in (self.url, self.path, self.archive)) != 1:
            raise ValueError("needs exactly one of url, path and archive")
        if (self.archive is None) != (self.member is None):
            raise ValueError("archive and member go together")
        template = self.url or self.path or self.member or ""
        unknown = set(_PLACEHOLDER.findall(template)) - {"uri", "split"}
        if unknown:
            raise ValueError(f"unknown placeholder {{{sorted(unknown)[0]}}} in {template}")
        if self.url is not None:
            _check_url(self.url)
        elif not is_plain_relative(template):
            raise ValueError(f"{template} must be a relative path without '..'")
        return self

    def template(self, uri: str, split: str) -> str:
        """The URL, path or member name of one item."""
        text = self.url or self.path or self.member or ""
        return text.replace("{uri}", uri).replace("{split}", split)


class Split(_Frozen):
    """A published part of the corpus; its sources replace the corpus-wide ones.

    ``uris`` in the published order; or ``count`` alone, when the list is exactly the reference
    files in the (hashed) archive of references.
    """

    uris: tuple[Name, ...] = Field(default=(), strict=False)
    count: int = Field(gt=0)
    audio: FileSource | None = None
    reference: FileSource | None = None
    uem: FileSource | None = None


class Manifest(_Frozen):
    """One corpus. ``folder`` is where its file is; it is not a key of the file."""

    schema_: Literal["fluidaudio.dataset/1"] = Field(alias="schema")
    folder: Path
    name: Name
    aliases: tuple[Name, ...] = Field(default=(), strict=False)
    title: str
    licence: str
    homepage: str
    citation: str
    notes: str = ""
    archives: Mapping[Name, Archive] = Field(default_factory=dict)
    audio: FileSource | None = None
    reference: FileSource | None = None
    uem: FileSource | None = None
    default_split: Name
    splits: Mapping[Name, Split]

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        if self.default_split not in self.splits:
            raise ValueError(f"default_split {self.default_split} is not one of the splits")
        for name, split in self.splits.items():
            self._check_split(name, split)
        return self

    def _check_split(self, name: str, split: Split) -> None:
        reference = self.source("reference", name)
        if reference is None or self.source("audio", name) is None:
            raise ValueError(f"split {name} lacks audio or reference")
        if split.uris:
            if len(split.uris) != split.count or len(set(split.uris)) != split.count:
                raise ValueError(f"split {name}: count is {split.count}, uris differ or repeat")
        elif reference.member is None or reference.member.count("{uri}") != 1:
            raise ValueError(f"split {name} needs uris, or references in an archive by {{uri}}")
        for kind in KINDS:
            source = self.source(kind, name)
            if source is None:
                continue
            if source.path is not None and not self.bundled:
                raise ValueError(f"split {name}: {kind} has a path, and other files have none")
            if source.archive is not None and source.archive not in self.archives:
                raise ValueError(f"split {name}: {kind} names no archive called {source.archive}")
            if split.count > 1 and "{uri}" not in source.template("{uri}", name):
                raise ValueError(f"split {name}: {kind} gives every item the same file")
            everyone = {uri for part in self.splits.values() for uri in part.uris}
            stray = (set(source.sha256) | set(source.bytes)) - everyone
            if stray:
                raise ValueError(f"{kind} has a hash or size for {sorted(stray)[0]}, no such uri")

    def source(self, kind: Kind, split: str) -> FileSource | None:
        """Where files of a kind come from in a split; None for a UEM the corpus lacks."""
        part = self.splits[split]
        specific: FileSource | None = getattr(part, kind)
        general: FileSource | None = getattr(self, kind)
        return specific or general

    @property
    def bundled(self) -> bool:
        """Whether every file ships with the program."""
        sources = (self.source(kind, split) for split in self.splits for kind in KINDS)
        return all(source.path is not None for source in sources if source is not None)


def read_manifest(path: Path) -> Manifest:
    """Read and check one manifest file.

    Raises ``InputError`` for no YAML or a broken schema, and names the field.
    """
    document = read_yaml(path, "the dataset manifest", InputError)
    if not isinstance(document, dict) or "folder" in document:
        raise InputError(f"{path}: is not a dataset manifest", "see datasets/README.md")
    try:
        manifest = Manifest.model_validate({**document, "folder": path.parent})
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}", "see datasets/README.md") from error
    if manifest.name != path.stem:
        raise InputError(f"{path}: name: is {manifest.name}", "name the file after the dataset")
    return manifest


def all_manifests(own: Path | None = None) -> tuple[Manifest, ...]:
    """The shipped manifests and those in the user's folder ``own``, ordered by name.

    Raises ``InputError`` for a broken one, and for two that claim the same name or alias.
    """
    folders = [datasets_dir()] if own is None else [datasets_dir(), own]
    found = [read_manifest(path) for folder in folders for path in folder.glob("*.yaml")]
    taken: dict[str, Manifest] = {}
    for manifest in found:
        for name in (manifest.name, *manifest.aliases):
            other = taken.setdefault(name, manifest)
            if other is not manifest:
                raise InputError(
                    f"two manifests are called {name}, in {other.folder} and {manifest.folder}",
                    "rename one",
                )
    return tuple(sorted(found, key=lambda manifest: manifest.name))


def find_manifest(name: str, own: Path | None = None) -> Manifest:
    """The manifest with this name or alias; raises ``UsageError``, listing those there are."""
    manifests = all_manifests(own)
    for manifest in manifests:
        if name == manifest.name or name in manifest.aliases:
            return manifest
    known = ", ".join(manifest.name for manifest in manifests)
    raise UsageError(
        f"unknown dataset {name!r}", f"choose one of {known}, or give the path of a folder"
    )


def find_split(
    name: str, split: str | None = None, own: Path | None = None
) -> tuple[Manifest, str | None]:
    """The manifest and split that ``NAME`` or ``NAME:SPLIT`` means; None if it names no split.

    Raises ``UsageError`` for an unknown corpus or split, listing those there are, or two splits.
    """
    base, _, suffix = name.partition(":")
    manifest = find_manifest(base, own)
    if suffix and split not in (None, suffix):
        raise UsageError(f"two splits: {name} and {split}", "give one")
    chosen = suffix or split
    if chosen is not None and chosen not in manifest.splits:
        raise UsageError(
            f"dataset {manifest.name} has no split {chosen!r}",
            f"choose one of {', '.join(manifest.splits)}",
        )
    return manifest, chosen


def is_plain_relative(name: str) -> bool:
    """Whether ``name`` stays below the folder it is joined to, on every system."""
    path = PurePosixPath(name)
    return bool(
        name
        and not path.is_absolute()
        and ".." not in path.parts
        and "\\" not in name
        and ":" not in name
        and "\0" not in name
    )


def _check_url(url: str) -> None:
    # Plain http is let through from this machine only: a local mirror, or a test's server.
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ValueError(f"{url} must be an https URL")
