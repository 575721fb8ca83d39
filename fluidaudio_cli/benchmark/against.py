"""Another version of the program, or any command, run in turn with this one: A B A B …

Absolute times on shared machines drift by 10–40 %; the ratio of two runs a moment apart does
not. The other side (base) is one of

- ``worker``: a git ref, checked out in a temporary worktree and run by the same interpreter,
  or a command that speaks the worker protocol; only diarization is timed, on both sides;
- ``benchmark``: a command that prints a ``fluidaudio.benchmark/1`` document; its measured time
  is taken, and this side's diarization alone;
- ``process``: any other command; whole processes are timed, on this side ``fluidaudio diarize``.

In a command ``{audio}`` stands for the file and ``{mode}`` for the performance mode.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from fluidaudio_cli.benchmark import statistics
from fluidaudio_cli.benchmark.measure import Assess, Item, turns_of
from fluidaudio_cli.benchmark.results import BenchmarkResult, DerRecord, PairedRecord
from fluidaudio_cli.benchmark.runner import CACHE_VARIABLE
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.progress import ProgressCallback, no_progress

DEFAULT_PAIRS = 20
# A regression is a typical slowdown above this whose interval excludes "no change". With 20
# pairs it lies between the noise of identical code and a slowdown of 10 %.
DEFAULT_MAX_SLOWDOWN = 0.05
# Shorter halves of a pair are repeated: a tenth of a second is within a scheduler's whims.
_SHORTEST_HALF = 0.2
_MOST_REPEATS = 20

Kind = Literal["worker", "benchmark", "process"]
Side = Callable[[Item], float]
"""Run one file once; the seconds it took."""


@dataclass(frozen=True)
class Base:
    """The other side: how it is called in reports, and how it is run."""

    description: str
    kind: Kind
    command: WorkerCommand


@dataclass(frozen=True)
class Judgement:
    """What the pairs say: typical ratio head / base with interval, and whether it is too slow."""

    ratio: statistics.RatioInterval
    max_slowdown: float

    @property
    def regression(self) -> bool:
        """Slower than allowed, and the interval excludes no change."""
        return self.ratio.ratio > 1 + self.max_slowdown and self.ratio.low > 1

    @property
    def blurred(self) -> bool:
        """Passed, but pairs spread so much that twice the allowed slowdown is not excluded."""
        return not self.regression and self.ratio.high > 1 + 2 * self.max_slowdown


def judge(paired: PairedRecord, max_slowdown: float = DEFAULT_MAX_SLOWDOWN) -> Judgement:
    """The verdict on one variant's pairs."""
    ratio = statistics.paired_ratio(paired.base_seconds, paired.head_seconds)
    return Judgement(ratio, max_slowdown)


@contextmanager
def open_base(text: str, checkout: Path, probe: Item, mode: str) -> Iterator[Base]:
    """The other side named by ``text``: a git ref of ``checkout`` if it is one, else a command.

    A command is run once on ``probe`` to see what it prints. Raises ``UsageError`` when it is
    neither, or fails.
    """
    commit = _git(checkout, "rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
    if commit is None:
        yield _command_base(text, probe, mode)
        return
    with tempfile.TemporaryDirectory(prefix="fluidaudio-against-") as scratch:
        tree = Path(scratch) / "tree"
        if _git(checkout, "worktree", "add", "--detach", str(tree), commit) is None:
            raise HostError(f"git cannot check out {text} ({commit[:12]}) in {tree}")
        try:
            command = WorkerCommand(cwd=tree, env={"PYTHONPATH": str(tree)})
            with Worker(command) as worker:
                package = Path(worker.hello["package"])
            if not package.is_relative_to(tree.resolve()):
                raise HostError(f"{text} did not run from its own checkout but from {package}")
            yield Base(f"{text} ({commit[:12]})", "worker", command)
        finally:
            _git(checkout, "worktree", "remove", "--force", str(tree))


def run_pairs(
    base: Base,
    items: Sequence[Item],
    *,
    mode: str,
    options: PipelineOptions,
    name: str,
    pairs: int = DEFAULT_PAIRS,
    assess: Assess | None = None,
    head: WorkerCommand | None = None,
    progress: ProgressCallback = no_progress,
) -> PairedRecord:
    """Time ``pairs`` pairs over all ``items`` in turn, base first; one of each is warm-up.

    Both sides get an empty compile cache of their own: sharing one would let a version run what
    the other compiled. Speed is never reported without error: where both sides give turns and
    ``assess`` is given, both are scored.
    """
    if pairs < statistics.FEWEST_PAIRS:
        raise UsageError(f"--pairs {pairs}", f"give at least {statistics.FEWEST_PAIRS}")
    with ExitStack() as stack:
        head_scores: list[DerRecord] = []
        base_scores: list[DerRecord] = []
        command = head or WorkerCommand()
        if base.kind == "process":
            head_side = _process_side(_own_diarize(mode, options), mode)
        else:
            head_side = _worker_side(stack, command, mode, options, assess, head_scores)
        if base.kind == "worker":
            base_side = _worker_side(stack, base.command, mode, options, assess, base_scores)
        elif base.kind == "benchmark":
            base_side = _benchmark_side(base.command, mode)
        else:
            base_side = _process_side(base.command, mode)
        warmup = [(base_side(item), head_side(item)) for item in items]
        repeats = _repeats(min(sum(side) for side in zip(*warmup, strict=True)))
        base_seconds, head_seconds = [0.0] * pairs, [0.0] * pairs
        for index in range(pairs):
            for _ in range(repeats):
                for item in items:
                    base_seconds[index] += base_side(item)
                    head_seconds[index] += head_side(item)
            progress(index + 1, pairs)
    return PairedRecord(
        variant=name,
        base=base.description,
        kind=base.kind,
        base_seconds=tuple(base_seconds),
        head_seconds=tuple(head_seconds),
        base_strict=reduce(add, base_scores) if base_scores else None,
        head_strict=reduce(add, head_scores) if head_scores else None,
    )


def _repeats(shortest: float) -> int:
    return max(1, min(_MOST_REPEATS, math.ceil(_SHORTEST_HALF / max(shortest, 1e-6))))


def _worker_side(
    stack: ExitStack,
    command: WorkerCommand,
    mode: str,
    options: PipelineOptions,
    assess: Assess | None,
    scores: list[DerRecord],
) -> Side:
    cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluidaudio-pairs-"))
    worker = stack.enter_context(Worker(command.with_env(**{CACHE_VARIABLE: cache})))
    worker.load(mode, options)
    scored: set[str] = set()

    def run(item: Item) -> float:
        reply = worker.diarize(item.audio)
        if assess is not None and item.uri not in scored:
            scored.add(item.uri)
            scores.append(assess(item, turns_of(reply), reply["audio_seconds"]).strict)
        return float(reply["wall_seconds"])

    return run


def _benchmark_side(command: WorkerCommand, mode: str) -> Side:
    def run(item: Item) -> float:
        seconds = _printed_seconds(_run(command, item, mode))
        if seconds is None:
            raise HostError("the --against command stopped printing a benchmark document")
        return seconds

    return run


def _process_side(command: WorkerCommand, mode: str) -> Side:
    def run(item: Item) -> float:
        started = time.perf_counter()
        _run(command, item, mode)
        return time.perf_counter() - started

    return run


def _own_diarize(mode: str, options: PipelineOptions) -> WorkerCommand:
    argv = [sys.executable, "-m", "fluidaudio_cli", "diarize", "{audio}"]
    argv += ["--performance-mode", mode, "--format", "json", "--output", os.devnull]
    argv += ["--executor", options.executor, "--precision", options.precision]
    return WorkerCommand(tuple(argv))


def _command_base(text: str, probe: Item, mode: str) -> Base:
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--against {text!r} cannot be split into words: {error}") from error
    if not argv:
        raise UsageError("--against is empty", "give a git ref or a command")
    command = WorkerCommand(argv)
    try:
        printed = _run(command, probe, mode)
    except HostError as error:
        raise UsageError(
            f"--against {text!r} is no git ref here, and as a command: {error}",
            "give a ref of this checkout, or a command that works",
        ) from error
    if _is_worker(printed):
        return Base(text, "worker", command)
    return Base(text, "process" if _printed_seconds(printed) is None else "benchmark", command)


def _run(command: WorkerCommand, item: Item, mode: str) -> str:
    words = {"{audio}": str(item.audio), "{mode}": mode}
    argv = [words.get(word, word) for word in command.argv]
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
        )
    except OSError as error:
        raise HostError(f"cannot start {argv[0]}: {error.strerror or error}") from error
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


def _printed_seconds(printed: str) -> float | None:
    try:
        result = BenchmarkResult.model_validate_json(printed)
    except ValidationError:
        return None
    walls = [
        statistics.summarise([sample.wall_seconds for sample in record.iterations]).median
        for variant in result.variants[:1]
        for record in variant.finished
    ]
    return sum(walls) if walls else None


def _git(checkout: Path, *arguments: str) -> str | None:
    """What git printed, or ``None`` when it failed or is absent."""
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
