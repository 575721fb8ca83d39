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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.benchmark.peak_memory import Measure, Peaks, measure_peak
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.plan import Plan
from fluidaudio_cli.diarization.speakers.offline import MOST_COMPARED
from fluidaudio_cli.errors import HostError, InputError, UsageError
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.wording import counted

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
    """The plan that stays under ``limit_bytes``.

    ``peak_bytes`` was measured; ``reserve_bytes`` are added for
    the recording and for what a measurement may miss. ``notes``: sentences for the user, the
    choice first.
    """

    plan: Plan
    limit_bytes: int
    peak_bytes: int
    reserve_bytes: int
    notes: tuple[str, ...]


def hold(
    plan: Plan,
    limit_bytes: int,
    seconds: float | None,
    *,
    scoring: bool = False,
    command: WorkerCommand = WorkerCommand(),  # noqa: B008 - immutable
    measure: Measure | None = None,
    progress: ProgressCallback = no_progress,
) -> Held:
    """The fastest setting of ``plan`` that stays under ``limit_bytes`` here.

    ``seconds``: the longest recording, ``None`` if unknown.
    ``scoring``: the same process scores the turns. ``measure`` replaces :func:`measure_peak`.
    ``progress`` counts settings measured, of those there are. Raises ``HostError`` when no
    setting fits, and what loading raises.
    """
    candidates = settings(plan)
    reserve = growth_bytes(plan.mode, seconds) + _BESIDE_BYTES
    if scoring:
        reserve += _SCORING_BYTES
    peaks = Peaks(command, measure or measure_peak)

    def fits(setting: Plan) -> bool:
        progress(len(peaks.measured), len(candidates))
        peak = peaks.of(setting)
        return peak is not None and _needed(peak, reserve) <= limit_bytes

    chosen, smallest = candidates[0], candidates[-1]
    if not fits(chosen):
        # The smallest is next, so that what is impossible is known at once.
        if not fits(smallest):
            found = peaks.of(smallest)
            if found is None:
                assert peaks.failure is not None
                raise peaks.failure
            raise _impossible(smallest, limit_bytes, _needed(found, reserve))
        chosen = next(each for each in candidates[1:] if fits(each))
    peak = peaks.of(chosen)
    assert peak is not None
    reserve = _needed(peak, reserve) - peak
    notes = _notes(plan, chosen, limit_bytes, peak, reserve)
    return Held(chosen, limit_bytes, peak, reserve, notes)


def settings(plan: Plan) -> list[Plan]:
    """``plan`` and what takes less memory, fastest first.

    Workers halved down to one, then, with one, both batches halved down to one.
    """
    found = [plan]
    while found[-1].workers > 1:
        found.append(plan.with_workers(found[-1].workers // 2))
    while max(batches := _batches(found[-1])) > 1:
        found.append(found[-1].with_batches(*(max(1, batch // 2) for batch in batches)))
    return found


def _batches(plan: Plan) -> tuple[int, int]:
    return plan.mode.windows.batch, plan.mode.embedding.batch


def growth_bytes(config: ModeConfig, seconds: float | None) -> int:
    """What a recording of ``seconds`` adds to the peak of a short one: windows and clustering."""
    length = UNKNOWN_SECONDS if seconds is None else seconds
    windows = int(length / config.windows.step_seconds) + 1
    voices = min(_VOICES_PER_WINDOW * windows, MOST_COMPARED)
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


def _needed(peak_bytes: int, reserve_bytes: int) -> int:
    return round(peak_bytes * (1 + _SPREAD)) + reserve_bytes


def _impossible(smallest: Plan, limit_bytes: int, needed_bytes: int) -> HostError:
    return HostError(
        f"{OPTION} {format_size(limit_bytes)} cannot be held: mode {smallest.mode.name} needs "
        f"{format_size(needed_bytes)} here even with {_described(smallest)}",
        f"allow {format_size(needed_bytes)}, or use a mode that needs less",
    )


def _described(plan: Plan) -> str:
    windows, crops = _batches(plan)
    workers = plan.workers
    batches = str(windows) if windows == crops else f"{windows} windows and {crops} crops"
    return f"{counted(workers, 'worker')}, batches of {batches}"


def _notes(
    plan: Plan,
    chosen: Plan,
    limit_bytes: int,
    peak_bytes: int,
    reserve_bytes: int,
) -> tuple[str, ...]:
    as_it_is = " (as the mode has it)" if chosen == plan else ""
    choice = (
        f"held under {format_size(limit_bytes)}: "
        f"{_described(chosen)}{as_it_is}; "
        f"{format_size(peak_bytes)} measured, {format_size(reserve_bytes)} reserved"
    )
    if _batches(chosen) == _batches(plan):
        return (choice,)
    return (
        choice,
        "batches are smaller than the mode's: in bf16 the last digits of scores may differ, "
        "and a boundary with them",
    )
