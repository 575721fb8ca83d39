"""A benchmark worker that is slower by a known share: for proving that --against notices.

Each diarization is followed, inside the timed call, by busy work for the given share of the
time it took itself. The program under test is not changed and holds no switch for this.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from fluidaudio_cli.benchmark import worker


class SlowPipeline:
    """The real pipeline, and busy work after each diarization."""

    def __init__(self, pipeline: Any, share: float) -> None:
        self._pipeline = pipeline
        self._share = share

    def diarize(self, path: Path) -> Any:
        """Diarize, then compute until the share of the time it took has passed."""
        started = time.perf_counter()
        result = self._pipeline.diarize(path)
        until = time.perf_counter() + self._share * (time.perf_counter() - started)
        number = 1
        while time.perf_counter() < until:
            number = number * 48271 % 2147483647
        return result

    def __getattr__(self, name: str) -> Any:
        """Everything else is the real pipeline's."""
        return getattr(self._pipeline, name)


def main() -> None:
    """Serve the benchmark with the slowed pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.10)
    share = parser.parse_args().share

    def load_slowed(mode: str, **options: Any) -> SlowPipeline:
        return SlowPipeline(worker.load_real_pipeline(mode, **options), share)

    worker.serve(load_slowed)


if __name__ == "__main__":
    main()
