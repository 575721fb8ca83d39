"""A file server that misbehaves as told, and corpora that point at it."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    ``cut`` closes the connection, and ``stall`` goes silent, after so many bytes of the body;
    ``length_error`` is added to Content-Length, which ``no_length`` leaves out; ``replace`` swaps
    the file (and so its ETag) before answering.
    """

    cut: int | None = None
    stall: int | None = None
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ignore_range: bool = False
    ignore_if_range: bool = False
    no_validator: bool = False
    length_error: int = 0
    no_length: bool = False
    replace: bytes | None = None
    shift_range: int = 0


FINE = Fault()


@dataclass
class FaultyServer:
    """Files by path, and per path the faults of the requests to come; then it behaves."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    seen: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    barrier: threading.Barrier | None = None
    released: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    most_running: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, path: str, content: bytes, *faults: Fault) -> str:
        """Serve ``content``; returns its URL."""
        self.files[path] = content
        self.faults[path] = list(faults)
        return self.url + path

    def requests(self, path: str) -> list[str | None]:
        """The Range header of every request for ``path``, in order."""
        return [given for seen, given, _ in self.seen if seen == path]


def etag_of(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that goes away is part of the tests
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        state: FaultyServer = self.server.state  # type: ignore[attr-defined]
        with state.guard:
            state.running += 1
            state.most_running = max(state.most_running, state.running)
            given = self.headers.get("Range")
            state.seen.append((self.path, given, self.headers.get("If-Range")))
            queue = state.faults.get(self.path, [])
            fault = queue.pop(0) if queue else FINE
            if fault.replace is not None:
                state.files[self.path] = fault.replace
        try:
            if state.barrier is not None:
                state.barrier.wait(5)
            self._answer(state, fault, given)
        finally:
            with state.guard:
                state.running -= 1

    def _answer(self, state: FaultyServer, fault: Fault, given: str | None) -> None:
        content = state.files.get(self.path)
        status = fault.status or (200 if content is not None else 404)
        if status != 200 or content is None:
            self._head(status, fault, {"Content-Length": "0"})
            return
        etag, total = etag_of(content), len(content)
        headers = {} if fault.no_validator else {"ETag": etag}
        same = fault.ignore_if_range or self.headers.get("If-Range") == etag
        first = 0
        if given and same and not fault.ignore_range:
            first = int(given.removeprefix("bytes=").removesuffix("-")) + fault.shift_range
            if first >= total:
                self._head(416, fault, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
                return
            headers["Content-Range"] = f"bytes {first}-{total - 1}/{total}"
        body = content[first:]
        if not fault.no_length:
            headers["Content-Length"] = str(len(body) + fault.length_error)
        self._head(206 if "Content-Range" in headers else 200, fault, headers)
        end = fault.cut if fault.cut is not None else fault.stall
        self.wfile.write(body[:end])
        self.wfile.flush()
        if fault.stall is not None:
            state.released.wait(5)
        if end is not None or fault.length_error:
            self.close_connection = True

    def _head(self, status: int, fault: Fault, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers.items(), *fault.headers):
            self.send_header(name, value)
        self.end_headers()


def write_corpus(root: Path, server_url: str, name: str = "tiny", uris: str = "a, b, c") -> Path:
    """A user's manifest of files on the server: NAME/URI.wav, .rttm and .uem."""
    folder = root / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(
        f"""schema: fluidaudio.dataset/1
name: {name}
title: Tiny
licence: CC0
homepage: https://example.org
citation: none
audio: {{url: "{server_url}/{name}/{{uri}}.wav"}}
reference: {{url: "{server_url}/{name}/{{uri}}.rttm"}}
uem: {{url: "{server_url}/{name}/{{uri}}.uem"}}
default_split: test
splits:
  test: {{count: {len(uris.split(","))}, uris: [{uris}]}}
""",
        encoding="utf-8",
    )
    return path


def rttm_line(uri: str) -> bytes:
    return f"SPEAKER {uri} 1 0.5 1.0 <NA> <NA> alice <NA> <NA>\n".encode()


def serve_corpus(server: FaultyServer, name: str = "tiny", uris: str = "abc") -> None:
    """Put the files of ``write_corpus`` on the server: 9 for three uris."""
    for uri in uris:
        server.add(f"/{name}/{uri}.wav", f"audio of {uri}".encode() * 1000)
        server.add(f"/{name}/{uri}.rttm", rttm_line(uri))
        server.add(f"/{name}/{uri}.uem", f"{uri} 1 0.0 2.0\n".encode())
