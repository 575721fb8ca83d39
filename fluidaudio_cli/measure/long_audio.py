"""Recordings of any length made of a few: end to end, again and again, under fresh noise.

White noise from a seeded generator, 50 dB below the speech, is added all along: it changes
nothing that is heard, and no stretch of a file is equal to another.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fluidaudio_cli.audio.source import SAMPLE_RATE, open_audio
from fluidaudio_cli.errors import HostError, UsageError, os_errors
from fluidaudio_cli.simulate.render import WavWriter

NOISE_DB = -50.0
# A RIFF file counts its bytes in 32 bits.
LONGEST_SECONDS = (2**32 - 1) // (2 * SAMPLE_RATE) - 1

_STEP_SAMPLES = 10 * SAMPLE_RATE
_LEVEL_SAMPLES = SAMPLE_RATE // 10
_FULL_SCALE = 2**15
_HEADER_BYTES = 44
# What must stay free beside the files, so that nothing else on the disk fails.
_RESERVE_BYTES = 200_000_000

Samples = npt.NDArray[np.float32]


def check_space(folder: Path, lengths: Sequence[float]) -> None:
    """Raise unless files of ``lengths`` seconds fit in ``folder`` together.

    ``UsageError``: one is longer than a WAV file can be. ``HostError``: the disk is too full.
    """
    for seconds in lengths:
        if seconds > LONGEST_SECONDS:
            raise UsageError(
                f"a length of {seconds / 3600:.1f} hours does not fit in a WAV file",
                f"give at most {LONGEST_SECONDS // 3600} hours",
            )
    needed = sum(_HEADER_BYTES + 2 * round(seconds * SAMPLE_RATE) for seconds in lengths)
    free = shutil.disk_usage(folder).free
    if needed + _RESERVE_BYTES > free:
        raise HostError(
            f"the audio of --scaling takes {needed / 1e9:.2f} GB, and {folder} has "
            f"{free / 1e9:.2f} GB free, of which {_RESERVE_BYTES / 1e9:.1f} GB are left alone",
            "free space, set TMPDIR to another disk, or give shorter --scaling-lengths",
        )


class RepeatedAudio:
    """Writes ``recordings``, end to end and again from the first, as files of any length."""

    def __init__(self, recordings: Sequence[Path]) -> None:
        self._recordings = recordings
        self._levels: dict[Path, float] = {}

    def write(self, path: Path, seconds: float, seed: Sequence[int]) -> None:
        """Write ``seconds`` of 16 kHz, 16 bit mono WAV, 10 s at a time.

        ``seed`` decides the noise. Raises ``AudioError`` when a recording cannot be read,
        ``HostError`` when the disk is full.
        """
        generator = np.random.default_rng(seed)
        left = round(seconds * SAMPLE_RATE)
        remedy = "free space or set TMPDIR to another disk"
        with os_errors(f"cannot write {path}", remedy), WavWriter(path) as wav:
            for samples, noise in self._repeated():
                part = samples[:left]
                part += noise * generator.standard_normal(part.size, np.float32)
                wav.write(part)
                left -= part.size
                if not left:
                    break

    def _repeated(self) -> Iterator[tuple[Samples, float]]:
        """Stretches of at most 10 s, and the noise's standard deviation in each; without end."""
        while True:
            for recording in self._recordings:
                noise = self._noise(recording)
                with open_audio(recording) as stream:
                    for block in stream.blocks(_STEP_SAMPLES):
                        yield block, noise

    def _noise(self, recording: Path) -> float:
        if recording not in self._levels:
            self._levels[recording] = speech_level(recording)
        # Less than a step of the samples would be rounded away.
        return float(max(self._levels[recording] * 10 ** (NOISE_DB / 20), 1 / _FULL_SCALE))


def speech_level(recording: Path) -> float:
    """Root mean square (full scale 1) of the louder half of a recording's tenths of a second."""
    with open_audio(recording) as stream:
        powers = [float(np.mean(np.square(block))) for block in stream.blocks(_LEVEL_SAMPLES)]
    louder = sorted(powers)[len(powers) // 2 :]
    return math.sqrt(sum(louder) / len(louder))
