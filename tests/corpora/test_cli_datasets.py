from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import forked
from tests.corpora.faulty_server import FaultyServer, serve_corpus, write_corpus


def run(*arguments: str) -> forked.Done:
    return forked.run("datasets", *arguments)


@pytest.fixture
def root(tmp_path: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLUIDAUDIO_DATA_DIR", str(tmp_path))
    write_corpus(tmp_path, server.url)
    serve_corpus(server)
    return tmp_path


def test_list(root: Path) -> None:
    done = run("list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ami-mix-headset (also ami-ihm)" in done.stdout
    assert "\x1b" not in done.stdout
    rows = json.loads(run("list", "--format", "json").stdout)
    assert [(r["name"], r["split"], r["here"], r["recordings"]) for r in rows] == [
        ("ami-mix-headset", "test", 0, 16),
        ("ami-mix-headset", "dev", 0, 18),
        ("ami-mix-headset", "train", 0, 136),
        ("ami-sdm", "test", 0, 16),
        ("ami-sdm", "dev", 0, 18),
        ("ami-sdm", "train", 0, 134),
        ("sample", "test", 1, 1),
        ("tiny", "test", 0, 3),
        ("voxconverse", "dev", 0, 216),
        ("voxconverse", "test", 0, 232),
    ]


def test_download_verify_path(root: Path, server: FaultyServer) -> None:
    done = run("download", "tiny", "--max-files", "2")
    size = sum(len(c) for p, c in server.files.items() if "/c." not in p) / 1e6
    assert done.stdout == (
        f"tiny test: 6 files downloaded ({size:.1f} MB), 0 already here, in {root}/datasets/tiny\n"
    )
    assert done.stderr.startswith("6 files had no published hash: theirs is recorded now")
    assert done.returncode == 0

    done = run("verify", "tiny")
    assert done.stdout == (
        "tiny: 6 files match, 0 changed, 0 lost, 3 not downloaded, 0 without a recorded hash\n"
    )
    assert (done.returncode, done.stderr) == (0, "")

    done = run("path", "tiny:test")
    assert done.stdout == f"{root}/datasets/tiny/test\n"
    assert done.stderr == (
        "3 of its files are not downloaded; run: fluidaudio datasets download tiny\n"
    )
    assert done.returncode == 0

    (root / "datasets/tiny/test/a.rttm").write_text("SPEAKER a 1 0 9 <NA> <NA> x <NA> <NA>\n")
    done = run("verify", "tiny")
    assert "5 files match, 1 changed" in done.stdout
    assert done.stderr == (
        f"changed: {root}/datasets/tiny/test/a.rttm\n"
        "fluidaudio: 1 files of tiny differ from their hash: delete them and download again\n"
    )
    assert done.returncode == 3


def test_a_failed_download_exits_4(root: Path, server: FaultyServer) -> None:
    del server.files["/tiny/a.wav"]
    done = run("download", "tiny")
    assert done.stdout == ""
    assert done.stderr == (
        f"fluidaudio: 1 of 9 downloads failed: {server.url}/tiny/a.wav: the server answered 404 "
        "Not Found: the file may have moved; report the URL\n"
    )
    assert done.returncode == 4


def test_a_lost_file_exits_4(root: Path) -> None:
    assert run("download", "tiny", "--data-dir", str(root)).returncode == 0
    (root / "datasets/tiny/test/a.uem").unlink()
    done = run("verify", "tiny")
    assert "fluidaudio: 1 files of tiny are gone: download it again\n" in done.stderr
    assert done.returncode == 4


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["download", "nope"], 2, "unknown dataset 'nope': choose one of ami-mix-headset"),
        (["verify", "nope"], 2, "unknown dataset 'nope'"),
        (["path", "nope"], 2, "unknown dataset 'nope'"),
        (["download", "ami-sdm", "--split", "eval"], 2, "no split 'eval': choose one of test"),
        (["download", "tiny", "--jobs", "0"], 2, "--jobs 0: give a number of at least 1"),
        (["verify", "tiny"], 4, "tiny is not on this machine: download it with `fluidaudio"),
        (["path", "tiny"], 4, "tiny (test) is not on this machine: download it with"),
    ],
)
def test_errors_are_one_line(root: Path, arguments: list[str], code: int, said: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("fluidaudio: ")


def test_the_sample_is_there(root: Path) -> None:
    done = run("path", "sample")
    assert (Path(done.stdout.strip()) / "sample.wav").is_file()
    assert run("verify", "sample").stdout.startswith("sample: 3 files match, 0 changed, 0 lost")
