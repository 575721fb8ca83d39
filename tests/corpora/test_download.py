from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
import yaml

from fluidaudio_cli.corpora import download as download_module
from fluidaudio_cli.corpora.catalogue import catalogue
from fluidaudio_cli.corpora.dataset import open_dataset
from fluidaudio_cli.corpora.download import DownloadSummary, download_dataset
from fluidaudio_cli.corpora.transfer import RetryPolicy
from fluidaudio_cli.corpora.verify import verify_dataset
from fluidaudio_cli.errors import DownloadError, HostError, UsageError
from tests.corpora.faulty_server import Fault, FaultyServer, rttm_line, serve_corpus, write_corpus


@pytest.fixture
def root(tmp_path: Path, server: FaultyServer) -> Path:
    """A data folder with the manifest of a corpus that the server holds."""
    write_corpus(tmp_path, server.url)
    serve_corpus(server)
    return tmp_path


def statuses(root: Path) -> dict[str, str]:
    return {check.path.name: check.status for check in verify_dataset("tiny", data_dir=root)}


def test_downloads_records_and_is_done(
    root: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    told: list[tuple[float, float | None]] = []
    done = download_dataset(
        "tiny", data_dir=root, policy=quick, progress=lambda *at: told.append(at)
    )
    folder = root / "datasets" / "tiny"
    size = sum(len(content) for content in server.files.values())
    assert done == DownloadSummary("tiny", "test", folder, 9, 0, size, 9)
    assert told[-1] == (9.0, 9.0)
    dataset = open_dataset("tiny", data_dir=root).require()
    assert dataset.items[0].audio.read_bytes() == server.files["/tiny/a.wav"]
    assert dataset.items[0].duration == 2.0
    lock = json.loads((folder / "lock.json").read_text())
    assert lock["files"]["test/a.rttm"] == {
        "bytes": len(rttm_line("a")),
        "sha256": hashlib.sha256(rttm_line("a")).hexdigest(),
        "url": f"{server.url}/tiny/a.rttm",
    }
    asked = len(server.seen)
    again = download_dataset("tiny", data_dir=root, policy=quick)
    assert (again.downloaded, again.present, again.recorded) == (0, 9, 0)
    assert len(server.seen) == asked


def test_max_files_takes_the_first_ones(
    root: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    assert download_dataset("tiny", max_files=1, data_dir=root, policy=quick).downloaded == 3
    assert {path for path, _, _ in server.seen} == {f"/tiny/a.{s}" for s in ("wav", "rttm", "uem")}
    open_dataset("tiny", data_dir=root).head(1).require()
    rows = {row.name: (row.here, row.recordings) for row in catalogue(root)}
    assert rows["tiny"] == (1, 3)
    assert download_dataset("tiny", data_dir=root, policy=quick).downloaded == 6
    with pytest.raises(UsageError, match="--max-files 0: give a number of at least 1"):
        download_dataset("tiny", max_files=0, data_dir=root)


def test_a_single_recording_comes_alone(
    root: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    assert download_dataset("tiny", single="b", data_dir=root, policy=quick).downloaded == 3
    assert {path for path, _, _ in server.seen} == {f"/tiny/b.{s}" for s in ("wav", "rttm", "uem")}


def test_files_come_in_parallel_but_not_more_than_asked(
    root: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    # Each request waits for two others: with fewer than three at a time none would be answered.
    server.barrier = threading.Barrier(3)
    download_dataset("tiny", data_dir=root, jobs=3, policy=replace(quick, read_timeout=5))
    assert server.most_running == 3


def test_one_at_a_time_if_asked(root: Path, server: FaultyServer, quick: RetryPolicy) -> None:
    download_dataset("tiny", data_dir=root, jobs=1, policy=quick)
    assert server.most_running == 1


def test_one_missing_file_does_not_stop_the_others(
    root: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    del server.files["/tiny/b.rttm"]
    with pytest.raises(DownloadError) as caught:
        download_dataset("tiny", data_dir=root, policy=quick)
    assert str(caught.value).startswith(
        f"1 of 9 downloads failed: {server.url}/tiny/b.rttm: the server answered 404 Not Found"
    )
    assert [path.name for path in open_dataset("tiny", data_dir=root).missing()] == ["b.rttm"]
    # No placeholder stands in for the reference: scoring is refused, and names the file.
    with pytest.raises(HostError, match=r"lacks .*/b\.rttm: download it with"):
        open_dataset("tiny", data_dir=root).require()


def test_a_full_disk_stops_everything(
    root: Path, server: FaultyServer, quick: RetryPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise HostError("the disk is full")

    monkeypatch.setattr(download_module, "fetch", full)
    with pytest.raises(HostError, match="the disk is full") as caught:
        download_dataset("tiny", data_dir=root, policy=quick)
    assert not isinstance(caught.value, DownloadError)


def test_ctrl_c_does_not_wait_for_a_server_that_says_nothing(
    root: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    def interrupt(done: float, total: float | None) -> None:
        raise KeyboardInterrupt

    server.faults["/tiny/a.wav"] = [Fault(stall=0)]
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        download_dataset(
            "tiny", data_dir=root, policy=replace(quick, read_timeout=4.0), progress=interrupt
        )
    assert time.monotonic() - began < 2.0


def test_what_was_recorded_at_first_must_come_again(
    root: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    download_dataset("tiny", data_dir=root, policy=quick)
    (root / "datasets/tiny/test/a.wav").unlink()
    server.files["/tiny/a.wav"] = server.files["/tiny/a.wav"].swapcase()
    with pytest.raises(DownloadError, match=r"a\.wav: has SHA-256 .* was expected; the file was"):
        download_dataset("tiny", data_dir=root, policy=quick)
    assert not (root / "datasets/tiny/test/a.wav").exists()


def test_verify_tells_what_changed(root: Path, server: FaultyServer, quick: RetryPolicy) -> None:
    with pytest.raises(HostError, match="tiny is not on this machine: download it with `fluid"):
        verify_dataset("tiny", data_dir=root)
    download_dataset("tiny", data_dir=root, max_files=2, policy=quick)
    folder = root / "datasets/tiny/test"
    (folder / "a.wav").write_bytes(b"x")
    (folder / "a.uem").unlink()
    (folder / "c.wav").write_bytes(b"put there by hand")
    assert statuses(root) == {
        "a.wav": "changed",
        "a.rttm": "ok",
        "a.uem": "lost",
        "b.wav": "ok",
        "b.rttm": "ok",
        "b.uem": "ok",
        "c.wav": "unrecorded",
        "c.rttm": "absent",
        "c.uem": "absent",
    }


def test_only_one_download_of_a_corpus_at_a_time(root: Path, quick: RetryPolicy) -> None:
    folder = root / "datasets" / "tiny"
    folder.mkdir(parents=True)
    with (
        filelock.FileLock(folder / ".download.lock"),
        pytest.raises(HostError, match="another download of tiny is running"),
    ):
        download_dataset("tiny", data_dir=root, policy=quick)


def test_the_bundled_sample_needs_no_download(tmp_path: Path) -> None:
    done = download_dataset("sample", data_dir=tmp_path)
    assert (done.downloaded, done.present) == (0, 3)
    assert list(tmp_path.iterdir()) == []


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"wavs/{name}.wav", content)
        archive.writestr("wavs/unwanted.txt", b"not for us")
    return buffer.getvalue()


def tarred(uris: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for uri in uris:
            info = tarfile.TarInfo(f"repo/test/{uri}.rttm")
            info.size = len(rttm_line(uri))
            archive.addfile(info, io.BytesIO(rttm_line(uri)))
        archive.addfile(tarfile.TarInfo("repo/test/nested/x.rttm"))
    return buffer.getvalue()


@pytest.fixture
def archived(tmp_path: Path, server: FaultyServer) -> Path:
    """A corpus as VoxConverse is published: audio in a zip, references in a tar."""
    audio = zipped(p=b"sound of p", q=b"sound of q")
    document = {
        "schema": "fluidaudio.dataset/1",
        "name": "boxed",
        "title": "Boxed",
        "licence": "CC0",
        "homepage": "https://example.org",
        "citation": "none",
        "archives": {
            "wavs": {
                "url": server.add("/wavs.zip", audio),
                "format": "zip",
                "unpacked_limit_bytes": 10_000,
                "sha256": hashlib.sha256(audio).hexdigest(),
                "bytes": len(audio),
            },
            "texts": {
                "url": server.add("/texts.tar.gz", tarred("qp")),
                "format": "tar.gz",
                "unpacked_limit_bytes": 100_000,
            },
        },
        "reference": {"archive": "texts", "member": "repo/{split}/{uri}.rttm"},
        "default_split": "test",
        "splits": {
            "test": {"count": 2, "audio": {"archive": "wavs", "member": "wavs/{uri}.wav"}},
        },
    }
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/boxed.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def test_archives_are_unpacked_as_far_as_wanted(
    archived: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    done = download_dataset("boxed", data_dir=archived, max_files=1, policy=quick)
    folder = archived / "datasets" / "boxed"
    assert (done.downloaded, done.present, done.recorded) == (2, 0, 2)
    assert sorted(path.name for path in (folder / "test").iterdir()) == ["p.rttm", "p.wav"]
    assert (folder / "test/p.wav").read_bytes() == b"sound of p"
    assert (folder / "archives/wavs.zip").is_file()

    done = download_dataset("boxed", data_dir=archived, policy=quick)
    assert (done.downloaded, done.present, done.bytes) == (2, 2, 0)
    assert len(server.seen) == 2
    assert list((folder / "archives").iterdir()) == []
    assert [item.uri for item in open_dataset("boxed", data_dir=archived).require().items] == [
        "p",
        "q",
    ]
    assert {check.status for check in verify_dataset("boxed", data_dir=archived)} == {"ok"}


def test_a_cut_archive_is_resumed(archived: Path, server: FaultyServer, quick: RetryPolicy) -> None:
    server.faults["/wavs.zip"] = [Fault(cut=100)]
    download_dataset("boxed", data_dir=archived, policy=quick)
    assert server.requests("/wavs.zip") == [None, "bytes=100-"]


def test_a_changed_archive_is_refused(
    archived: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    server.files["/wavs.zip"] = server.files["/wavs.zip"].replace(b"sound of p", b"sound of P")
    with pytest.raises(DownloadError, match=r"wavs\.zip: has SHA-256"):
        download_dataset("boxed", data_dir=archived, policy=quick)
    assert not (archived / "datasets/boxed/test/p.wav").exists()


def test_a_list_of_another_length_is_refused(
    archived: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    server.files["/texts.tar.gz"] = tarred("pqr")
    with pytest.raises(DownloadError, match="3 references of boxed test where 2 were published"):
        download_dataset("boxed", data_dir=archived, policy=quick)


def test_a_page_instead_of_an_archive_can_be_replaced_later(
    archived: Path, server: FaultyServer, quick: RetryPolicy
) -> None:
    good, server.files["/texts.tar.gz"] = server.files["/texts.tar.gz"], b"<html>sorry</html>"
    with pytest.raises(DownloadError, match=r"texts\.tar\.gz is damaged: .*: delete it and"):
        download_dataset("boxed", data_dir=archived, policy=quick)
    shutil.rmtree(archived / "datasets/boxed/archives")
    server.files["/texts.tar.gz"] = good
    assert download_dataset("boxed", data_dir=archived, policy=quick).downloaded == 4
