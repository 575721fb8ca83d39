"""Start a worker process and talk to it; its errors are raised here as what they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from fluidaudio_cli import errors
from fluidaudio_cli.benchmark import worker

WINDOW_SAMPLES = 160_000  # 10 s at 16 kHz, one model window
_CLOSING_SECONDS = 10.0
# Between the end of a process's output and its exit code; one that talks nonsense is killed.
_DYING_SECONDS = 0.5


@dataclass(frozen=True)
class WorkerCommand:
    """How to start a worker: arguments, folder, and variables over this process's own."""

    argv: tuple[str, ...] = (sys.executable, "-m", "fluidaudio_cli.benchmark.worker")
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def with_env(self, **variables: str) -> WorkerCommand:
        """The same command with more environment variables."""
        return WorkerCommand(self.argv, self.cwd, {**self.env, **variables})


@dataclass(frozen=True)
class PipelineOptions:
    """What ``load_pipeline`` is asked for."""

    executor: str = "auto"
    precision: str = "auto"
    compute_units: str = "all"
    threads: int | None = None
    low_latency: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Keyword arguments of ``load_pipeline``."""
        options = asdict(self)
        if not self.low_latency:
            # Versions of the program to compare with may not know it.
            del options["low_latency"]
        return options


class Worker:
    """A running worker; use as a context manager. Killed on exit if it does not end itself."""

    def __init__(self, command: WorkerCommand) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env={**os.environ, **command.env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self._log.close()
            raise errors.HostError(f"cannot start {command.argv[0]}: {error}") from error
        try:
            self.hello = self._receive()
            if self.hello.get("protocol") != worker.PROTOCOL:
                raise errors.HostError(
                    f"worker speaks protocol {self.hello.get('protocol')}, not {worker.PROTOCOL}",
                    "compare with a version that has the same benchmark protocol",
                )
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id, for sampling its memory from outside."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def load(self, mode: str | Mapping[str, Any], options: PipelineOptions) -> dict[str, Any]:
        """Load a pipeline; raises what loading raised.

        ``mode``: its name or file, or a plan (``Plan.as_dict``), in which the options are settled.
        """
        return self._ask(op="load", mode=mode, options=options.as_dict())

    def diarize(self, path: Path) -> dict[str, Any]:
        """One timed diarization."""
        return self._ask(op="diarize", path=str(path.resolve()))

    def latency(self, path: Path, windows: int) -> tuple[float, ...]:
        """Seconds of ``windows`` single windows at batch 1, taken in turn from the file."""
        reply = self._ask(
            op="latency", path=str(path.resolve()), windows=windows, window_samples=WINDOW_SAMPLES
        )
        return tuple(reply["seconds"])

    def reset_peak(self) -> tuple[bool, int | None]:
        """Start a new memory high-water mark: whether the kernel could, and the mark now."""
        reply = self._ask(op="reset_peak")
        return bool(reply["reset"]), reply["peak_bytes"]

    def close(self) -> None:
        """End the process: ask it by closing its input, then kill it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue  # a broken pipe: it is gone already
        try:
            self._process.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self.close()

    def __enter__(self) -> Worker:
        """The worker itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process; at once when interrupted in the middle of its work."""
        if kind is not None and not issubclass(kind, errors.FluidAudioError):
            self.kill()
        else:
            self.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        stdin: IO[str] | None = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except OSError:
            raise self._died() from None
        reply = self._receive()
        if "error" in reply:
            raise _as_error(reply["error"])
        return reply

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            reply = json.loads(line)
        except ValueError:
            raise self._died() from None
        if not isinstance(reply, dict):
            raise self._died()
        return reply

    def _died(self) -> errors.HostError:
        try:
            code = self._process.wait(_DYING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        last = f", its last words: {lines[-1]}" if lines else ""
        return errors.HostError(f"the benchmark's worker process ended ({code}){last}")


def _as_error(record: Mapping[str, str]) -> errors.FluidAudioError:
    kind = getattr(errors, record["class"], errors.HostError)
    if not (isinstance(kind, type) and issubclass(kind, errors.FluidAudioError)):
        kind = errors.HostError
    return kind(record["message"], record["remedy"])
