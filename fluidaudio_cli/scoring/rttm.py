"""Rich Transcription Time Marked (RTTM) files, read strictly and written deterministically.

Format: NIST RT-09 evaluation plan, appendix A: ``type file channel start duration
orthography subtype speaker confidence [lookahead]``, blank-separated, seconds, ``<NA>`` for
what is not given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.recordings import canonical_name, uri_of
from fluidaudio_cli.scoring.extents import Extents, merge_extents
from fluidaudio_cli.scoring.lines import Line, content_lines, quoted
from fluidaudio_cli.turns import Turn, in_milliseconds, merge_self_overlap

_NO_VALUE = "<NA>"
_FIELD_COUNTS = (9, 10)  # the tenth, signal look-ahead time, came with RT-09
# 0.7 + 0.1 is a little less than 0.8, and a turn that starts at 0.8 should touch the one before.
_DECIMALS = 9
# Time that must not be scored, and types that say nothing about who speaks when.
_NO_SCORE_TYPES = frozenset({"NOSCORE", "NO_RT_METADATA"})
_WORD_TYPES = frozenset({"LEXEME", "NON-LEX", "FILLER", "EDIT", "IP", "SU", "CB", "A/P"})
_IGNORED_TYPES = _WORD_TYPES | {"SPKR-INFO", "SEGMENT", "NON-SPEECH"}


@dataclass(frozen=True)
class Rttm:
    """What one file says.

    ``turns``: per uri, each speaker's self-overlap merged, sorted by time. ``no_score``: per
    uri, time the file excludes from scoring (``NOSCORE``). ``notes``: oddities tolerated, one
    line each, for whoever shows the result. ``may_omit``: a recording in which nobody speaks may
    be missing, since an RTTM file of several has no line for it.
    """

    turns: dict[str, tuple[Turn, ...]]
    no_score: dict[str, Extents] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    may_omit: bool = False


def read_rttm(path: Path) -> dict[str, tuple[Turn, ...]]:
    """Turns per recording of ``path``: ``parse_rttm`` without the rest."""
    return parse_rttm(path).turns


def parse_rttm(path: Path) -> Rttm:
    """Read an RTTM file: UTF-8, LF or CRLF, comments (``;``, ``#``) and blank lines skipped.

    A speaker's overlapping or touching turns are merged. Zero-length turns are dropped and
    noted. A file without turns is the recording of its own name, in which nobody speaks; that
    is noted too. Types other than SPEAKER follow the specification: NOSCORE is kept apart,
    word-level and descriptive types are ignored.

    Raises ``AnnotationError`` naming path and line: unknown type, wrong number of fields, a
    time that is negative or no number, a missing name, a name with a blank (what follows it is no
    number), two channels under one uri.
    """
    spoken: dict[str, list[Turn]] = {}
    no_score: dict[str, list[tuple[float, float]]] = {}
    channels: dict[str, str] = {}
    notes: list[str] = []
    for line in content_lines(path):
        fields = line.fields()
        kind = fields[0]
        if kind in _IGNORED_TYPES:
            continue
        if kind != "SPEAKER" and kind not in _NO_SCORE_TYPES:
            line.refuse(f"{quoted(kind)} is not an RTTM type", "expected lines like SPEAKER uri 1…")
        if len(fields) not in _FIELD_COUNTS:
            line.refuse(f"{kind} needs 9 or 10 fields and has {len(fields)}")
        uri = _name(line, fields[1], "the recording's name")
        start = line.seconds(fields[3], "the start")
        duration = line.seconds(fields[4], "the duration")
        end = round(start + duration, _DECIMALS)
        if kind in _NO_SCORE_TYPES:
            no_score.setdefault(uri, []).append((start, end))
            continue
        speaker = _unescaped(_name(line, fields[7], "the speaker's name"))
        for number, text in enumerate(fields[8:], start=9):
            line.require_number(text, f"field {number} (behind the speaker {speaker})", _NO_VALUE)
        if channels.setdefault(uri, fields[2]) != fields[2]:
            line.refuse(
                f"{quoted(uri)} has turns on channel {fields[2]} after channel {channels[uri]}",
                "give each channel a uri of its own",
            )
        turns = spoken.setdefault(uri, [])
        if end <= start:
            notes.append(f"{path}, line {line.number}: dropped a turn of zero length")
            continue
        turns.append(Turn(start, end, speaker))
    if not spoken:
        uri = uri_of(path)
        spoken[uri] = []
        notes.append(f"{path} holds no turns: read as {quoted(uri)} with nobody speaking")
    return Rttm(
        turns={uri: tuple(sorted(merge_self_overlap(turns))) for uri, turns in spoken.items()},
        no_score={uri: merge_extents(zones) for uri, zones in no_score.items()},
        notes=tuple(notes),
        may_omit=True,
    )


def format_rttm(
    uri: str, turns: Iterable[Turn], confidence: Mapping[str, float] = MappingProxyType({})
) -> str:
    """RTTM text of one recording, sorted by time; the same turns give the same bytes.

    Times are rounded to the millisecond at both ends (so turns that touch still touch), and a
    turn that rounds to nothing is left out. RTTM fields are blank-separated: each run of white
    space in ``uri`` becomes ``_``, each blank in a speaker's name ``%20``, which
    :func:`parse_rttm` reads back. ``confidence``: of some speakers' names, 0 to 1. Raises
    ``AnnotationError`` for an empty name or a time RTTM cannot hold.
    """
    uri_field = _field(uri, "a recording")
    sure = {name: f"{value:.4f}" for name, value in confidence.items()}
    rows = [
        (start, end, _field(_escaped(name), "a speaker"), sure.get(name, _NO_VALUE))
        for start, end, name in in_milliseconds(turns)
    ]
    return "".join(
        f"SPEAKER {uri_field} 1 {_decimal(start_ms)} {_decimal(end_ms - start_ms)}"
        f" {_NO_VALUE} {_NO_VALUE} {name} {how_sure} {_NO_VALUE}\n"
        for start_ms, end_ms, name, how_sure in sorted(rows)
    )


def _name(line: Line, text: str, what: str) -> str:
    if text == _NO_VALUE:
        line.refuse(f"{what} is missing ({_NO_VALUE})")
    return canonical_name(text)


def _escaped(name: str) -> str:
    """White space as ``%20`` and the like, so that it comes back; ``%`` where it would mislead."""
    kept = _ESCAPE.sub(lambda found: f"%25{found[0][1:]}", name.strip())
    return re.sub(r"\s", lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), kept)


def _unescaped(field: str) -> str:
    if "%" not in field:
        return field
    found = re.sub(r"(?:%[0-9A-F]{2})+", _decoded, field)
    return canonical_name(found)


def _decoded(found: re.Match[str]) -> str:
    """What escapes stand for; only those of white space and ``%`` are ours."""
    text = bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "replace")
    return text if all(c.isspace() or c == "%" for c in text) else found[0]


_ESCAPE = re.compile(r"%(?=[0-9A-F]{2})[0-9A-F]{2}")


def _field(name: str, owner: str) -> str:
    joined = re.sub(r"\s+", "_", name.strip())
    if not joined or joined == _NO_VALUE:
        raise AnnotationError(f"{owner} is named {quoted(name)}", "RTTM needs a name")
    return joined


def _decimal(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
