"""Another version of the program, or any command, run in turn with this one: A B A B …

Absolute times on shared machines drift by 10–40 %; the ratio of two runs a moment apart does
not. But a process keeps what it was given at its start (memory layout, cores beside busy
neighbours), which was seen to make one of two identical processes 5–20 % slower for as long as
they lived. So a *pair* is two fresh processes, started in alternating order, that take turns
for a few rounds; the pairs, not the rounds, are the sample that is judged.

The other side (base) is one of

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from fluidaudio_cli.benchmark.measure import Assess, Item, turns_of
from fluidaudio_cli.benchmark.results import BenchmarkResult, DerRecord, PairedRecord
from fluidaudio_cli.benchmark.runner import CACHE_VARIABLE
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.diarization.tuning import TUNING_VARIABLE
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.measure import statistics
from fluidaudio_cli.progress import ProgressCallback, no_progress

DEFAULT_PAIRS = 8
# A regression is a typical slowdown above this whose interval excludes "no change": between
# the noise of identical code and a slowdown of 10 %.
DEFAULT_MAX_SLOWDOWN = 0.05
# Rounds per pair: enough that each side runs this long, within bounds.
_SECONDS_PER_SIDE = 0.6
_FEWEST_ROUNDS = 3
_MOST_ROUNDS = 12

Kind = Literal["worker", "benchmark", "process"]


class Cost(NamedTuple):
    """What one run took; ``cpu`` is NaN where it cannot be told."""

    wall: float
    cpu: float


Side = Callable[[Item], Cost]
"""Run one file once."""
Opener = Callable[[], AbstractContextManager[Side]]
"""Start a fresh process (where the side is one that stays) and give its runs."""


@dataclass(frozen=True)
class Base:
    """The other side: how it is called in reports, and how it is run."""

    description: str
    kind: Kind
    command: WorkerCommand


@dataclass(frozen=True)
class Judgement:
    """What the pairs say: typical ratios head / base with intervals, and whether too slow.

    ``cpu`` is ``None`` where CPU time was not measured. Wall time is what users wait for; CPU
    time tells the same of added work even where others use the machine. Either is enough.
    """

    wall: statistics.RatioInterval
    cpu: statistics.RatioInterval | None
    max_slowdown: float

    @property
    def regression(self) -> bool:
        """Slower than allowed in wall or CPU time, and the interval excludes no change."""
        return bool(self.slower)

    @property
    def slower(self) -> tuple[str, ...]:
        """The clocks by which head is slower: ``wall``, ``cpu``."""
        ratios = {"wall": self.wall, "cpu": self.cpu}
        return tuple(
            name
            for name, ratio in ratios.items()
            if ratio is not None and ratio.ratio > 1 + self.max_slowdown and ratio.low > 1
        )

    @property
    def blurred(self) -> bool:
        """Passed, but wall times spread so much that twice the allowed slowdown fits in."""
        return not self.regression and self.wall.high > 1 + 2 * self.max_slowdown


def judge(paired: PairedRecord, max_slowdown: float = DEFAULT_MAX_SLOWDOWN) -> Judgement:
    """The verdict on one variant's pairs."""
    wall = statistics.paired_ratio(paired.base_seconds, paired.head_seconds)
    cpu = None
    if paired.base_cpu_seconds and paired.head_cpu_seconds:
        cpu = statistics.paired_ratio(paired.base_cpu_seconds, paired.head_cpu_seconds)
    return Judgement(wall, cpu, max_slowdown)


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
    """Time ``pairs`` pairs of fresh processes over all ``items``, in rounds A B A B ….

    Both sides get a compile cache of their own, empty at first: sharing one would let a version
    run what the other compiled. What ``fluidaudio tune`` stored is set aside on both: it was
    found with one version, and another may not know it, so that settings would be compared.
    Speed is never reported without error: where a side gives turns and ``assess`` is given, it
    is scored.
    """
    if pairs < statistics.FEWEST_PAIRS:
        raise UsageError(f"--pairs {pairs}", f"give at least {statistics.FEWEST_PAIRS}")
    base_scores: dict[str, DerRecord] = {}
    head_scores: dict[str, DerRecord] = {}
    costs: list[tuple[Cost, Cost]] = []
    rounds = 0
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluidaudio-pairs-"))

        def untuned(command: WorkerCommand) -> WorkerCommand:
            return command.with_env(**{TUNING_VARIABLE: str(Path(folder) / "none.json")})

        def worker(command: WorkerCommand, scores: dict[str, DerRecord]) -> Opener:
            cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluidaudio-pairs-"))
            cached = untuned(command).with_env(**{CACHE_VARIABLE: cache})
            with Worker(cached) as first:
                first.load(mode, options)
            return lambda: _worker_side(cached, mode, options, assess, scores)

        if base.kind == "process":
            open_head = _command_side(untuned(_own_diarize(mode, options)), mode, timed=True)
        else:
            open_head = worker(head or WorkerCommand(), head_scores)
        if base.kind == "worker":
            open_base = worker(base.command, base_scores)
        else:
            timed = base.kind == "process"
            open_base = _command_side(untuned(base.command), mode, timed=timed)
        for index in range(pairs):
            with ExitStack() as pair:
                # Whoever starts second was seen to be slower beside busy neighbours.
                first_is_base = index % 2 == 0
                openers = (open_base, open_head) if first_is_base else (open_head, open_base)
                sides = [pair.enter_context(opener()) for opener in openers]
                base_side, head_side = sides if first_is_base else sides[::-1]
                warm = _pass(base_side, head_side, items)
                rounds = rounds or _rounds(min(cost.wall for cost in warm))
                taken = [_pass(base_side, head_side, items) for _ in range(rounds)]
            costs.append((_typical(cost[0] for cost in taken), _typical(c[1] for c in taken)))
            progress(index + 1, pairs)
    cpu_known = all(math.isfinite(cost.cpu) and cost.cpu > 0 for pair in costs for cost in pair)
    return PairedRecord(
        variant=name,
        base=base.description,
        kind=base.kind,
        base_seconds=tuple(pair[0].wall for pair in costs),
        head_seconds=tuple(pair[1].wall for pair in costs),
        base_cpu_seconds=tuple(pair[0].cpu for pair in costs) if cpu_known else (),
        head_cpu_seconds=tuple(pair[1].cpu for pair in costs) if cpu_known else (),
        rounds=rounds,
        base_strict=reduce(add, base_scores.values()) if base_scores else None,
        head_strict=reduce(add, head_scores.values()) if head_scores else None,
    )


def _pass(base_side: Side, head_side: Side, items: Sequence[Item]) -> tuple[Cost, Cost]:
    """All files once on each side, in turn."""
    turns = [(base_side(item), head_side(item)) for item in items]
    base, head = zip(*turns, strict=True)
    return _total(base), _total(head)


def _total(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(cost.wall for cost in costs), sum(cost.cpu for cost in costs))


def _typical(costs: Iterable[Cost]) -> Cost:
    walls, cpus = zip(*costs, strict=True)
    return Cost(statistics.summarise(walls).median, statistics.summarise(cpus).median)


def _rounds(shortest: float) -> int:
    wanted = math.ceil(_SECONDS_PER_SIDE / max(shortest, 1e-6))
    return max(_FEWEST_ROUNDS, min(_MOST_ROUNDS, wanted))


@contextmanager
def _worker_side(
    command: WorkerCommand,
    mode: str,
    options: PipelineOptions,
    assess: Assess | None,
    scores: dict[str, DerRecord],
) -> Iterator[Side]:
    with Worker(command) as worker:
        worker.load(mode, options)

        def run(item: Item) -> Cost:
            reply = worker.diarize(item.audio)
            if assess is not None and item.uri not in scores:
                scores[item.uri] = assess(item, turns_of(reply), reply["audio_seconds"]).strict
            return Cost(float(reply["wall_seconds"]), float(reply["cpu_seconds"]))

        yield run


def _command_side(command: WorkerCommand, mode: str, *, timed: bool) -> Opener:
    """A side that starts a process for each run; the document's time unless ``timed``."""

    def run(item: Item) -> Cost:
        cpu = _children_cpu()
        started = time.perf_counter()
        printed = _run(command, item, mode)
        whole = Cost(time.perf_counter() - started, _children_cpu() - cpu)
        if timed:
            return whole
        cost = _printed_cost(printed)
        if cost is None:
            raise HostError("the --against command stopped printing a benchmark document")
        return cost

    return lambda: nullcontext(run)


def _children_cpu() -> float:
    """CPU seconds of all children that ended; NaN on Windows, which does not keep count."""
    if sys.platform == "win32":
        return math.nan
    times = os.times()
    return times.children_user + times.children_system


def _own_diarize(mode: str, options: PipelineOptions) -> WorkerCommand:
    argv = [sys.executable, "-m", "fluidaudio_cli", "diarize", "{audio}"]
    argv += ["--performance-mode", mode, "--format", "json"]
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
    return Base(text, "process" if _printed_cost(printed) is None else "benchmark", command)


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


def _printed_cost(printed: str) -> Cost | None:
    """Median time of each file of the first variant, summed, if a result was printed."""
    try:
        result = BenchmarkResult.model_validate_json(printed)
    except ValidationError:
        return None
    costs = [
        _typical(Cost(sample.wall_seconds, sample.cpu_seconds) for sample in record.iterations)
        for variant in result.variants[:1]
        for record in variant.finished
    ]
    return _total(costs) if costs else None


def _git(checkout: Path, *arguments: str) -> str | None:
    """What git printed, or ``None`` when it failed or is absent."""
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
