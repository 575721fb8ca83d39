"""Every figure the benchmark reports, by name: unit, and how it comes from samples.

A metric maps the recordings of a cell to its samples in the display unit: one of them gives the
per-file figure, all of them the pooled one. Pooled speed is total audio over total time of one
pass over the files; pooled error is total error over total speech.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import numpy as np

from fluidaudio_cli.benchmark import trials
from fluidaudio_cli.benchmark.results import (
    AccuracyRecord,
    CellRecord,
    FileRecord,
    IdentificationRecord,
    IterationSample,
    StreamingRecord,
)
from fluidaudio_cli.measure import statistics
from fluidaudio_cli.scoring.records import DiarizationErrorRate

_MEGABYTE = 1e6
_AUDIO_HOUR = 3600.0
_DECIMALS = 6
_PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}

Samples = Sequence[float]
Compute = Callable[[CellRecord, Sequence[FileRecord]], Samples]


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


def pooled_der(files: Sequence[FileRecord], kind: str) -> DiarizationErrorRate | None:
    """Error seconds of all scored files together; ``kind`` is ``strict`` or ``lenient``."""
    records = [getattr(accuracy, kind) for accuracy in _accuracies(files)]
    present = [record for record in records if record is not None]
    return reduce(add, present) if present else None


def _accuracies(files: Sequence[FileRecord]) -> list[AccuracyRecord]:
    return [record.accuracy for record in files if record.accuracy is not None]


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


def _der(kind: str, part: str) -> Compute:
    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        pooled = pooled_der(files, kind)
        if pooled is None:
            return ()
        value = pooled.rate if part == "rate" else getattr(pooled, part) / pooled.total
        return (100.0 * value,)

    return compute


def _jer(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
    records = [accuracy.jer for accuracy in _accuracies(files)]
    speakers = sum(record.speaker_count for record in records)
    error = sum(record.speaker_error for record in records)
    return (100.0 * error / speakers,) if speakers else ()


def _count(holds: Callable[[int], bool]) -> Compute:
    """Share of recordings whose count of speakers, found minus true, ``holds``."""

    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        right = [holds(a.speakers_found - a.speakers_true) for a in _accuracies(files)]
        return (100.0 * sum(right) / len(right),) if right else ()

    return compute


def _count_bias(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
    errors = [a.speakers_found - a.speakers_true for a in _accuracies(files)]
    return (sum(errors) / len(errors),) if errors else ()


def _budget(part: str) -> Compute:
    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        found = _accuracies(files)
        total = sum(accuracy.strict.total for accuracy in found)
        seconds = sum(float(getattr(accuracy.budget, part)) for accuracy in found)
        return (100.0 * seconds / total,) if total else ()

    return compute


def _oracle(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
    records = [accuracy.budget.oracle for accuracy in _accuracies(files)]
    present = [record for record in records if record is not None]
    if not present or len(present) < len(records):
        return ()  # of some recordings only, it would be set beside the error of others
    return (100.0 * reduce(add, present).rate,)


def _clustering(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
    oracle, strict = _oracle(cell, files), _der("strict", "rate")(cell, files)
    # Both are sums of slices, which differ by their rounding; and no zero below zero.
    return (round(strict[0] - oracle[0], _DECIMALS) + 0.0,) if oracle else ()


def _peak_memory(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
    # Of the process from its start, as a user sees it: loading may take more than running.
    peaks = [record.memory.peak_rss_bytes for record in files if record.memory is not None]
    loads = [process.peak_rss_bytes or 0 for process in cell.processes]
    return (max(*peaks, *loads, 0) / _MEGABYTE,) if peaks else ()


def _memory_growth(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
    growth = [
        record.memory.peak_rss_bytes - record.memory.baseline_rss_bytes
        for record in files
        if record.memory is not None
    ]
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


def _streams(files: Sequence[FileRecord]) -> list[StreamingRecord]:
    return [record.streaming for record in files if record.streaming is not None]


def _stream_der(kind: str, over: bool = False) -> Compute:
    """Error of what a stream said, in percent, or ``over`` that of its end."""

    def compute(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
        found = [e for each in _streams(files) if (e := getattr(each, kind)) is not None]
        if not found:
            return ()
        rate = 100.0 * reduce(add, found).rate
        if not over:
            return (rate,)
        end = _der("strict", "rate")(cell, files)
        return (rate / end[0],) if end and end[0] > 0.0 else ()

    return compute


def _stream_total(name: str, per: str) -> Compute:
    """A field's sum of all streams ``per`` turn (%), minute or second of sound, or recording."""

    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        found = _streams(files)
        whole = {
            "turn": sum(record.turns for record in found) / 100.0,
            "minute": _audio(files) / 60.0,
            "recording": float(len(found)),
            "second": _audio(files),
        }[per]
        total = sum(float(np.sum(getattr(record, name))) for record in found)
        return (total / whole,) if found and whole else ()

    return compute


def _stream_growth(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
    """Of the longest stream: at its end over that after 10 minutes, or after a sixth of less."""
    curves = [record.memory for record in _streams(files) if len(record.memory) > 1]
    if not curves:
        return ()
    longest = max(curves, key=lambda curve: curve[-1][0])
    # The first reading is of before the stream.
    early = [size for time, size in longest[1:] if time <= min(600.0, longest[-1][0] / 6.0)]
    return ((longest[-1][1] - early[-1]) / _MEGABYTE,) if early else ()


METRICS: dict[str, Metric] = {
    name: Metric(name, label, unit, compute)
    for name, label, unit, compute in (
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
        ("der_strict", "DER strict", "%", _der("strict", "rate")),
        ("der_lenient", "DER lenient", "%", _der("lenient", "rate")),
        ("missed", "missed", "%", _der("strict", "missed_detection")),
        ("false_alarm", "false alarm", "%", _der("strict", "false_alarm")),
        ("confusion", "confusion", "%", _der("strict", "confusion")),
        ("jer", "JER", "%", _jer),
        ("budget_missed", "speech missed", "%", _budget("missed")),
        ("budget_false_alarm", "speech added", "%", _budget("false_alarm")),
        ("budget_overlap", "overlap", "%", _budget("overlap")),
        ("budget_confusion", "speaker confusion", "%", _budget("confusion")),
        ("der_oracle", "DER with oracle labels", "%", _oracle),
        ("clustering_cost", "cost of clustering", "points", _clustering),
        ("speaker_count", "right count", "%", _count(lambda e: e == 0)),
        ("count_off_by_one", "count off by one", "%", _count(lambda e: abs(e) == 1)),
        ("count_off_by_more", "count off by more", "%", _count(lambda e: abs(e) > 1)),
        ("count_bias", "mean count error", "speakers", _count_bias),
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
        ("online_der", "DER online", "%", _stream_der("online")),
        ("refined_der", "DER refined", "%", _stream_der("refined")),
        ("online_ratio", "online / end", "x", _stream_der("online", True)),
        ("refined_ratio", "refined / end", "x", _stream_der("refined", True)),
        ("label_delay", "first label after", "s", _percentile(50, _of_stream("delays"), 1.0)),
        *(
            (name, label, unit, _stream_total(field, per))
            for name, label, unit, field, per in (
                ("switches", "turns switched", "%", "switches", "turn"),
                ("switches_end", "switched at the end", "%", "switches_end", "turn"),
                ("revisions", "revisions", "/min", "revisions", "minute"),
                ("revised", "revised", "s/min", "revised_seconds", "minute"),
                ("speakers_created", "speakers created", "", "created", "recording"),
                ("speakers_withdrawn", "withdrawn", "", "withdrawn", "recording"),
            )
        ),
        *(
            (f"step_{name}", f"step {name}", "ms", _percentile(percent, _of_stream("computing")))
            for name, percent in _PERCENTILES.items()
        ),
        ("stream_rtf", "RTF", "", _stream_total("computing", "second")),
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
}
