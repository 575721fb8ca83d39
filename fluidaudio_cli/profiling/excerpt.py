"""The beginning of a recording as a file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fluidaudio_cli.audio.source import SAMPLE_RATE, open_audio
from fluidaudio_cli.simulate.render import WavWriter


def write_excerpt(source: Path, target: Path, seconds: float) -> float:
    """Write the first ``seconds`` of ``source`` as 16-bit mono WAV; seconds written."""
    block = np.zeros(SAMPLE_RATE, np.float32)
    left = round(seconds * SAMPLE_RATE)
    with open_audio(source) as stream, WavWriter(target) as writer:
        while left > 0 and (read := stream.read_into(block[:left])):
            writer.write(block[:read])
            left -= read
    return writer.samples / SAMPLE_RATE
