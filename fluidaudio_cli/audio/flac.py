"""Samples as FLAC: what is kept of a recording, in as few bytes as nothing lost allows."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.mono import SAMPLE_RATE

_BLOCK = 4096


def flac_bytes(samples: NDArray[np.float32]) -> bytes:
    """``samples`` (n,) at 16 kHz, mono, in 16 bits; what is beyond full scale is scaled down."""
    peak = max(float(np.abs(samples).max(initial=0.0)), 1.0)
    pcm = np.round(samples / peak * 32767.0).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        for begin in range(0, pcm.size, _BLOCK):
            block = pcm[None, begin : begin + _BLOCK]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
