"""Label files: ``start end label`` per line, in seconds, one recording per file.

Audacity exports the same with tabs; the recording is named by the file.
"""

from __future__ import annotations

from pathlib import Path

from fluidaudio_cli.recordings import canonical_name, uri_of
from fluidaudio_cli.scoring.lines import content_lines
from fluidaudio_cli.turns import Turn, merge_self_overlap


def read_lab(path: Path) -> dict[str, tuple[Turn, ...]]:
    """Turns of the one recording, named by ``uri_of``; self-overlap merged, sorted by time.

    The label is the rest of the line, blanks included. Raises ``AnnotationError`` naming path
    and line for a missing field, a time that is negative or no number, or an end not after
    its start.
    """
    turns: list[Turn] = []
    for line in content_lines(path):
        fields = line.fields(limit=3)
        if len(fields) != 3:
            line.refuse(f"a lab line is 'start end label', and this has {len(fields)} fields")
        turns.append(Turn(*line.interval(fields[0], fields[1]), canonical_name(fields[2])))
    return {uri_of(path): tuple(sorted(merge_self_overlap(turns)))}
