"""How long a file says it is, and whether that may be held against what was decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_MICROSECONDS = 1_000_000

_PLACEHOLDER_BYTES = ((0x7FFF_0000, 0x8000_1000), (0xFFFF_0000, 0x1_0000_0000))
"""WAV data lengths written by programs that stream and do not know the length (FFmpeg, SoX,
arecord write the largest number they can)."""

_EXACT_CONTAINERS = frozenset({"wav", "w64", "flac", "aiff", "au", "caf", "mov"})
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


def declared_length(container: Any, stream: Any) -> DeclaredLength:
    """Read the length of ``stream`` from its header, or the container's."""
    names = set(container.format.name.split(","))
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
        if seconds <= 0 or ("wav" in names and _is_placeholder(stream, seconds)):
            return DeclaredLength(None, exact=False)
        return DeclaredLength(seconds, exact=bool(names & _EXACT_CONTAINERS))
    if container.duration is not None and container.duration > 0:
        seconds = container.duration / _MICROSECONDS
        return DeclaredLength(seconds, exact=_counts_only_this_stream(container, names))
    return DeclaredLength(None, exact=False)


def _is_placeholder(stream: Any, seconds: float) -> bool:
    context = stream.codec_context
    bytes_per_second = context.sample_rate * len(context.layout.channels) * _bits(context) / 8
    size = seconds * bytes_per_second
    return any(low <= size <= high for low, high in _PLACEHOLDER_BYTES)


def _bits(context: Any) -> int:
    # "pcm_s24le" decodes to 32 bits: the name tells what the file holds.
    digits = "".join(c for c in str(context.name) if c.isdigit())
    return int(digits) if digits else 8


def _counts_only_this_stream(container: Any, names: set[str]) -> bool:
    """Matroska states the longest stream's length: it binds the audio if that is all there is."""
    return "matroska" in names and len(container.streams) == 1
