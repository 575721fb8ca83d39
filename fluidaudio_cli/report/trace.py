"""A profile as a trace for Perfetto and Chrome: the JSON object form of the Trace Event Format.

Complete events (``X``) on one track per thread, and again on one track per stage and thread;
counters (``C``) for resident memory and for blocks of audio on their way; metadata (``M``) names
the tracks. Times are microseconds from the start of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from fluidaudio_cli.profiling.clock import Call
from fluidaudio_cli.profiling.records import Profile

Event = dict[str, Any]

# Tracks are grouped by "process"; ours are views of one process.
_THREADS, _STAGES = 1, 2
_MICROSECONDS = 1e6
# Each block is decoded once and collected once; in between it waits or is worked on.
_BLOCK_BEGINS, _BLOCK_ENDS = "decode", "collect"


def format_trace(profile: Profile) -> str:
    """The trace as JSON text, ending in a newline."""
    document = {
        "traceEvents": list(trace_events(profile)),
        "displayTimeUnit": "ms",
        "otherData": {
            "recording": profile.uri,
            "mode": profile.mode,
            "version": profile.version,
            "created": profile.created,
        },
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"


def trace_events(profile: Profile) -> Iterator[Event]:
    """All events; those of one track in order of time."""
    threads = list(dict.fromkeys(call.span.thread for call in profile.calls))
    stages = list(dict.fromkeys((call.span.stage, call.span.thread) for call in profile.calls))
    names = [f"{stage} · {thread}" for stage, thread in stages]
    yield _metadata("process_name", _THREADS, 0, name=f"{profile.uri}: threads")
    yield _metadata("process_name", _STAGES, 0, name=f"{profile.uri}: stages")
    for pid, tracks in ((_THREADS, threads), (_STAGES, names)):
        for tid, track in enumerate(tracks, start=1):
            yield _metadata("thread_name", pid, tid, name=track)
            yield _metadata("thread_sort_index", pid, tid, sort_index=tid)
    for call in profile.calls:
        thread_id = threads.index(call.span.thread) + 1
        stage_id = stages.index((call.span.stage, call.span.thread)) + 1
        yield _complete(call, profile.started, _THREADS, thread_id)
        yield _complete(call, profile.started, _STAGES, stage_id)
    for seconds, size in profile.memory_curve:
        yield _counter("resident memory", seconds, {"MB": size / 1e6})
    for seconds, count in blocks_under_way(profile.calls, profile.started):
        yield _counter("blocks decoded and not finished", seconds, {"blocks": count})
    for name, readings in profile.queues.items():
        for seconds, depth in readings:
            yield _counter(name, seconds, {"items": depth})


def blocks_under_way(calls: Sequence[Call], started: float) -> list[tuple[float, int]]:
    """(seconds, blocks) whenever a block comes from the decoder or is done with."""
    changes = sorted(
        [(call.span.end, 1) for call in calls if call.span.stage == _BLOCK_BEGINS]
        + [(call.span.end, -1) for call in calls if call.span.stage == _BLOCK_ENDS]
    )
    curve = [(0.0, 0)]
    for at, step in changes:
        # A decode that only met the end of the recording made no block: never below zero, and
        # such a decode is the last.
        curve.append((at - started, max(0, curve[-1][1] + step)))
    return curve


def _complete(call: Call, started: float, pid: int, tid: int) -> Event:
    return {
        "name": call.span.stage,
        "cat": "stage",
        "ph": "X",
        "ts": _time(call.span.start - started),
        "dur": _time(call.seconds),
        "pid": pid,
        "tid": tid,
        "args": {
            "items": call.span.items,
            "thread CPU ms": round(1e3 * call.thread_cpu, 3),
            "RSS MB": round(call.rss_after / 1e6, 3),
        },
    }


def _counter(name: str, seconds: float, values: dict[str, float]) -> Event:
    return {
        "name": name,
        "ph": "C",
        "ts": _time(max(0.0, seconds)),
        "pid": _THREADS,
        "tid": 0,
        "args": {key: round(value, 3) for key, value in values.items()},
    }


def _metadata(kind: str, pid: int, tid: int, **facts: Any) -> Event:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "ts": 0, "args": facts}


def _time(seconds: float) -> float:
    return round(seconds * _MICROSECONDS, 3)
