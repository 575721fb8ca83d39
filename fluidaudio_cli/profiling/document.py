"""A profile as a JSON document, schema ``fluidaudio.profile/1``.

Keys are the fields of ``profiling/records.py``; a figure that is not available is the string
``unavailable: reason``. ``calls`` are relative to the start of the run.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from fluidaudio_cli.profiling.records import SCHEMA, Profile, Unavailable


def profile_document(profile: Profile) -> dict[str, Any]:
    """The profile in JSON's types."""
    document: dict[str, Any] = {"schema": SCHEMA}
    for field in dataclasses.fields(profile):
        if field.name not in ("calls", "started"):
            document[field.name] = _plain(getattr(profile, field.name))
    document["rtfx"] = profile.rtfx
    document["concurrency"]["mean_parallel"] = profile.concurrency.mean_parallel
    document["concurrency"]["overlap_share"] = profile.concurrency.overlap_share
    document["calls"] = [
        {
            "stage": call.span.stage,
            "thread": call.span.thread,
            "start": call.span.start - profile.started,
            "end": call.span.end - profile.started,
            "items": call.span.items,
            "thread_cpu": call.thread_cpu,
            "rss_after": call.rss_after,
        }
        for call in profile.calls
    ]
    return document


def format_json(profile: Profile) -> str:
    """The document as text, ending in a newline."""
    return json.dumps(profile_document(profile), indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Unavailable):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
