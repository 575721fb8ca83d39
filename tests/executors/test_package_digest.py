"""The remembered package hash: right after any change, and not read again without one."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from fluidaudio_cli.coreml import package as package_module
from fluidaudio_cli.coreml.package import package_sha256
from fluidaudio_cli.errors import ModelFormatError
from fluidaudio_cli.executors import digest
from fluidaudio_cli.executors.cache import CacheWarning, CompileCache
from fluidaudio_cli.executors.digest import package_digest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two files, old enough to be remembered."""
    folder = tmp_path / "model.mlpackage"
    (folder / "weights").mkdir(parents=True)
    (folder / "spec").write_text("spec")
    (folder / "weights" / "blob").write_text("1234")
    monkeypatch.setattr(digest, "SETTLED_AFTER_SECONDS", -60.0)
    return folder


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The packages that were really read."""
    calls: list[Path] = []

    def counting(path: Path) -> str:
        calls.append(path)
        return package_sha256(path)

    monkeypatch.setattr(package_module, "package_sha256", counting)
    return calls


def test_unchanged_package_is_read_once(
    folder: Path, cache: CompileCache, hashed: list[Path]
) -> None:
    expected = package_sha256(folder)
    assert [package_digest(folder, cache) for _ in range(3)] == [expected] * 3
    assert len(hashed) == 1


def test_every_change_is_seen(folder: Path, cache: CompileCache, hashed: list[Path]) -> None:
    blob = folder / "weights" / "blob"
    seen = {package_digest(folder, cache)}
    times = (blob.stat().st_atime_ns, blob.stat().st_mtime_ns)
    blob.write_text("4321")
    os.utime(blob, ns=times)  # same size, modification time forged: the change time still tells
    seen.add(package_digest(folder, cache))
    blob.write_text("43210")
    seen.add(package_digest(folder, cache))
    (folder / "weights" / "more").write_text("")
    seen.add(package_digest(folder, cache))
    (folder / "weights" / "more").rename(folder / "weights" / "other")
    seen.add(package_digest(folder, cache))
    replacement = folder.parent / "replacement"
    replacement.write_text("98765")
    os.utime(replacement, ns=times)
    replacement.replace(blob)
    seen.add(package_digest(folder, cache))
    assert len(seen) == len(hashed) == 6
    assert package_digest(folder, cache) == package_sha256(folder)


def test_linked_folders_are_part_of_it(folder: Path, cache: CompileCache) -> None:
    plain = package_digest(folder, cache)
    (folder / "weights").rename(folder.parent / "elsewhere")
    (folder / "weights").symlink_to("../elsewhere")
    (folder / "weights" / "round").symlink_to(folder)
    assert package_digest(folder, cache) == plain == package_sha256(folder)
    (folder.parent / "elsewhere" / "blob").write_text("5678")
    assert package_digest(folder, cache) == package_sha256(folder) != plain


def test_package_written_just_now_is_not_remembered(
    folder: Path, cache: CompileCache, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "SETTLED_AFTER_SECONDS", 3600.0)
    package_digest(folder, cache)
    package_digest(folder, cache)
    assert len(hashed) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": "x", "sha256": "y"}'])
def test_damaged_memory_is_ignored(
    folder: Path, cache: CompileCache, hashed: list[Path], text: str
) -> None:
    expected = package_digest(folder, cache)
    (memo,) = (cache.root / "hashes").iterdir()
    memo.write_text(text)
    assert package_digest(folder, cache) == expected
    assert len(hashed) == 2
    assert package_digest(folder, cache) == expected
    assert len(hashed) == 2


def test_unwritable_cache_is_said_once(folder: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    cache = CompileCache(blocked / "cache")
    with pytest.warns(CacheWarning, match="Not a directory"):
        first = package_digest(folder, cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert package_digest(folder, cache) == first


def test_missing_and_empty_packages(cache: CompileCache, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(ModelFormatError) as caught:
            package_digest(tmp_path / name, cache)
        assert str(caught.value) == f"no model package at {tmp_path / name}: check the path"
