from __future__ import annotations

import errno
import hashlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from fluidaudio_cli.corpora import transfer
from fluidaudio_cli.corpora.protocol import (
    content_range,
    redirect_target,
    retry_after_seconds,
    validator_of,
)
from fluidaudio_cli.corpora.store import LockEntry
from fluidaudio_cli.corpora.transfer import CancelledDownloadError, RetryPolicy, fetch
from fluidaudio_cli.errors import DownloadError, HostError
from tests.corpora.faulty_server import Fault, FaultyServer, etag_of

# Larger than one chunk, and no two parts of it alike.
CONTENT = b"".join(i.to_bytes(4, "big") for i in range(100_000))
OTHER = bytes(reversed(CONTENT))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetches_a_file_and_says_what_it_is(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    url = server.add("/file", CONTENT)
    told: list[tuple[float, float | None]] = []
    fetched = fetch(
        url, tmp_path / "f", policy=quick, progress=lambda done, total: told.append((done, total))
    )
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert fetched == LockEntry(sha256=SHA256, bytes=400_000, url=url)
    assert told[-1] == (400_000, 400_000)
    assert leftovers(tmp_path) == ["f"]


def test_resumes_after_a_cut_where_it_stopped(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    url = server.add("/file", CONTENT, Fault(cut=150_000), Fault(cut=100_000))
    fetched = fetch(url, tmp_path / "f", sha256=SHA256, policy=quick)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert fetched.sha256 == SHA256
    assert [(given, condition) for _, given, condition in server.seen] == [
        (None, None),
        ("bytes=150000-", etag_of(CONTENT)),
        ("bytes=250000-", etag_of(CONTENT)),
    ]


def test_a_later_run_resumes_what_an_earlier_one_left(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    url = server.add("/file", CONTENT, Fault(cut=150_000))
    with pytest.raises(DownloadError) as caught:
        fetch(url, tmp_path / "f", policy=replace(quick, attempts=1))
    assert "1 times in a row: run the same command again later" in str(caught.value)
    assert leftovers(tmp_path) == ["f.part", "f.part.json"]
    fetch(url, tmp_path / "f", policy=quick)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests("/file") == [None, "bytes=150000-"]


def test_a_part_of_another_url_is_not_continued(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    cut = server.add("/old", OTHER, Fault(cut=150_000))
    with pytest.raises(DownloadError):
        fetch(cut, tmp_path / "f", policy=replace(quick, attempts=1))
    fetch(server.add("/new", CONTENT), tmp_path / "f", policy=quick)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests("/new") == [None]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(Fault(ignore_range=True), id="server ignores Range"),
        pytest.param(Fault(replace=OTHER), id="file replaced, server honours If-Range"),
        pytest.param(Fault(replace=OTHER, ignore_if_range=True), id="and server ignores If-Range"),
        pytest.param(Fault(shift_range=7), id="server sends another range"),
        pytest.param(Fault(replace=OTHER[:1000], ignore_if_range=True), id="file became shorter"),
    ],
)
def test_never_joins_bytes_that_do_not_belong_together(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path, second: Fault
) -> None:
    url = server.add("/file", CONTENT, Fault(cut=150_000), second)
    fetch(url, tmp_path / "f", policy=quick)
    assert (tmp_path / "f").read_bytes() == server.files["/file"]
    assert server.requests("/file")[:2] == [None, "bytes=150000-"]


def test_without_a_validator_it_starts_over(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    fault = Fault(cut=150_000, no_validator=True)
    url = server.add("/file", CONTENT, fault, Fault(no_validator=True))
    fetch(url, tmp_path / "f", policy=quick)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests("/file") == [None, None]


def test_a_stalled_connection_is_given_up_and_resumed(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    url = server.add("/file", CONTENT, Fault(stall=262_144))
    fetch(url, tmp_path / "f", policy=quick)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests("/file") == [None, "bytes=262144-"]


def test_attempts_that_bring_something_start_the_count_again(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    url = server.add("/file", CONTENT, *[Fault(cut=20_000)] * 6)
    fetch(url, tmp_path / "f", policy=replace(quick, attempts=2))
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(server.seen) == 7


def test_a_passing_server_error_is_retried(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    busy = Fault(status=429, headers=(("Retry-After", "0"),))
    url = server.add("/file", CONTENT, Fault(status=500), busy)
    fetch(url, tmp_path / "f", policy=quick)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(server.seen) == 3


class Refusal(NamedTuple):
    faults: list[Fault]
    requests: int
    said: str


@pytest.mark.parametrize(
    "case",
    [
        Refusal([Fault(status=404)], 1, "the server answered 404 Not Found: the file may have"),
        Refusal([Fault(status=403)], 1, "the server answered 403 Forbidden"),
        Refusal([Fault(status=503)] * 9, 3, "503 Service Unavailable, 3 times in a row"),
        Refusal(
            [Fault(status=429, headers=(("Retry-After", "7200"),))],
            1,
            "429 Too Many Requests and asks to wait 7200 s: run the same command again then",
        ),
        Refusal([Fault(length_error=50, ignore_range=True)] * 9, 3, "50 more expected), 3 times"),
        Refusal([Fault(cut=100)] * 9, 3, "4700 more expected), 3 times in a row"),
    ],
)
def test_gives_up_with_one_line(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path, case: Refusal
) -> None:
    url = server.add("/file", CONTENT[:5000], *case.faults)
    with pytest.raises(DownloadError) as caught:
        fetch(url, tmp_path / "f", policy=quick)
    assert case.said in str(caught.value)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.seen) == case.requests
    assert not (tmp_path / "f").exists()


def test_nobody_listening_is_one_line(quick: RetryPolicy, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch("http://127.0.0.1:1/f", tmp_path / "f", policy=quick)
    assert "Connection refused" in str(caught.value)
    assert "3 times in a row" in str(caught.value)


def test_corrupt_bytes_are_removed(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    url = server.add("/file", CONTENT[:-1] + b"?")
    with pytest.raises(DownloadError) as caught:
        fetch(url, tmp_path / "f", sha256=SHA256, policy=quick)
    assert f"where {SHA256[:12]}… was expected; the file was removed" in str(caught.value)
    assert leftovers(tmp_path) == []


def test_a_content_length_too_short_is_noticed_by_the_size(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    url = server.add("/file", CONTENT, Fault(length_error=-1000))
    with pytest.raises(DownloadError, match="has 399000 bytes where 400000 were expected"):
        fetch(url, tmp_path / "f", size=len(CONTENT), policy=quick)
    assert leftovers(tmp_path) == []


def test_a_content_length_too_long_is_settled_by_the_range_answer(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    # The second request asks for what should still come; 416 says the file ends here.
    url = server.add("/file", CONTENT, Fault(length_error=1000))
    fetch(url, tmp_path / "f", policy=quick)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests("/file") == [None, "bytes=400000-"]


def test_a_file_compressed_on_the_way_is_not_taken_for_the_file(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    """Where no hash was known it was recorded, as what the file must be from then on."""
    coded = Fault(headers=(("Content-Encoding", "gzip"),))
    url = server.add("/a.wav", CONTENT, coded)
    with pytest.raises(DownloadError, match=r"a\.wav: is sent as gzip, which was not asked for: "):
        fetch(url, tmp_path / "a.wav", policy=quick)
    assert leftovers(tmp_path) == []
    url = server.add("/a.tar.gz", CONTENT, coded)
    assert fetch(url, tmp_path / "a.tar.gz", policy=quick).sha256 == SHA256


def test_nothing_is_no_file(server: FaultyServer, quick: RetryPolicy, tmp_path: Path) -> None:
    """A server that is overloaded closes a connection whose end is that of the file."""
    url = server.add("/file", CONTENT, Fault(cut=0, no_length=True))
    assert fetch(url, tmp_path / "f", policy=quick).sha256 == SHA256
    assert len(server.seen) == 2


def test_redirects_are_followed_and_keep_the_range(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    server.add("/file", CONTENT, Fault(cut=150_000))
    hop = Fault(status=302, headers=(("Location", "/file"),))
    url = server.add("/link", b"", hop, hop)
    fetch(url, tmp_path / "f", sha256=SHA256, policy=quick)
    assert server.requests("/file") == [None, "bytes=150000-"]


def test_a_redirect_loop_ends(server: FaultyServer, quick: RetryPolicy, tmp_path: Path) -> None:
    url = server.add("/loop", b"", *[Fault(status=301, headers=(("Location", "/loop"),))] * 20)
    with pytest.raises(DownloadError, match="more than 10 redirects"):
        fetch(url, tmp_path / "f", policy=quick)
    assert len(server.seen) == 11


def test_redirects_never_leave_https() -> None:
    assert redirect_target("http://a/x", "https://b/y") == "https://b/y"
    assert redirect_target("https://a/x/y", "../z") == "https://a/z"
    with pytest.raises(DownloadError, match="redirects to unencrypted http://b/y"):
        redirect_target("https://a/x", "http://b/y")
    with pytest.raises(DownloadError, match="redirects to file:///etc/passwd"):
        redirect_target("https://a/x", "file:///etc/passwd")
    with pytest.raises(DownloadError, match="redirects to nowhere"):
        redirect_target("https://a/x", "")


def test_a_disk_too_small_is_said_before_downloading(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(399_999))
    url = server.add("/file", CONTENT)
    with pytest.raises(HostError, match=r"0\.0 GB free, 0\.0 GB needed: free space") as caught:
        fetch(url, tmp_path / "f", policy=quick)
    assert not isinstance(caught.value, DownloadError)


def test_a_disk_filling_up_keeps_the_part(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    url = server.add("/file", CONTENT, Fault(cut=150_000))
    with pytest.raises(DownloadError):
        fetch(url, tmp_path / "f", policy=replace(quick, attempts=1))
    monkeypatch.setattr(transfer._Transfer, "_receive", full)
    with pytest.raises(HostError, match=r"cannot write .*: No space left on device: free space"):
        fetch(url, tmp_path / "f", policy=quick)
    assert (tmp_path / "f.part").stat().st_size == 150_000


def test_a_cancelled_download_stops(
    server: FaultyServer, quick: RetryPolicy, tmp_path: Path
) -> None:
    cancel = threading.Event()
    url = server.add("/file", CONTENT)
    with pytest.raises(CancelledDownloadError):
        fetch(
            url,
            tmp_path / "f",
            policy=quick,
            cancel=cancel,
            progress=lambda done, total: cancel.set(),
        )
    assert not (tmp_path / "f").exists()


def test_headers_are_read_as_the_standard_says() -> None:
    assert retry_after_seconds(None, 0.0) is None
    assert retry_after_seconds("120", 0.0) == 120.0
    assert retry_after_seconds("soon", 0.0) is None
    # 1994-11-06 08:49:37 UTC is 784111777 s after the epoch.
    assert retry_after_seconds("Sun, 06 Nov 1994 08:49:37 GMT", 784111770.0) == 7.0
    assert retry_after_seconds("Sun, 06 Nov 1994 08:49:37 GMT", 784111800.0) == 0.0
    assert content_range("bytes 5-9/10") == (5, 10)
    assert content_range("bytes */10") == (None, 10)
    assert content_range("bytes 5-9/*") == (5, None)
    assert content_range("lines 5-9/10") == (None, None)
    assert validator_of({"ETag": '"x"', "Last-Modified": "then"}) == '"x"'
    assert validator_of({"ETag": 'W/"x"', "Last-Modified": "then"}) == "then"
    assert validator_of({"ETag": 'W/"x"'}) is None
