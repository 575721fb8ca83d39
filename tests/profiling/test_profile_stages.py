"""Figures per stage and thread, from calls with known times."""

from __future__ import annotations

import pytest

from fluidaudio_cli.diarization.clock import Span
from fluidaudio_cli.executors.base import TensorSpec
from fluidaudio_cli.profiling.clock import Call, ProfilingClock
from fluidaudio_cli.profiling.records import Unavailable
from fluidaudio_cli.profiling.stages import (
    busiest_while_idle,
    concurrency,
    is_waiting,
    network_traffic,
    parallel_seconds,
    stage_profiles,
)


def call(stage: str, start: float, end: float, thread: str = "worker-0", items: int = 1) -> Call:
    return Call(Span(stage, start, end, thread, items), (end - start) / 2, 0.0, 100, 120)


CALLS = (
    call("decode", 10.0, 11.0, "decode", 16_000),
    call("wait for a free buffer", 11.0, 14.0, "decode"),
    call("segmentation", 11.0, 13.0, "worker-0", 8),
    call("segmentation", 12.0, 16.0, "worker-1", 8),
    call("clustering", 16.0, 17.0, "MainThread", 16),
)


def test_stage_profiles_by_hand() -> None:
    rows = {
        row.name: row
        for row in stage_profiles(
            CALLS,
            80.0,
            {"segmentation": (640, 80, 0)},
            {"segmentation": 7},
            lambda name, own: sum(each.thread_cpu for each in own),
            [(9.0, 999), (12.5, 160), (16.5, 130), (18.0, 999)],
            baseline_rss=100,
        )
    }
    seg = rows["segmentation"]
    assert (seg.wall_seconds, seg.calls, seg.items, seg.cpu_seconds) == (6.0, 2, 16, 3.0)
    # Busy without waiting: 1 + 2 + 4 + 1 s.
    assert seg.share == pytest.approx(6 / 8)
    assert seg.call_seconds == pytest.approx((3.0, 3.8, 3.98))
    assert seg.rtfx == pytest.approx(80 / 6)
    assert (seg.bytes_in, seg.bytes_out, seg.allocated_bytes) == (640, 80, 7)
    # The sampler's readings before and after the run do not count.
    assert seg.rss_delta_bytes == 60
    assert rows["clustering"].rss_delta_bytes == 30
    assert rows["decode"].rss_delta_bytes == 20
    wait = rows["wait for a free buffer"]
    assert (wait.waiting, wait.share, wait.wall_seconds) == (True, 0.0, 3.0)
    assert isinstance(rows["clustering"].bytes_in, Unavailable)
    assert list(rows) == ["decode", "wait for a free buffer", "segmentation", "clustering"]


def test_stages_at_work_at_once() -> None:
    working = [each for each in CALLS if not is_waiting(each.span.stage)]
    # 10-11 decode, 11-12 one, 12-13 two, 13-17 one, then nothing for 1 s.
    assert parallel_seconds(working, 10.0, 18.0) == pytest.approx((1.0, 6.0, 1.0))
    # Cut to a part of the run.
    assert parallel_seconds(working, 12.5, 13.5) == pytest.approx((0.0, 0.5, 0.5))
    assert parallel_seconds([], 0.0, 2.0) == (2.0,)


def test_threads_busy_waiting_idle() -> None:
    side = concurrency(CALLS, 10.0, 8.0, overlapped=True)
    rows = {row.name: (row.busy_seconds, row.waiting_seconds, row.idle_seconds)
            for row in side.threads}  # fmt: skip
    assert rows["decode"] == (1.0, 3.0, 4.0)
    assert rows["worker-1"] == (4.0, 0.0, 4.0)
    assert side.mean_parallel == pytest.approx(8 / 7)
    assert side.overlap_share == pytest.approx(1 / 8)


def test_what_ran_while_workers_were_idle() -> None:
    # With both workers busy only from 12 to 13: segmentation alone for 4 s, decode 1, clustering 1.
    assert busiest_while_idle(CALLS, workers=2) == "segmentation"
    assert busiest_while_idle(CALLS[:1], workers=2) == "decode"
    assert busiest_while_idle((), workers=2) is None


def test_network_traffic_counts_rows_of_the_batch() -> None:
    class Model:
        inputs = (TensorSpec("audio", (None, 1, 100), "float32"),)
        outputs = (TensorSpec("scores", (None, 5, 7), "float16"),)

    assert network_traffic(Model(), 3) == (3 * 400, 3 * 70, 0)  # type: ignore[arg-type]


def test_profiling_clock_keeps_calls_beside_spans() -> None:
    clock = ProfilingClock()
    with clock.stage("decode", 3):
        clock.depth("free buffers", 2)
        busy = sum(range(100_000))
    assert busy > 0
    (one,) = clock.calls()
    (span,) = clock.spans()
    assert (one.span.stage, one.span.items, span.items) == ("decode", 3, 3)
    assert 0 < one.thread_cpu <= one.seconds * 1.5
    assert one.rss_after > 1_000_000
    assert [items for _, items in clock.queues()["free buffers"]] == [2]


def test_profiling_clock_keeps_a_call_that_failed() -> None:
    clock = ProfilingClock()
    with pytest.raises(ValueError, match="no"), clock.stage("decode"):
        raise ValueError("no")
    assert [each.span.stage for each in clock.calls()] == ["decode"]
