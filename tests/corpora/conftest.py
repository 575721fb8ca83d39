"""Fixtures of the corpora tests: a server on this machine, and little patience."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from fluidaudio_cli.corpora.transfer import RetryPolicy
from tests.corpora.faulty_server import FaultyServer, Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    # A proxy of the test machine must not stand between the client and this server.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    state = FaultyServer(f"http://127.0.0.1:{http.server_address[1]}")
    http.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.released.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def quick() -> RetryPolicy:
    """Patience measured in milliseconds."""
    return RetryPolicy(
        attempts=3, backoff=0.01, backoff_limit=0.05, read_timeout=0.3, progress_bytes=10_000
    )
