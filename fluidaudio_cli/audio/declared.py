"""How long a file says it is, and whether that may be held against what was decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fluidaudio_cli.audio.headers import HeaderLength

_MICROSECONDS = 1_000_000

_SAMPLE_SECONDS = 0.001
_CODEC_SECONDS = 0.25

_TOLERANCES = {
    # The header counts samples, and the decoder gives each of them.
    **dict.fromkeys(("flac", "aiff", "au", "w64"), _SAMPLE_SECONDS),
    # It may count encoder delay and padding that the decoder drops (AAC at 8 kHz: 0.13 s). Ogg
    # has its last page's time.
    **dict.fromkeys(("mov", "caf", "ogg"), _CODEC_SECONDS),
}
"""Containers whose stated length binds, and by how much a whole file may fall short of it."""


@dataclass(frozen=True)
class DeclaredLength:
    """``seconds`` as the container states or estimates it.

    ``tolerance`` is by how much a whole file may fall short; ``None`` if the length is a guess.
    ``cut`` is true where the file is known to be shorter than its header says.
    """

    seconds: float | None
    tolerance: float | None
    cut: bool = False

    def exceeds(self, decoded_seconds: float) -> bool:
        """Whether the header promises more than was decoded: the file is cut or has holes."""
        if self.seconds is None or self.tolerance is None:
            return self.cut
        return self.seconds - decoded_seconds > self.tolerance


def declared_length(container: Any, stream: Any, header: HeaderLength) -> DeclaredLength:
    """Read the length of ``stream`` from its own header, or the container's.

    ``header`` has what FFmpeg does not tell.
    """
    if header.wav_seconds is not None:
        return DeclaredLength(header.wav_seconds, None, cut=header.wav_is_cut)
    names = set(container.format.name.split(","))
    if stream.duration is not None and stream.time_base is not None and stream.duration > 0:
        tolerances = [_TOLERANCES[name] for name in names if name in _TOLERANCES]
        if "mp3" in names and header.mp3_counts_frames:
            tolerances.append(_CODEC_SECONDS)
        seconds = float(stream.duration * stream.time_base)
        return DeclaredLength(seconds, tolerances[0] if tolerances else None)
    if container.duration is not None and container.duration > 0:
        seconds = container.duration / _MICROSECONDS
        only = _counts_only_this_stream(container, names)
        return DeclaredLength(seconds, _CODEC_SECONDS if only else None)
    return DeclaredLength(None, None)


def _counts_only_this_stream(container: Any, names: set[str]) -> bool:
    """Matroska states the longest stream's length: it binds the audio if that is all there is."""
    return "matroska" in names and len(container.streams) == 1
