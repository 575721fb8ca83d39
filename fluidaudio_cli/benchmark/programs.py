"""Other programs to measure beside this one: another version, a command, a peer.

In a command ``{audio}`` stands for the recording and ``{mode}`` for the performance mode.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from fluidaudio_cli.benchmark.grid import Program
from fluidaudio_cli.benchmark.results import BenchmarkResult
from fluidaudio_cli.benchmark.workers import Worker, WorkerCommand, timeout_for
from fluidaudio_cli.errors import HostError, UsageError, reason_of
from fluidaudio_cli.files import temporary_folder
from fluidaudio_cli.measure.statistics import summarise
from fluidaudio_cli.turns import Turn

THIS_VERSION = "this version"
"""This program, as the other side of ``--against``: in turn with it, and untuned."""

# Builds another version's kernels as its own installation would, whatever they are.
_BUILD = """
import sys
sys.path.insert(0, ".")
try:
    from hatch_build import KernelBuildHook
except ImportError as error:
    sys.exit(f"its build hook cannot be used: {error}")
class App:
    def display_warning(self, text): sys.exit(text)
hook = KernelBuildHook(".", {}, None, None, "", "wheel", App())
hook.initialize("editable", {"force_include": {}})
"""
_KERNEL_SOURCES = "fluidaudio_cli/**/*.c"


class CommandLane:
    """A command that is started for each recording.

    ``timed``: the whole process is the measurement; else what the result that it prints says.
    """

    pid = None

    def __init__(self, command: WorkerCommand, mode: str, timed: bool, timeout: float | None):
        self._command, self._mode, self._timed, self._timeout = command, mode, timed, timeout

    def diarize(self, path: Path, audio_seconds: float | None = None) -> dict[str, Any]:
        """Run it once; raises ``HostError`` when it fails or prints no result any more."""
        timeout = self._timeout or timeout_for(audio_seconds)
        cpu, started = _children_cpu(), time.perf_counter()
        printed = _run(self._command, path, self._mode, timeout)
        wall, cpu = time.perf_counter() - started, _children_cpu() - cpu
        if not self._timed:
            cost = _printed_cost(printed)
            if cost is None:
                raise HostError("the --against command stopped printing a benchmark document")
            wall, cpu = cost
        return {
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            "audio_seconds": audio_seconds or 0.0,
            "windows": 0,
            "overlapped": True,
            "stages": [],
            "turns": None,
            "peak_bytes": None,
        }

    def oracle(self, reference: Sequence[Turn]) -> None:
        """It keeps no evidence."""
        return

    def reset_peak(self) -> tuple[bool, int | None]:
        """There is no process yet."""
        return False, None


@contextmanager
def open_other(
    text: str, checkout: Path, probe: Path, mode: str
) -> Iterator[tuple[Program, Program]]:
    """The other side named by ``text``, and this version measured in the same way.

    ``text`` is a git ref of ``checkout`` if it is one, else a command, which is run once on
    ``probe`` to see what it prints. Raises ``UsageError`` when it is neither, or fails;
    ``HostError`` when a ref cannot be checked out, or its kernels cannot be built.
    """
    commit = _git(checkout, "rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
    if commit is None:
        other = _command_program(text, probe, mode)
        own = WorkerCommand()
        if other.kind == "process":
            diarize = (sys.executable, "-m", "fluidaudio_cli", "diarize", "{audio}")
            own = WorkerCommand((*diarize, "--performance-mode", mode, "--format", "json"))
        kind: Literal["worker", "process"] = "process" if other.kind == "process" else "worker"
        yield other, Program(THIS_VERSION, own, kind, own_cache=True)
        return
    with temporary_folder() as scratch:
        tree = scratch / "tree"
        if _git(checkout, "worktree", "add", "--detach", str(tree), commit) is None:
            raise HostError(f"git cannot check out {text} ({commit[:12]}) in {tree}")
        try:
            _build_kernels(tree, text)
            command = WorkerCommand(cwd=tree, env={"PYTHONPATH": str(tree)})
            with Worker(command) as worker:
                package = Path(worker.hello["package"])
            if not package.is_relative_to(tree.resolve()):
                raise HostError(f"{text} did not run from its own checkout but from {package}")
            name = f"{text} ({commit[:12]})"
            yield (
                Program(name, command, own_cache=True),
                Program(THIS_VERSION, own_cache=True),
            )
        finally:
            _git(checkout, "worktree", "remove", "--force", str(tree))


def _build_kernels(tree: Path, text: str) -> None:
    """Compile the kernels of a checkout: without them it would run other code than it did."""
    if not any(tree.glob(_KERNEL_SOURCES)):
        return
    done = subprocess.run(
        [sys.executable, "-c", _BUILD], cwd=tree, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise HostError(
            f"--against cannot build the kernels of {text}: {last}",
            "install a C compiler and hatchling (make setup-dev), or compare two installations "
            "by giving a command",
        )


def _command_program(text: str, probe: Path, mode: str) -> Program:
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--against {text!r} cannot be split into words: {error}") from error
    if not argv:
        raise UsageError("--against is empty", "give a git ref or a command")
    command = WorkerCommand(argv)
    try:
        printed = _run(command, probe, mode, timeout_for(None))
    except HostError as error:
        raise UsageError(
            f"--against {text!r} is no git ref here, and as a command: {error}",
            "give a ref of this checkout, or a command that works",
        ) from error
    if _is_worker(printed):
        return Program(text, command, own_cache=True)
    return Program(text, command, "process" if _printed_cost(printed) is None else "benchmark")


def _children_cpu() -> float:
    """CPU seconds of all children that ended; 0 on Windows, which does not keep count."""
    if sys.platform == "win32":
        return 0.0
    times = os.times()
    return times.children_user + times.children_system


def _run(command: WorkerCommand, audio: Path, mode: str, timeout: float) -> str:
    argv = [word.replace("{mode}", mode).replace("{audio}", str(audio)) for word in command.argv]
    try:
        done = subprocess.run(
            argv,
            cwd=command.cwd,
            env={**os.environ, **command.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{argv[0]} did not end within {timeout:g} s") from None
    except OSError as error:
        raise HostError(f"cannot start {argv[0]}: {reason_of(error)}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it printed no reason"])[-1]
        raise HostError(f"{argv[0]} failed with exit code {done.returncode}: {last}")
    return done.stdout


def _is_worker(printed: str) -> bool:
    # With its input at the end, a worker says hello and ends.
    try:
        hello = json.loads(printed)
    except ValueError:
        return False
    return isinstance(hello, dict) and "hello" in hello and "protocol" in hello


def _printed_cost(printed: str) -> tuple[float, float] | None:
    """Median wall and CPU time of each recording of the first cell, summed, of a printed result."""
    try:
        result = BenchmarkResult.model_validate_json(printed)
    except ValidationError:
        return None
    files = [record for cell in result.cells[:1] for record in cell.finished]
    if not all(file.iterations for file in files):  # of --workers, or streams
        raise UsageError(
            "the benchmark document that the --against command prints has no times",
            "let it measure files, without --workers, --cluster and --streaming",
        )
    walls = [summarise([each.wall_seconds for each in file.iterations]).median for file in files]
    cpus = [summarise([each.cpu_seconds for each in file.iterations]).median for file in files]
    return (sum(walls), sum(cpus)) if files else None


def _git(checkout: Path, *arguments: str) -> str | None:
    """What git printed, or ``None`` when it failed or is absent."""
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
