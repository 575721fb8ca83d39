"""Shared by the benchmark's tests: a tiny dataset, a plan, and a worker command with a stub."""

from __future__ import annotations

import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluidaudio_cli.benchmark.accuracy import assess
from fluidaudio_cli.benchmark.results import BenchmarkResult, DatasetRecord, PlanRecord
from fluidaudio_cli.benchmark.runner import BenchmarkRun, Hooks
from fluidaudio_cli.benchmark.workers import WorkerCommand

STUB = Path(__file__).with_name("stub_worker.py")


@dataclass(frozen=True)
class TinyItem:
    uri: str
    audio: Path
    reference: Path
    uem: Path | None = None


def tiny_dataset(folder: Path, *uris: str) -> tuple[TinyItem, ...]:
    """Ten seconds of silence per uri, in whose reference A speaks 0–4 s and B 4–10 s."""
    items = []
    for uri in uris:
        audio, reference = folder / f"{uri}.wav", folder / f"{uri}.rttm"
        with wave.open(str(audio), "wb") as stream:
            stream.setparams((1, 2, 16_000, 0, "NONE", ""))
            stream.writeframes(b"\1\0" * 160_000)
        reference.write_text(
            f"SPEAKER {uri} 1 0.0 4.0 <NA> <NA> x <NA> <NA>\n"
            f"SPEAKER {uri} 1 4.0 6.0 <NA> <NA> y <NA> <NA>\n"
        )
        items.append(TinyItem(uri, audio, reference))
    return tuple(items)


def plan(**changes: Any) -> PlanRecord:
    """A plan of two iterations of one mode."""
    defaults: dict[str, Any] = {
        "modes": ("fast",),
        "executors": ("auto",),
        "precisions": ("auto",),
        "iterations": 2,
        "warmup": 1,
        "latency_windows": 4,
        "seed": 0,
        "threads": None,
        "compute_units": "all",
        "measure_memory": False,
        "measure_power": False,
    }
    return PlanRecord(**{**defaults, **changes})


def stub_command(cache: Path, **variables: str) -> WorkerCommand:
    """A worker process whose pipeline is the stand-in."""
    env = {"FLUIDAUDIO_CACHE_DIR": str(cache), **variables}
    return WorkerCommand((sys.executable, str(STUB)), env=env)


def stub_run(
    folder: Path,
    *,
    uris: tuple[str, ...] = ("one",),
    previous: BenchmarkResult | None = None,
    save: Callable[[BenchmarkResult], None] = lambda result: None,
    warn: Callable[[str], None] = lambda line: None,
    variables: dict[str, str] | None = None,
    **plan_changes: Any,
) -> BenchmarkRun:
    """A benchmark of the stand-in over ``uris``."""
    items = tiny_dataset(folder, *uris)
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    for mode in plan(**plan_changes).modes:
        (cache / f"{mode}.compiled").touch()  # the user's cache is filled: one load, not two
    return BenchmarkRun(
        plan=plan(**plan_changes),
        dataset=DatasetRecord(name="tiny", fingerprint="f", uris=uris),
        items=items,
        assess=assess,
        hooks=Hooks(save=save, warn=warn),
        command=stub_command(cache, **(variables or {})),
        previous=previous,
    )
