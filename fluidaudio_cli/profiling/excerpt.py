"""The beginning of a recording as a file of its own."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from fluidaudio_cli.audio.source import SAMPLE_RATE, open_audio

_FULL_SCALE = 32767


def write_excerpt(source: Path, target: Path, seconds: float) -> float:
    """Write the first ``seconds`` of ``source`` as 16-bit mono WAV; seconds written."""
    block = np.zeros(SAMPLE_RATE, np.float32)
    left = round(seconds * SAMPLE_RATE)
    total = left
    with open_audio(source) as stream, wave.open(str(target), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE)
        while left > 0:
            read = stream.read_into(block[: min(left, block.size)])
            if not read:
                break
            samples = np.clip(block[:read], -1.0, 1.0) * _FULL_SCALE
            writer.writeframes(np.rint(samples).astype("<i2").tobytes())
            left -= read
    return (total - left) / SAMPLE_RATE
