"""How long a file says it is, and whether that may be held against what was decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fluidaudio_cli.audio.container import OpenedContainer

_MICROSECONDS = 1_000_000

_SAMPLE_SECONDS = 0.001
_CODEC_SECONDS = 0.25

_TOLERANCES = {
    # The header counts samples, and the decoder gives each of them.
    **dict.fromkeys(("flac", "aiff", "au", "w64", "wv"), _SAMPLE_SECONDS),
    # It may count encoder delay and padding that the decoder drops (AAC at 8 kHz: 0.13 s). Ogg
    # has its last page's time.
    **dict.fromkeys(("mov", "caf", "ogg", "mxf"), _CODEC_SECONDS),
}
"""Containers whose stated length binds, and by how much a whole file may fall short of it."""


@dataclass(frozen=True)
class DeclaredLength:
    """``seconds`` as the container states or estimates it, counted from the track's beginning.

    ``tolerance`` is by how much a whole file may fall short; ``None`` if the length is a guess.
    ``from_zero``: counted from time stamp 0 instead; ``None``: one of the two.
    """

    seconds: float | None = None
    tolerance: float | None = None
    from_zero: bool | None = False

    def missing(self, first: float, last: float) -> float:
        """Seconds that the header promises beyond ``last``; 0 where that proves nothing.

        ``first`` and ``last``: time stamps where the track's samples begin and end, pauses
        included. More than 0: the file is cut or has holes.
        """
        if self.seconds is None or self.tolerance is None:
            return 0.0
        short = self.seconds - (last - first if self.from_zero is False else last)
        return short if short > self.tolerance else 0.0

    def all_there(self, first: float, last: float) -> bool:
        """Whether every sample that the header counts is: what follows is none."""
        return self.tolerance == _SAMPLE_SECONDS and not self.missing(first, last)

    def excess(self, first: float, last: float) -> float:
        """Seconds that are there beyond what the header states, as ``missing``; 0 if few."""
        if self.seconds is None or self.tolerance is None:
            return 0.0
        more = min(last, last - first) - self.seconds
        return more if more > _CODEC_SECONDS else 0.0


def declared_length(opened: OpenedContainer, stream: Any) -> DeclaredLength:
    """Read the length of ``stream`` from the container, or what its header says of its data."""
    container, header, names = opened.container, opened.file.header, opened.formats
    if header.fragmented and not opened.file.seekable():
        return DeclaredLength()  # FFmpeg tells the first fragment's
    mended = opened.file.mended_seconds
    # The longest stream's end binds the audio if that is all there is.
    of_file = _CODEC_SECONDS if len(opened.streams) == 1 else None
    play = header.play_seconds
    if play is not None and "mp3" in names:
        # FFmpeg takes delay and padding off, but guesses where several files were joined.
        own = _stated(stream, container) or 0.0
        return DeclaredLength(own if abs(own - play) < _CODEC_SECONDS else play, _CODEC_SECONDS)
    if play is not None and "asf" in names:
        return DeclaredLength(play, of_file, from_zero=True)
    stated = header.seconds is not None or (header.data_start is not None and "wav" in names)
    if mended is not None or stated:  # chunks behind the samples count in FFmpeg's length
        return DeclaredLength(mended or header.seconds or _stated(stream, container))
    if stream.duration is not None and stream.time_base is not None and stream.duration > 0:
        tolerances = [_TOLERANCES[name] for name in names if name in _TOLERANCES]
        seconds = float(stream.duration * stream.time_base)
        # Ogg has the last page's time stamp.
        from_zero = None if header.fragmented else "ogg" in names
        return DeclaredLength(seconds, tolerances[0] if tolerances else None, from_zero)
    if container.duration is not None and container.duration > 0:
        seconds = container.duration / _MICROSECONDS
        if names & {"matroska", "flv"}:
            return DeclaredLength(seconds, of_file, True if "matroska" in names else None)
        return DeclaredLength(seconds)
    return DeclaredLength()


def _stated(stream: Any, container: Any) -> float | None:
    if stream.duration is not None and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    return container.duration / _MICROSECONDS if container.duration else None
