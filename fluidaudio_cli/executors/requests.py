"""Asynchronous runs for runtimes that have only synchronous ones: a thread per request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.base import Array, Feeds


class ThreadedRequest(ABC):
    """``start`` and ``wait`` of an infer request on top of its ``run``."""

    def __init__(self) -> None:
        self.copied_bytes = 0
        self._worker: ThreadPoolExecutor | None = None
        self._pending: Future[Mapping[str, Array]] | None = None

    @abstractmethod
    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        """Run on ``feeds`` and wait."""

    def start(self, feeds: Feeds, outputs: Feeds | None = None) -> None:
        """Begin a run on the request's thread, and return at once."""
        if self._pending is not None:
            raise UsageError("a run was started and not waited for", "call wait() first")
        if self._worker is None:
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infer")
        self._pending = self._worker.submit(self.run, feeds, outputs)

    def wait(self) -> Mapping[str, Array]:
        """The results of the run begun by :meth:`start`; its errors are raised here."""
        if self._pending is None:
            raise UsageError("no run was started", "call start() first")
        pending, self._pending = self._pending, None
        return pending.result()
