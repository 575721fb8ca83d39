"""Prove what --against promises: a 10 % slowdown is caught, identical code is not accused.

    python tools/prove_slowdown_detection.py [--tries 20] [--mode fast] [--pairs 8]

Each try starts fresh processes and judges them with the function that --against uses: this
version against itself, and this version slowed by a wrapper (``slow_worker.py``). Exits
with 1 unless at least 19 of 20 slowdowns are caught and at most 1 of 20 identical pairs is
called slower. Meant for an ordinary, not an idle machine.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from fluidaudio_cli.benchmark.findings import conclude
from fluidaudio_cli.benchmark.grid import Cell, Condition, Grid, Program
from fluidaudio_cli.benchmark.programs import THIS_VERSION
from fluidaudio_cli.benchmark.results import DifferenceRecord
from fluidaudio_cli.benchmark.runner import BenchmarkRun
from fluidaudio_cli.benchmark.studies import DEFAULT_PAIRS, against_study
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.corpora.dataset import Dataset, open_dataset

# The promise, as shares of the tries.
_CAUGHT_AT_LEAST = 19 / 20
_FALSE_AT_MOST = 1 / 20


def attempt(recordings: Dataset, mode: str, pairs: int, share: float) -> DifferenceRecord:
    """One comparison of this version with itself, slowed by ``share``."""
    slow = Path(__file__).with_name("slow_worker.py")
    command = WorkerCommand((sys.executable, str(slow), "--share", str(share)))
    base = Program("the same, unslowed", own_cache=True)
    head = Program(THIS_VERSION, command if share else WorkerCommand(), own_cache=True)
    grid = Grid(
        (against_study((Cell(mode=mode),), base, pairs),),
        {"": Condition("", recordings)},
        programs={program.name: program for program in (base, head)},
    )
    run = BenchmarkRun(grid, conclude=conclude)
    (found,) = run.run().findings.differences
    return found


def describe(found: DifferenceRecord) -> str:
    """Ratios with their intervals, and the verdict."""
    ratios = {"wall": found.wall_ratio, "CPU": found.cpu_ratio}
    shown = ", ".join(
        f"{name} {ratio.value:.3f} ({ratio.low or 0:.3f}…{ratio.high or 0:.3f})"
        for name, ratio in ratios.items()
        if ratio is not None
    )
    return f"{shown}: {found.speed}"


def main() -> int:
    """Run the tries, print one line each and the count; the exit code says if it holds."""
    parser = argparse.ArgumentParser(description="Prove what --against promises.")
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--mode", default="fast")
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS)
    parser.add_argument("--share", type=float, default=0.10)
    parser.add_argument("--dataset", default="sample")
    arguments = parser.parse_args()
    recordings = open_dataset(arguments.dataset).require()
    counts = dict.fromkeys((0.0, arguments.share), 0)
    started = time.perf_counter()
    # In turn, so that both kinds meet the same quiet and busy times of the machine.
    for number in range(1, arguments.tries + 1):
        for share in counts:
            found = attempt(recordings, arguments.mode, arguments.pairs, share)
            counts[share] += found.speed == "worse"
            sys.stdout.write(f"injected {share:4.0%}, try {number:2d}: {describe(found)}\n")
            sys.stdout.flush()
    false, caught = counts[0.0], counts[arguments.share]
    sys.stdout.write(
        f"identical code called slower: {false} of {arguments.tries}; "
        f"{arguments.share:.0%} slowdown caught: {caught} of {arguments.tries} "
        f"({time.perf_counter() - started:.0f} s)\n"
    )
    good = caught >= math.floor(_CAUGHT_AT_LEAST * arguments.tries) and false <= math.ceil(
        _FALSE_AT_MOST * arguments.tries
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
