"""A command on a terminal of its own, as a user's shell starts it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_CTRL_C = b"\x03"


class Terminal:
    """``fluidaudio ARGUMENTS`` whose stdin, stdout and stderr are one terminal, 40 columns wide."""

    def __init__(self, arguments: Sequence[str | Path], **env: str) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fluidaudio_cli", *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "40", **env},
            # The terminal sends its Ctrl-C to the processes that it controls.
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    def wait_for(self, text: bytes, seconds: float = 120.0) -> None:
        """Read until ``text`` was shown."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read(0.1), self.shown

    def ctrl_c(self) -> None:
        """Press Ctrl-C."""
        os.write(self._ours, _CTRL_C)

    def end(self, seconds: float = 120.0) -> int:
        """The exit code, once the command has ended and all that it showed is read."""
        deadline = time.monotonic() + seconds
        while self._read(0.1):
            if time.monotonic() > deadline:
                self._process.kill()
                raise AssertionError(f"hangs after {self.shown!r}")
        os.close(self._ours)
        return self._process.wait()

    def _read(self, seconds: float) -> bool:
        """Take in what is shown; whether there may be more."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return self._process.poll() is None
        try:
            found = os.read(self._ours, 65536)
        except OSError:  # Linux's way to say that nobody has the other end open
            return False
        self.shown += found
        return bool(found)


def _take_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
