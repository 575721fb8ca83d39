"""Every figure the benchmark reports, by name: unit, direction, and how it comes from samples.

A metric maps the files of a variant to its samples in the display unit: one file gives the
per-file figure, all of them the pooled one. Pooled speed is total audio over total time of one
pass over the files; pooled error is total error over total speech.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from fluidaudio_cli.benchmark.results import (
    AccuracyRecord,
    DerRecord,
    FileRecord,
    IterationSample,
    VariantRecord,
)
from fluidaudio_cli.measure import statistics
from fluidaudio_cli.measure.power import total_joules

WINDOW_SECONDS = 10.0
_MEGABYTE = 1e6
_AUDIO_HOUR = 3600.0

Samples = Sequence[float]
Compute = Callable[[VariantRecord, Sequence[FileRecord]], Samples]


@dataclass(frozen=True)
class Metric:
    """One reported figure. ``compute`` returns no samples where nothing was measured."""

    name: str
    label: str
    unit: str
    higher_is_better: bool
    compute: Compute

    def measure(
        self, variant: VariantRecord, files: Sequence[FileRecord] | None = None
    ) -> statistics.Summary | None:
        """Summary over iterations, of all finished files unless ``files`` are given."""
        samples = self.samples(variant, files)
        return statistics.summarise(samples) if samples else None

    def samples(self, variant: VariantRecord, files: Sequence[FileRecord] | None = None) -> Samples:
        """Raw samples in this metric's unit."""
        chosen = variant.finished if files is None else files
        values = self.compute(variant, chosen) if chosen else ()
        return tuple(value for value in values if math.isfinite(value))


def passes(files: Sequence[FileRecord]) -> tuple[tuple[IterationSample, ...], ...]:
    """Iteration i of every file, for each i that all files have."""
    return tuple(zip(*(record.iterations for record in files), strict=False))


def pooled_der(files: Sequence[FileRecord], kind: str) -> DerRecord | None:
    """Error seconds of all scored files together; ``kind`` is ``strict`` or ``lenient``."""
    records = [getattr(accuracy, kind) for accuracy in _accuracies(files)]
    present = [record for record in records if record is not None]
    return reduce(add, present) if present else None


def _accuracies(files: Sequence[FileRecord]) -> list[AccuracyRecord]:
    return [record.accuracy for record in files if record.accuracy is not None]


def _audio(files: Sequence[FileRecord]) -> float:
    return sum(record.audio_seconds for record in files)


def _per_pass(figure: Callable[[float, Sequence[IterationSample]], float]) -> Compute:
    def compute(_: VariantRecord, files: Sequence[FileRecord]) -> Samples:
        audio = _audio(files)
        return [figure(audio, samples) for samples in passes(files)]

    return compute


def _wall(samples: Sequence[IterationSample]) -> float:
    return sum(sample.wall_seconds for sample in samples)


def _cpu(samples: Sequence[IterationSample]) -> float:
    return sum(sample.cpu_seconds for sample in samples)


def _windows(samples: Sequence[IterationSample]) -> int:
    return sum(sample.windows for sample in samples)


def _joules(samples: Sequence[IterationSample]) -> float:
    return sum(
        math.nan if sample.energy is None else total_joules(sample.energy.domains)
        for sample in samples
    )


def _energy_seconds(samples: Sequence[IterationSample]) -> float:
    return sum(math.nan if s.energy is None else s.energy.seconds for s in samples)


def _latency(percent: float) -> Compute:
    def compute(_: VariantRecord, files: Sequence[FileRecord]) -> Samples:
        seconds = [value for record in files for value in record.latency_seconds]
        return (1e3 * statistics.percentile(seconds, percent),) if seconds else ()

    return compute


def _der(kind: str, part: str) -> Compute:
    def compute(_: VariantRecord, files: Sequence[FileRecord]) -> Samples:
        pooled = pooled_der(files, kind)
        if pooled is None:
            return ()
        value = pooled.rate if part == "rate" else getattr(pooled, part) / pooled.total
        return (100.0 * value,)

    return compute


def _jer(_: VariantRecord, files: Sequence[FileRecord]) -> Samples:
    records = [accuracy.jer for accuracy in _accuracies(files)]
    speakers = sum(record.speaker_count for record in records)
    error = sum(record.speaker_error for record in records)
    return (100.0 * error / speakers,) if speakers else ()


def _speaker_count_accuracy(_: VariantRecord, files: Sequence[FileRecord]) -> Samples:
    right = [a.speakers_found == a.speakers_true for a in _accuracies(files)]
    return (100.0 * sum(right) / len(right),) if right else ()


def _boundary(percent: float) -> Compute:
    def compute(_: VariantRecord, files: Sequence[FileRecord]) -> Samples:
        distances = [abs(x) for a in _accuracies(files) for x in a.boundary.offsets]
        return (1e3 * statistics.percentile(distances, percent),) if distances else ()

    return compute


def _peak_memory(variant: VariantRecord, files: Sequence[FileRecord]) -> Samples:
    # Of the process from its start, as a user sees it: loading may take more than running.
    peaks = [record.memory.peak_rss_bytes for record in files if record.memory is not None]
    return (max(*peaks, variant.load.peak_rss_bytes or 0) / _MEGABYTE,) if peaks else ()


def _memory_growth(_: VariantRecord, files: Sequence[FileRecord]) -> Samples:
    growth = [
        record.memory.peak_rss_bytes - record.memory.baseline_rss_bytes
        for record in files
        if record.memory is not None
    ]
    return (max(growth) / _MEGABYTE,) if growth else ()


def _load(which: str) -> Compute:
    def compute(variant: VariantRecord, _: Sequence[FileRecord]) -> Samples:
        value = getattr(variant.load, which)
        return () if value is None else (value,)

    return compute


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("rtfx", "RTFx", "x", True, _per_pass(lambda a, s: a / _wall(s))),
        Metric("rtf", "RTF", "", False, _per_pass(lambda a, s: _wall(s) / a if a else math.nan)),
        Metric("wall", "wall time", "s", False, _per_pass(lambda _, s: _wall(s))),
        Metric("cpu", "CPU time", "s", False, _per_pass(lambda _, s: _cpu(s))),
        # Cores kept busy: 2 means two cores fully used.
        Metric("cpu_cores", "cores busy", "", True, _per_pass(lambda _, s: _cpu(s) / _wall(s))),
        Metric(
            "windows_per_second",
            "windows/s",
            "/s",
            True,
            _per_pass(lambda _, s: _windows(s) / _wall(s)),
        ),
        Metric("latency_p50", "latency p50", "ms", False, _latency(50)),
        Metric("latency_p90", "latency p90", "ms", False, _latency(90)),
        Metric("latency_p99", "latency p99", "ms", False, _latency(99)),
        Metric("latency_max", "latency max", "ms", False, _latency(100)),
        Metric("der_strict", "DER strict", "%", False, _der("strict", "rate")),
        Metric("der_lenient", "DER lenient", "%", False, _der("lenient", "rate")),
        Metric("missed", "missed", "%", False, _der("strict", "missed_detection")),
        Metric("false_alarm", "false alarm", "%", False, _der("strict", "false_alarm")),
        Metric("confusion", "confusion", "%", False, _der("strict", "confusion")),
        Metric("jer", "JER", "%", False, _jer),
        Metric("speaker_count", "right count", "%", True, _speaker_count_accuracy),
        Metric("boundary_median", "boundary median", "ms", False, _boundary(50)),
        Metric("boundary_p90", "boundary p90", "ms", False, _boundary(90)),
        Metric("peak_memory", "peak memory", "MB", False, _peak_memory),
        Metric("memory_growth", "memory growth", "MB", False, _memory_growth),
        Metric("load_cold", "load cold", "s", False, _load("cold_seconds")),
        Metric("load_warm", "load warm", "s", False, _load("warm_seconds")),
        Metric(
            "energy",
            "energy per audio hour",
            "J/h",
            False,
            _per_pass(lambda a, s: _joules(s) * _AUDIO_HOUR / a if a else math.nan),
        ),
        Metric(
            "power", "power", "W", False, _per_pass(lambda _, s: _joules(s) / _energy_seconds(s))
        ),
    )
}
