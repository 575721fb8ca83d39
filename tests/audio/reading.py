"""Recordings read to their ends, and what fixtures are called by type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fluidaudio_cli.audio.source import AudioInfo, open_audio

Floats = npt.NDArray[np.float32]
WriteWav = Callable[..., Path]
Encode = Callable[..., Path]


def read(path: Path, block: int = 7_001, **options: Any) -> tuple[Floats, AudioInfo]:
    """All samples, through buffers of ``block``, and what is known at the end."""
    with open_audio(path, **options) as stream:
        samples = np.concatenate(list(stream.blocks(block)))
        assert stream.samples_read == samples.size
        return samples, stream.info


def read_all(path: Path, block: int = 7_001) -> Floats:
    """The samples alone."""
    return read(path, block)[0]
