"""How time and memory grow with the length of the audio.

A cell is one mode on one length of audio with so many threads. Every measurement of a cell is a
fresh worker process, driven and sampled as in the benchmark itself; rounds go over all cells, so
that a drift of the machine falls on all of them alike.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from fluidaudio_cli.benchmark.measure import measure_file
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    FileRecord,
    PlanRecord,
    ScalingRecord,
    VariantRecord,
)
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.errors import FluidAudioError, UsageError
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.measure.long_audio import RepeatedAudio
from fluidaudio_cli.progress import ProgressCallback, no_progress

# Below this the first blocks, which are small on purpose, and the clustering's start weigh in.
JUDGED_FROM_SECONDS = 600.0
# Work that grows faster than the audio would exceed this within a factor of 60 in length.
MAX_TIME_DEVIATION = 0.10
# What ten hours may leave behind for clustering; their samples would take 2.3 GB.
MAX_GROWTH_BYTES = 20_000_000

_HOUR = 3600.0
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([smh])")
_UNITS = {"s": 1.0, "m": 60.0, "h": _HOUR}


@dataclass(frozen=True)
class ScalingRow:
    """One cell: medians over its processes, and the highest of their peaks."""

    variant: str
    length_seconds: float
    threads: int
    load_seconds: float
    wall_seconds: float
    seconds_per_hour: float
    rtfx: float
    peak_bytes: int


@dataclass(frozen=True)
class ScalingVerdict:
    """How a variant's lengths of 10 min and more compare, for each number of threads.

    ``time``: the greatest deviation of time per audio hour from that of the shortest of these
    lengths, as a fraction with its sign. ``growth``: peak memory at the longest minus that at
    the shortest, in bytes. Both by threads, and empty where fewer than two lengths were measured.
    """

    variant: str
    shortest: float
    longest: float
    time: dict[int, float]
    growth: dict[int, int]

    @property
    def time_holds(self) -> bool:
        """Whether time per audio hour stays within the limit."""
        return all(abs(each) <= MAX_TIME_DEVIATION for each in self.time.values())

    @property
    def memory_holds(self) -> bool:
        """Whether memory grows by no more than the limit."""
        return all(each <= MAX_GROWTH_BYTES for each in self.growth.values())


def parse_lengths(text: str) -> tuple[float, ...]:
    """``20s,1.5m,10h`` in seconds, ascending, each once; ``UsageError`` for anything else."""
    lengths = set()
    for part in text.split(","):
        found = _LENGTH.fullmatch(part.strip())
        seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
        if seconds < 1.0:
            raise UsageError(
                f"--scaling-lengths {text}: {part.strip()!r} is no length of a second or more",
                "give lengths such as 20s,1m,10h",
            )
        lengths.add(seconds)
    return tuple(sorted(lengths))


def length_name(seconds: float) -> str:
    """``20 s``, ``10 min``, ``1.5 h``: the largest unit of which there is at least one."""
    for unit, size in (("h", _HOUR), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


@dataclass(frozen=True)
class _Cell:
    variant: VariantRecord
    length_seconds: float
    threads: int
    audio: Path

    @property
    def uri(self) -> str:
        return self.audio.stem


def run_scaling(
    result: BenchmarkResult,
    recordings: Sequence[Path],
    lengths: Sequence[float],
    *,
    command: WorkerCommand = WorkerCommand(),  # noqa: B008 - immutable
    save: Callable[[tuple[ScalingRecord, ...]], None] = lambda records: None,
    progress: ProgressCallback = no_progress,
) -> tuple[ScalingRecord, ...]:
    """Measure every variant of ``result`` that ran, as its plan says, on ``lengths`` seconds.

    With one thread and with all (``--threads``, else every processor). The audio lies in a
    temporary folder meanwhile. ``save`` gets all records after each measurement; ``progress``
    counts seconds of audio. A process that fails is recorded, and the rest goes on.
    """
    plan = result.plan
    counts = sorted({1, plan.threads or processors()})
    variants = [variant for variant in result.variants if variant.unavailable is None]
    total = sum(lengths) * len(counts) * len(variants) * plan.iterations
    done = 0.0
    with tempfile.TemporaryDirectory(prefix="fluidaudio-scaling-") as folder:
        repeated = RepeatedAudio(recordings)
        files = {}
        for number, seconds in enumerate(lengths):
            files[seconds] = Path(folder) / f"{length_name(seconds).replace(' ', '')}.wav"
            progress(done, total)
            repeated.write(files[seconds], seconds, (plan.seed, number))
        cells = [
            _Cell(variant, seconds, threads, files[seconds])
            for variant, seconds, threads in product(variants, lengths, counts)
        ]
        records = [_empty(cell) for cell in cells]
        for _ in range(plan.iterations):
            for number, cell in enumerate(cells):
                measured = _measure(cell, plan, files[min(lengths)], command)
                records[number] = _joined(records[number], *measured)
                save(tuple(record for record in records if record.runs))
                done += cell.length_seconds
                progress(done, total)
    return tuple(records)


def _empty(cell: _Cell) -> ScalingRecord:
    return ScalingRecord(
        variant=cell.variant.name, length_seconds=cell.length_seconds, threads=cell.threads
    )


def _joined(record: ScalingRecord, load_seconds: float | None, run: FileRecord) -> ScalingRecord:
    loads = record.load_seconds if load_seconds is None else (*record.load_seconds, load_seconds)
    return record.model_copy(update={"load_seconds": loads, "runs": (*record.runs, run)})


def _measure(
    cell: _Cell, plan: PlanRecord, warmup: Path, command: WorkerCommand
) -> tuple[float | None, FileRecord]:
    """One process: load, warm up on the shortest audio, then the cell's audio once."""
    variant, load_seconds = cell.variant, None
    once = plan.model_copy(
        update={"warmup": 0, "iterations": 1, "latency_windows": 0, "measure_memory": True}
    )
    options = PipelineOptions(variant.executor, variant.precision, plan.compute_units, cell.threads)
    try:
        with Worker(command) as worker:
            loaded = worker.load(variant.mode, options)
            load_seconds = loaded["load_seconds"]
            for _ in range(plan.warmup):
                worker.diarize(warmup)
            return load_seconds, measure_file(
                worker,
                cell,
                once,
                baseline_bytes=loaded["rss_bytes"],
                meter=None,
                assess=None,
                tick=lambda: None,
            )
    except FluidAudioError as error:
        return load_seconds, FileRecord(uri=cell.uri, error=str(error))


def scaling_rows(records: Sequence[ScalingRecord]) -> tuple[ScalingRow, ...]:
    """One row per cell of which a process finished."""
    return tuple(_row(record) for record in records if record.finished)


def _row(record: ScalingRecord) -> ScalingRow:
    walls = [run.iterations[0].wall_seconds for run in record.finished]
    audio = record.finished[0].audio_seconds
    peaks = [run.memory.peak_rss_bytes for run in record.finished if run.memory is not None]
    wall = median(walls)
    return ScalingRow(
        variant=record.variant,
        length_seconds=record.length_seconds,
        threads=record.threads,
        load_seconds=median(record.load_seconds),
        wall_seconds=wall,
        seconds_per_hour=wall * _HOUR / audio,
        rtfx=audio / wall,
        peak_bytes=max(peaks),
    )


def scaling_verdicts(rows: Sequence[ScalingRow]) -> tuple[ScalingVerdict, ...]:
    """One verdict per variant, in order."""
    return tuple(_verdict(name, rows) for name in dict.fromkeys(row.variant for row in rows))


def _verdict(variant: str, rows: Sequence[ScalingRow]) -> ScalingVerdict:
    judged = [
        row for row in rows if row.variant == variant and row.length_seconds >= JUDGED_FROM_SECONDS
    ]
    lengths = sorted({row.length_seconds for row in judged})
    time, growth = {}, {}
    for threads in sorted({row.threads for row in judged}):
        cells = {row.length_seconds: row for row in judged if row.threads == threads}
        # What failed at either end leaves nothing to compare.
        if len(lengths) < 2 or not {lengths[0], lengths[-1]} <= cells.keys():
            continue
        first, last = cells[lengths[0]], cells[lengths[-1]]
        ratios = [row.seconds_per_hour / first.seconds_per_hour - 1 for row in cells.values()]
        time[threads] = max(ratios, key=abs)
        growth[threads] = last.peak_bytes - first.peak_bytes
    shortest, longest = (lengths[0], lengths[-1]) if lengths else (0.0, 0.0)
    return ScalingVerdict(variant, shortest, longest, time, growth)
