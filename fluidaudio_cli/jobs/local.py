"""Workers as processes of this machine: one that is killed takes nothing but itself along."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import Any

from fluidaudio_cli.errors import FluidAudioError, HostError, show_warning
from fluidaudio_cli.jobs.pool import Chunk, News
from fluidaudio_cli.jobs.work import Facts, Outcome, Work
from fluidaudio_cli.signals import deaf_to_interrupts

_STARTS = 3
"""How often in a row a worker may be lost before it has loaded: no recording is to blame."""

_ENDING_SECONDS = 5.0
"""Between the end of a process's pipe and its exit code, or from being ended to being gone."""


class LocalPool:
    """``workers`` processes, of ``threads`` processors each; begun when first needed."""

    def __init__(self, work: Work, workers: int, threads: int | None) -> None:
        self.capacity = workers
        self._work, self._threads = work, threads
        self._idle: list[_Process] = []
        self._busy: dict[Connection, _Process] = {}
        self._news: deque[News] = deque()
        self._lost_starts = 0
        # What a crashing runtime writes about itself should be seen, so stderr is shared.
        self._context = multiprocessing.get_context("spawn")

    def submit(self, chunk: Chunk) -> None:
        """Give it to an idle process, or a new one."""
        while True:
            if self._idle:
                process = self._idle.pop()
            else:
                process = _Process(self._context, self._work, self._threads)
            if process.give(chunk):
                break
        self._busy[process.pipe] = process

    def wait(self) -> News:
        """The next news of any process."""
        while not self._news:
            for pipe in wait(list(self._busy)):
                assert isinstance(pipe, Connection)
                self._hear(self._busy[pipe])
        return self._news.popleft()

    def close(self) -> None:
        """End all processes: what they had begun is not written yet."""
        for process in self._idle:
            process.end()
        for process in self._busy.values():
            process.end(now=True)

    def _hear(self, process: _Process) -> None:
        assert process.chunk is not None
        try:
            said = process.pipe.recv()
        except (EOFError, OSError):
            del self._busy[process.pipe]
            how = process.end()
            if process.facts is not None:
                self._news.append(News(process.chunk, ended=True, lost=process.words or how))
                return
            self._lost_starts += 1
            if self._lost_starts == _STARTS:
                raise HostError(
                    f"{_STARTS} workers in a row ended before their models were loaded "
                    f"({process.words or how})",
                    "see `fluidaudio doctor`; memory may be short",
                ) from None
            self.submit(process.chunk)
            return
        if isinstance(said, Facts):
            process.facts = said
            self._lost_starts = 0
        elif isinstance(said, str):
            process.words = said
        elif isinstance(said, FluidAudioError):
            raise said
        elif said is None:
            del self._busy[process.pipe]
            self._idle.append(process)
            self._news.append(News(process.chunk, ended=True))
        else:
            number, document = said
            self._news.append(News(process.chunk, [Outcome(number, document, process.facts)]))


class _Process:
    def __init__(self, context: Any, work: Work, threads: int | None) -> None:
        self.facts: Facts | None = None
        self.words = ""  # its last, where it could tell what went wrong
        self.chunk: Chunk | None = None
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, work, threads), name="worker", daemon=True
        )
        with deaf_to_interrupts():
            self._process.start()
        theirs.close()  # so that its end shows

    def give(self, chunk: Chunk) -> bool:
        """Send a chunk; whether the process still took it."""
        try:
            self.pipe.send(chunk)
        except OSError:
            self.end()
            return False
        self.chunk = chunk
        return True

    def end(self, now: bool = False) -> str:
        """End it if it has not ended; how it did."""
        self.pipe.close()
        if not now:
            self._process.join(_ENDING_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        self._process.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _serve(pipe: Connection, work: Work, threads: int | None) -> None:
    """A worker process: chunks in; facts, outcomes, and ``None`` behind each chunk, out.

    What it did not expect is told in words, and ends it.
    """
    # The parent decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.showwarning = show_warning
    try:
        session = work.start(threads)
        pipe.send(session.facts)
        while True:
            chunk = pipe.recv()
            for number, document in zip(chunk.numbers, session.run(chunk.sources), strict=True):
                pipe.send((number, document))
            pipe.send(None)
    except FluidAudioError as error:
        pipe.send(error)
    except (EOFError, ConnectionError):
        pass  # the parent is gone, or done
    except Exception as error:  # noqa: BLE001 - the parent tells it of the recording
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
    sys.stderr.flush()
    os._exit(0)  # as the command ends: nothing here needs to be taken down piece by piece
