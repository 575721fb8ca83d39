"""How long a file says it is, and whether that may be held against what was decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fluidaudio_cli.audio.riff import WavLength

_MICROSECONDS = 1_000_000

_EXACT_CONTAINERS = frozenset({"w64", "flac", "aiff", "au", "caf", "mov"})
"""Containers whose header counts the samples of each stream, so that fewer mean a cut file."""

_TOLERANCE_SECONDS = 0.1
"""Encoder delay and padding that the header may count and the decoder drop."""


@dataclass(frozen=True)
class DeclaredLength:
    """``seconds`` as the container states or estimates it; ``exact`` if it counted samples."""

    seconds: float | None
    exact: bool

    def shortfall(self, decoded_seconds: float) -> float:
        """Seconds that the header promises and the file did not hold; 0 if none."""
        if self.seconds is None or not self.exact:
            return 0.0
        missing = self.seconds - decoded_seconds
        return missing if missing > min(_TOLERANCE_SECONDS, 0.05 * self.seconds) else 0.0


def declared_length(container: Any, stream: Any, wav: WavLength | None) -> DeclaredLength:
    """Read the length of ``stream`` from its own header, or the container's.

    ``wav`` is what ``wav_length`` found, which FFmpeg does not tell.
    """
    if wav is not None:
        return DeclaredLength(wav.stated_seconds, exact=True)
    names = set(container.format.name.split(","))
    if stream.duration is not None and stream.time_base is not None and stream.duration > 0:
        seconds = float(stream.duration * stream.time_base)
        return DeclaredLength(seconds, exact=bool(names & _EXACT_CONTAINERS))
    if container.duration is not None and container.duration > 0:
        seconds = container.duration / _MICROSECONDS
        return DeclaredLength(seconds, exact=_counts_only_this_stream(container, names))
    return DeclaredLength(None, exact=False)


def _counts_only_this_stream(container: Any, names: set[str]) -> bool:
    """Matroska states the longest stream's length: it binds the audio if that is all there is."""
    return "matroska" in names and len(container.streams) == 1
