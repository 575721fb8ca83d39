"""The trace against the Trace Event Format's rules for the events it uses."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from made_profile import STARTED, call, made_profile

from fluidaudio_cli.report.trace import blocks_under_way, format_trace


@pytest.fixture(scope="module")
def trace() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(format_trace(made_profile()))
    return document


def of(trace: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def test_is_the_object_form(trace: dict[str, Any]) -> None:
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert trace["otherData"]["mode"] == "balanced"


def test_every_event_has_what_its_phase_requires(trace: dict[str, Any]) -> None:
    required = {
        "X": {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"},
        "C": {"name", "ph", "ts", "pid", "tid", "args"},
        "M": {"name", "ph", "ts", "pid", "tid", "args"},
    }
    for event in trace["traceEvents"]:
        assert set(event) == required[event["ph"]]
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0
        assert event.get("dur", 0) >= 0
    for event in of(trace, "C"):
        assert all(isinstance(value, (int, float)) for value in event["args"].values())


def test_metadata_names_every_track_once(trace: dict[str, Any]) -> None:
    named = [(e["pid"], e["tid"]) for e in of(trace, "M") if e["name"] == "thread_name"]
    used = {(e["pid"], e["tid"]) for e in of(trace, "X")}
    assert len(named) == len(set(named))
    assert set(named) == used
    names = {e["args"]["name"] for e in of(trace, "M") if e["name"] == "thread_name"}
    assert {"worker-1", "segmentation · worker-0", "segmentation · worker-1"} <= names
    groups = [e["args"]["name"] for e in of(trace, "M") if e["name"] == "process_name"]
    assert groups == ["meeting <1>: threads", "meeting <1>: stages"]


def test_events_of_a_track_do_not_overlap(trace: dict[str, Any]) -> None:
    # Viewers draw overlapping complete events of one track wrongly, unless they nest.
    tracks: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in of(trace, "X"):
        tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    for events in tracks.values():
        for first, second in itertools.pairwise(sorted(events, key=lambda e: e["ts"])):
            assert first["ts"] + first["dur"] <= second["ts"]


def test_times_are_microseconds_from_the_start(trace: dict[str, Any]) -> None:
    decode = [event for event in of(trace, "X") if event["name"] == "decode"]
    assert [(event["pid"], event["ts"], event["dur"]) for event in decode] == [
        (1, 0.0, 100_000.0),
        (2, 0.0, 100_000.0),
    ]
    assert decode[0]["args"] == {"items": 160_000, "thread CPU ms": 50.0, "RSS MB": 101.0}


def test_counters_are_memory_blocks_and_queues(trace: dict[str, Any]) -> None:
    counters: dict[str, list[tuple[float, dict[str, float]]]] = {}
    for event in of(trace, "C"):
        counters.setdefault(event["name"], []).append((event["ts"], event["args"]))
    assert counters["resident memory"][1] == (400_000.0, {"MB": 140.0})
    assert counters["free buffers"] == [(0.0, {"items": 4}), (100_000.0, {"items": 3})]
    assert counters["blocks decoded and not finished"] == [
        (0.0, {"blocks": 0}),
        (100_000.0, {"blocks": 1}),
        (700_000.0, {"blocks": 0}),
    ]


def test_a_decode_without_a_block_leaves_no_negative_count() -> None:
    calls = (call("collect", 0.1, 0.2), call("decode", 0.2, 0.3))
    assert [count for _, count in blocks_under_way(calls, STARTED)] == [0, 0, 1]
