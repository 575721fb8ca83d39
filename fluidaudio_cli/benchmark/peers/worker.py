"""A peer in the benchmark's worker process: what it needs to answer the worker's requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.errors import ExecutorUnavailableError, FluidAudioError, InputError
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.measure.clock import stopwatch
from fluidaudio_cli.resources import datasets_dir
from fluidaudio_cli.simulate.voices import read_audio
from fluidaudio_cli.turns import Turn

Samples = npt.NDArray[np.float32]
RawTurn = tuple[float, float, str]

# The fastest of so many trials counts: others on the machine only ever slow one down.
_TRIALS = 2


@dataclass(frozen=True)
class PeerEngine:
    """A loaded peer.

    ``prepare``: samples (16 kHz mono, full scale ±1) in the form it takes; not timed. ``diarize``:
    turns of these: start and end in seconds, and a speaker.
    """

    prepare: Callable[[Samples], Any]
    diarize: Callable[[Any], Sequence[RawTurn]]


class PeerPipeline:
    """A peer as the worker drives it: ``prepare`` decodes, outside the clock.

    ``settings`` that run, its own defaults filled in. ``load`` it with a number of threads.
    ``threads``: of each of its networks; None tries one and all processors on the bundled
    sample and takes the faster. Raises ``ExecutorUnavailableError`` when it cannot be loaded.
    """

    load_cached = True  # peers compile nothing into a cache

    def __init__(
        self,
        name: str,
        version: str,
        settings: Mapping[str, float | int | str],
        load: Callable[[int], PeerEngine],
        threads: int | None = None,
    ) -> None:
        counts = sorted({1, processors()}) if threads is None else [threads]
        try:
            engines = {count: load(count) for count in counts}
        except FluidAudioError:
            raise
        except Exception as error:
            raise ExecutorUnavailableError(f"{name}: {type(error).__name__}: {error}") from error
        trials = _trials(engines) if len(engines) > 1 else dict.fromkeys(engines, 0.0)
        best = min(trials, key=lambda count: trials[count])
        self._name, self._engine = name, engines[best]
        ran = {"executor": f"{name} {version}", "precision": "fp32", "threads": best}
        asked = {"threads": threads, **settings}
        self.models = (SimpleNamespace(name=name, sha256="", asked=asked, ran=ran),)
        self.mode = SimpleNamespace(as_dict=lambda: dict(settings))

    def prepare(self, path: Path) -> tuple[float, Any]:
        """Audio seconds, and the recording in the form that the peer takes."""
        samples = read_audio(path, math.inf)
        return samples.size / SAMPLE_RATE, self._engine.prepare(samples)

    def diarize(self, source: tuple[float, Any]) -> Any:
        """Turns of a prepared recording; ``InputError`` for whatever the peer raises."""
        seconds, prepared = source
        try:
            found = self._engine.diarize(prepared)
        except Exception as error:
            raise InputError(f"{self._name} failed: {' '.join(str(error).split())}") from error
        turns = tuple(Turn(float(start), float(end), str(who)) for start, end, who in found)
        timings = SimpleNamespace(stages=(), windows=0, overlapped=True)
        return SimpleNamespace(turns=turns, duration_seconds=seconds, timings=timings)

    def close(self) -> None:
        """Nothing to release."""


def _trials(engines: Mapping[int, PeerEngine]) -> dict[int, float]:
    """Seconds of the bundled sample with each number of threads, in turns."""
    samples = read_audio(datasets_dir() / "sample" / "sample.wav")
    trials = dict.fromkeys(engines, float("inf"))
    for _ in range(_TRIALS):
        for count, engine in engines.items():
            prepared = engine.prepare(samples)
            with stopwatch() as cost:
                engine.diarize(prepared)
            trials[count] = min(trials[count], cost.wall)
    return trials
