from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from fluidaudio_cli.corpora.archive import extract, member_names
from fluidaudio_cli.corpora.manifest import Archive
from fluidaudio_cli.errors import InputError

Format = Literal["zip", "tar.gz"]
BOTH = pytest.mark.parametrize("kind", ["zip", "tar.gz"])


def spec(kind: Format, limit: int = 1_000_000) -> Archive:
    return Archive(url="https://example.org/a", format=kind, unpacked_limit_bytes=limit)


def pack(path: Path, kind: Format, *members: tuple[str, bytes]) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@BOTH
def test_takes_only_what_is_wanted(tmp_path: Path, kind: Format) -> None:
    path = pack(tmp_path / "a", kind, ("x/one.wav", b"1"), ("x/two.wav", b"22"), ("notes", b"n"))
    out = tmp_path / "out"
    taken: list[str] = []
    extract(path, spec(kind), {"x/two.wav": out / "renamed.wav"}, taken.append)
    assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("renamed.wav", b"22")]
    assert taken == ["x/two.wav"]
    assert member_names(path, spec(kind)) == ("x/one.wav", "x/two.wav", "notes")


@BOTH
@pytest.mark.parametrize("evil", ["../up.wav", "/abs.wav", "a/../../up", "C:/win", "a\\b"])
def test_an_archive_with_an_unsafe_name_is_refused(tmp_path: Path, kind: Format, evil: str) -> None:
    path = pack(tmp_path / "a", kind, (evil, b"!"), ("good.wav", b"1"))
    out = tmp_path / "out"
    with pytest.raises(InputError, match="outside the archive"):
        extract(path, spec(kind), {"good.wav": out / "good.wav", evil: out / "evil"})
    assert not out.exists()
    assert not (tmp_path.parent / "up.wav").exists()


@BOTH
def test_a_link_is_no_file(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / "a"
    if kind == "zip":
        info = zipfile.ZipInfo("link.wav")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(info, "/etc/passwd")
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, how in (("link.wav", tarfile.SYMTYPE), ("hard.wav", tarfile.LNKTYPE)):
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = how, "/etc/passwd"
                tar.addfile(entry)
    with pytest.raises(InputError, match=r"lacks link\.wav"):
        extract(path, spec(kind), {"link.wav": tmp_path / "out"})
    assert not (tmp_path / "out").exists()


@BOTH
def test_a_bomb_is_refused(tmp_path: Path, kind: Format) -> None:
    path = pack(tmp_path / "a", kind, ("big", bytes(500_000)), ("good.wav", b"1"))
    assert path.stat().st_size < 5_000
    with pytest.raises(InputError, match="unpacks to more than the manifest allows"):
        extract(path, spec(kind, limit=400_000), {"good.wav": tmp_path / "out"})
    assert not (tmp_path / "out").exists()


def test_a_zip_that_lies_about_a_size_yields_no_more_than_it_said(tmp_path: Path) -> None:
    path = pack(tmp_path / "a", "zip", ("big", bytes(500_000)))
    raw = path.read_bytes()
    path.write_bytes(raw.replace((500_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(InputError, match="is damaged: Bad CRC-32"):
        extract(path, spec("zip", limit=100), {"big": tmp_path / "out"})
    assert not (tmp_path / "out").exists()


@BOTH
def test_a_damaged_archive_leaves_no_half_file(tmp_path: Path, kind: Format) -> None:
    content = bytes(range(256)) * 400
    path = pack(tmp_path / "a", kind, ("good.wav", content))
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 20] = bytes(20)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"is damaged: .*: delete it and download again"):
        extract(path, spec(kind), {"good.wav": tmp_path / "out"})
    assert not (tmp_path / "out").exists()


@BOTH
def test_text_is_no_archive(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / "a"
    path.write_text("<html>Not found</html>")
    with pytest.raises(InputError, match="is damaged"):
        extract(path, spec(kind), {"good.wav": tmp_path / "out"})


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "a", "zip", ("good.wav", b"1"))
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"is encrypted \(good\.wav\)"):
        extract(path, spec("zip"), {"good.wav": tmp_path / "out"})


@BOTH
def test_what_is_missing_is_counted(tmp_path: Path, kind: Format) -> None:
    path = pack(tmp_path / "a", kind, ("one", b"1"))
    wanted = {name: tmp_path / f"{name}.out" for name in ("one", "two", "three")}
    with pytest.raises(InputError, match="lacks three and 1 more wanted files"):
        extract(path, spec(kind), wanted)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@BOTH
def test_one_name_twice_is_ambiguous(tmp_path: Path, kind: Format) -> None:
    path = pack(tmp_path / "a", kind, ("one", b"1"), ("one", b"2"))
    with pytest.raises(InputError, match="holds one twice"):
        extract(path, spec(kind), {"one": tmp_path / "out"})
