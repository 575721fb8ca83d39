"""What running a peer gave: turns, times and memory per file, or why it could not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fluidaudio_cli.turns import Turn


@dataclass(frozen=True)
class PeerSettings:
    """What a peer is asked for; ``None`` leaves a value to the peer's own best.

    ``threshold``: its clustering threshold. ``num_speakers``: the number it must find.
    """

    threshold: float | None = None
    num_speakers: int | None = None


@dataclass(frozen=True)
class PeerFile:
    """One diarized file. The clock holds the peer's work only, not the decoding of the file.

    ``cpu_seconds``: processor time of all its threads, which a busy machine stretches less
    than wall time.
    """

    path: Path
    audio_seconds: float
    wall_seconds: float
    cpu_seconds: float
    turns: tuple[Turn, ...]

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of work."""
        return self.audio_seconds / self.wall_seconds


@dataclass(frozen=True)
class PeerFailure:
    """A file that the peer or the decoder refused, with the reason on one line."""

    path: Path
    error: str


@dataclass(frozen=True)
class PeerResult:
    """One peer on several files, in a process of its own.

    ``unavailable`` holds the reason when it could not run; nothing else is filled then but
    ``name``. ``settings``: the values that ran. ``thread_trials``: wall seconds of the same
    stretch of audio with each number of threads, where the number was left open.
    ``differences``: what is not equal between the peer and our pipeline, one line each.
    ``load_seconds``: imports and models, outside the times of files. Memory is the resident
    set of the whole process: once loaded, and at its peak (``None`` where no kernel says).
    """

    name: str
    version: str = ""
    unavailable: str = ""
    threads: int = 0
    settings: Mapping[str, float | int | str] = field(default_factory=dict)
    files: tuple[PeerFile, ...] = ()
    failures: tuple[PeerFailure, ...] = ()
    load_seconds: float = 0.0
    loaded_rss_bytes: int = 0
    peak_rss_bytes: int | None = None
    thread_trials: Mapping[int, float] = field(default_factory=dict)
    differences: tuple[str, ...] = ()

    @property
    def audio_seconds(self) -> float:
        """Audio of all diarized files."""
        return sum(each.audio_seconds for each in self.files)

    @property
    def wall_seconds(self) -> float:
        """Time of all diarized files, loading and decoding left out."""
        return sum(each.wall_seconds for each in self.files)

    @property
    def rtfx(self) -> float | None:
        """Audio over time of all files together; ``None`` when nothing was diarized."""
        return self.audio_seconds / self.wall_seconds if self.files else None
