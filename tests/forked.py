"""``fluidaudio ARGUMENTS`` in a process of its own, without importing everything anew each time.

On Linux each command is forked from one process that has imported the program and runs nothing;
elsewhere it is started as users do. Tests of how a process starts or is ended start their own.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

_REPOSITORY = Path(__file__).resolve().parent.parent
# Of these the interpreter takes notice when it starts.
_AT_START = ("PYTHON", "OPENBLAS_", "LD_")
# Not the runtimes: importing them starts threads.
_LIBRARIES = (
    "onnx",
    "pyannote.metrics.diarization",
    "scipy.cluster.hierarchy",
    "scipy.optimize",
    "scipy.signal",
    "scipy.stats",
)

Done = subprocess.CompletedProcess[str]


def run(*arguments: object, env: Mapping[str, str] | None = None, timeout: float = 300) -> Done:
    """The command's exit code, stdout and stderr; ``env`` adds to this process's."""
    words = [str(each) for each in arguments]
    given = {**os.environ, **(env or {})}
    if sys.platform != "linux" or any(name.startswith(_AT_START) for name in env or ()):
        return subprocess.run(
            [sys.executable, "-m", "fluidaudio_cli", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env=given,
            timeout=timeout,
            check=False,
        )
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        streams = [f"/proc/{os.getpid()}/fd/{each.fileno()}" for each in (out, err)]
        code = _server().run(words, given, streams, timeout)
        said = [_text(each) for each in (out, err)]
    return subprocess.CompletedProcess(words, code, *said)


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode().replace("\r\n", "\n")


class _Server:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_REPOSITORY,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        atexit.register(self.close)

    def run(
        self, arguments: list[str], env: Mapping[str, str], streams: list[str], timeout: float
    ) -> int:
        asked = (arguments, dict(env), streams, str(Path.cwd()), timeout)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        self._process.communicate()


@cache
def _server() -> _Server:
    return _Server()


def _serve() -> None:
    for name in (*_LIBRARIES, *_modules()):
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - else a fork would lose some
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            _become(*json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _modules() -> list[str]:
    """Every module of the program that does nothing when it is imported."""
    files = (_REPOSITORY / "fluidaudio_cli").rglob("*.py")
    found = (".".join(path.relative_to(_REPOSITORY).with_suffix("").parts) for path in files)
    left_out = ("__init__", "__main__", "_worker")
    return sorted(name for name in found if not name.endswith(left_out))


def _become(
    arguments: list[str], env: dict[str, str], streams: list[str], folder: str, timeout: float
) -> Any:
    import signal

    from fluidaudio_cli.cli.process import script

    signal.setitimer(signal.ITIMER_REAL, timeout)  # SIGALRM ends it
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, path in zip((1, 2), streams, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = ["fluidaudio", *arguments]
    try:
        script()
    finally:
        os._exit(1)


if __name__ == "__main__":
    _serve()
