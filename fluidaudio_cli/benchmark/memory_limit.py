"""Hold a mode under a bound of memory: the fastest setting of it whose measured peak fits.

Settings are tried from the mode as it is to smaller ones: fewer workers, which hold fewer blocks,
buffers and inference streams and give the same results to the byte; then, with one worker,
smaller batches. The peak of a setting is measured, not estimated: a process of its own loads
the models and diarizes the bundled sample, repeated until all blocks have their full size. What
was measured is remembered in the cache for this mode, machine, program and runtimes.

What grows with a recording is added (:func:`growth_bytes`), and so is what another file or
command may take beyond the measured one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.benchmark.peak_memory import Measure, Peaks, measure_peak, workers_of
from fluidaudio_cli.benchmark.workers import PipelineOptions, WorkerCommand
from fluidaudio_cli.diarization.config import ModeConfig, load_mode
from fluidaudio_cli.diarization.tuning import tuned
from fluidaudio_cli.errors import HostError, InputError, UsageError
from fluidaudio_cli.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from fluidaudio_cli.audio.source import AudioSource

OPTION = "--memory-limit"
# Assumed of a recording whose header does not state its length.
UNKNOWN_SECONDS = 36_000.0

_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?b)", re.IGNORECASE)

# Between the measuring process and a command, measured: up to 5 MB of modules for tables, JSON
# and scores, and up to 4 MB for decoding and resampling AAC, MP3 or Opus.
_BESIDE_BYTES = 10_000_000
# Two processes of the same setting differ by up to this share, measured.
_SPREAD = 0.03
# pandas, SciPy and pyannote.metrics, which scoring imports into the process; measured: 113 MB.
_SCORING_BYTES = 120_000_000
# A window kept until the end, with two voices: 3 kB of objects; then as much again, twice, in
# the matrices of clustering and in turns. Measured over 1, 2 and 10 simulated hours.
_BYTES_PER_WINDOW = 8_000
# Clustering compares all pairs of so many voices: cosine and distance at once, in both precisions.
_BYTES_PER_PAIR = 24
# The busiest development meeting has 1.9.
_VOICES_PER_WINDOW = 2


def parse_size(text: str) -> int:
    """``300MB``, ``1.5 GB``, ``512MiB`` in bytes; ``UsageError`` for anything else."""
    found = _SIZE.fullmatch(text.strip())
    size = round(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if size <= 0:
        raise UsageError(f"{OPTION} {text} is no size", "give one such as 300MB, 1GB or 512MiB")
    return size


def format_size(size: float) -> str:
    """In whole MB (10⁶ bytes), rounded up: as much has to be allowed."""
    return f"{-(-size // 1_000_000):.0f} MB"


@dataclass(frozen=True)
class Held:
    """A mode and the setting that holds it under ``limit_bytes``.

    ``config`` is the mode to load, on ``compute_units``. ``peak_bytes`` was measured;
    ``reserve_bytes`` are added for the recording and for what a measurement may miss. ``notes``:
    sentences for the user, the choice first.
    """

    config: ModeConfig
    compute_units: str
    limit_bytes: int
    peak_bytes: int
    reserve_bytes: int
    notes: tuple[str, ...]


def hold(
    mode: str | Path | ModeConfig,
    limit_bytes: int,
    options: PipelineOptions,
    seconds: float | None,
    *,
    scoring: bool = False,
    command: WorkerCommand = WorkerCommand(),  # noqa: B008 - immutable
    measure: Measure | None = None,
    progress: ProgressCallback = no_progress,
) -> Held:
    """The fastest setting of ``mode`` that stays under ``limit_bytes`` here.

    ``options`` as for ``load_pipeline``. ``seconds``: the longest recording, ``None`` if unknown.
    ``scoring``: the same process scores the turns. ``measure`` replaces :func:`measure_peak`.
    ``progress`` counts settings measured, of those there are. Raises ``HostError`` when no
    setting fits, and what loading raises.
    """
    config, units = _as_it_would_run(mode, options)
    options = replace(options, compute_units=units)
    candidates = settings(config, options.threads)
    reserve = growth_bytes(config, seconds) + _BESIDE_BYTES
    if scoring:
        reserve += _SCORING_BYTES
    peaks = Peaks(options, command, measure or measure_peak)

    def fits(setting: ModeConfig) -> bool:
        progress(len(peaks.measured), len(candidates))
        peak = peaks.of(setting)
        return peak is not None and _needed(peak, reserve) <= limit_bytes

    chosen, smallest = candidates[0], candidates[-1]
    if not fits(chosen):
        # The smallest is next, so that what is impossible is known at once.
        if not fits(smallest):
            if smallest not in peaks.measured and peaks.failure is not None:
                raise peaks.failure
            needed = _needed(peaks.measured[smallest], reserve)
            raise _impossible(smallest, limit_bytes, needed)
        chosen = next(each for each in candidates[1:] if fits(each))
    peak = peaks.measured[chosen]
    reserve = _needed(peak, reserve) - peak
    notes = _notes(config, chosen, options.threads, limit_bytes, peak, reserve)
    return Held(chosen, units, limit_bytes, peak, reserve, notes)


def settings(config: ModeConfig, threads: int | None) -> list[ModeConfig]:
    """``config`` and what takes less memory, fastest first.

    Workers halved down to one, then, with one, both batches halved down to one.
    """
    found = [config]
    workers = workers_of(config, threads)
    while workers > 1:
        workers //= 2
        execution = replace(config.execution, workers=workers)
        found.append(replace(config, execution=execution))
    while max(found[-1].windows.batch, found[-1].embedding.batch) > 1:
        last = found[-1]
        found.append(
            replace(
                last,
                windows=replace(last.windows, batch=max(1, last.windows.batch // 2)),
                embedding=replace(last.embedding, batch=max(1, last.embedding.batch // 2)),
            )
        )
    return found


def growth_bytes(config: ModeConfig, seconds: float | None) -> int:
    """What a recording of ``seconds`` adds to the peak of a short one: windows and clustering."""
    length = UNKNOWN_SECONDS if seconds is None else seconds
    windows = int(length / config.windows.step_seconds) + 1
    voices = min(_VOICES_PER_WINDOW * windows, config.clustering.exact_limit)
    return windows * _BYTES_PER_WINDOW + _BYTES_PER_PAIR * voices**2


def longest_seconds(recordings: Iterable[Path | AudioSource]) -> float | None:
    """The longest of the lengths that headers state; ``None`` if one that opens states none."""
    from fluidaudio_cli.audio.source import AudioSource

    longest = 0.0
    for recording in recordings:
        try:
            source = AudioSource(recording) if isinstance(recording, Path) else recording
            seconds = source.stated_seconds()
        except InputError:
            continue  # said when it is its turn
        if seconds is None:
            return None
        longest = max(longest, seconds)
    return longest


def exceeded(peak_bytes: int | None, limit_bytes: int) -> str | None:
    """A sentence if a process needed more than it should; the peak is unknown on some systems."""
    if peak_bytes is None or peak_bytes <= limit_bytes:
        return None
    return (
        f"memory reached {format_size(peak_bytes)}, "
        f"{format_size(peak_bytes - limit_bytes)} more than {OPTION} {format_size(limit_bytes)}"
    )


def _as_it_would_run(
    mode: str | Path | ModeConfig, options: PipelineOptions
) -> tuple[ModeConfig, str]:
    """The mode and the compute units, as ``load_pipeline`` would choose them."""
    config = mode if isinstance(mode, ModeConfig) else load_mode(mode)
    return tuned(config, options.executor, options.precision, options.compute_units)


def _needed(peak_bytes: int, reserve_bytes: int) -> int:
    return round(peak_bytes * (1 + _SPREAD)) + reserve_bytes


def _impossible(smallest: ModeConfig, limit_bytes: int, needed_bytes: int) -> HostError:
    return HostError(
        f"{OPTION} {format_size(limit_bytes)} cannot be held: mode {smallest.name} needs "
        f"{format_size(needed_bytes)} here even with {_described(smallest, 1)}",
        f"allow {format_size(needed_bytes)}, or use a mode that needs less",
    )


def _described(config: ModeConfig, workers: int) -> str:
    windows, crops = config.windows.batch, config.embedding.batch
    batches = str(windows) if windows == crops else f"{windows} windows and {crops} crops"
    return f"{workers} worker{'' if workers == 1 else 's'}, batches of {batches}"


def _notes(
    mode: ModeConfig,
    chosen: ModeConfig,
    threads: int | None,
    limit_bytes: int,
    peak_bytes: int,
    reserve_bytes: int,
) -> tuple[str, ...]:
    as_it_is = " (as the mode has it)" if chosen == mode else ""
    choice = (
        f"held under {format_size(limit_bytes)}: "
        f"{_described(chosen, workers_of(chosen, threads))}{as_it_is}; "
        f"{format_size(peak_bytes)} measured, {format_size(reserve_bytes)} reserved"
    )
    smaller = (chosen.windows.batch, chosen.embedding.batch) != (
        mode.windows.batch,
        mode.embedding.batch,
    )
    if not smaller:
        return (choice,)
    return (
        choice,
        "batches are smaller than the mode's: in bf16 the last digits of scores may differ, "
        "and a boundary with them",
    )
