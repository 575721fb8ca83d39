"""What corpora there are, and how much of each is on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fluidaudio_cli.corpora.manifest import all_manifests
from fluidaudio_cli.corpora.store import Store, data_root, own_manifests


@dataclass(frozen=True)
class CatalogueRow:
    """One split of a corpus; ``here`` of its ``recordings`` are complete on this machine."""

    name: str
    split: str
    default: bool
    aliases: tuple[str, ...]
    title: str
    licence: str
    homepage: str
    recordings: int
    here: int
    folder: Path

    def as_dict(self) -> dict[str, object]:
        """The row as JSON types."""
        return {**vars(self), "aliases": list(self.aliases), "folder": str(self.folder)}


def catalogue(data_dir: Path | None = None) -> tuple[CatalogueRow, ...]:
    """Every split of every known corpus, ordered by name.

    Raises ``InputError`` for a broken manifest or download record.
    """
    root = data_root(data_dir)
    rows = []
    for manifest in all_manifests(own_manifests(root)):
        store = Store.open(manifest, root)
        for split, part in manifest.splits.items():
            here = sum(
                all(placed.path.is_file() for placed in store.files(split, uri))
                for uri in store.uris(split)
            )
            rows.append(
                CatalogueRow(
                    manifest.name,
                    split,
                    split == manifest.default_split,
                    manifest.aliases,
                    manifest.title,
                    manifest.licence,
                    manifest.homepage,
                    part.count,
                    here,
                    store.split_folder(split),
                )
            )
    return tuple(rows)
