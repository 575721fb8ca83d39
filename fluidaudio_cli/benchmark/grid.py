"""What is measured: cells of a grid, one for each combination of the factors' levels.

A *factor* is something that may be varied: mode, models, executor, precision, threads, length of
the audio, condition of the audio, program. A *cell* holds one level of each. A *study* is a set
of cells that answers one question, with the effort spent on it; a :class:`Grid` holds studies and
what the names of levels stand for. Runner, result, tables, gates and comparisons know cells only:

    clean, noisy = Condition("", dataset), Condition("noise=babble snr=10", babble, conversations)
    cells = crossed(mode=("fast", "balanced"), condition=(clean.name, noisy.name))
    grid = Grid(
        studies=(Study("robustness", cells, contrasts=contrasts_over("condition", "", cells)),),
        conditions={each.name: each for each in (clean, noisy)},
    )

A new factor is a field of :class:`Cell`, and, where ``load_pipeline`` takes it, a name in
``PIPELINE_OPTIONS``. What no factor can say is a plan of the cell's own (``Grid.plans``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.diarization.plan import Plan

Level = str | int | float | None

AUTO = "auto"
BUNDLED = "bundled"
MODES = "modes"
"""The study of what was asked for itself; gates are about it unless they say otherwise."""

ROBUSTNESS = "robustness"
"""The study of conditions around a base."""

STREAMING = "streaming"
"""The study of what latency costs."""

LENGTH_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
"""Of lengths as they are asked for, in seconds."""


@dataclass(frozen=True)
class Cell:
    """One level of each factor; a default is what the program does unasked.

    ``mode``: a name; empty for programs that have none. ``models``: a set's name.
    ``length``: seconds of audio made of the recordings, None for the recordings themselves.
    ``condition``: a variant of the recordings. ``latency``: seconds after which turns of a stream
    are final, None for files. ``program``: empty for this one.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    mode: str = ""
    models: str = BUNDLED
    executor: str = AUTO
    precision: str = AUTO
    threads: int | None = None
    length: float | None = None
    condition: str = ""
    latency: float | None = None
    program: str = ""

    @property
    def name(self) -> str:
        """Levels that are not left to the program, such as ``fast/openvino/bf16``."""
        chosen = [
            level_name(each.name, getattr(self, each.name))
            for each in fields(self)
            if getattr(self, each.name) != each.default
        ]
        return "/".join(chosen) or "as it is"

    def at(self, **levels: Level) -> Cell:
        """The same cell at other levels of some factors."""
        return replace(self, **levels)  # type: ignore[arg-type]


FACTORS = tuple(each.name for each in fields(Cell))
# Factors that become keyword arguments of ``load_pipeline`` as they are.
PIPELINE_OPTIONS = ("models", "executor", "precision", "threads")


def level_name(factor: str, level: Level) -> str:
    """A level as it is shown: ``2 threads``, ``10 min``."""
    if level is None:
        return ""
    if factor == "threads":
        return "1 thread" if level == 1 else f"{level} threads"
    if factor == "latency":
        return f"after {float(level):g} s"
    return length_name(float(level)) if factor == "length" else str(level)


def length_name(seconds: float) -> str:
    """``20 s``, ``10 min``, ``1.5 h``: the largest unit of which two decimals tell it exactly.

    Cells are told apart by it.
    """
    for unit, size in (("h", LENGTH_UNITS["h"]), ("min", LENGTH_UNITS["m"])):
        number = round(seconds / size, 2)
        if number >= 1 and math.isclose(number * size, seconds):
            return f"{number:.12g} {unit}"
    return f"{seconds:.12g} s"


def crossed(**levels: Iterable[Any]) -> tuple[Cell, ...]:
    """Every combination of the levels given by factor, the first factor varying slowest."""
    return tuple(
        Cell(**dict(zip(levels, combination, strict=True)))
        for combination in product(*levels.values())
    )


@dataclass(frozen=True)
class Contrast:
    """Two cells whose difference is of interest."""

    cell: Cell
    base: Cell


def contrasts_over(factor: str, base: Level, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
    """Each cell against the one that differs only by having ``factor`` at ``base``."""
    known = set(cells)
    pairs = ((cell, cell.at(**{factor: base})) for cell in cells)
    return tuple(Contrast(cell, other) for cell, other in pairs if cell != other in known)


class Item(Protocol):
    """One recording, as ``corpora`` gives it; scored against ``reference`` within ``uem``."""

    @property
    def uri(self) -> str:
        """Name in the annotations."""

    @property
    def audio(self) -> Path:
        """The recording."""


class Recordings(Protocol):
    """Recordings of one condition, as ``corpora.dataset.Dataset`` has them."""

    @property
    def name(self) -> str:
        """What they are called."""

    @property
    def fingerprint(self) -> str:
        """Changes with their content."""

    @property
    def items(self) -> Sequence[Any]:
        """The recordings (:class:`Item`)."""


@dataclass(frozen=True)
class Condition:
    """A variant of the recordings.

    ``conversations``: uri to conversation, where the same conversation is recorded under several
    conditions with another uri; differences are paired by it. A uri left out is its own.
    """

    name: str
    recordings: Recordings
    conversations: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Program:
    """Another program, or another version of this one, and how it is run.

    ``kind``: ``worker`` speaks the worker's protocol; ``benchmark`` is a command that prints a
    result, ``process`` any other: both are started for each recording, with ``{audio}`` and
    ``{mode}`` filled in. ``settings`` go to a worker's ``load``. ``own_cache``: it compiles into
    a cache of its own, apart from the user's. ``remarks``: what is not equal to this program.
    ``unavailable``: why it cannot be run.
    """

    name: str
    command: WorkerCommand = WorkerCommand()  # noqa: RUF009 - immutable
    kind: Literal["worker", "benchmark", "process"] = "worker"
    settings: Mapping[str, Any] = field(default_factory=dict)
    own_cache: bool = False
    remarks: tuple[str, ...] = ()
    unavailable: str = ""


@dataclass(frozen=True)
class Effort:
    """How much is measured of each cell of a study.

    ``processes``: fresh ones, each with ``warmup`` unmeasured and ``iterations`` measured passes
    over the recordings. ``latency_windows``: single windows timed per recording. ``cold``: load
    once with an empty cache. ``score``: compare turns with the reference. ``warm_on_shortest``:
    warm up on the shortest recording of the study instead of each one's own. ``share``: cells that
    load the same share a process, as they may where only errors are asked for.
    """

    processes: int = 1
    warmup: int = 1
    iterations: int = 5
    latency_windows: int = 0
    memory: bool = False
    cold: bool = False
    score: bool = True
    warm_on_shortest: bool = False
    share: bool = False


ONCE = Effort(processes=1, warmup=0, iterations=1, share=True)
"""Where errors are asked for, which do not differ from run to run."""


@dataclass(frozen=True)
class Study:
    """Cells that answer one question. ``in_turn``: both cells of each contrast take turns.

    Cells in turn have their processes side by side and their passes A B A B …, so that a drift
    of the machine falls on both alike. ``measure``: for a study that measures something else than
    passes over recordings: cells, how to load one's pipeline and what its recordings are, and
    progress, to their records.
    """

    name: str
    cells: tuple[Cell, ...]
    effort: Effort = Effort()
    contrasts: tuple[Contrast, ...] = ()
    in_turn: bool = False
    measure: Callable[..., Iterator[Any]] | None = field(default=None, compare=False)

    def blocks(self) -> tuple[tuple[Cell, ...], ...]:
        """Cells that are measured together: the pairs of contrasts in turn, else one by one."""
        if self.in_turn:
            return tuple((contrast.base, contrast.cell) for contrast in self.contrasts)
        return tuple((cell,) for cell in self.cells)


@dataclass(frozen=True)
class Grid:
    """Studies, and what the names of levels stand for.

    ``conditions``: by name; the one called "" are the recordings as they are. ``modes`` and
    ``models``: their names to what ``load_pipeline`` is given, where that is another. ``programs``:
    by name. ``plans``: of cells that run as these say, whatever their levels are called.
    """

    studies: tuple[Study, ...]
    conditions: Mapping[str, Condition]
    modes: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, Program] = field(default_factory=dict)
    plans: Mapping[Cell, Plan] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[tuple[Study, Cell], ...]:
        """Every cell once, with the study that measures it: the first that has it."""
        found: dict[Cell, Study] = {}
        for study in self.studies:
            for cell in study.cells:
                found.setdefault(cell, study)
        return tuple((study, cell) for cell, study in found.items())

    def mode_to_load(self, cell: Cell) -> str:
        """What ``load_pipeline`` is given for the cell's mode."""
        return self.modes.get(cell.mode, cell.mode)

    def program(self, cell: Cell) -> Program:
        """The program that the cell runs."""
        return self.programs.get(cell.program) or Program(cell.program)
