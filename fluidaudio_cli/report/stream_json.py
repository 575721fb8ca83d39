"""A stream as JSON Lines ("fluidaudio.stream/1"): one event a line, described in docs/stream.md.

Times of sound (``time``, ``start``, ``end``, ``settled``) are seconds since its first sample, in
whole milliseconds; ``wall`` is seconds since the stream began.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fluidaudio_cli import __version__
from fluidaudio_cli.turns import Turn, speaking_seconds

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.stream import Step, StreamFigures

SCHEMA = "fluidaudio.stream/1"


def start_event(uri: str, latency: float, step: float, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The first event: what runs."""
    return {
        "event": "start",
        "schema": SCHEMA,
        "fluidaudio_version": __version__,
        "uri": uri,
        "latency": latency,
        "step": step,
        "plan": dict(plan),
    }


def step_event(step: Step, wall: float) -> dict[str, Any]:
    """What one step brought."""
    change = step.change
    return {
        "event": "turns",
        "time": _ms(step.seconds),
        "wall": _ms(wall),
        "settled": _ms(change.settled_seconds),
        "final": _turns(change.final),
        "revisions": [
            {"start": each.start, "end": each.end, "from": each.before, "to": each.after}
            for each in change.revisions
        ],
        "tentative": _turns(step.tentative),
        "speakers": list(step.speakers),
        "created": list(change.created),
        "confirmed": list(change.confirmed),
        "withdrawn": list(change.withdrawn),
        "computing": round(step.computing_seconds, 6),
    }


def state_event(kind: str, time: float, wall: float, text: str) -> dict[str, Any]:
    """``kind``: behind, caught-up, stalled or resumed; ``text`` says it in a sentence."""
    return {"event": kind, "time": _ms(time), "wall": _ms(wall), "text": text}


def summary_event(
    reason: str,
    seconds: float,
    wall: float,
    turns: Sequence[Turn],
    figures: StreamFigures,
    notes: Sequence[str],
) -> dict[str, Any]:
    """The last event. ``reason``: end, interrupted or error; ``turns``: as they stand."""
    spoken = speaking_seconds(turns)
    count = Counter(turn.speaker for turn in turns)
    computing = sum(figures.computing)
    return {
        "event": "summary",
        "reason": reason,
        "time": _ms(seconds),
        "wall": _ms(wall),
        "turns": len(turns),
        "speakers": [
            {"label": name, "speech_seconds": _ms(spoken[name]), "turns": count[name]}
            for name in sorted(spoken)
        ],
        "revisions": figures.revisions,
        "revised_seconds": _ms(figures.revised_seconds),
        "speakers_created": figures.created,
        "speakers_withdrawn": figures.withdrawn,
        "steps": len(figures.computing),
        "steps_left_out": figures.left_out,
        "steps_silent": figures.silent,
        "longest_wait": _ms(figures.longest_wait),
        "step_computing": {
            name: round(figures.percentile(share), 6)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        },
        "real_time_factor": round(computing / seconds, 6) if seconds else None,
        "notes": list(notes),
    }


def line(event: Mapping[str, Any]) -> str:
    """An event as it is written."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _turns(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    rounded = ((_ms(each.start), _ms(each.end), each.speaker) for each in turns)
    return [
        {"start": start, "end": end, "speaker": name} for start, end, name in rounded if end > start
    ]


def _ms(seconds: float) -> float:
    return round(seconds * 1000) / 1000
