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
from collections.abc import Sequence
from pathlib import Path

from fluidaudio_cli.benchmark.against import DEFAULT_PAIRS, Base, Judgement, judge, run_pairs
from fluidaudio_cli.benchmark.workers import PipelineOptions, WorkerCommand
from fluidaudio_cli.corpora.dataset import DatasetItem, open_dataset

# The promise, as shares of the tries.
_CAUGHT_AT_LEAST = 19 / 20
_FALSE_AT_MOST = 1 / 20


def attempt(items: Sequence[DatasetItem], mode: str, pairs: int, share: float) -> Judgement:
    """One comparison of this version (base) with itself slowed by ``share`` (head)."""
    slow = Path(__file__).with_name("slow_worker.py")
    head = (
        WorkerCommand((sys.executable, str(slow), "--share", str(share)))
        if share
        else WorkerCommand()
    )
    record = run_pairs(
        Base("this version", "worker", WorkerCommand()),
        items,
        mode=mode,
        options=PipelineOptions(),
        name=mode,
        pairs=pairs,
        head=head,
    )
    return judge(record)


def describe(judgement: Judgement) -> str:
    """Ratios with their intervals, and the verdict."""
    ratios = {"wall": judgement.wall, "CPU": judgement.cpu}
    shown = ", ".join(
        f"{name} {ratio.ratio:.3f} ({ratio.low:.3f}…{ratio.high:.3f})"
        for name, ratio in ratios.items()
        if ratio is not None
    )
    return f"{shown}: " + (f"slower ({'+'.join(judgement.slower)})" if judgement.slower else "pass")


def main() -> int:
    """Run the tries, print one line each and the count; the exit code says if it holds."""
    parser = argparse.ArgumentParser(description="Prove what --against promises.")
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--mode", default="fast")
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS)
    parser.add_argument("--share", type=float, default=0.10)
    parser.add_argument("--dataset", default="sample")
    arguments = parser.parse_args()
    items = open_dataset(arguments.dataset).require().items
    counts = dict.fromkeys((0.0, arguments.share), 0)
    started = time.perf_counter()
    # In turn, so that both kinds meet the same quiet and busy times of the machine.
    for number in range(1, arguments.tries + 1):
        for share in counts:
            judgement = attempt(items, arguments.mode, arguments.pairs, share)
            counts[share] += judgement.regression
            sys.stdout.write(f"injected {share:4.0%}, try {number:2d}: {describe(judgement)}\n")
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
