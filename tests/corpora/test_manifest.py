from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fluidaudio_cli.corpora.manifest import all_manifests, find_manifest, read_manifest
from fluidaudio_cli.corpora.store import Store
from fluidaudio_cli.corpora.verify import verify_dataset
from fluidaudio_cli.errors import InputError, UsageError
from fluidaudio_cli.files import file_sha256
from fluidaudio_cli.settings import read_settings
from tests.corpora.faulty_server import write_corpus

SHIPPED = all_manifests()


def test_the_shipped_corpora() -> None:
    counts = {m.name: {split: part.count for split, part in m.splits.items()} for m in SHIPPED}
    assert counts == {
        "ami-mix-headset": {"test": 16, "dev": 18, "train": 136},
        "ami-sdm": {"test": 16, "dev": 18, "train": 134},
        "sample": {"test": 1},
        "voxconverse": {"dev": 216, "test": 232},
    }


@pytest.mark.parametrize("manifest", SHIPPED, ids=lambda manifest: manifest.name)
def test_every_shipped_manifest_is_sound(manifest: Any, tmp_path: Path) -> None:
    store = Store(manifest, tmp_path)
    everyone = [uri for split in manifest.splits for uri in store.uris(split)]
    assert len(everyone) == len(set(everyone)), "a recording is in two splits"
    paths = [p.path for s in manifest.splits for u in store.uris(s) for p in store.files(s, u)]
    assert len(paths) == len(set(paths)), "two files would be written to one place"
    for split in manifest.splits:
        for uri in store.uris(split):
            for placed in store.files(split, uri):
                assert "{" not in placed.origin
                assert uri in placed.origin
    for url in re.findall(r"https?://\S+", (manifest.folder / f"{manifest.name}.yaml").read_text()):
        assert url.startswith("https://")


def test_references_come_from_a_pinned_commit() -> None:
    for manifest in SHIPPED:
        if manifest.bundled:
            continue
        for archive in manifest.archives.values():
            assert archive.sha256 is not None
        for split in manifest.splits:
            for kind in ("reference", "uem"):
                source = manifest.source(kind, split)
                if source is not None:
                    template = source.url or source.member
                    assert template is not None
                    assert re.search(r"[0-9a-f]{40}", template), template


def test_the_sample_matches_its_hashes() -> None:
    assert [check.status for check in verify_dataset("sample")] == ["ok"] * 3
    manifest = find_manifest("sample")
    assert manifest.audio is not None
    audio = manifest.folder / "sample" / "sample.wav"
    assert manifest.audio.sha256["sample"] == file_sha256(audio)
    assert manifest.audio.bytes["sample"] == audio.stat().st_size


def edited(tmp_path: Path, **changes: object) -> Path:
    path = write_corpus(tmp_path, "https://example.org")
    document = {**yaml.safe_load(path.read_text()), **changes}
    path.write_text(yaml.safe_dump({k: v for k, v in document.items() if v is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"licnse": "MIT"}, "licnse: Extra inputs are not permitted"),
        ({"licence": None}, "licence: Field required"),
        ({"schema": "fluidaudio.dataset/2"}, "schema: Input should be 'fluidaudio.dataset/1'"),
        ({"default_split": "dev"}, "default_split dev is not one of the splits"),
        ({"reference": None}, "split test lacks audio or reference"),
        ({"audio": {"url": "http://example.org/{uri}.wav"}}, "must be an https URL"),
        ({"audio": {"url": "https://e.org/{uri}", "path": "x"}}, "exactly one of url, path"),
        ({"audio": {"url": "https://e.org/{id}.wav"}}, "unknown placeholder {id}"),
        ({"audio": {"url": "https://e.org/all.wav"}}, "audio gives every item the same file"),
        ({"audio": {"path": "../{uri}.wav"}}, "must be a relative path without '..'"),
        ({"audio": {"archive": "zip", "member": "{uri}.wav"}}, "names no archive called zip"),
        ({"audio": {"archive": "zip"}}, "archive and member go together"),
        (
            {"audio": {"url": "https://e.org/{uri}", "sha256": {"a": "0" * 63}}},
            "audio.sha256.a: String should match pattern",
        ),
        (
            {"audio": {"url": "https://e.org/{uri}", "sha256": {"z": "0" * 64}}},
            "audio has a hash or size for z, no such uri",
        ),
        ({"splits": {"test": {"count": 2, "uris": ["a"]}}}, "count is 2, uris differ or repeat"),
        ({"splits": {"test": {"count": 2, "uris": ["a", "a"]}}}, "uris differ or repeat"),
        ({"splits": {"test": {"count": 2}}}, "split test needs uris, or references in an archive"),
        ({"splits": {"test": {"count": 1, "uris": ["../a"]}}}, "String should match pattern"),
        ({"name": "other"}, "name: is other: name the file after the dataset"),
        ({"folder": "/"}, "is not a dataset manifest"),
        ({"audio": {"path": "{uri}.wav"}}, "audio has a path, and other files have none"),
    ],
)
def test_a_broken_manifest_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = edited(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "title: 2020-13-45", "[" * 5000, "\0"])
def test_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"cannot read the dataset manifest .*: check the file"):
        read_manifest(path)
    with pytest.raises(UsageError, match="cannot read "):
        read_settings(path, UsageError)


def test_a_users_manifest_may_not_take_a_shipped_name(tmp_path: Path) -> None:
    edited(tmp_path, aliases=["ami-sdm"])
    with pytest.raises(InputError, match="two manifests are called ami-sdm"):
        all_manifests(tmp_path / "manifests")
