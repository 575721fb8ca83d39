"""Un-partitioned evaluation maps (UEM): which time of each recording is scored.

Format: NIST RT-09 evaluation plan: ``uri channel start end``, blank-separated, seconds.
"""

from __future__ import annotations

import re
from pathlib import Path

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.recordings import canonical_name
from fluidaudio_cli.scoring.extents import Extents, merge_extents
from fluidaudio_cli.scoring.lines import content_lines, quoted


def read_uem(path: Path) -> dict[str, Extents]:
    """Scored intervals per uri, sorted and merged.

    Raises ``AnnotationError`` naming path and line for a wrong number of fields, a time that
    is negative or no number, or an end not after its start; and for a file without intervals.
    """
    intervals: dict[str, list[tuple[float, float]]] = {}
    for line in content_lines(path):
        fields = line.fields()
        if len(fields) != 4:
            line.refuse(f"a UEM line is 'uri channel start end', and this has {len(fields)} fields")
        interval = line.interval(fields[2], fields[3])
        intervals.setdefault(canonical_name(fields[0]), []).append(interval)
    if not intervals:
        raise AnnotationError(f"{path} holds no intervals, so nothing would be scored", "fill it")
    return {uri: merge_extents(found) for uri, found in intervals.items()}


def format_uem(uri: str, extents: Extents) -> str:
    """UEM text of one recording, to the millisecond; white space in ``uri`` becomes ``_``."""
    name = re.sub(r"\s+", "_", uri.strip())
    if not name:
        raise AnnotationError(f"a recording is named {quoted(uri)}", "UEM needs a name")
    return "".join(f"{name} 1 {start:.3f} {end:.3f}\n" for start, end in merge_extents(extents))
