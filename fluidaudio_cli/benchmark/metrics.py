"""Every figure the benchmark reports, by name: unit, and how it comes from samples.

A metric maps the recordings of a cell to its samples in the display unit: one of them gives the
per-file figure, all of them the pooled one. Pooled speed is total audio over total time of one
pass over the files; pooled error is total error over total speech.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fluidaudio_cli.benchmark import trials
from fluidaudio_cli.benchmark.results import (
    AccuracyRecord,
    CellRecord,
    FileRecord,
    IdentificationRecord,
    IterationSample,
    MemoryRecord,
)
from fluidaudio_cli.measure import statistics
from fluidaudio_cli.scoring.records import DiarizationErrorRate

_MEGABYTE = 1e6
_AUDIO_HOUR = 3600.0
_DECIMALS = 6
_PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}

Samples = Sequence[float]
Compute = Callable[[CellRecord, Sequence[FileRecord]], Samples]
Parts = tuple[float, float] | None


@dataclass(frozen=True)
class Metric:
    """One reported figure. ``compute`` returns no samples where nothing was measured."""

    name: str
    label: str
    unit: str
    compute: Compute

    def measure(
        self, cell: CellRecord, files: Sequence[FileRecord] | None = None
    ) -> statistics.Summary | None:
        """Summary over iterations, of all finished files unless ``files`` are given."""
        samples = self.samples(cell, files)
        return statistics.summarise(samples) if samples else None

    def samples(self, cell: CellRecord, files: Sequence[FileRecord] | None = None) -> Samples:
        """Raw samples in this metric's unit."""
        chosen = cell.finished if files is None else files
        values = self.compute(cell, chosen) if chosen else ()
        return tuple(value for value in values if math.isfinite(value))

    def by_process(
        self, cell: CellRecord, uris: Collection[str] | None = None
    ) -> tuple[float, ...]:
        """One figure for each process that measured all of ``uris``: the median of its samples."""
        figures = []
        for process in cell.processes:
            files = [f for f in process.finished if uris is None or f.uri in uris]
            if files and (uris is None or len(files) == len(uris)):
                only = cell.model_copy(update={"processes": (process,)})
                if samples := self.samples(only, files):
                    figures.append(statistics.summarise(samples).median)
        return tuple(figures)


def passes(files: Sequence[FileRecord]) -> tuple[tuple[IterationSample, ...], ...]:
    """Iteration i of every file, for each i that all files have."""
    return tuple(zip(*(record.iterations for record in files), strict=False))


@dataclass(frozen=True)
class Pooled:
    """Of all recordings together: ``scale`` times the sum of parts over that of their wholes.

    ``parts``: part and whole of one recording, None where it has none.
    """

    parts: Callable[[FileRecord], Parts]
    scale: float = 100.0

    def __call__(self, _: CellRecord, files: Sequence[FileRecord]) -> Samples:
        """The figure; none where there is nothing that anything could be a part of."""
        found = [pair for record in files if (pair := self.parts(record)) is not None]
        part, whole = (sum(side) for side in zip(*found, strict=True)) if found else (0.0, 0.0)
        return (self.scale * part / whole,) if whole else ()


def _der(owner: str, name: str, part: str = "error") -> Pooled:
    """An error rate of each recording's ``owner``, or a part of it."""
    return Pooled(lambda record: _parts(getattr(getattr(record, owner), name, None), part))


def _parts(der: DiarizationErrorRate | None, part: str = "error") -> Parts:
    return None if der is None else (getattr(der, part), der.total)


def _scored(parts: Callable[[AccuracyRecord], Parts], scale: float = 100.0) -> Pooled:
    return Pooled(lambda file: None if file.accuracy is None else parts(file.accuracy), scale)


STRICT_DER = _der("accuracy", "strict")


def _audio(files: Sequence[FileRecord]) -> float:
    """Seconds of all recordings; NaN where a command was given one whose length is unknown."""
    lengths = [record.audio_seconds for record in files]
    return sum(lengths) if all(lengths) else math.nan


def _per_pass(figure: Callable[[float, Sequence[IterationSample]], float]) -> Compute:
    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        audio = _audio(files)
        return [figure(audio, samples) for samples in passes(files)]

    return compute


def _sum(name: str, samples: Sequence[IterationSample]) -> float:
    return float(sum(getattr(sample, name) for sample in samples))


_wall, _cpu, _windows = (partial(_sum, name) for name in ("wall_seconds", "cpu_seconds", "windows"))


def _windows_per_second(_: float, samples: Sequence[IterationSample]) -> float:
    # None were counted where a command ran, whose inside is not seen.
    return _windows(samples) / _wall(samples) or math.nan


def _energy(name: str, samples: Sequence[IterationSample]) -> float:
    return sum(math.nan if s.energy is None else getattr(s.energy, name) for s in samples)


_joules, _energy_seconds = (partial(_energy, name) for name in ("joules", "seconds"))


def _percentile(
    percent: float,
    values: Callable[[FileRecord], Iterable[float]],
    scale: float = 1e3,
    *,
    of_all: bool = False,
) -> Compute:
    """A percentile of all values of all recordings, in milliseconds unless scaled otherwise.

    ``of_all``: none where a recording has no values, since all of them were to have some.
    """

    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        by_file = [tuple(values(record)) for record in files]
        found = [value for each in by_file for value in each]
        if not found or (of_all and not all(by_file)):
            return ()
        return (scale * statistics.percentile(found, percent),)

    return compute


def _boundary_errors(record: FileRecord) -> Iterable[float]:
    return map(abs, record.accuracy.boundary.offsets) if record.accuracy else ()


def _of_stream(name: str) -> Callable[[FileRecord], Iterable[float]]:
    return lambda record: getattr(record.streaming, name, ())


def _count(holds: Callable[[int], bool]) -> Pooled:
    """Share of recordings whose count of speakers, found minus true, ``holds``."""
    return _scored(lambda found: (holds(found.speakers_found - found.speakers_true), 1))


def _budget(part: str) -> Pooled:
    return _scored(lambda found: (getattr(found.budget, part), found.strict.total))


def _oracle(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
    budgets = [record.accuracy.budget for record in files if record.accuracy is not None]
    if any(budget.oracle is None for budget in budgets):
        return ()  # of some recordings only, it would be set beside the error of others
    return _scored(lambda found: _parts(found.budget.oracle))(cell, files)


def _clustering(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
    oracle, strict = _oracle(cell, files), STRICT_DER(cell, files)
    # Both are sums of slices, which differ by their rounding; and no zero below zero.
    return (round(strict[0] - oracle[0], _DECIMALS) + 0.0,) if oracle else ()


def _memories(cell: CellRecord, files: Sequence[FileRecord]) -> list[MemoryRecord]:
    """Of ``files`` in every process, each of which starts from a size of its own."""
    uris = {record.uri for record in files}
    known = (each for process in cell.processes for each in process.finished if each.uri in uris)
    return [record.memory for record in known if record.memory is not None]


def _peak_memory(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
    # Of the process from its start, as a user sees it: loading may take more than running.
    peaks = [memory.peak_rss_bytes for memory in _memories(cell, files)]
    loads = [process.peak_rss_bytes or 0 for process in cell.processes]
    return (max(*peaks, *loads, 0) / _MEGABYTE,) if peaks else ()


def _memory_growth(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
    growth = [each.peak_rss_bytes - each.baseline_rss_bytes for each in _memories(cell, files)]
    return (max(growth) / _MEGABYTE,) if growth else ()


def _load_cold(cell: CellRecord, _: Sequence[FileRecord]) -> Samples:
    return () if cell.cold_seconds is None else (cell.cold_seconds,)


def _load_warm(cell: CellRecord, _: Sequence[FileRecord]) -> Samples:
    loads = (process.load_seconds for process in cell.processes)
    return [seconds for seconds in loads if seconds is not None]


def _trials(figure: Callable[[IdentificationRecord], float]) -> Compute:
    """A figure of all voices' trials; there is none of one voice."""

    def compute(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
        found = cell.identification
        return () if found is None or len(files) < len(cell.finished) else (figure(found),)

    return compute


def _false(rate: Callable[[IdentificationRecord, float], float], asked: float) -> Compute:
    return _trials(lambda found: 100.0 * rate(found, asked))


def _over_end(kind: str) -> Compute:
    """Error of what a stream said over that of its end."""

    def compute(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
        said, end = _der("streaming", kind)(cell, files), STRICT_DER(cell, files)
        return (said[0] / end[0],) if said and end and end[0] > 0.0 else ()

    return compute


def _stream_total(name: str, per: Callable[[FileRecord], float], scale: float = 1.0) -> Pooled:
    """A field's sum of all streams over that of ``per``."""

    def parts(record: FileRecord) -> Parts:
        if record.streaming is None:
            return None
        return float(np.sum(getattr(record.streaming, name))), per(record)

    return Pooled(parts, scale)


def _turns(record: FileRecord) -> float:
    return record.streaming.turns if record.streaming is not None else 0.0


def _minutes(record: FileRecord) -> float:
    return record.audio_seconds / 60.0


def _stream_growth(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
    """Of the longest stream: at its end over that after 10 minutes, or after a sixth of less."""
    streams = [record.streaming for record in files if record.streaming is not None]
    curves = [stream.memory for stream in streams if len(stream.memory) > 1]
    if not curves:
        return ()
    longest = max(curves, key=lambda curve: curve[-1][0])
    # The first reading is of before the stream.
    early = [size for time, size in longest[1:] if time <= min(600.0, longest[-1][0] / 6.0)]
    return ((longest[-1][1] - early[-1]) / _MEGABYTE,) if early else ()


_ROWS: tuple[tuple[str, str, str, Compute], ...] = (
    ("rtfx", "RTFx", "x", _per_pass(lambda a, s: a / _wall(s))),
    ("rtf", "RTF", "", _per_pass(lambda a, s: _wall(s) / a)),
    ("wall", "wall time", "s", _per_pass(lambda _, s: _wall(s))),
    ("cpu", "CPU time", "s", _per_pass(lambda _, s: _cpu(s))),
    # Cores kept busy: 2 means two cores fully used.
    ("cpu_cores", "cores busy", "", _per_pass(lambda _, s: _cpu(s) / _wall(s))),
    ("windows_per_second", "windows/s", "/s", _per_pass(_windows_per_second)),
    *(
        (
            f"latency_{name}",
            f"latency {name}",
            "ms",
            _percentile(percent, lambda file: file.latency_seconds, of_all=True),
        )
        for name, percent in _PERCENTILES.items()
    ),
    ("der_strict", "DER strict", "%", STRICT_DER),
    ("der_lenient", "DER lenient", "%", _der("accuracy", "lenient")),
    ("missed", "missed", "%", _der("accuracy", "strict", "missed_detection")),
    ("false_alarm", "false alarm", "%", _der("accuracy", "strict", "false_alarm")),
    ("confusion", "confusion", "%", _der("accuracy", "strict", "confusion")),
    ("jer", "JER", "%", _scored(lambda a: (a.jer.speaker_error, a.jer.speaker_count))),
    ("budget_missed", "speech missed", "%", _budget("missed")),
    ("budget_false_alarm", "speech added", "%", _budget("false_alarm")),
    ("budget_overlap", "overlap", "%", _budget("overlap")),
    ("budget_confusion", "speaker confusion", "%", _budget("confusion")),
    ("der_oracle", "DER with oracle labels", "%", _oracle),
    ("clustering_cost", "cost of clustering", "points", _clustering),
    ("speaker_count", "right count", "%", _count(lambda e: e == 0)),
    ("count_off_by_one", "count off by one", "%", _count(lambda e: abs(e) == 1)),
    ("count_off_by_more", "count off by more", "%", _count(lambda e: abs(e) > 1)),
    (
        "count_bias",
        "mean count error",
        "speakers",
        _scored(lambda a: (a.speakers_found - a.speakers_true, 1), 1.0),
    ),
    ("boundary_median", "boundary median", "ms", _percentile(50, _boundary_errors)),
    ("boundary_p90", "boundary p90", "ms", _percentile(90, _boundary_errors)),
    ("eer", "EER", "%", _trials(lambda t: 100.0 * trials.equal_error_rate(t))),
    ("min_dcf", "minDCF", "", _trials(trials.min_dcf)),
    ("cllr", "Cllr", "bits", _trials(trials.cllr)),
    *(
        (
            f"false_{kind}_{percent}",
            f"false {kind}s at {percent} %",
            "%",
            _false(rate, percent / 100.0),
        )
        for percent in (1, 5)
        for kind, rate in (("accept", trials.false_accepts), ("reject", trials.false_rejects))
    ),
    ("online_der", "DER online", "%", _der("streaming", "online")),
    ("refined_der", "DER refined", "%", _der("streaming", "refined")),
    ("online_ratio", "online / end", "x", _over_end("online")),
    ("refined_ratio", "refined / end", "x", _over_end("refined")),
    ("label_delay", "first label after", "s", _percentile(50, _of_stream("delays"), 1.0)),
    ("switches", "turns switched", "%", _stream_total("switches", _turns, 100.0)),
    ("switches_end", "switched at the end", "%", _stream_total("switches_end", _turns, 100.0)),
    ("revisions", "revisions", "/min", _stream_total("revisions", _minutes)),
    ("revised", "revised", "s/min", _stream_total("revised_seconds", _minutes)),
    ("speakers_created", "speakers created", "", _stream_total("created", lambda _: 1.0)),
    ("speakers_withdrawn", "withdrawn", "", _stream_total("withdrawn", lambda _: 1.0)),
    *(
        (f"step_{name}", f"step {name}", "ms", _percentile(percent, _of_stream("computing")))
        for name, percent in _PERCENTILES.items()
    ),
    ("stream_rtf", "RTF", "", _stream_total("computing", lambda f: f.audio_seconds)),
    ("stream_growth", "memory growth", "MB", _stream_growth),
    ("peak_memory", "peak memory", "MB", _peak_memory),
    ("memory_growth", "memory growth", "MB", _memory_growth),
    ("load_cold", "load cold", "s", _load_cold),
    ("load_warm", "load warm", "s", _load_warm),
    (
        "energy",
        "energy per audio hour",
        "J/h",
        _per_pass(lambda a, s: _joules(s) * _AUDIO_HOUR / a),
    ),
    ("power", "power", "W", _per_pass(lambda _, s: _joules(s) / _energy_seconds(s))),
)
METRICS = {row[0]: Metric(*row) for row in _ROWS}
