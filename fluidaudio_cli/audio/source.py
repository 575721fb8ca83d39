"""Any recording as a stream of mono float32 samples at 16 kHz, in bounded memory.

``read_into`` fills a buffer of the caller's.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from fluidaudio_cli.audio.container import OpenedContainer, TrackChoice, open_container
from fluidaudio_cli.audio.demux import Demuxer
from fluidaudio_cli.audio.mono import SAMPLE_RATE as SAMPLE_RATE
from fluidaudio_cli.audio.mono import MonoTrack
from fluidaudio_cli.audio.pcm import Samples
from fluidaudio_cli.recordings import STDIN, Place, Url, uri_of


@dataclass(frozen=True)
class AudioInfo:
    """What is known of a recording; before it is decoded, and more of it after.

    ``container`` and ``codec`` are FFmpeg's names, ``sample_rate`` (Hz) and ``channels`` those of
    the (first) track read. ``tracks``: how many there are; ``track``: the one read, from 1, or
    ``None`` for the mix of all. ``duration_seconds`` is what the header states or FFmpeg
    estimates: good for a progress bar; ``None`` where it is unknown (a stream of WAV written to a
    pipe). ``notes``: what the user should know, one sentence each. ``lost``: start and end
    (seconds) of what could not be decoded and was left out as silence, with salvage.
    """

    path: Place
    uri: str
    container: str
    codec: str
    sample_rate: int
    channels: int
    duration_seconds: float | None
    tracks: int = 1
    track: int | None = 1
    notes: tuple[str, ...] = ()
    lost: tuple[tuple[float, float], ...] = ()


class AudioStream(AbstractContextManager["AudioStream", None]):
    """One open recording, read forward once; use it as a context manager."""

    def __init__(self, opened: OpenedContainer, uri: str, salvage: bool) -> None:
        self._opened = opened
        demuxer = Demuxer(opened, salvage)
        # Decoding the first frame now makes a file without audio fail where it is opened.
        self._tracks = [MonoTrack(demuxer, track) for track in demuxer.tracks]
        self.samples_read = 0
        first = self._tracks[0].decoder
        lengths = [track.decoder.duration_seconds for track in self._tracks]
        known = [seconds for seconds in lengths if seconds is not None]
        self._info = AudioInfo(
            path=opened.file.path,
            uri=uri,
            container=opened.container.format.name,
            codec=opened.chosen[0].codec_context.name,
            sample_rate=first.sample_rate,
            channels=first.channels,
            duration_seconds=max(known) if len(known) == len(lengths) else None,
            tracks=len(opened.tracks),
            track=opened.tracks.index(opened.chosen[0]) + 1 if len(self._tracks) == 1 else None,
        )

    @property
    def info(self) -> AudioInfo:
        """What is known by now; ``notes`` and ``lost`` are complete at the end of the reading."""
        notes = [*self._opened.notes, *self._opened.file.notes]
        for track in self._tracks:
            notes.extend(track.decoder.notes)
        lost = sorted(span for track in self._tracks for span in track.decoder.lost)
        return replace(self._info, notes=tuple(dict.fromkeys(notes)), lost=tuple(lost))

    @property
    def seconds_read(self) -> float:
        """Seconds of audio handed out so far."""
        return self.samples_read / SAMPLE_RATE

    def read_into(self, buffer: Samples) -> int:
        """Fill ``buffer`` (float32, shape (n,), contiguous) with the next samples.

        Returns how many were written: fewer than n only at the end of the recording, then 0.
        Raises ``AudioError`` where the file turns out to be damaged, cut off, or not finite.
        """
        if buffer.dtype != np.float32 or buffer.ndim != 1 or not buffer.flags.c_contiguous:
            raise TypeError("buffer must be one-dimensional, contiguous float32")
        single = len(self._tracks) == 1
        filled = self._tracks[0].read_into(buffer) if single else self._read_mix(buffer)
        self.samples_read += filled
        return filled

    def blocks(self, samples: int) -> Iterator[Samples]:
        """What is left, in new arrays of ``samples`` each; the last one is shorter."""
        while True:
            block = np.empty(samples, np.float32)
            count = self.read_into(block)
            if count:
                yield block[:count]
            if count < samples:
                return

    def close(self) -> None:
        """Release the decoder and the file."""
        self._opened.close()

    def __exit__(self, *_: object) -> None:
        """Close the recording."""
        self.close()

    def _read_mix(self, buffer: Samples) -> int:
        """The sum of all tracks, as they sound together; it lasts as long as the longest."""
        buffer[:] = 0
        longest = 0
        scratch = np.empty_like(buffer)
        for track in self._tracks:
            count = track.read_into(scratch)
            buffer[:count] += scratch[:count]
            longest = max(longest, count)
        return longest


@dataclass(frozen=True)
class AudioSource:
    """A recording to be opened, and how: for who opens it later, once."""

    path: Place
    uri: str | None = None
    track: TrackChoice = None
    salvage: bool = False

    def open(self) -> AudioStream:
        """Open it at its beginning; a pipe only once. Raises as ``open_audio``."""
        return open_audio(self.path, self.uri, track=self.track, salvage=self.salvage)

    def stated_seconds(self) -> float | None:
        """The length that a file states, if it does; ``None`` for a pipe, which is not touched.

        Raises ``AudioError`` for what cannot be opened.
        """
        if is_pipe(self.path):
            return None
        with self.open() as stream:
            return stream.info.duration_seconds


def open_audio(
    path: Place, uri: str | None = None, *, track: TrackChoice = None, salvage: bool = False
) -> AudioStream:
    """Open a recording of any kind FFmpeg decodes, at its beginning.

    ``path`` may be a URL, a pipe, or ``-`` for standard input. Of several audio tracks FFmpeg's
    best is read (the default one, then the one with most channels), track number ``track``, or the
    sum of all. Channels are averaged, inverted ones turned back. Samples lie where a player
    presents them, counted from the beginning of the container; where there are none is silence.
    With ``salvage``, so is what cannot be decoded. ``uri`` names the recording in results; by
    default it is ``uri_of(path)``. Raises ``AudioError`` when there is nothing to decode.
    """
    opened = open_container(path, track, salvage)
    try:
        return AudioStream(opened, uri or uri_of(path), salvage)
    except BaseException:
        opened.close()
        raise


def is_pipe(path: Place) -> bool:
    """Whether ``path`` can be read but once: standard input, a FIFO, a process substitution."""
    if path == STDIN:
        return True
    if isinstance(path, Url):
        return False
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # opening it says why
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
