"""A benchmark worker with a pipeline of known behaviour, run as a script.

The benchmark's runner, protocol and error handling are real; only the pipeline is a stand-in.
``STUB_FAIL``: uri that raises AudioError; ``STUB_CRASH``: uri at which the process dies;
``STUB_HANG``: uri at which it never answers; ``STUB_MODEL``: what the model hash is;
``STUB_SLEEP``: seconds each diarization takes;
``STUB_NO_EXECUTOR``: executor that is not on this machine.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fluidaudio_cli.benchmark import worker
from fluidaudio_cli.errors import AudioError, ExecutorUnavailableError
from fluidaudio_cli.turns import Turn

BUSY = {"decode": 0.001, "segmentation": 0.002}


class StubPipeline:
    def __init__(self, mode: str, executor: str, cached: bool) -> None:
        self.mode = SimpleNamespace(name=mode, as_dict=lambda: {"name": mode, "step": 1.0})
        self.plan = SimpleNamespace(summary=lambda: {"workers": 1})
        self.load_cached = cached
        digest = os.environ.get("STUB_MODEL", "a") * 64
        ran = {"executor": "stub", "precision": "fp32"}
        self.models = (
            SimpleNamespace(
                name="segmentation", sha256=digest, asked={"executor": executor}, ran=ran
            ),
        )

    def diarize(self, path: Path) -> Any:
        sys.stdout.write("a library that prints to stdout must not break the protocol\n")
        uri = path.stem
        if uri == os.environ.get("STUB_FAIL"):
            raise AudioError(f"{path} is cut off", "copy it again")
        if uri == os.environ.get("STUB_CRASH"):
            sys.stderr.write("stub crashed on purpose\n")
            sys.stderr.flush()
            os._exit(9)
        if uri == os.environ.get("STUB_HANG"):
            time.sleep(60)
        time.sleep(float(os.environ.get("STUB_SLEEP", "0.002")))
        stages = [
            SimpleNamespace(name=name, busy_seconds=seconds, calls=3, items=3, concurrent=False)
            for name, seconds in BUSY.items()
        ]
        return SimpleNamespace(
            evidence=None,
            turns=(Turn(0.0, 4.0, "A"), Turn(4.0, 10.0, "B")),
            duration_seconds=10.0,
            timings=SimpleNamespace(stages=stages, windows=3, overlapped=False),
        )

    def process_window(self, samples: Any) -> None:
        assert samples.shape == (160_000,)
        time.sleep(0.0005)

    def close(self) -> None:
        pass


def load_pipeline(mode: str | dict[str, Any], *, executor: str, **_: Any) -> StubPipeline:
    if not isinstance(mode, str):  # a plan
        mode = str(mode["mode"]["name"])
    if executor == os.environ.get("STUB_NO_EXECUTOR"):
        raise ExecutorUnavailableError(f"{executor} is not installed", f"pip install {executor}")
    # Like the real one: the first load with an empty cache compiles, the next ones do not.
    marker = Path(os.environ["FLUIDAUDIO_CACHE_DIR"]) / f"{mode}.compiled"
    cached = marker.exists()
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return StubPipeline(mode, executor, cached)


if __name__ == "__main__":
    worker.serve(load_pipeline)
