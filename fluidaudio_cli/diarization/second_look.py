"""Listen again, more exactly, to the voices on which the number of speakers hangs.

A speaker of little speech stands or falls by a few voices, and their rounding in bf16 can decide
it. These voices alone are embedded again in another precision. The recording is read once more
for them, so that no audio need be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import AudioInfo, AudioStream, open_audio
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.clustering import Clusters, Voices
from fluidaudio_cli.diarization.crop_embedder import (
    CropEmbedder,
    Embeddings,
    Vectors,
    mean_direction,
)
from fluidaudio_cli.diarization.frames import FBANK_TAIL_SAMPLES, WINDOW_SAMPLES
from fluidaudio_cli.diarization.local_speakers import Crop
from fluidaudio_cli.executors.buffers import aligned_empty


@dataclass(frozen=True)
class SecondLookRules:
    """``speaker_seconds``: voices of speakers heard for less than this are looked at again; 0
    for none. ``precision``: in which the embedding network then runs.
    """

    speaker_seconds: float
    precision: str


@dataclass(frozen=True)
class Glimpse:
    """Where one voice was heard: in the window from sample ``start`` on, in these crops."""

    start: int
    crops: tuple[Crop, ...]


def uncertain_voices(
    voices: Voices, clusters: Clusters, rules: SecondLookRules
) -> NDArray[np.intp]:
    """Rows of embedded voices whose speaker has little speech."""
    given = clusters.labels >= 0
    seconds = np.bincount(
        clusters.labels[given],
        weights=voices.clean_seconds[given] / voices.looks,
        minlength=len(clusters.centroids),
    )
    little = np.zeros(len(clusters.labels), bool)
    little[given] = seconds[clusters.labels[given]] < rules.speaker_seconds
    return np.flatnonzero(little & voices.embedded)


def look_again(
    info: AudioInfo, glimpses: Sequence[Glimpse], embedder: CropEmbedder, clock: StageClock
) -> Vectors:
    """Voices (n, 192) of unit length of ``glimpses``, which come in order of their windows.

    Raises ``AudioError`` where the recording can no longer be read.
    """
    embeddings = Embeddings(sum(len(glimpse.crops) for glimpse in glimpses))
    embedder.discard()
    row = 0
    with open_audio(info.path, info.uri) as stream:
        for glimpse, window in zip(glimpses, _windows(stream, glimpses), strict=True):
            for crop in glimpse.crops:
                embedder.add(window, crop, embeddings, row, clock)
                row += 1
    embedder.flush(clock)
    ends = np.cumsum([len(glimpse.crops) for glimpse in glimpses])
    return np.stack(
        [mean_direction(vectors) for vectors in np.split(embeddings.vectors, ends[:-1])]
    )


def _windows(stream: AudioStream, glimpses: Sequence[Glimpse]) -> Iterator[Vectors]:
    """The audio of each glimpse's window, zeros past the end; valid until the next."""
    size = WINDOW_SAMPLES + FBANK_TAIL_SAMPLES
    buffer = cast(Vectors, aligned_empty((size,), np.float32))
    # What ``buffer`` holds: samples from ``begin`` to ``end`` of the recording.
    begin = end = 0
    for glimpse in glimpses:
        while end < glimpse.start:
            skipped = stream.read_into(buffer[: min(size, glimpse.start - end)])
            if not skipped:
                break
            begin = end = end + skipped
        kept = max(0, end - glimpse.start)
        buffer[:kept] = buffer[glimpse.start - begin : end - begin].copy()
        begin = glimpse.start
        read = stream.read_into(buffer[kept:])
        end = begin + kept + read
        buffer[kept + read :] = 0
        yield buffer
