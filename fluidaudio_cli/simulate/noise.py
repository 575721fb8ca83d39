"""What else is heard: noises and music from files, babble from other voices, shaped noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fluidaudio_cli.audio.folders import files_below
from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.recordings import is_audio_name
from fluidaudio_cli.resources import datasets_dir
from fluidaudio_cli.simulate.signals import Samples, rms
from fluidaudio_cli.simulate.voices import Voice, read_audio

BLOCK = 10 * SAMPLE_RATE
"""Samples worked on at a time."""

_BABBLERS = 20
"""Voices at once, each equally loud: none is understood, so that what is heard of them is no one's
speech. Of six, single words stand out, and whoever finds a speaker there is right to."""

_MUSIC_PREFIX = "music"


def noise_files(kind: str, folder: Path | None) -> tuple[Path, ...]:
    """Files of a ``kind``: any in the user's ``folder``, else the bundled ones of that kind."""
    where = folder or datasets_dir() / "noise"
    found = tuple(files_below(where, is_audio_name))
    if folder is None:
        found = tuple(p for p in found if p.name.startswith(_MUSIC_PREFIX) == (kind == "music"))
    if not found:
        raise InputError(f"no noise in {where}", "put recordings of noise there")
    return found


def noise_blocks(
    kind: str,
    samples: int,
    rng: np.random.Generator,
    voices: Sequence[Voice],
    folder: Path | None = None,
) -> Iterator[Samples]:
    """``samples`` of a kind of noise, block by block, at no level in particular.

    ``voices``: who may babble.
    """
    if kind in ("noise", "music"):
        files = noise_files(kind, folder)
        source = _looped([read_audio(files[int(rng.integers(len(files)))])], rng)
    elif kind == "babble":
        order = rng.permutation(len(voices))
        chosen = [voices[int(order[n % order.size])].samples for n in range(_BABBLERS)]
        source = _looped([samples / rms(samples) for samples in chosen], rng)
    else:
        source = _shaped(kind, rng)
    left = samples
    while left > 0:
        block = next(source)[:left]
        left -= block.size
        yield block


def _looped(parts: Sequence[Samples], rng: np.random.Generator) -> Iterator[Samples]:
    starts = [int(rng.integers(part.size)) for part in parts]
    for part in parts:
        if not rms(part):
            raise InputError("a recording of noise is silent", "give another")
    position = 0
    while True:
        block = np.zeros(BLOCK, np.float32)
        for part, start in zip(parts, starts, strict=True):
            at = np.arange(start + position, start + position + BLOCK)
            block += np.take(part, at, mode="wrap")
        position += BLOCK
        yield block


def _shaped(kind: str, rng: np.random.Generator) -> Iterator[Samples]:
    """White noise, or pink: 3 dB less an octave, above 50 Hz."""
    frequency = np.fft.rfftfreq(BLOCK, 1 / SAMPLE_RATE)
    shape = np.ones(frequency.size) if kind == "white" else np.maximum(frequency, 50) ** -0.5
    while True:
        spectrum = np.fft.rfft(rng.standard_normal(BLOCK)) * shape
        yield np.fft.irfft(spectrum, BLOCK).astype(np.float32)
