"""The benchmark's result file, schema ``fluidaudio.benchmark/1``: one pydantic model per record.

The file holds raw samples; every median, ratio and percentage is derived from them when shown
(``benchmark/metrics.py``). Seconds and bytes throughout, shares as fractions, energy in joules.
A *variant* is one performance mode on one executor at one precision, run in its own process.
``json_schema()`` exports the same definition as a JSON Schema document.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fluidaudio_cli.errors import InputError
from fluidaudio_cli.files import write_text_atomic

SCHEMA: Final = "fluidaudio.benchmark/1"

NonNegative = Field(ge=0.0)  # required, and at least zero


class Record(BaseModel):
    """Base: immutable, and unknown keys fail."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StageSample(Record):
    """Time one stage was busy within one diarization."""

    name: str
    busy_seconds: float = NonNegative
    calls: int = Field(ge=0)
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


class DerRecord(Record):
    """Diarization error in seconds of speech; the rate is their sum over ``total``."""

    missed_detection: float = NonNegative
    false_alarm: float = NonNegative
    confusion: float = NonNegative
    total: float = Field(gt=0.0)

    @property
    def rate(self) -> float:
        """Error rate as a fraction, may exceed 1."""
        return (self.missed_detection + self.false_alarm + self.confusion) / self.total

    def __add__(self, other: DerRecord) -> DerRecord:
        """Pool two files: seconds add up, so the rate is weighted by speech."""
        return DerRecord(
            missed_detection=self.missed_detection + other.missed_detection,
            false_alarm=self.false_alarm + other.false_alarm,
            confusion=self.confusion + other.confusion,
            total=self.total + other.total,
        )


class JerRecord(Record):
    """Jaccard error summed over reference speakers, and how many there are."""

    speaker_error: float = NonNegative
    speaker_count: int = Field(ge=0)


class BoundaryRecord(Record):
    """Matched turn boundaries: hypothesis minus reference in seconds, and each side's count."""

    offsets: tuple[float, ...]
    reference: int = Field(ge=0)
    hypothesis: int = Field(ge=0)


class OverlapRecord(Record):
    """Seconds of overlapped speech missed, falsely added, and true."""

    missed: float = NonNegative
    false_alarm: float = NonNegative
    total: float = NonNegative


class AccuracyRecord(Record):
    """How one file's turns compare with its reference.

    ``strict``: no collar, overlap scored. ``lenient``: 0.25 s either side, overlap skipped;
    absent where that leaves no speech to score.
    """

    strict: DerRecord
    lenient: DerRecord | None
    jer: JerRecord
    speakers_found: int = Field(ge=0)
    speakers_true: int = Field(ge=0)
    boundary: BoundaryRecord
    overlap: OverlapRecord
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


class FileRecord(Record):
    """One file of one variant: finished with samples, or failed with a reason."""

    uri: str
    error: str | None = None
    audio_seconds: float = Field(default=0.0, ge=0.0)
    iterations: tuple[IterationSample, ...] = ()
    latency_seconds: tuple[float, ...] = ()
    accuracy: AccuracyRecord | None = None
    repeatable: bool = True
    memory: MemoryRecord | None = None


class LoadRecord(Record):
    """Wall seconds of ``load_pipeline`` in a fresh process, imports of the runtime included.

    ``cold``: with an empty compile cache of its own. ``warm``: with the user's, filled.
    ``peak_rss_bytes``: high-water mark of the warm process once loaded.
    """

    cold_seconds: float | None = None
    warm_seconds: float | None = None
    peak_rss_bytes: int | None = None
    note: str = ""


class ModelRecord(Record):
    """A model package that ran, by content."""

    name: str
    sha256: str


class VariantRecord(Record):
    """One mode on one executor at one precision: what was asked, what ran, what came out."""

    mode: str
    executor: str
    precision: str
    unavailable: str | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict)
    plan: dict[str, JsonValue] = Field(default_factory=dict)
    executors: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    models: tuple[ModelRecord, ...] = ()
    load: LoadRecord = LoadRecord()
    files: tuple[FileRecord, ...] = ()

    @property
    def name(self) -> str:
        """Mode, with executor and precision where they were chosen explicitly."""
        chosen = [part for part in (self.executor, self.precision) if part != "auto"]
        return "/".join([self.mode, *chosen])

    @property
    def finished(self) -> tuple[FileRecord, ...]:
        """Files with measurements."""
        return tuple(record for record in self.files if record.error is None)


class MachineRecord(Record):
    """What must be equal for two absolute timings to be comparable."""

    cpu_model: str
    logical_cores: int
    usable_cores: int
    memory_bytes: int
    system: str
    architecture: str


class EnvironmentRecord(Record):
    """The host as it was when the run started."""

    machine: MachineRecord
    system_release: str
    python: str
    packages: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    load_average: tuple[float, float, float] | None
    thread_settings: dict[str, str]


class PlanRecord(Record):
    """What was asked for; a resumed run must ask for the same."""

    modes: tuple[str, ...]
    executors: tuple[str, ...]
    precisions: tuple[str, ...]
    iterations: int = Field(ge=1)
    warmup: int = Field(ge=0)
    latency_windows: int = Field(ge=0)
    seed: int
    threads: int | None
    compute_units: str
    measure_memory: bool
    measure_power: bool
    memory_limit_bytes: int | None = Field(default=None, gt=0)
    tuning: bool = True


class DatasetRecord(Record):
    """What was diarized."""

    name: str
    fingerprint: str
    uris: tuple[str, ...]
    note: str = ""


class PairedRecord(Record):
    """Interleaved runs of this version (head) and another (base) for one variant.

    One entry per pair of fresh processes: the median over their rounds of the seconds for all
    files. CPU seconds are of all threads; empty where a side's could not be measured.
    """

    variant: str
    base: str
    kind: Literal["worker", "benchmark", "process"]
    base_seconds: tuple[float, ...]
    head_seconds: tuple[float, ...]
    base_cpu_seconds: tuple[float, ...] = ()
    head_cpu_seconds: tuple[float, ...] = ()
    rounds: int = Field(ge=1)
    base_strict: DerRecord | None = None
    head_strict: DerRecord | None = None


class ScalingRecord(Record):
    """One variant on one length of audio with so many threads.

    One file record, of one iteration, and one loading time for each fresh process.
    """

    variant: str
    length_seconds: float = Field(gt=0.0)
    threads: int = Field(ge=1)
    load_seconds: tuple[float, ...] = ()
    runs: tuple[FileRecord, ...] = ()

    @property
    def finished(self) -> tuple[FileRecord, ...]:
        """Processes with a measurement."""
        return tuple(run for run in self.runs if run.error is None)


class BenchmarkResult(Record):
    """A whole run; ``complete`` is false while it runs and after an interruption."""

    schema_: Literal["fluidaudio.benchmark/1"] = Field(default=SCHEMA, alias="schema")
    created: str
    version: str
    complete: bool
    plan: PlanRecord
    dataset: DatasetRecord
    environment: EnvironmentRecord
    power: str
    warnings: tuple[str, ...] = ()
    variants: tuple[VariantRecord, ...] = ()
    paired: tuple[PairedRecord, ...] = ()
    scaling: tuple[ScalingRecord, ...] = ()

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    @property
    def failures(self) -> tuple[tuple[str, FileRecord], ...]:
        """(variant name, file) of every file that could not be diarized or scored."""
        files = [(each.name, record) for each in self.variants for record in each.files]
        files += [(each.variant, record) for each in self.scaling for record in each.runs]
        return tuple((name, record) for name, record in files if record.error is not None)


def read_result(path: Path) -> BenchmarkResult:
    """Read and validate a result file; ``InputError`` names the file and the first problem."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}", "give a benchmark JSON file") from error
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


def first_problem(error: ValidationError) -> str:
    """Where a document breaks its schema and how, on one line."""
    first, *rest = error.errors(include_url=False, include_context=False)
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{place}: {first['msg']}{more}"
