"""The process that runs one pipeline for the benchmark.

Started as ``python -m fluidaudio_cli.benchmark.worker``. One variant has one process, so that a
peak of memory, a thread pool or a crash belongs to one variant only, and so that another version
of the program can be driven the same way (``--against``). Requests and replies are JSON, one
per line, on stdin and stdout:

``hello`` (sent first, unasked) · ``load`` · ``diarize`` · ``oracle`` (of the recording diarized
last) · ``latency`` · ``reset_peak``; the end of stdin ends the process. A reply holds ``error``
when the request failed. Only the call of ``diarize`` is inside the clock: no request, no reply,
no loading, no scoring; nor ``prepare``, which a pipeline may have (peers, whose interface takes
samples). Protocol 1 had no ``oracle``, and no ``items`` in stages.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

import fluidaudio_cli
from fluidaudio_cli.errors import FluidAudioError, UsageError
from fluidaudio_cli.measure import memory
from fluidaudio_cli.measure.clock import stopwatch
from fluidaudio_cli.turns import Turn

PROTOCOL = 2
_LATENCY_WARMUP = 3  # windows run before the clock starts, so that buffers exist

Loader = Callable[..., Any]
Reply = dict[str, Any]
Window = npt.NDArray[np.float32]


class Session:
    """One loaded pipeline and the requests it answers."""

    def __init__(self, load_pipeline: Loader) -> None:
        self._load_pipeline = load_pipeline
        self._pipeline: Any = None
        self._last: Any = None  # what the last diarization gave

    def answer(self, request: Mapping[str, Any]) -> Reply:
        """The reply to one request; an expected error becomes its class and texts."""
        handlers: dict[str, Callable[..., Reply]] = {
            "load": self._load,
            "diarize": self._diarize,
            "oracle": self._oracle,
            "latency": self._latency,
            "reset_peak": self._reset_peak,
        }
        arguments = dict(request)
        handler = handlers.get(arguments.pop("op", ""))
        try:
            if handler is None:
                raise UsageError(f"the worker has no operation {request.get('op')!r}")
            return handler(**arguments)
        except FluidAudioError as error:
            return _refusal(type(error).__name__, error.message, error.remedy)
        except MemoryError:
            return _refusal("HostError", "out of memory", "close other programs")
        except Exception as error:  # noqa: BLE001 - the parent lists it and goes on with others
            return _refusal("HostError", f"{type(error).__name__}: {error}", "")

    def close(self) -> None:
        """Release the pipeline."""
        if self._pipeline is not None:
            self._pipeline.close()

    def _load(self, mode: str | Mapping[str, Any], options: Mapping[str, Any]) -> Reply:
        started = time.perf_counter()
        self._pipeline = self._load_pipeline(mode, **options)
        seconds = time.perf_counter() - started
        pipeline = self._pipeline
        return {
            "load_seconds": seconds,
            "cached": bool(pipeline.load_cached),
            **facts_of(pipeline),
            "rss_bytes": memory.resident_bytes(),
            "peak_bytes": memory.peak_bytes(),
        }

    def _diarize(self, path: str) -> Reply:
        self._last = None
        source = (
            self._pipeline.prepare(Path(path)) if hasattr(self._pipeline, "prepare") else Path(path)
        )
        gc.collect()  # garbage of the last iteration is not this one's time
        with stopwatch() as cost:
            self._last = result = self._pipeline.diarize(source)
        timings = result.timings
        return {
            "wall_seconds": cost.wall,
            "cpu_seconds": cost.cpu,
            "audio_seconds": result.duration_seconds,
            "windows": timings.windows,
            "overlapped": timings.overlapped,
            "stages": [
                {
                    "name": stage.name,
                    "busy_seconds": stage.busy_seconds,
                    "calls": stage.calls,
                    "items": stage.items,
                    "concurrent": stage.concurrent,
                }
                for stage in timings.stages
            ],
            "turns": [[turn.start, turn.end, turn.speaker] for turn in result.turns],
            "peak_bytes": memory.peak_bytes(),
        }

    def _oracle(self, reference: Sequence[tuple[float, float, str]]) -> Reply:
        from fluidaudio_cli.benchmark.oracle import oracle_turns

        evidence = getattr(self._last, "evidence", None)
        if evidence is None:
            raise UsageError("there is no evidence of the last diarization")
        mode = self._pipeline.mode
        turns = oracle_turns(
            evidence,
            mode.windows.step_seconds,
            mode.reconstruction,
            [Turn(*each) for each in reference],
        )
        return {"turns": [[turn.start, turn.end, turn.speaker] for turn in turns]}

    def _latency(self, path: str, windows: int, window_samples: int) -> Reply:
        blocks = _windows_of(Path(path), windows, window_samples)
        for block in blocks[:_LATENCY_WARMUP]:
            self._pipeline.process_window(block)
        seconds = []
        for index in range(windows):
            block = blocks[index % len(blocks)]
            started = time.perf_counter()
            self._pipeline.process_window(block)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}

    def _reset_peak(self) -> Reply:
        return {"reset": memory.reset_peak(), "peak_bytes": memory.peak_bytes()}


def serve(load_pipeline: Loader) -> None:
    """Answer requests on stdin until it ends."""
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    session = Session(load_pipeline)
    with _reply_stream() as replies:
        _send(
            replies,
            {
                "hello": "fluidaudio-benchmark-worker",
                "protocol": PROTOCOL,
                "version": fluidaudio_cli.__version__,
                "package": str(Path(fluidaudio_cli.__file__).resolve().parent),
            },
        )
        try:
            for line in sys.stdin:
                _send(replies, session.answer(json.loads(line)))
        finally:
            session.close()


@contextlib.contextmanager
def _reply_stream() -> Iterator[IO[str]]:
    """The original stdout; whatever a library prints goes to stderr instead."""
    sys.stdout.flush()
    channel = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(channel, "w", encoding="utf-8") as stream:
        yield stream


def facts_of(pipeline: Any) -> dict[str, Any]:
    """What a cell says of the pipeline that it measured, by field of ``results.CellRecord``.

    ``plan`` is empty for a program that has none.
    """
    plan = getattr(pipeline, "plan", None)
    return {
        "config": pipeline.mode.as_dict(),
        "plan": {} if plan is None else dict(plan.summary()),
        "executors": {
            model.name: {"asked": dict(model.asked), "ran": dict(model.ran)}
            for model in pipeline.models
        },
        "models": [{"name": model.name, "sha256": model.sha256} for model in pipeline.models],
    }


def _send(stream: IO[str], reply: Reply) -> None:
    stream.write(json.dumps(reply) + "\n")
    stream.flush()


def _refusal(kind: str, message: str, remedy: str) -> Reply:
    return {"error": {"class": kind, "message": message, "remedy": remedy}}


def _windows_of(path: Path, limit: int, size: int) -> list[Window]:
    """Up to ``limit`` consecutive windows of ``size`` samples, the last one zero-padded."""
    from fluidaudio_cli.audio.source import open_audio

    blocks: list[Window] = []
    with open_audio(path) as stream:
        while len(blocks) < limit:
            block = np.zeros(size, np.float32)
            if not stream.read_into(block):
                break
            blocks.append(block)
    return blocks


def load_real_pipeline(mode: str | Mapping[str, Any], **options: Any) -> Any:
    """The program's own pipeline; ``mode`` is a name, the path of a mode file, or a plan."""
    # Imported when asked for: the time of importing a runtime belongs to loading.
    from fluidaudio_cli.diarization.loading import load, load_pipeline
    from fluidaudio_cli.diarization.plan import plan_of

    if not isinstance(mode, str):  # the options are in it
        return load(plan_of(mode))
    return load_pipeline(mode, **options)


if __name__ == "__main__":
    serve(load_real_pipeline)
