"""Prove what compare promises: of pairs of identical runs it accuses at most one in twenty.

    python tools/prove_compare.py [--pairs 20] [--processes 5] [--mode fast] [--dataset sample]

Each pair is two runs of the same benchmark, one after the other, as ``fluidaudio compare`` would
be given them. Exits with 1 when more than one in twenty is called a regression. Meant for an
ordinary, not an idle machine.
"""

from __future__ import annotations

import argparse
import math
import sys

from fluidaudio_cli.benchmark.compare import Change, compare
from fluidaudio_cli.benchmark.grid import Condition, Effort, Grid
from fluidaudio_cli.benchmark.results import BenchmarkResult
from fluidaudio_cli.benchmark.runner import BenchmarkRun
from fluidaudio_cli.benchmark.studies import modes_study
from fluidaudio_cli.corpora.dataset import Dataset, open_dataset

_FALSE_AT_MOST = 1 / 20


def measure(recordings: Dataset, mode: str, processes: int) -> BenchmarkResult:
    """One run, with latency, as the command measures it."""
    effort = Effort(processes, warmup=1, iterations=3, latency_windows=10)
    study = modes_study(effort, mode=(mode,))
    return BenchmarkRun(Grid((study,), {"": Condition("", recordings)})).run()


def describe(change: Change) -> str:
    """Metric, ratio and verdict."""
    ratio = "" if change.ratio is None else f" {change.ratio.ratio:.3f}"
    return f"{change.metric}{ratio} {change.verdict}"


def main() -> int:
    """Run the pairs, print one line each and the count; the exit code says if it holds."""
    parser = argparse.ArgumentParser(description="Prove what compare promises.")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--mode", default="fast")
    parser.add_argument("--dataset", default="sample")
    arguments = parser.parse_args()
    recordings = open_dataset(arguments.dataset).require()
    accused = 0
    for number in range(1, arguments.pairs + 1):
        base, head = (measure(recordings, arguments.mode, arguments.processes) for _ in range(2))
        changes = [change for change in compare(base, head) if change.ratio is not None]
        accused += any(change.verdict == "regression" for change in changes)
        sys.stdout.write(f"pair {number:2d}: {'; '.join(map(describe, changes))}\n")
        sys.stdout.flush()
    sys.stdout.write(f"identical runs accused: {accused} of {arguments.pairs}\n")
    return 0 if accused <= math.ceil(_FALSE_AT_MOST * arguments.pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
