"""Fetch one file over HTTP: resumed after a cut, retried, checked, whole or absent.

A download grows in ``NAME.part``; ``NAME.part.json`` remembers the server's validator, so that
a later attempt (or a later run) asks for the rest only if the file is still the same one
(``Range`` with ``If-Range``, RFC 9110 sections 13.1.5 and 14.2). A server that does not play
along answers with the whole file, and the download starts over.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.corpora.protocol import (
    content_range,
    innermost_reason,
    redirect_target,
    retry_after_seconds,
    validator_of,
)
from fluidaudio_cli.corpora.store import LockEntry
from fluidaudio_cli.errors import DownloadError, HostError, os_errors
from fluidaudio_cli.files import file_sha256, read_record, write_text_atomic
from fluidaudio_cli.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    import requests

_CHUNK_BYTES = 1 << 18
_MAX_REDIRECTS = 10
# What may pass by itself: timeout, too many requests, and the server's own trouble.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_ROOM = "free space, or choose another --data-dir; the same command goes on where it stopped"
_GZIPPED = re.compile(r"\.t?gz\b")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a download is. Times in seconds.

    ``attempts`` counts failures in a row; an attempt that brought ``progress_bytes`` starts the
    count again, so that a large file survives a line that drops every few minutes.
    ``read_timeout`` is the longest silence, not the length of the download.
    """

    attempts: int = 6
    backoff: float = 1.0
    backoff_limit: float = 60.0
    connect_timeout: float = 20.0
    read_timeout: float = 30.0
    progress_bytes: int = 1 << 20


class _TransientError(Exception):
    """This attempt failed; another may not."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class CancelledDownloadError(DownloadError):
    """The download was given up because another one failed or the user interrupted."""


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    policy: RetryPolicy | None = None,
    progress: ProgressCallback = no_progress,
    cancel: threading.Event | None = None,
) -> LockEntry:
    """Download ``url`` to ``target``; ``progress`` is told bytes.

    Raises:
        DownloadError: The server refused, kept failing, or sent other bytes than ``sha256`` or
            ``size`` say (nothing is kept then); a cut download keeps its part for the next run.
        HostError: The disk is full or cannot be written.
        CancelledDownloadError: ``cancel`` was set.
    """
    import requests

    part = target.with_name(target.name + ".part")
    with os_errors(f"cannot write {target}", _ROOM):
        target.parent.mkdir(parents=True, exist_ok=True)
        with requests.Session() as session:
            transfer = _Transfer(
                session,
                url,
                part,
                size,
                policy or RetryPolicy(),
                progress,
                cancel or threading.Event(),
            )
            transfer.run()
        fetched = LockEntry(sha256=file_sha256(part), bytes=transfer.have(), url=url)
    problem = ""
    if size is not None and fetched.bytes != size:
        problem = f"has {fetched.bytes} bytes where {size} were expected"
    elif sha256 is not None and fetched.sha256 != sha256:
        problem = f"has SHA-256 {fetched.sha256[:12]}… where {sha256[:12]}… was expected"
    if problem:
        transfer.drop()
        raise DownloadError(
            f"{url}: {problem}; the file was removed", "try again; if it persists, report the URL"
        )
    part.replace(target)
    transfer.drop()
    return fetched


@dataclass(frozen=True)
class _Transfer:
    """One download: what is asked for, and in ``part`` what is there of it."""

    session: requests.Session
    url: str
    part: Path
    size: int | None
    policy: RetryPolicy
    progress: ProgressCallback
    cancel: threading.Event

    @property
    def note(self) -> Path:
        return self.part.with_name(self.part.name + ".json")

    def have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def run(self) -> None:
        """Attempt it until it is there, or has failed too often in a row."""
        policy, failures = self.policy, 0
        while True:
            before = self.have()
            try:
                return self._attempt()
            except _TransientError as trouble:
                advanced = self.have() - before >= policy.progress_bytes
                failures = 1 if advanced else failures + 1
                if failures >= policy.attempts:
                    raise DownloadError(
                        f"{self.url}: {trouble}, {failures} times in a row",
                        "run the same command again later; it resumes where it stopped",
                    ) from trouble
                wait = min(policy.backoff * 2 ** (failures - 1), policy.backoff_limit)
                if self.cancel.wait(max(wait, trouble.wait or 0.0)):
                    raise CancelledDownloadError(f"{self.url}: given up") from trouble

    def _attempt(self) -> None:
        """One request; returns when the part is complete, as far as the server lets us know."""
        import requests
        import urllib3

        note = read_record(self.note)
        # The strong ETag or Last-Modified that the bytes belong to.
        validator = note.get("validator") if note.get("url") == self.url else None
        have = self.have() if isinstance(validator, str) else 0
        # Without the identity coding, byte ranges would count compressed bytes.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator or ""}
        try:
            with _follow(self.session, self.url, headers, self.policy) as response:
                if response.status_code == 416 and have:
                    if content_range(response.headers.get("Content-Range", ""))[1] == have:
                        return
                    self.drop()
                    raise _TransientError("the file on the server has become shorter")
                _check_status(response, self.policy)
                coding = response.headers.get("Content-Encoding", "identity")
                # Of archives servers say so though it is the file's own compression.
                if coding != "identity" and not _GZIPPED.search(self.url):
                    raise DownloadError(
                        f"{self.url}: is sent as {coding}, which was not asked for",
                        "report the URL",
                    )
                offset, total = self._start(response, have, validator)
                if self.size is not None and total is not None and total != self.size:
                    self.drop()
                    raise DownloadError(
                        f"{self.url}: has {total} bytes where {self.size} were expected",
                        "the published file has changed; report the URL",
                    )
                _check_space(self.part, offset, total)
                received = self._receive(response, offset, total or self.size)
        except requests.exceptions.SSLError as error:
            raise DownloadError(
                f"{self.url}: the server's certificate is not trusted ({innermost_reason(error)})",
                "check the clock and REQUESTS_CA_BUNDLE",
            ) from error
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _TransientError("no answer in time") from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _TransientError(innermost_reason(error)) from error
        if received != total and (total is not None or not received):
            raise _TransientError(f"ended after {received} of {total or 'some'} bytes")

    def _start(
        self, response: requests.Response, have: int, validator: str | None
    ) -> tuple[int, int | None]:
        """Where the body starts and how long the whole is; a fresh start forgets the part."""
        now = validator_of(response.headers)
        if response.status_code == 206:
            start, total = content_range(response.headers.get("Content-Range", ""))
            if start != have or (now is not None and now != validator):
                self.drop()
                raise _TransientError("the server sent another part than was asked for")
            return have, total
        self.drop()
        if now is not None:
            write_text_atomic(self.note, json.dumps({"url": self.url, "validator": now}))
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None

    def _receive(self, response: requests.Response, offset: int, total: int | None) -> int:
        """Append the body to the part; returns its size. A cut leaves what had arrived."""
        received = offset
        with self.part.open("ab") as stream:
            # Not iter_content: that waits for full chunks, and a cut would lose what had arrived.
            while chunk := response.raw.read1(_CHUNK_BYTES):
                if self.cancel.is_set():
                    raise CancelledDownloadError(f"{self.url}: given up")
                stream.write(chunk)
                received += len(chunk)
                if total is not None and received > total:
                    break
                self.progress(received, total)
        if total is not None and received > total:
            self.drop()
            raise DownloadError(
                f"{self.url}: sends more than the {total} bytes it should have", "report the URL"
            )
        return received


def _follow(
    session: requests.Session, url: str, headers: dict[str, str], policy: RetryPolicy
) -> requests.Response:
    """GET with redirects followed by hand, so that none may leave https."""
    timeout = (policy.connect_timeout, policy.read_timeout)
    for _ in range(_MAX_REDIRECTS + 1):
        response = session.get(
            url, headers=headers, stream=True, timeout=timeout, allow_redirects=False
        )
        if response.status_code not in _REDIRECTS:
            return response
        location = response.headers.get("Location", "")
        response.close()
        url = redirect_target(url, location)
    raise DownloadError(f"{url}: more than {_MAX_REDIRECTS} redirects", "report the URL")


def _check_status(response: requests.Response, policy: RetryPolicy) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    said = f"the server answered {status} {response.reason}".rstrip()
    if status not in _TRANSIENT:
        raise DownloadError(f"{response.url}: {said}", "the file may have moved; report the URL")
    wait = retry_after_seconds(response.headers.get("Retry-After"), time.time())
    if wait is not None and wait > policy.backoff_limit:
        raise DownloadError(
            f"{response.url}: {said} and asks to wait {wait:.0f} s",
            "run the same command again then; it resumes where it stopped",
        )
    raise _TransientError(said, wait)


def _check_space(part: Path, offset: int, total: int | None) -> None:
    if total is None:
        return
    free = shutil.disk_usage(part.parent).free
    if total - offset > free:
        raise HostError(
            f"{part.parent} has {free / 1e9:.1f} GB free, {(total - offset) / 1e9:.1f} GB needed",
            _ROOM,
        )
