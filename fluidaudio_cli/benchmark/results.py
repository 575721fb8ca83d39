"""The benchmark's result file, schema ``fluidaudio.benchmark/2``: one pydantic model per record.

The file holds raw samples of every cell (:mod:`fluidaudio_cli.benchmark.grid`), and in
``findings`` what was concluded from several cells together; medians and percentages of one cell
are derived when shown (``benchmark/metrics.py``). Seconds and bytes throughout, shares as
fractions, energy in joules.
``json_schema()`` exports the same definition as a JSON Schema document.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fluidaudio_cli.benchmark.grid import Cell
from fluidaudio_cli.errors import InputError, os_errors
from fluidaudio_cli.files import write_text_atomic
from fluidaudio_cli.measure.environment import Environment
from fluidaudio_cli.scoring.records import (
    BoundaryScore,
    DiarizationErrorRate,
    JaccardErrorRate,
    OverlapError,
)
from fluidaudio_cli.settings import first_problem

SCHEMA: Final = "fluidaudio.benchmark/2"

NonNegative = Field(ge=0.0)  # required, and at least zero


class Record(BaseModel):
    """Base: immutable, and unknown keys fail."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StageSample(Record):
    """Time one stage was busy within one diarization."""

    name: str
    busy_seconds: float = NonNegative
    calls: int = Field(ge=0)
    items: int = Field(default=0, ge=0)
    concurrent: bool = False


class EnergySample(Record):
    """Energy the measured domains used during one diarization (all processes included)."""

    joules: float = NonNegative
    seconds: float = Field(gt=0.0)
    domains: dict[str, float]


class IterationSample(Record):
    """One measured diarization of one file."""

    wall_seconds: float = Field(gt=0.0)
    cpu_seconds: float = NonNegative
    windows: int = Field(ge=0)
    overlapped: bool
    stages: tuple[StageSample, ...]
    energy: EnergySample | None = None


class BudgetRecord(Record):
    """Where the strict error comes from, in seconds; the parts add up to it.

    ``missed`` and ``false_alarm``: speech where nobody, nobody's speech where somebody was
    found. ``overlap``: second and further speakers missed or added. ``confusion``: the wrong
    speaker. ``oracle``: the error that the same evidence has when the reference says who is
    who, so that what is above it is clustering's; absent where there was no evidence.
    """

    missed: float = NonNegative
    false_alarm: float = NonNegative
    overlap: float = NonNegative
    confusion: float = NonNegative
    oracle: DiarizationErrorRate | None = None


class AccuracyRecord(Record):
    """How one recording's turns compare with its reference.

    ``strict``: no collar, overlap scored. ``lenient``: 0.25 s either side, overlap skipped; where
    that leaves no speech to score, speech falsely added counts in the pool all the same (earlier
    versions left such a recording out: absent).
    """

    strict: DiarizationErrorRate
    lenient: DiarizationErrorRate | None
    jer: JaccardErrorRate
    speakers_found: int = Field(ge=0)
    speakers_true: int = Field(ge=0)
    boundary: BoundaryScore
    overlap: OverlapError
    budget: BudgetRecord
    uem_source: str


class MemoryRecord(Record):
    """Resident memory of the worker process while one file ran, warm-up included.

    ``peak_source``: ``kernel`` is the high-water mark, which misses nothing; ``sampled`` is the
    highest of readings ``period_seconds`` apart and may miss a shorter peak. ``baseline`` is
    read with the models loaded and nothing diarized yet. ``curve``: (seconds, bytes), thinned
    to a bounded length by keeping the highest reading of each stretch.
    """

    peak_rss_bytes: int = Field(gt=0)
    peak_source: Literal["kernel", "sampled"]
    baseline_rss_bytes: int = Field(gt=0)
    period_seconds: float = Field(gt=0.0)
    curve: tuple[tuple[float, int], ...]


class StreamingRecord(Record):
    """One recording as a stream; what it was at its end is the file's ``accuracy``.

    ``online``: of what was final or tentative once the latency was over; ``refined``: of what
    stood after the corrections of the background, before the end's; neither without a reference.
    ``delays``: seconds from each speaker's first word to the first event with the name that this
    speaker has at the end.
    ``switches``: turns of the reference that were given another name than the same speaker's
    turn before, of ``turns``; ``switches_end``: the same of what stands at the end.
    ``step_seconds`` between windows, ``computing`` each step took.
    ``left_out``: windows that were, as computing fell behind; ``silent``: that needed no network.
    ``memory``: (seconds of sound, resident bytes).
    """

    online: DiarizationErrorRate | None = None
    refined: DiarizationErrorRate | None = None
    delays: tuple[float, ...]
    unnamed: int = Field(default=0, ge=0)
    switches: int = Field(ge=0)
    switches_end: int = Field(ge=0)
    turns: int = Field(ge=0)
    revisions: int = Field(ge=0)
    revised_seconds: float = NonNegative
    created: int = Field(ge=0)
    withdrawn: int = Field(ge=0)
    step_seconds: float = Field(gt=0.0)
    computing: tuple[float, ...]
    left_out: int = Field(default=0, ge=0)
    silent: int = Field(default=0, ge=0)
    memory: tuple[tuple[float, int], ...] = ()


class FileRecord(Record):
    """One recording in one process of a cell: finished with samples, or failed with a reason."""

    uri: str
    error: str | None = None
    audio_seconds: float = Field(default=0.0, ge=0.0)
    iterations: tuple[IterationSample, ...] = ()
    latency_seconds: tuple[float, ...] = ()
    accuracy: AccuracyRecord | None = None
    repeatable: bool = True
    memory: MemoryRecord | None = None
    streaming: StreamingRecord | None = None


class ProcessRecord(Record):
    """One fresh process of a cell.

    ``load_seconds``: wall time of ``load_pipeline``, imports of the runtime included, with a
    filled cache. ``peak_rss_bytes``: high-water mark once loaded. ``error``: it did not load,
    or, once it had ended, not again.
    """

    load_seconds: float | None = None
    peak_rss_bytes: int | None = None
    error: str | None = None
    files: tuple[FileRecord, ...] = ()

    @property
    def finished(self) -> tuple[FileRecord, ...]:
        """Recordings with measurements."""
        return tuple(record for record in self.files if record.error is None)


class ModelRecord(Record):
    """A model package that ran, by content."""

    name: str
    sha256: str


class IdentificationRecord(Record):
    """Trials of ``voices``: each test against each enrolment, of one person or of strangers.

    ``..._odds``: log-odds that they are one person; ``..._rates``: how often strangers would be
    as alike, as the program says. ``unheard``: tests of one person in which nobody was heard.
    """

    voices: int = Field(ge=0)
    same_odds: tuple[float, ...]
    same_rates: tuple[float, ...]
    stranger_odds: tuple[float, ...]
    stranger_rates: tuple[float, ...]
    unheard: int = Field(default=0, ge=0)


class CellRecord(Record):
    """A cell: what was asked, what ran, what came out.

    ``plan``: how the program resolved what was asked, as it says itself. ``cold_seconds``: a
    load with an empty compile cache, or why there is none (``cold_note``). ``remarks``: what is
    not equal between this cell's program and this one. ``identification``: of ``--identify``.
    """

    cell: Cell
    study: str
    unavailable: str | None = None
    plan: dict[str, JsonValue] = Field(default_factory=dict)
    config: dict[str, JsonValue] = Field(default_factory=dict)
    executors: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    models: tuple[ModelRecord, ...] = ()
    remarks: tuple[str, ...] = ()
    cold_seconds: float | None = None
    cold_note: str = ""
    processes: tuple[ProcessRecord, ...] = ()
    identification: IdentificationRecord | None = None

    @property
    def name(self) -> str:
        """The cell's name."""
        return self.cell.name

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Each recording with the samples of all processes; failed if it did in all of them."""
        found: dict[str, list[FileRecord]] = {}
        for process in self.processes:
            for record in process.files:
                found.setdefault(record.uri, []).append(record)
        return tuple(_joined(records) for records in found.values())

    @property
    def finished(self) -> tuple[FileRecord, ...]:
        """Recordings with measurements."""
        return tuple(record for record in self.files if record.error is None)

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """(uri, reason) of everything that failed in any process; uri "" for a whole process."""
        whole = [("", process.error) for process in self.processes if process.error is not None]
        files = [
            (record.uri, record.error)
            for process in self.processes
            for record in process.files
            if record.error is not None
        ]
        return tuple(dict.fromkeys((*whole, *files)))


def _joined(records: Sequence[FileRecord]) -> FileRecord:
    """One record with all samples; scores are those of the first process that finished."""
    good = [record for record in records if record.error is None]
    if not good:
        return records[0]
    first = good[0]
    memories = [record.memory for record in good if record.memory is not None]
    return first.model_copy(
        update={
            "iterations": tuple(sample for record in good for sample in record.iterations),
            "latency_seconds": tuple(each for record in good for each in record.latency_seconds),
            "repeatable": all(record.repeatable for record in good),
            "memory": max(memories, key=lambda each: each.peak_rss_bytes, default=None),
        }
    )


class StudyRecord(Record):
    """A question, its cells, and how much was measured of each."""

    name: str
    cells: tuple[Cell, ...]
    contrasts: tuple[tuple[Cell, Cell], ...] = ()
    in_turn: bool = False
    processes: int = Field(ge=1)
    warmup: int = Field(ge=0)
    iterations: int = Field(ge=1)
    latency_windows: int = Field(ge=0)
    measure_memory: bool


class PlanRecord(Record):
    """What was asked for; a resumed run must ask for the same.

    ``timeout_seconds``: given to each request of a worker; None: by the audio's length.
    ``tuning``: false where what ``fluidaudio tune`` stored was left out.
    """

    studies: tuple[StudyRecord, ...]
    seed: int
    compute_units: str
    measure_power: bool
    memory_limit_bytes: int | None = Field(default=None, gt=0)
    timeout_seconds: float | None = Field(default=None, gt=0)
    tuning: bool = True


class DatasetRecord(Record):
    """The recordings of one condition; ``conversations``: uri to what is paired with it."""

    name: str
    fingerprint: str
    uris: tuple[str, ...]
    conversations: dict[str, str] = Field(default_factory=dict)
    note: str = ""


class IntervalRecord(Record):
    """A figure with its 95 % interval; the ends are absent where too little was measured."""

    value: float
    low: float | None = None
    high: float | None = None


Verdict = Literal["better", "worse", "no difference shown", "inconclusive"]


class DifferenceRecord(Record):
    """A cell against another, on the recordings (conversations) that both finished.

    ``wall_ratio``, ``cpu_ratio`` and ``memory_ratio``: cell over base. ``der_points``: strict
    error, cell minus base, in percentage points, with a paired bootstrap interval over
    ``recordings``. ``speed`` and ``accuracy``: verdicts; ``note``: why one is inconclusive.
    """

    study: str
    cell: str
    base: str
    recordings: int = Field(ge=0)
    processes: int = Field(ge=0)
    in_turn: bool = False
    wall_ratio: IntervalRecord | None = None
    cpu_ratio: IntervalRecord | None = None
    der_points: IntervalRecord | None = None
    memory_ratio: float | None = None
    speed: Verdict = "inconclusive"
    accuracy: Verdict = "inconclusive"
    note: str = ""


class GrowthRecord(Record):
    """How time per audio hour and peak memory of one series of lengths grow from 10 min on.

    ``time_share``: the greatest deviation from the shortest of these lengths, a signed fraction.
    ``memory_bytes``: peak at the longest minus that at the shortest. Absent where fewer than two
    lengths were measured.
    """

    series: str
    shortest_seconds: float = 0.0
    longest_seconds: float = 0.0
    time_share: float | None = None
    memory_bytes: float | None = None
    time_holds: bool | None = None
    memory_holds: bool | None = None


class LimitRecord(Record):
    """What this machine can do: FLOP/s of products, bytes/s of copies and triads."""

    what: str
    threads: int
    best: float
    median: float | None = None
    unit: Literal["FLOP/s", "B/s"]


class RooflineRecord(Record):
    """A network of a cell against the machine; rates in FLOP/s, intensity in FLOP per byte moved.

    ``limit`` is the rate that the longest of the three lower bounds on its time allows, and
    ``bound`` which one that is. Shares are fractions reached; that of the limit passes 1 where
    fusion saves traffic. ``None``: a peak or bandwidth was not measured.
    """

    cell: str
    stage: str
    precision: str
    gflop_per_audio_second: float
    achieved: float
    share_of_peak: float | None
    intensity: float
    limit: float | None
    share_of_limit: float | None
    bound: str | None


class FindingsRecord(Record):
    """What follows from several cells together."""

    differences: tuple[DifferenceRecord, ...] = ()
    growth: tuple[GrowthRecord, ...] = ()
    limits: tuple[LimitRecord, ...] = ()
    limits_unavailable: tuple[str, ...] = ()
    roofline: tuple[RooflineRecord, ...] = ()


class BenchmarkResult(Record):
    """A whole run; ``complete`` is false while it runs and after an interruption.

    ``datasets``: recordings by condition; "" are those asked for, as they are.
    """

    schema_: Literal["fluidaudio.benchmark/2"] = Field(default=SCHEMA, alias="schema")
    created: str
    version: str
    complete: bool
    plan: PlanRecord
    datasets: dict[str, DatasetRecord]
    environment: Environment
    power: str
    warnings: tuple[str, ...] = ()
    cells: tuple[CellRecord, ...] = ()
    findings: FindingsRecord = FindingsRecord()

    model_config = ConfigDict(populate_by_name=True)

    @property
    def dataset(self) -> DatasetRecord:
        """The recordings as they are."""
        return self.datasets[""]

    def of_study(self, name: str) -> tuple[CellRecord, ...]:
        """The cells measured for one study."""
        return tuple(cell for cell in self.cells if cell.study == name)

    def record_of(self, cell: Cell) -> CellRecord | None:
        """What is known of a cell."""
        return next((each for each in self.cells if each.cell == cell), None)

    @property
    def failures(self) -> tuple[tuple[str, str, str], ...]:
        """(cell's name, uri, reason) of everything that failed."""
        return tuple((cell.name, *failure) for cell in self.cells for failure in cell.failures)


def read_result(path: Path) -> BenchmarkResult:
    """Read and validate a result file; ``InputError`` names the file and the first problem."""
    remedy = "give a benchmark JSON file"
    with os_errors(f"cannot read {path}", remedy, InputError, UnicodeDecodeError):
        text = path.read_text(encoding="utf-8")
    if '"fluidaudio.benchmark/1"' in text[:1000]:
        raise InputError(
            f"{path} was written by an earlier version (fluidaudio.benchmark/1)",
            "measure again, or read it with the version that wrote it",
        )
    try:
        return BenchmarkResult.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path} is not a {SCHEMA} file: {first_problem(error)}") from error


def write_result(result: BenchmarkResult, path: Path) -> None:
    """Write ``result`` as JSON, whole or not at all."""
    write_text_atomic(path, to_json(result))


def to_json(result: BenchmarkResult) -> str:
    """The result as indented JSON, ending in a newline."""
    return result.model_dump_json(indent=2, by_alias=True) + "\n"


def json_schema() -> dict[str, Any]:
    """The schema as a JSON Schema (2020-12) document."""
    return BenchmarkResult.model_json_schema(by_alias=True)
