"""What follows from several cells together: differences, growth with length, limits reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress

from fluidaudio_cli.benchmark.grid import Cell
from fluidaudio_cli.benchmark.metrics import METRICS, STRICT_DER
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    CellRecord,
    DatasetRecord,
    DifferenceRecord,
    FileRecord,
    FindingsRecord,
    GrowthRecord,
    IntervalRecord,
    LimitRecord,
    StudyRecord,
    Verdict,
)
from fluidaudio_cli.benchmark.roofline import roofline_records
from fluidaudio_cli.measure import statistics
from fluidaudio_cli.measure.limits import MachinePeaks
from fluidaudio_cli.wording import counted

# Between the noise of identical code and a slowdown of 10 %.
DEFAULT_MAX_SLOWDOWN = 0.05
# A rank test of fewer processes a side cannot reach 5 %: 2 / (8 over 4) is 2.9 %.
FEWEST_PROCESSES = 4
# Below this length the first windows and the clustering's start weigh in.
JUDGED_FROM_SECONDS = 600.0
# Work that grows faster than the audio would exceed this within a factor of 60 in length.
MAX_TIME_DEVIATION = 0.10
# What ten hours may leave behind for clustering; their samples would take 2.3 GB.
MAX_GROWTH_BYTES = 20_000_000


def conclude(
    result: BenchmarkResult,
    peaks: MachinePeaks | None = None,
    max_slowdown: float = DEFAULT_MAX_SLOWDOWN,
) -> FindingsRecord:
    """Everything that follows from the cells of ``result``; ``peaks``: of this machine."""
    # Of these there is nothing to say but that, which is said. Another version must be there.
    absent = {each.cell for each in result.cells if each.unavailable is not None}
    return FindingsRecord(
        differences=tuple(
            difference(result, study, cell, base, max_slowdown)
            for study in result.plan.studies
            for cell, base in study.contrasts
            if study.in_turn or absent.isdisjoint((cell, base))
        ),
        growth=growth(result.cells),
        limits=_limits(peaks) if peaks is not None else (),
        limits_unavailable=peaks.unavailable if peaks is not None else (),
        roofline=roofline_records(result.cells, peaks) if peaks is not None else (),
    )


def difference(
    result: BenchmarkResult, study: StudyRecord, cell: Cell, base: Cell, max_slowdown: float
) -> DifferenceRecord:
    """How ``cell`` differs from ``base`` in time, error and memory, and what that proves."""
    head, other = result.record_of(cell), result.record_of(base)
    blank = DifferenceRecord(
        study=study.name, cell=cell.name, base=base.name, recordings=0, processes=0,
        in_turn=study.in_turn,
    )  # fmt: skip
    if head is None or other is None or not (head.finished and other.finished):
        missing = [each for each in (head, other) if each is None or not each.finished]
        names = ", ".join(each.name for each in missing if each is not None) or "a cell"
        return blank.model_copy(update={"note": f"nothing was measured of {names}"})
    pairs = _paired(result, head, other)
    uris = {first.uri for first, _ in pairs}, {second.uri for _, second in pairs}
    sides = zip(_in_pairs(head, other, uris) if study.in_turn else (head, other), uris, strict=True)
    own, theirs = (
        {name: METRICS[name].by_process(record, known) for name in ("wall", "cpu")}
        for record, known in sides
    )
    ratios = {
        name: _ratio(theirs[name], own[name], study.in_turn, result.plan.seed) for name in own
    }
    points, accuracy, note = _error_difference(pairs, result.plan.seed)
    memories = [
        METRICS["peak_memory"].measure(record, [pair[side] for pair in pairs])
        for side, record in enumerate((head, other))
    ]
    return blank.model_copy(
        update={
            "recordings": len(pairs),
            "processes": min(len(own["wall"]), len(theirs["wall"])),
            "wall_ratio": ratios["wall"],
            "cpu_ratio": ratios["cpu"],
            "der_points": points,
            "memory_ratio": memories[0].median / memories[1].median
            if memories[0] is not None and memories[1] is not None
            else None,
            "speed": _speed(ratios["wall"], ratios["cpu"], max_slowdown, study.in_turn),
            "accuracy": accuracy,
            "note": note,
        }
    )


def _in_pairs(
    head: CellRecord, base: CellRecord, uris: Sequence[set[str]]
) -> tuple[CellRecord, ...]:
    """Both with the processes only that measured all of their ``uris`` on both sides."""
    measured = [
        [known <= {file.uri for file in process.finished} for process in record.processes]
        for record, known in zip((head, base), uris, strict=True)
    ]
    both = [all(pair) for pair in zip(*measured, strict=False)]
    return tuple(
        record.model_copy(update={"processes": tuple(compress(record.processes, both))})
        for record in (head, base)
    )


def _paired(
    result: BenchmarkResult, head: CellRecord, base: CellRecord
) -> list[tuple[FileRecord, FileRecord]]:
    """Recordings of the same conversation that both finished."""
    sides = [
        {_conversation(result.datasets[each.cell.condition], f): f for f in each.finished}
        for each in (head, base)
    ]
    return [(record, sides[1][name]) for name, record in sides[0].items() if name in sides[1]]


def _conversation(dataset: DatasetRecord, record: FileRecord) -> str:
    return dataset.conversations.get(record.uri, record.uri)


def _ratio(
    base: Sequence[float], head: Sequence[float], in_turn: bool, seed: int
) -> IntervalRecord | None:
    """Head over base; with ends only where processes are enough to say how they spread."""
    if not base or not head or min(base) <= 0.0 or min(head) <= 0.0:
        return None
    if in_turn and len(base) >= statistics.FEWEST_PAIRS:
        found = statistics.paired_ratio(base, head)
    else:
        found = statistics.ratio_of_medians(base, head, seed=seed)
        if min(len(base), len(head)) < FEWEST_PROCESSES:
            return IntervalRecord(value=found.ratio)
    return IntervalRecord(value=found.ratio, low=found.low, high=found.high)


def _speed(
    wall: IntervalRecord | None, cpu: IntervalRecord | None, limit: float, in_turn: bool
) -> Verdict:
    """Worse or better by more than ``limit``, the interval without "no change".

    In turn, either clock is enough: wall time is what users wait for, and CPU time tells the
    same of added work even where others use the machine. Measured apart, a drift of the machine
    between the two moves wall time, so that both clocks must agree.
    """
    clocks = [
        (each.value, each.low, each.high)
        for each in (wall, cpu)
        if each is not None and each.low is not None and each.high is not None
    ]
    if not clocks:
        return "inconclusive"
    enough = any if in_turn else all
    if enough(ratio > 1 + limit and low > 1 for ratio, low, _ in clocks):
        return "worse"
    if enough(ratio < 1 / (1 + limit) and high < 1 for ratio, _, high in clocks):
        return "better"
    return "no difference shown"


def _error_difference(
    pairs: Sequence[tuple[FileRecord, FileRecord]], seed: int
) -> tuple[IntervalRecord | None, Verdict, str]:
    """Points of strict error, head minus base, with the verdict and why it is none."""
    errors = [(STRICT_DER.parts(head), STRICT_DER.parts(base)) for head, base in pairs]
    scored = [(base, head) for head, base in errors if head and base]
    if not scored:
        return None, "inconclusive", ""
    found = statistics.paired_rate_difference(*zip(*scored, strict=True), seed=seed)
    points = 100.0 * found.difference
    if not math.isfinite(found.high):
        few = f"{counted(len(scored), 'recording')}: too few to say which errs less"
        return IntervalRecord(value=points), "inconclusive", few
    record = IntervalRecord(value=points, low=100.0 * found.low, high=100.0 * found.high)
    if not found.proven:
        return record, "no difference shown", ""
    return record, "worse" if points > 0 else "better", ""


def growth(cells: Sequence[CellRecord]) -> tuple[GrowthRecord, ...]:
    """One record for each series of cells that differ in the length of the audio only.

    Not of streams: each tells its own growth.
    """
    series: dict[Cell, list[tuple[float, CellRecord]]] = {}
    for record in cells:
        if record.cell.length is not None and record.cell.latency is None:
            own = series.setdefault(record.cell.at(length=None), [])
            own.append((record.cell.length, record))
    return tuple(_growth(cell.name, records) for cell, records in series.items())


def _growth(name: str, records: Sequence[tuple[float, CellRecord]]) -> GrowthRecord:
    found: dict[float, tuple[float, float]] = {}  # length → seconds per second, peak in MB
    judged = sorted(length for length, _ in records if length >= JUDGED_FROM_SECONDS)
    for length, record in records:
        rtfx = METRICS["rtfx"].measure(record)
        peak = METRICS["peak_memory"].measure(record)
        if rtfx is not None and peak is not None:
            found[length] = (1.0 / rtfx.median, peak.median)
    # What failed at either end leaves nothing to compare.
    if len(judged) < 2 or not {judged[0], judged[-1]} <= found.keys():
        return GrowthRecord(series=name)
    first, last = found[judged[0]], found[judged[-1]]
    shares = [found[each][0] / first[0] - 1 for each in judged if each in found]
    share, grown = max(shares, key=abs), 1e6 * (last[1] - first[1])
    return GrowthRecord(
        series=name,
        shortest_seconds=judged[0],
        longest_seconds=judged[-1],
        time_share=share,
        memory_bytes=grown,
        time_holds=abs(share) <= MAX_TIME_DEVIATION,
        memory_holds=grown <= MAX_GROWTH_BYTES,
    )


def _limits(peaks: MachinePeaks) -> tuple[LimitRecord, ...]:
    products = [
        LimitRecord(
            what=f"products {peak.precision}, {peak.executor}",
            threads=peak.threads,
            best=peak.flops_per_second,
            median=peak.median_flops_per_second,
            unit="FLOP/s",
        )
        for peak in peaks.gemm
    ]
    copies = [
        LimitRecord(
            what=f"{each.level} {kind}, {each.array_bytes / 2**20:.0f} MiB arrays",
            threads=each.threads,
            best=getattr(each, kind),
            unit="B/s",
        )
        for each in peaks.bandwidth
        for kind in ("copy", "triad")
    ]
    return (*products, *copies)
