"""Shared by the benchmark's tests: a tiny dataset, a plan, and a worker command with a stub."""

from __future__ import annotations

import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fluidaudio_cli.benchmark.grid import (
    MODES,
    Cell,
    Condition,
    Effort,
    Grid,
    Program,
    Study,
    contrasts_over,
    crossed,
)
from fluidaudio_cli.benchmark.kept_result import Hooks, Settings, plan_record
from fluidaudio_cli.benchmark.results import (
    AccuracyRecord,
    BenchmarkResult,
    BudgetRecord,
    CellRecord,
    DatasetRecord,
    FileRecord,
    IterationSample,
    MemoryRecord,
    ModelRecord,
    PlanRecord,
    ProcessRecord,
    StageSample,
)
from fluidaudio_cli.benchmark.runner import BenchmarkRun
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.measure.environment import Environment, Machine
from fluidaudio_cli.scoring.records import (
    BoundaryScore,
    DiarizationErrorRate,
    JaccardErrorRate,
    OverlapError,
)

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


@dataclass(frozen=True)
class TinyRecordings:
    items: tuple[TinyItem, ...]
    name: str = "tiny"
    fingerprint: str = "f" * 64


DEFAULTS = Settings()
QUICK = Effort(processes=1, warmup=1, iterations=2, latency_windows=4, cold=True)


def stub_command(cache: Path, **variables: str) -> WorkerCommand:
    """A worker process whose pipeline is the stand-in."""
    env = {"FLUIDAUDIO_CACHE_DIR": str(cache), **variables}
    return WorkerCommand((sys.executable, str(STUB)), env=env)


def stub_grid(
    folder: Path,
    uris: tuple[str, ...] = ("one",),
    effort: Effort = QUICK,
    studies: tuple[Study, ...] | None = None,
    programs: tuple[Program, ...] = (),
    **levels: Any,
) -> Grid:
    """One study of the modes over tiny recordings, unless others are given."""
    cells = crossed(**{"mode": ("fast",), **levels})
    return Grid(
        studies or (Study(MODES, cells, effort),),
        {"": Condition("", TinyRecordings(tiny_dataset(folder, *uris)))},
        programs={program.name: program for program in programs},
    )


def stub_run(
    folder: Path,
    *,
    uris: tuple[str, ...] = ("one",),
    previous: BenchmarkResult | None = None,
    save: Callable[[BenchmarkResult], None] = lambda result: None,
    warn: Callable[[str], None] = lambda line: None,
    variables: dict[str, str] | None = None,
    settings: Settings = DEFAULTS,
    grid: Grid | None = None,
    **changes: Any,
) -> BenchmarkRun:
    """A benchmark of the stand-in over ``uris``; ``changes``: of effort or levels."""
    efforts = {name: changes.pop(name) for name in list(changes) if hasattr(QUICK, name)}
    grid = grid or stub_grid(folder, uris, replace(QUICK, **efforts), **changes)
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    for _, cell in grid.cells:
        (cache / f"{cell.mode}.compiled").touch()  # the cache is filled: one load, not two
    return BenchmarkRun(
        grid,
        settings,
        hooks=Hooks(save=save, warn=warn),
        command=stub_command(cache, **(variables or {})),
        previous=previous,
    )


def plan(*cells: Cell, settings: Settings = DEFAULTS, **study: Any) -> PlanRecord:
    """A plan of one study; by default each mode against the first."""
    values = {"contrasts": contrasts_over("mode", cells[0].mode, cells), **study}
    studies = (Study(values.pop("name", MODES), cells, QUICK, **values),)
    return plan_record(Grid(studies, {}), settings)


def file_record(
    uri: str = "one",
    walls: tuple[float, ...] = (1.0, 1.0),
    *,
    audio_seconds: float = 100.0,
    error_seconds: float = 10.0,
    peak: int | None = 50_000_000,
    latency: tuple[float, ...] = (0.010, 0.020, 0.030),
    oracle: DiarizationErrorRate | None = None,
) -> FileRecord:
    """A finished file: 50 s of reference speech, ``error_seconds`` of it confused."""
    stage = StageSample(name="segmentation", busy_seconds=0.5, calls=2)
    der = DiarizationErrorRate(
        missed_detection=0.0, false_alarm=0.0, confusion=error_seconds, total=50.0
    )
    return FileRecord(
        uri=uri,
        audio_seconds=audio_seconds,
        iterations=tuple(
            IterationSample(
                wall_seconds=wall,
                cpu_seconds=2 * wall,
                windows=10,
                overlapped=False,
                stages=(stage,),
            )
            for wall in walls
        ),
        latency_seconds=latency,
        accuracy=AccuracyRecord(
            strict=der,
            lenient=None,
            jer=JaccardErrorRate(speaker_error=0.5, speaker_count=2),
            speakers_found=2,
            speakers_true=2,
            boundary=BoundaryScore(offsets=(0.1, -0.3), reference=4, hypothesis=2),
            overlap=OverlapError(missed=0.0, false_alarm=0.0, total=0.0),
            budget=BudgetRecord(
                missed=0.0, false_alarm=0.0, overlap=0.0, confusion=error_seconds, oracle=oracle
            ),
            uem_source="audio",
        ),
        memory=None
        if peak is None
        else MemoryRecord(
            peak_rss_bytes=peak,
            peak_source="kernel",
            baseline_rss_bytes=30_000_000,
            period_seconds=0.01,
            curve=((0.0, 30_000_000), (0.01, peak)),
        ),
    )


def cell(
    mode: str = "fast",
    *files: FileRecord,
    model: str = "a",
    processes: tuple[tuple[FileRecord, ...], ...] = (),
    study: str = MODES,
    **levels: Any,
) -> CellRecord:
    """A cell with one process and one default file, unless others are given."""
    chosen = processes or (files or (file_record(),),)
    return CellRecord(
        cell=Cell(mode=mode, **levels),
        study=study,
        config={"step": 1.0},
        executors={
            "segmentation": {
                "asked": {"precision": "auto"},
                "ran": {"executor": "onnxruntime", "precision": "fp32"},
            }
        },
        models=(ModelRecord(name="segmentation", sha256=model * 64),),
        cold_seconds=2.0,
        processes=tuple(
            ProcessRecord(load_seconds=0.5, peak_rss_bytes=40_000_000, files=each)
            for each in chosen
        ),
    )


def walled(mode: str, *walls: float, **changes: Any) -> CellRecord:
    """A cell with a process of one iteration for each wall time."""
    return cell(mode, processes=tuple((file_record(walls=(wall,), **changes),) for wall in walls))


def result(*cells: CellRecord, **changes: Any) -> BenchmarkResult:
    """A complete result of a made-up machine."""
    chosen = cells or (cell(),)
    values: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0.1.0",
        "complete": True,
        "plan": plan(*(each.cell for each in chosen)),
        "datasets": {
            "": DatasetRecord(
                name="tiny",
                fingerprint="f" * 64,
                uris=tuple(record.uri for record in chosen[0].files),
            )
        },
        "environment": Environment(
            machine=Machine(
                cpu_model="Made-up CPU",
                logical_cores=2,
                usable_cores=2,
                memory_bytes=8_000_000_000,
                system="Linux",
                architecture="x86_64",
            ),
            system_release="Linux-6",
            python="3.11.7",
            packages={"numpy": "2.0.0"},
            git_commit="c" * 40,
            git_dirty=False,
            source="5" * 64,
            load_average=(0.1, 0.1, 0.1),
            thread_settings={},
        ),
        "power": "not asked for",
        "cells": chosen,
    }
    return BenchmarkResult(**{**values, **changes})
