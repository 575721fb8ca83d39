"""The process that runs one peer: a job as JSON on stdin, events as JSON lines on stdout.

Job: ``models`` (name to path), ``files``, ``threads`` (a number, or null to try), ``settings``.
Events: ``loaded``, then ``file`` or ``failed`` with the file's ``index``, then ``done``; or
``unavailable`` alone.
What a library prints to stdout goes to stderr instead.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from fluidaudio_cli.audio.source import SAMPLE_RATE, open_audio
from fluidaudio_cli.errors import FluidAudioError
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.measure.memory import peak_bytes, resident_bytes

Samples = npt.NDArray[np.float32]
RawTurn = tuple[float, float, str]
Job = Mapping[str, Any]

_BLOCK_SECONDS = 60
# Enough to fill several windows, short enough to be tried with each number of threads.
TRIAL_SECONDS = 30.0
# The fastest of so many trials counts: others on the machine only ever slow one down.
_TRIALS = 2


class PeerEngine(Protocol):
    """A loaded peer."""

    def prepare(self, samples: Samples) -> Any:
        """``samples`` (16 kHz mono, full scale ±1) in the form it takes; not timed."""

    def diarize(self, prepared: Any) -> Sequence[RawTurn]:
        """Its turns: start and end in seconds, and a speaker."""


class Peer(Protocol):
    """How to load a peer. ``load`` raises ``ImportError`` when its package is not there."""

    def version(self) -> str:
        """Version of its package."""

    def settings(self) -> Mapping[str, float | int | str]:
        """The settings that run, its own defaults filled in."""

    def load(self, threads: int) -> PeerEngine:
        """Load it with a number of threads."""


def serve(make_peer: Callable[[Job], Peer]) -> None:
    """Run the job on stdin."""
    channel = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(channel, "w", encoding="utf-8") as stream:
        run_job(json.loads(sys.stdin.read()), make_peer, stream)


def run_job(job: Job, make_peer: Callable[[Job], Peer], stream: IO[str]) -> None:
    """Answer ``job`` with events on ``stream``."""
    files = [Path(text) for text in job["files"]]
    began = time.perf_counter()
    try:
        peer = make_peer(job)
        threads = job["threads"] or processors()
        engine = peer.load(threads)
        load_seconds = time.perf_counter() - began
        trials: dict[int, float] = {}
        if job["threads"] is None and threads > 1 and files:
            engine, threads, trials = _best_threads(peer, {1: None, threads: engine}, files[0])
    except FluidAudioError as error:
        _send(stream, event="unavailable", reason=str(error))
        return
    except Exception as error:  # noqa: BLE001 - the parent shows it and goes on without the peer
        _send(stream, event="unavailable", reason=f"{type(error).__name__}: {error}")
        return
    _send(
        stream,
        event="loaded",
        version=peer.version(),
        threads=threads,
        settings=dict(peer.settings()),
        load_seconds=load_seconds,
        rss_bytes=resident_bytes(),
        trials=[[count, seconds] for count, seconds in trials.items()],
    )
    for index, path in enumerate(files):
        _send(stream, index=index, **_outcome(engine, path))
    _send(stream, event="done", peak_bytes=peak_bytes())


def read_samples(path: Path, limit_seconds: float | None = None) -> Samples:
    """The recording as 16 kHz mono float32, at most ``limit_seconds`` of it."""
    wanted = None if limit_seconds is None else round(limit_seconds * SAMPLE_RATE)
    blocks: list[Samples] = []
    held = 0
    with open_audio(path) as stream:
        while wanted is None or held < wanted:
            size = _BLOCK_SECONDS * SAMPLE_RATE
            block = np.empty(size if wanted is None else min(size, wanted - held), np.float32)
            count = stream.read_into(block)
            if not count:
                break
            blocks.append(block[:count])
            held += count
    return np.concatenate(blocks)


def _outcome(engine: PeerEngine, path: Path) -> dict[str, Any]:
    try:
        return {"event": "file", **_diarize(engine, read_samples(path))}
    except Exception as error:  # noqa: BLE001 - one bad file must not end the others
        return {"event": "failed", "error": str(error)}


def _diarize(engine: PeerEngine, samples: Samples) -> dict[str, Any]:
    prepared = engine.prepare(samples)
    audio_seconds = samples.size / SAMPLE_RATE
    del samples
    gc.collect()  # garbage of the last file is not this one's time
    cpu, wall = time.process_time(), time.perf_counter()
    turns = engine.diarize(prepared)
    wall_seconds = time.perf_counter() - wall
    return {
        "audio_seconds": audio_seconds,
        "wall_seconds": wall_seconds,
        "cpu_seconds": time.process_time() - cpu,
        "turns": [[start, end, speaker] for start, end, speaker in turns],
    }


def _best_threads(
    peer: Peer, engines: Mapping[int, PeerEngine | None], path: Path
) -> tuple[PeerEngine, int, dict[int, float]]:
    """The engine that is fastest on the start of ``path``, in turns; seconds of each."""
    samples = read_samples(path, TRIAL_SECONDS)
    loaded = {count: engine or peer.load(count) for count, engine in engines.items()}
    trials = dict.fromkeys(loaded, float("inf"))
    for _ in range(_TRIALS):
        for count, engine in loaded.items():
            trials[count] = min(trials[count], _diarize(engine, samples)["wall_seconds"])
    best = min(trials, key=lambda count: trials[count])
    return loaded[best], best, trials


def _send(stream: IO[str], **event: Any) -> None:
    stream.write(json.dumps(event) + "\n")
    stream.flush()
