from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fluidaudio_cli.corpora.dataset import open_dataset
from fluidaudio_cli.errors import HostError, InputError, UsageError
from tests.corpora.faulty_server import rttm_line, write_corpus


def test_the_bundled_sample_is_complete() -> None:
    dataset = open_dataset("sample").require()
    assert [(i.uri, i.audio.name, i.duration) for i in dataset.items] == [
        ("sample", "sample.wav", 30.0)
    ]
    assert dataset.items[0].uem is not None
    assert dataset.items[0].uem.read_text() == "sample 1 0.000 30.000\n"
    assert dataset.split == "test"
    assert dataset.download_command is None


def test_the_ami_test_split_is_the_published_one() -> None:
    dataset = open_dataset("ami-sdm")
    assert len(dataset.items) == 16
    assert {item.uri[:6] for item in dataset.items} == {"IS1009", "ES2004", "TS3003", "EN2002"}
    assert dataset.items == open_dataset("ami-sdm:test").items
    assert len(open_dataset("ami-sdm", "dev").items) == 18


def test_an_alias_opens_the_corpus_as_what_it_is() -> None:
    assert open_dataset("ami-ihm").name == "ami-mix-headset"


def test_what_is_not_here_names_its_command(tmp_path: Path) -> None:
    dataset = open_dataset("ami-sdm:dev", data_dir=tmp_path / "a b")
    assert len(dataset.missing()) == 18 * 3
    with pytest.raises(HostError) as caught:
        dataset.require()
    assert str(caught.value) == (
        "dataset ami-sdm (dev) is not on this machine: download it with "
        f"`fluidaudio datasets download ami-sdm --split dev --data-dir '{tmp_path}/a b'`"
    )
    with pytest.raises(HostError, match="--max-files 2`"):
        dataset.head(2).require()


def test_a_corpus_whose_list_is_not_known_yet_is_missing(tmp_path: Path) -> None:
    dataset = open_dataset("voxconverse", data_dir=tmp_path)
    assert dataset.items == ()
    assert [path.name for path in dataset.missing()] == ["references.tar.gz"]
    with pytest.raises(HostError, match=r"voxconverse \(test\) is not on this machine"):
        dataset.require()


def test_one_missing_file_is_named(tmp_path: Path) -> None:
    write_corpus(tmp_path, "https://example.org")
    dataset = open_dataset("tiny", data_dir=tmp_path)
    for path in dataset.missing():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    dataset.items[1].reference.unlink()
    with pytest.raises(HostError, match=r"tiny \(test\) lacks .*tiny/test/b\.rttm: download"):
        dataset.require()


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        ("nope", None, "unknown dataset 'nope': choose one of ami-mix-headset, ami-sdm, sample"),
        ("ami-sdm", "eval", "no split 'eval': choose one of test, dev, train"),
        ("ami-sdm:dev", "test", "two splits: ami-sdm:dev and test"),
        ("no/such/folder", None, "no folder no/such/folder"),
        ("pyproject.toml", None, "pyproject.toml is a file"),
    ],
)
def test_what_cannot_be_opened_is_said(
    name: str, split: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent.parent)
    with pytest.raises(UsageError) as caught:
        open_dataset(name, split)
    assert said in str(caught.value)


def test_a_folder_has_no_splits(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no splits"):
        open_dataset(tmp_path, "test")


def make_folder(folder: Path, uris: str) -> Path:
    folder.mkdir()
    for uri in uris:
        (folder / f"{uri}.wav").write_bytes(f"sound of {uri}".encode() * 9000)
        (folder / f"{uri}.rttm").write_bytes(rttm_line(uri))
    return folder


def test_selection(tmp_path: Path) -> None:
    dataset = open_dataset(make_folder(tmp_path / "set", "abc"))
    assert [item.uri for item in dataset.head(2).items] == ["a", "b"]
    assert dataset.head(None) is dataset
    assert [item.uri for item in dataset.single("c").items] == ["c"]
    with pytest.raises(UsageError, match="no recording 'z': it has a, b, c"):
        dataset.single("z")
    with pytest.raises(UsageError, match="--max-files 0"):
        dataset.head(0)


def test_the_fingerprint_follows_the_data_and_nothing_else(tmp_path: Path) -> None:
    one = open_dataset(make_folder(tmp_path / "one", "abc"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert open_dataset(tmp_path / "two").fingerprint == one.fingerprint
    assert one.head(2).fingerprint != one.fingerprint
    seen = {one.fingerprint}
    (tmp_path / "two" / "a.uem").write_text("a 1 0 1\n")
    seen.add(open_dataset(tmp_path / "two").fingerprint)
    (tmp_path / "two" / "b.rttm").write_bytes(rttm_line("b").replace(b"alice", b"bob"))
    seen.add(open_dataset(tmp_path / "two").fingerprint)
    (tmp_path / "two" / "c.wav").write_bytes(b"sound of C" * 9000)
    seen.add(open_dataset(tmp_path / "two").fingerprint)
    assert len(seen) == 4


def test_the_fingerprint_needs_the_files(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="not on this machine"):
        _ = open_dataset("ami-sdm", data_dir=tmp_path).fingerprint


def test_a_damaged_download_record_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "datasets" / "ami-sdm" / "lock.json"
    lock.parent.mkdir(parents=True)
    lock.write_text('{"files": ')
    with pytest.raises(InputError, match=r"lock\.json is damaged: delete it"):
        open_dataset("ami-sdm", data_dir=tmp_path)
