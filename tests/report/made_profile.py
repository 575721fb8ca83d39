"""A profile with known figures, for tests of what is made of one."""

from __future__ import annotations

import dataclasses
from typing import Any

from fluidaudio_cli.diarization.clock import Span
from fluidaudio_cli.measure.environment import Environment, Machine
from fluidaudio_cli.profiling.clock import Call
from fluidaudio_cli.profiling.records import (
    Bottleneck,
    Concurrency,
    ErrorSpan,
    KindProfile,
    LayerError,
    LayerProfile,
    ModelPlan,
    ModelProfile,
    PassCost,
    PrecisionDer,
    PrecisionProfile,
    PrecisionReport,
    Profile,
    StageProfile,
    ThreadProfile,
    Timeline,
    Unavailable,
)
from fluidaudio_cli.turns import Turn

STARTED = 1000.0


def call(stage: str, start: float, end: float, thread: str = "worker-0", items: int = 1) -> Call:
    """A call from ``start`` to ``end`` seconds after the run began, half of it on a processor."""
    span = Span(stage, STARTED + start, STARTED + end, thread, items)
    return Call(span, (end - start) / 2, end - start, 100_000_000, 101_000_000)


CALLS = (
    call("decode", 0.0, 0.1, "decode", 160_000),
    call("segmentation", 0.1, 0.5, "worker-0", 4),
    call("segmentation", 0.2, 0.6, "worker-1", 4),
    call("collect", 0.6, 0.7, "worker-1", 4),
    call("clustering", 0.7, 0.8, "MainThread", 8),
)


def stage(name: str, wall: float, share: float) -> StageProfile:
    return StageProfile(
        name=name,
        wall_seconds=wall,
        cpu_seconds=Unavailable("made <b>up</b>"),
        share=share,
        calls=2,
        call_seconds=(0.1, 0.2, 0.3),
        items=8,
        bytes_in=640_000,
        bytes_out=Unavailable("not counted"),
        copied_bytes=0,
        allocated_bytes=1_000,
        rss_delta_bytes=2_000_000,
        rtfx=12.5,
        waiting=False,
    )


def layer(name: str, seconds: float) -> LayerProfile:
    return LayerProfile(
        "segmentation", name, "lstm", ("LSTM (cpu)",), 2, seconds, seconds, 10**9, 10**6
    )


def made_profile(**changes: Any) -> Profile:
    """Ten seconds of audio in 0.8 s, of which segmentation took half."""
    error = LayerError("norm_1", "instance_norm", 0.5, 0.1, 0.02, 0.02, 1, 2, 3, 100)
    made = Profile(
        version="0.1.0",
        created="2026-01-02T03:04:05+00:00",
        uri="meeting <1>",
        path="meeting.wav",
        audio_seconds=10.0,
        mode="balanced",
        plan={"models": "bundled"},
        executors={},
        environment=Environment(
            machine=Machine("Made-up CPU", 2, 2, 8_000_000_000, "Linux", "x86_64"),
            system_release="Linux-6",
            python="3.11",
            packages={},
            git_commit=None,
            git_dirty=None,
            source="",
            load_average=None,
            thread_settings={},
        ),
        load_seconds=0.3,
        load_cached=True,
        processing_seconds=0.8,
        cpu_seconds=1.2,
        started=STARTED,
        windows=8,
        crops=3,
        copied_bytes=100,
        stages=(stage("decode", 0.1, 0.1), stage("segmentation", 0.8, 0.8)),
        concurrency=Concurrency(True, (ThreadProfile("worker-0", 0.4, 0.0, 0.4),), (0.0, 0.5, 0.3)),
        bottleneck=Bottleneck("segmentation", 0.8, "compute", "its operators reach 90 %"),
        costs=(PassCost("stage clock", 0.80, 0.81, 1.0125, 5),),
        models=(
            ModelProfile(
                "segmentation",
                "openvino",
                "bf16",
                (layer("lstm_1", 0.6), layer("lstm_2", 0.4)),
                (KindProfile("segmentation", "lstm", 2, 1.0, 1.0, 2 * 10**9, 2 * 10**6),),
                1.0,
                Unavailable("not measured"),
                "OpenVINO's performance counters",
            ),
        ),
        plans=(ModelPlan("segmentation", Unavailable("needs macOS")),),
        memory_curve=((0.0, 100_000_000), (0.4, 140_000_000), (0.8, 120_000_000)),
        peak_rss_bytes=140_000_000,
        baseline_rss_bytes=100_000_000,
        calls=CALLS,
        queues={"free buffers": ((0.0, 4), (0.1, 3))},
        timeline=Timeline(
            (Turn(0.0, 4.0, "A"), Turn(4.0, 9.0, "B")),
            (Turn(0.0, 5.0, "A"), Turn(5.0, 10.0, "B")),
            (ErrorSpan(4.0, 5.0, "confusion"), ErrorSpan(9.0, 10.0, "missed")),
            0.2,
        ),
        precision=PrecisionReport(
            (
                PrecisionProfile(
                    "segmentation", "fp16", (error, error), "norm_1", "flipped frames", 0.01, 0.02
                ),
            ),
            (PrecisionDer("fp16", "openvino", 0.21, 0.01, "against the reference"),),
            "two windows",
        ),
        notes=("a note",),
    )
    return dataclasses.replace(made, **changes)
