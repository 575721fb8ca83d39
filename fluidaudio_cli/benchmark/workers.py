"""Start a worker process and talk to it; its errors are raised here as what they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from fluidaudio_cli import errors
from fluidaudio_cli.benchmark import worker
from fluidaudio_cli.turns import Turn

WINDOW_SAMPLES = 160_000  # 10 s at 16 kHz, one model window
PROTOCOLS = (1, worker.PROTOCOL)
# Loading compiles, on a slow disk and beside others; then no program worth measuring is slower
# than half of real time.
LOAD_TIMEOUT_SECONDS = 900.0
_SECONDS_PER_AUDIO_SECOND = 2.0
_LEAST_TIMEOUT_SECONDS = 300.0
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
    models: str = "bundled"

    def as_dict(self) -> dict[str, Any]:
        """Keyword arguments of ``load_pipeline``."""
        options = asdict(self)
        # Versions of the program to compare with may not know these.
        if not self.low_latency:
            del options["low_latency"]
        if self.models == "bundled":
            del options["models"]
        return options


def timeout_for(audio_seconds: float | None) -> float:
    """Seconds after which a worker at a recording counts as hung, unless ``--timeout`` says."""
    return _LEAST_TIMEOUT_SECONDS + _SECONDS_PER_AUDIO_SECOND * (audio_seconds or 36_000.0)


class Worker:
    """A running worker; use as a context manager. Killed on exit if it does not end itself.

    ``timeout``: seconds for each request, however long the audio; a worker that does not answer
    within them is ended, and the request fails with ``HostError``.
    """

    def __init__(self, command: WorkerCommand, timeout: float | None = None) -> None:
        self._timeout: float | None = None  # not of starting, whatever is asked for
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
            raise errors.HostError(
                f"cannot start {command.argv[0]}: {errors.reason_of(error)}"
            ) from error
        try:
            self.hello = self._receive(LOAD_TIMEOUT_SECONDS)
            self._protocol = self.hello.get("protocol")
            if self._protocol not in PROTOCOLS:
                raise errors.HostError(
                    f"worker speaks protocol {self._protocol}, not {worker.PROTOCOL}",
                    "compare with a version whose benchmark protocol this one knows",
                )
        except BaseException:
            self.close()
            raise
        self._timeout = timeout

    @property
    def pid(self) -> int:
        """Process id, for sampling its memory from outside."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def load(
        self,
        mode: str | Mapping[str, Any],
        options: PipelineOptions,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Load a pipeline; raises what loading raised. ``settings``: of other programs.

        ``mode``: its name or file, or a plan (``Plan.as_dict``), in which the options are settled.
        Raises ``UsageError`` for what an earlier version's protocol cannot be asked for.
        """
        asked = {**options.as_dict(), **(settings or {})}
        if self._protocol == 1 and "models" in asked:
            raise errors.UsageError(
                f"that version does not know other models ({options.models})",
                "compare it with the bundled models",
            )
        return self._ask(LOAD_TIMEOUT_SECONDS, op="load", mode=mode, options=asked)

    def diarize(self, path: Path, audio_seconds: float | None = None) -> dict[str, Any]:
        """One timed diarization; ``audio_seconds``, if known, bound the time for an answer."""
        timeout = timeout_for(audio_seconds)
        return self._ask(timeout, op="diarize", path=str(path.resolve()))

    def oracle(self, reference: Sequence[Turn]) -> tuple[Turn, ...] | None:
        """Turns of the last diarization's evidence with oracle labels; None where it has none."""
        if self._protocol == 1:
            return None
        try:
            reply = self._ask(LOAD_TIMEOUT_SECONDS, op="oracle", reference=list(reference))
        except errors.UsageError:
            return None
        return tuple(Turn(*each) for each in reply["turns"])

    def latency(self, path: Path, windows: int) -> tuple[float, ...]:
        """Seconds of ``windows`` single windows at batch 1, taken in turn from the file."""
        reply = self._ask(
            timeout_for(10.0 * windows),
            op="latency",
            path=str(path.resolve()),
            windows=windows,
            window_samples=WINDOW_SAMPLES,
        )
        return tuple(reply["seconds"])

    def reset_peak(self) -> tuple[bool, int | None]:
        """Start a new memory high-water mark: whether the kernel could, and the mark now."""
        reply = self._ask(LOAD_TIMEOUT_SECONDS, op="reset_peak")
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the process; at once when interrupted in the middle of its work."""
        if kind is not None and not issubclass(kind, errors.FluidAudioError):
            self.kill()
        else:
            self.close()

    def _ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        stdin: IO[str] | None = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except OSError:
            raise self._died() from None
        reply = self._receive(timeout)
        if "error" in reply:
            raise _as_error(reply["error"])
        return reply

    def _receive(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        seconds = self._timeout or timeout
        hung = threading.Event()

        def end() -> None:
            hung.set()
            self._process.kill()

        alarm = threading.Timer(seconds, end)
        alarm.daemon = True
        alarm.start()
        try:
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if hung.is_set():
            self._process.wait()
            raise errors.HostError(
                f"the benchmark's worker process gave no answer within {seconds:g} s and was ended",
                "allow more with --timeout",
            )
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
