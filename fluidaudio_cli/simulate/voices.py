"""Voices: what people say, cut into turns at the edges that the signal's energy has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.folders import files_below
from fluidaudio_cli.audio.source import SAMPLE_RATE, open_audio
from fluidaudio_cli.errors import AudioError, InputError, UsageError
from fluidaudio_cli.masks import runs
from fluidaudio_cli.recordings import is_audio_name, uri_of
from fluidaudio_cli.simulate.signals import GRID, Samples, from_db, rms, to_db

MIN_SPEECH_SECONDS = 3.0
"""Less of a person repeats within a turn, which no recording does."""

MAX_VOICE_SECONDS = 600.0
"""More of a person is not read: memory stays bounded, and nobody needs more."""

THRESHOLD_DB = 35.0
"""Speech is what is at most this far below the voice's loud parts: quiet consonants are inside."""

FLOOR_MARGIN_DB = 6.0
"""And this far above the recording's own noise, where that is louder."""

MAX_FLOOR_DB = -15.0
"""People pause: what hardly ever falls this far below its loud parts is music or noise. The
noisiest of 107 readers reaches -17 dB, machines and dishes -5 to -13."""

MIN_SYLLABLES_A_SECOND = 2.0
"""Times that the voice falls quiet between syllables: 2.8 to 12 in those readers, 0.7 in music."""

_FLOOR_QUANTILE = 0.02

_LOUD_QUANTILE = 0.95
_ENVELOPE_MS = 10
MAX_PAUSE_MS = 300
"""Shorter pauses are part of a turn. Longer ones are shortened to this: how long people pause is
the turn model's business."""

_MIN_BURST_MS = 50
"""Shorter sounds by themselves are clicks."""

_CUT_TOLERANCE = 0.25
"""A turn may be this much shorter or longer than asked for, to end where the voice is quiet."""

_CUT_DB = 15.0
"""A turn may end where the voice is this far below its loud parts: between syllables."""


@dataclass(frozen=True)
class Voice:
    """One person's speech, level 1 (root mean square), pauses shortened.

    ``samples`` (n,) float32 with n a whole number of milliseconds, its first and last of which
    are speech; ``starts`` and ``ends`` are milliseconds where a turn may begin or end.
    """

    name: str
    samples: Samples
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def milliseconds(self) -> int:
        """How long it is."""
        return self.samples.size // GRID

    def cut(self, start_ms: int, seconds: float) -> tuple[int, int]:
        """Start and length (ms) of the next words at or after ``start_ms``, about so many seconds.

        The words go round: what follows the end is the beginning.
        """
        total = self.milliseconds
        index = bisect_left(self.starts, start_ms % total)
        start = self.starts[index] if index < len(self.starts) else self.starts[0]
        wanted = max(round(seconds * 1000), 1)
        laps, rest = divmod(start + wanted, total)
        near = self._end_near(rest, wanted * _CUT_TOLERANCE)
        end = laps * total + (rest if near is None else near)
        return start, max(end - start, 1)

    def words(self, start_ms: int, length_ms: int) -> Iterator[Samples]:
        """The samples of a cut, piece by piece."""
        position, left = (start_ms % self.milliseconds) * GRID, length_ms * GRID
        while left:
            piece = self.samples[position : position + left]
            yield piece
            left -= piece.size
            position = 0

    def _end_near(self, wanted_ms: int, tolerance: float) -> int | None:
        index = bisect_right(self.ends, wanted_ms)
        near = self.ends[max(index - 1, 0) : index + 1]
        best = min(near, key=lambda end: abs(end - wanted_ms), default=None)
        return best if best is not None and abs(best - wanted_ms) <= tolerance else None


def voice_files(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """Files by voice: a folder's audio files are a voice each, its folders' files one together.

    Raises ``UsageError`` for no folder and ``InputError`` where it holds no audio.
    """
    if not folder.is_dir():
        raise UsageError(f"--voices {folder} is not a folder", "give a folder of one file a voice")
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            files = tuple(files_below(path, is_audio_name))
        else:
            files = (path,) if is_audio_name(path) and path.is_file() else ()
        if not files:
            continue
        name = uri_of(path) if path.is_file() else "_".join(path.name.split())
        if name in found:
            raise InputError(f"two voices in {folder} are called {name}", "rename one")
        found[name] = files
    if not found:
        raise InputError(
            f"no voices in {folder}", "put one audio file, or one folder of files, there for each"
        )
    return found


def read_voice(name: str, files: Sequence[Path]) -> Voice:
    """The voice in ``files``, one after the other.

    Raises ``AudioError`` for a file that does not decode, ``InputError`` where there is too
    little speech, or sound without the pauses that speech has.
    """
    pieces: list[Samples] = []
    left = MAX_VOICE_SECONDS
    for path in files:
        if left > 0:
            pieces.append(read_audio(path, left))
            left -= pieces[-1].size / SAMPLE_RATE
    recorded = np.concatenate(pieces)
    where = str(files[0] if len(files) == 1 else files[0].parent)
    loud, envelope = _envelope(recorded)
    if loud <= 0:
        raise InputError(f"voice {where} is silent", "give a recording of one person")
    floor_db = to_db(float(np.quantile(envelope, _FLOOR_QUANTILE)) / loud)
    if floor_db > MAX_FLOOR_DB:
        raise _no_speech(where)
    active = _active(envelope, loud * from_db(max(-THRESHOLD_DB, floor_db + FLOOR_MARGIN_DB)))
    speech_seconds = active.sum() / 1000
    if speech_seconds < MIN_SPEECH_SECONDS:
        raise InputError(
            f"voice {where} has {speech_seconds:.1f} s of speech",
            f"a voice needs at least {MIN_SPEECH_SECONDS:g} s",
        )
    voice = _voice(name, recorded, active, envelope, loud)
    if len(voice.ends) < MIN_SYLLABLES_A_SECOND * voice.milliseconds / 1000:
        raise _no_speech(where)
    return voice


def _no_speech(where: str) -> InputError:
    return InputError(
        f"voice {where} does not pause as speech does: music, noise or several people at once",
        "give recordings of one person each",
    )


def _voice(
    name: str, recorded: Samples, active: NDArray[np.bool_], envelope: Samples, loud: float
) -> Voice:
    # Pauses longer than the longest are shortened in their middle, where nothing is.
    keep = active.copy()
    for start, end in runs(~active).tolist():
        edge = start == 0 or end == active.size
        half = 0 if edge else min(end - start, MAX_PAUSE_MS) // 2
        keep[start : start + half] = keep[end - half : end] = True
    kept = np.flatnonzero(keep)
    samples = recorded[: active.size * GRID].reshape(-1, GRID)[kept].ravel()
    speaks, quiet = active[kept], envelope[kept] < loud * from_db(-_CUT_DB)
    # A turn ends with the last millisecond before quiet, and starts with the first after it.
    sounds = speaks & ~quiet
    starts, ends = (
        tuple(np.union1d(*(runs(mask)[:, side] for mask in (speaks, sounds))).tolist())
        for side in (0, 1)
    )
    level = rms(samples.reshape(-1, GRID)[speaks].ravel())
    scaled = np.ascontiguousarray(samples / np.float32(level), np.float32)
    scaled.setflags(write=False)
    return Voice(name, scaled, starts, ends)


def _envelope(samples: Samples) -> tuple[float, Samples]:
    """The level of the loud parts, and the level around each millisecond."""
    power = np.square(samples[: samples.size // GRID * GRID], dtype=np.float64)
    power = power.reshape(-1, GRID).mean(axis=1)
    smooth = np.convolve(power, np.full(_ENVELOPE_MS, 1 / _ENVELOPE_MS), mode="same")
    envelope = np.sqrt(np.maximum(smooth, 0)).astype(np.float32)
    return float(np.quantile(envelope, _LOUD_QUANTILE)), envelope


def _active(envelope: Samples, threshold: float) -> NDArray[np.bool_]:
    """Which milliseconds are speech: above the threshold, or in a short pause between speech."""
    active = np.asarray(envelope > threshold)
    for start, end in runs(active).tolist():
        if end - start < _MIN_BURST_MS:
            active[start:end] = False
    for start, end in runs(~active).tolist():
        if end - start < _MIN_BURST_MS and start > 0 and end < active.size:
            active[start:end] = True
    return active


def read_audio(path: Path, seconds: float = MAX_VOICE_SECONDS) -> Samples:
    """A file's beginning, ``seconds`` or the rest of one more, 16 kHz mono float32.

    Raises ``AudioError``.
    """
    pieces = []
    with open_audio(path) as stream:
        for block in stream.blocks(SAMPLE_RATE):
            pieces.append(block)
            if stream.seconds_read >= seconds:
                break
    if not pieces:
        raise AudioError(f"{path} has no audio samples")
    return np.concatenate(pieces)
