"""Every figure the benchmark reports, by name: unit, direction, and how it comes from samples.

A metric maps the recordings of a cell to its samples in the display unit: one of them gives the
per-file figure, all of them the pooled one. Pooled speed is total audio over total time of one
pass over the files; pooled error is total error over total speech.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

from fluidaudio_cli.benchmark import trials
from fluidaudio_cli.benchmark.results import (
    AccuracyRecord,
    CellRecord,
    DerRecord,
    FileRecord,
    IdentificationRecord,
    IterationSample,
    StreamingRecord,
)
from fluidaudio_cli.measure import statistics
from fluidaudio_cli.measure.power import total_joules

WINDOW_SECONDS = 10.0
_MEGABYTE = 1e6
_AUDIO_HOUR = 3600.0

Samples = Sequence[float]
Compute = Callable[[CellRecord, Sequence[FileRecord]], Samples]


@dataclass(frozen=True)
class Metric:
    """One reported figure. ``compute`` returns no samples where nothing was measured."""

    name: str
    label: str
    unit: str
    higher_is_better: bool
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
    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
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
    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        seconds = [value for record in files for value in record.latency_seconds]
        return (1e3 * statistics.percentile(seconds, percent),) if seconds else ()

    return compute


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
    return (strict[0] - oracle[0],) if oracle else ()


def _boundary(percent: float) -> Compute:
    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        distances = [abs(x) for a in _accuracies(files) for x in a.boundary.offsets]
        return (1e3 * statistics.percentile(distances, percent),) if distances else ()

    return compute


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


def _percent(
    rate: Callable[[IdentificationRecord, float], float], percent: int, found: IdentificationRecord
) -> float:
    return 100.0 * rate(found, percent / 100.0)


def _trials(figure: Callable[[IdentificationRecord], float]) -> Compute:
    """A figure of all voices' trials; there is none of one voice."""

    def compute(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
        found = cell.identification
        return () if found is None or len(files) < len(cell.finished) else (figure(found),)

    return compute


def _streams(files: Sequence[FileRecord]) -> list[StreamingRecord]:
    return [record.streaming for record in files if record.streaming is not None]


def _stream_der(kind: str, over: bool = False) -> Compute:
    """Error of what a stream said, in percent, or ``over`` that of its end."""

    def compute(cell: CellRecord, files: Sequence[FileRecord]) -> Samples:
        found = [getattr(record, kind) for record in _streams(files)]
        if not found:
            return ()
        rate = 100.0 * reduce(add, found).rate
        if not over:
            return (rate,)
        end = _der("strict", "rate")(cell, files)
        return (rate / end[0],) if end and end[0] > 0.0 else ()

    return compute


def _stream_total(figure: Callable[[StreamingRecord], float], per: str) -> Compute:
    """A sum of all streams ``per`` turn (%), minute of sound, speaker (of all), or second."""

    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        found = _streams(files)
        whole = {
            "turn": sum(record.turns for record in found) / 100.0,
            "minute": _audio(files) / 60.0,
            "recording": float(len(found)),
            "second": _audio(files),
        }[per]
        return (sum(map(figure, found)) / whole,) if found and whole else ()

    return compute


def _stream_step(percent: float) -> Compute:
    def compute(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
        seconds = [value for record in _streams(files) for value in record.computing]
        return (1e3 * statistics.percentile(seconds, percent),) if seconds else ()

    return compute


def _label_delay(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
    delays = [value for record in _streams(files) for value in record.delays]
    return (statistics.percentile(delays, 50),) if delays else ()


def _stream_growth(_: CellRecord, files: Sequence[FileRecord]) -> Samples:
    """Of the longest stream: at its end over that after 10 minutes, or a sixth of it."""
    curves = [record.memory for record in _streams(files) if len(record.memory) > 1]
    if not curves:
        return ()
    longest = max(curves, key=lambda curve: curve[-1][0])
    early = [size for time, size in longest if time <= max(600.0, longest[-1][0] / 6.0)]
    return ((longest[-1][1] - early[-1]) / _MEGABYTE,) if early else ()


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
        Metric("budget_missed", "speech missed", "%", False, _budget("missed")),
        Metric("budget_false_alarm", "speech added", "%", False, _budget("false_alarm")),
        Metric("budget_overlap", "overlap", "%", False, _budget("overlap")),
        Metric("budget_confusion", "speaker confusion", "%", False, _budget("confusion")),
        Metric("der_oracle", "DER with oracle labels", "%", False, _oracle),
        Metric("clustering_cost", "cost of clustering", "points", False, _clustering),
        Metric("speaker_count", "right count", "%", True, _count(lambda e: e == 0)),
        Metric("count_off_by_one", "count off by one", "%", False, _count(lambda e: abs(e) == 1)),
        Metric("count_off_by_more", "count off by more", "%", False, _count(lambda e: abs(e) > 1)),
        Metric("count_bias", "mean count error", "speakers", False, _count_bias),
        Metric("boundary_median", "boundary median", "ms", False, _boundary(50)),
        Metric("boundary_p90", "boundary p90", "ms", False, _boundary(90)),
        Metric("eer", "EER", "%", False, _trials(lambda t: 100.0 * trials.equal_error_rate(t))),
        Metric("min_dcf", "minDCF", "", False, _trials(trials.min_dcf)),
        Metric("cllr", "Cllr", "bits", False, _trials(trials.cllr)),
        *(
            Metric(
                f"false_{kind}_{percent}",
                f"false {kind}s at {percent} %",
                "%",
                False,
                _trials(partial(_percent, rate, percent)),
            )
            for percent in (1, 5)
            for kind, rate in (("accept", trials.false_accepts), ("reject", trials.false_rejects))
        ),
        Metric("online_der", "DER online", "%", False, _stream_der("online")),
        Metric("refined_der", "DER refined", "%", False, _stream_der("refined")),
        Metric("online_ratio", "online / end", "x", False, _stream_der("online", True)),
        Metric("refined_ratio", "refined / end", "x", False, _stream_der("refined", True)),
        Metric("label_delay", "first label after", "s", False, _label_delay),
        Metric(
            "switches", "turns switched", "%", False, _stream_total(lambda s: s.switches, "turn")
        ),
        Metric(
            "switches_end",
            "switched at the end",
            "%",
            False,
            _stream_total(lambda s: s.switches_end, "turn"),
        ),
        Metric(
            "revisions", "revisions", "/min", False, _stream_total(lambda s: s.revisions, "minute")
        ),
        Metric(
            "revised",
            "revised",
            "s/min",
            False,
            _stream_total(lambda s: s.revised_seconds, "minute"),
        ),
        Metric(
            "speakers_created",
            "speakers created",
            "",
            False,
            _stream_total(lambda s: s.created, "recording"),
        ),
        Metric(
            "speakers_withdrawn",
            "withdrawn",
            "",
            False,
            _stream_total(lambda s: s.withdrawn, "recording"),
        ),
        Metric("step_p50", "step p50", "ms", False, _stream_step(50)),
        Metric("step_p90", "step p90", "ms", False, _stream_step(90)),
        Metric("step_p99", "step p99", "ms", False, _stream_step(99)),
        Metric("step_max", "step max", "ms", False, _stream_step(100)),
        Metric("stream_rtf", "RTF", "", False, _stream_total(lambda s: sum(s.computing), "second")),
        Metric("stream_growth", "memory growth", "MB", False, _stream_growth),
        Metric("peak_memory", "peak memory", "MB", False, _peak_memory),
        Metric("memory_growth", "memory growth", "MB", False, _memory_growth),
        Metric("load_cold", "load cold", "s", False, _load_cold),
        Metric("load_warm", "load warm", "s", False, _load_warm),
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
