"""Measure one model on one executor with one setting, in a process of its own.

A runtime that crashes or hangs on a setting takes only this process with it. Run as
``python -m fluidaudio_cli.executors.probe`` with a :class:`ProbeSetting` and its batches as JSON
on stdin; the answer is one line of JSON on stdout for each batch, as soon as it is measured.
:func:`probe` does that and reads the answers.

Several batches share a process because two processes of the same setting differ by 5–20 % for
as long as they live (what they were given at their start), which would drown the differences
between batches.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fluidaudio_cli.errors import FluidAudioError
from fluidaudio_cli.executors.base import Array, CompiledModel, ExecutorOptions, InferRequest
from fluidaudio_cli.executors.select import select_executor

# Steady state per batch: some ten runs of a slow batch (100 ms).
MEASURED_SECONDS = 1.0
# Of the times of a stream's runs, the lower quartile: other programs only ever add to a time,
# and the very shortest may have met the other streams idle.
_TYPICAL = 0.25
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class ProbeSetting:
    """What to measure: ``streams`` inferences at a time, sharing ``threads`` threads."""

    package: str
    executor: str
    precision: str
    threads: int
    streams: int
    compute_units: str = "all"


@dataclass(frozen=True)
class ProbeResult:
    """``items_per_second`` of all streams at ``batch`` items each, or why none (``failure``)."""

    setting: ProbeSetting
    batch: int
    items_per_second: float | None
    failure: str = ""


def probe(
    setting: ProbeSetting, batches: Sequence[int], timeout: float = TIMEOUT_SECONDS
) -> tuple[ProbeResult, ...]:
    """Measure ``setting`` at each batch, in order, in a subprocess; one result for each.

    A crash, a hang (``timeout`` seconds for all batches) or an error is the result of the
    batches not measured until then.
    """
    command = [sys.executable, "-m", "fluidaudio_cli.executors.probe"]
    failure = ""
    try:
        done = subprocess.run(
            command,
            input=json.dumps({"setting": asdict(setting), "batches": list(batches)}).encode(),
            capture_output=True,
            timeout=timeout,
            env=os.environ,
            check=False,
        )
        output = done.stdout
        if done.returncode:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()
            failure = words[-1] if words else f"exit status {done.returncode}"
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        failure = f"no answer within {timeout:g} s"
    speeds = {}
    for line in output.splitlines(keepends=True):
        if line.endswith(b"\n"):  # else it was cut off by the end of the process
            answer = json.loads(line)
            if "failure" in answer:
                failure = answer["failure"]
            else:
                speeds[answer["batch"]] = answer["items_per_second"]
    return tuple(
        ProbeResult(setting, batch, speeds[batch])
        if batch in speeds
        else ProbeResult(setting, batch, None, failure or "no answer")
        for batch in batches
    )


def measure(
    setting: ProbeSetting, batches: Sequence[int], seconds: float = MEASURED_SECONDS
) -> Iterator[tuple[int, float]]:
    """Measure in this process: each batch and its items per second. Loading is not counted."""
    options = ExecutorOptions(
        precision=setting.precision,  # type: ignore[arg-type]
        threads=setting.threads,
        streams=setting.streams,
        compute_units=setting.compute_units,  # type: ignore[arg-type]
    )
    model = select_executor(setting.executor).load(Path(setting.package), options)
    requests = [model.request() for _ in range(setting.streams)]
    for batch in batches:
        yield batch, _speed(model, requests, batch, seconds)
    model.close()


def _speed(
    model: CompiledModel, requests: Sequence[InferRequest], batch: int, seconds: float
) -> float:
    """Items per second of all requests, each run again and again by a thread of its own."""
    feeds = [_noise(model, batch, seed) for seed in range(len(requests))]
    for request, feed in zip(requests, feeds, strict=True):
        request.run(feed)  # kernels and buffers for this shape are made in the first run
    deadline = time.perf_counter() + seconds

    def stream(request: InferRequest, feed: dict[str, Array]) -> float:
        durations: list[float] = []
        while not durations or time.perf_counter() < deadline:
            began = time.perf_counter()
            request.run(feed)
            durations.append(time.perf_counter() - began)
        return batch / float(np.quantile(durations, _TYPICAL))

    with ThreadPoolExecutor(len(requests)) as threads:
        return sum(threads.map(stream, requests, feeds))


def _noise(model: CompiledModel, batch: int, seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    return {
        spec.name: generator.standard_normal(
            (batch, *(size or 1 for size in spec.shape[1:]))
        ).astype(spec.dtype)
        for spec in model.inputs
    }


def _serve() -> None:
    asked = json.loads(sys.stdin.read())
    # Whatever a runtime prints goes to stderr: stdout holds answers only.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            for batch, speed in measure(ProbeSetting(**asked["setting"]), asked["batches"]):
                answers.write(json.dumps({"batch": batch, "items_per_second": speed}) + "\n")
                answers.flush()
        except FluidAudioError as error:
            answers.write(json.dumps({"failure": str(error)}) + "\n")


if __name__ == "__main__":
    _serve()
