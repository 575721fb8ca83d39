"""The studies that the benchmark's options ask for, as cells of one grid."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fluidaudio_cli.benchmark.ablation import BASE_MODE, PLAIN_MODE
from fluidaudio_cli.benchmark.grid import (
    LENGTH_UNITS,
    MODES,
    Cell,
    Contrast,
    Effort,
    Program,
    Study,
    contrasts_over,
    crossed,
)
from fluidaudio_cli.benchmark.programs import THIS_VERSION
from fluidaudio_cli.errors import UsageError

ABLATION, SCALING, PEERS, AGAINST = "ablation", "scaling", "peers", "against"
TUNING = "tuning"
DEFAULT_PAIRS = 8
# Measured passes of each side of a pair: the median of three shrugs off one disturbed pass.
_ROUNDS = 3
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([smh])")


def modes_study(effort: Effort, **levels: Sequence[object]) -> Study:
    """Every combination of the levels; each mode against ``reference``, others against the first.

    Contrasts vary one factor at a time.
    """
    cells = crossed(**levels)
    contrasts: list[Contrast] = []
    for factor, values in levels.items():
        base = PLAIN_MODE if factor == "mode" and PLAIN_MODE in values else values[0]
        contrasts += contrasts_over(factor, base, cells)  # type: ignore[arg-type]
    return Study(MODES, cells, effort, tuple(dict.fromkeys(contrasts)))


def ablation_study(modes: Sequence[str], effort: Effort, **levels: Sequence[object]) -> Study:
    """The mode as it ships without each optimisation; the plain one with each alone."""
    bases = (BASE_MODE, PLAIN_MODE)
    cells = crossed(mode=(*bases, *modes), **levels)
    contrasts = tuple(
        Contrast(cell, cell.at(mode=base))
        for base in bases
        for cell in cells
        if cell.mode.startswith(f"{base}-")
    )
    return Study(ABLATION, cells, effort, contrasts)


def scaling_study(lengths: Sequence[float], effort: Effort, **levels: Sequence[object]) -> Study:
    """Every combination of the levels on each length of audio, in fresh processes."""
    once = Effort(effort.iterations, effort.warmup, 1, memory=True, warm_on_shortest=True)
    return Study(SCALING, crossed(**levels, length=lengths), once)


def peers_study(cells: Sequence[Cell], programs: Sequence[Program], effort: Effort) -> Study:
    """Each peer on the same recordings; each of our ``cells`` against each peer."""
    conditions = tuple(dict.fromkeys(cell.condition for cell in cells))
    peers = crossed(program=[program.name for program in programs], condition=conditions)
    contrasts = tuple(
        Contrast(cell, peer) for peer in peers for cell in cells if cell.condition == peer.condition
    )
    once = Effort(effort.processes, 0, 1, memory=True)
    return Study(PEERS, peers, once, contrasts)


def against_study(cells: Sequence[Cell], other: Program, pairs: int) -> Study:
    """This version in turn with another, in ``pairs`` pairs of fresh processes."""
    contrasts = tuple(
        Contrast(cell.at(program=THIS_VERSION), cell.at(program=other.name)) for cell in cells
    )
    both = tuple(each for pair in contrasts for each in (pair.base, pair.cell))
    return Study(AGAINST, both, Effort(pairs, 1, _ROUNDS), contrasts, in_turn=True)


def parse_lengths(text: str) -> tuple[float, ...]:
    """``20s,1.5m,10h`` in seconds, ascending, each once; ``UsageError`` for anything else."""
    lengths = set()
    for part in text.split(","):
        found = _LENGTH.fullmatch(part.strip())
        seconds = float(found[1]) * LENGTH_UNITS[found[2]] if found else 0.0
        if seconds < 1.0:
            raise UsageError(
                f"--scaling-lengths {text}: {part.strip()!r} is no length of a second or more",
                "give lengths such as 20s,1m,10h",
            )
        lengths.add(seconds)
    return tuple(sorted(lengths))
