"""Measure one model on one executor with one setting, in a process of its own.

A runtime that crashes or hangs on a setting takes only this process with it. Run as
``python -m fluidaudio_cli.executors.probe`` with a :class:`ProbeSetting` as JSON on stdin; the
answer is one line of JSON on stdout. :func:`probe` does that and reads the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fluidaudio_cli.errors import FluidAudioError
from fluidaudio_cli.executors.base import Array, CompiledModel, ExecutorOptions, InferRequest
from fluidaudio_cli.executors.select import select_executor

# Long enough to see the steady state of a batch of some 50 ms, short enough to try many.
MEASURED_SECONDS = 0.6
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class ProbeSetting:
    """What to measure: ``streams`` requests at a time, each of ``batch`` items."""

    package: str
    executor: str
    precision: str
    threads: int
    streams: int
    batch: int
    compute_units: str = "all"


@dataclass(frozen=True)
class ProbeResult:
    """``items_per_second`` over all streams, or why there is none (``failure``)."""

    setting: ProbeSetting
    items_per_second: float | None
    failure: str = ""


def probe(setting: ProbeSetting, timeout: float = TIMEOUT_SECONDS) -> ProbeResult:
    """Measure ``setting`` in a subprocess; a crash or a hang is a result too."""
    command = [sys.executable, "-m", "fluidaudio_cli.executors.probe"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asdict(setting)),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ProbeResult(setting, None, f"no answer within {timeout:g} s")
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        detail = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return ProbeResult(setting, None, detail[0])
    answer = json.loads(lines[-1])
    return ProbeResult(setting, answer["items_per_second"], answer["failure"])


def measure(setting: ProbeSetting, seconds: float = MEASURED_SECONDS) -> float:
    """Items per second in this process, after one warm-up run of every request."""
    options = ExecutorOptions(
        precision=setting.precision,  # type: ignore[arg-type]
        threads=setting.threads,
        streams=setting.streams,
        compute_units=setting.compute_units,  # type: ignore[arg-type]
    )
    model = select_executor(setting.executor).load(Path(setting.package), options)
    requests = [model.request() for _ in range(setting.streams)]
    feeds = [_noise(model, setting.batch, seed) for seed in range(setting.streams)]
    _run_all(requests, feeds)
    rounds = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not rounds:
        _run_all(requests, feeds)
        rounds += 1
    elapsed = time.perf_counter() - started
    model.close()
    return rounds * setting.streams * setting.batch / elapsed


def _run_all(requests: list[InferRequest], feeds: list[dict[str, Array]]) -> None:
    for request, feed in zip(requests, feeds, strict=True):
        request.start(feed)
    for request in requests:
        request.wait()


def _noise(model: CompiledModel, batch: int, seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    return {
        spec.name: generator.standard_normal(
            (batch, *(size or 1 for size in spec.shape[1:]))
        ).astype(spec.dtype)
        for spec in model.inputs
    }


def _answer(text: str) -> str:
    setting = ProbeSetting(**json.loads(text))
    try:
        return json.dumps({"items_per_second": measure(setting), "failure": ""})
    except FluidAudioError as error:
        return json.dumps({"items_per_second": None, "failure": str(error)})


if __name__ == "__main__":
    sys.stdout.write(_answer(sys.stdin.read()) + "\n")
