"""Turns as text, in the formats that players, editors and annotation tools read.

Every format is a pure function of the same turns, uri and length. Times are rounded once, to the
millisecond at both ends, so that turns that touch still touch and all formats agree; a turn that
rounds to nothing is left out. The same turns in any order give the same text.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from fluidaudio_cli.scoring.rttm import format_rttm
from fluidaudio_cli.turns import Turn, in_milliseconds

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.result import Diarization

FormatFunction = Callable[[Sequence[Turn], str, float], str]
"""(turns, uri, length of the recording in seconds) to text ending in a newline, or empty."""

NO_SPEECH_TIER = "no speech"
"""Name of the one empty tier of a TextGrid without turns; Praat opens none without tiers."""


class _Cue(NamedTuple):
    start_ms: int
    end_ms: int
    speaker: str


def format_csv(turns: Sequence[Turn], uri: str, duration_seconds: float) -> str:
    """A header row, then ``uri,start,end,duration,speaker`` for each turn, in seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("uri", "start", "end", "duration", "speaker"))
    for start, end, speaker in _cues(turns):
        times = (f"{ms / 1000:.3f}" for ms in (start, end, end - start))
        # Python 3.10 refuses to write NUL, and no reader expects it.
        writer.writerow((uri, *times, speaker.replace("\0", "")))
    return text.getvalue()


def format_srt(turns: Sequence[Turn], uri: str, duration_seconds: float) -> str:
    """SubRip: numbered cues whose text is the speaker; empty without turns."""
    return "\n".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{speaker.replace('-->', '->')}\n"
        for number, (start, end, speaker) in enumerate(_cues(turns), start=1)
    )


def format_vtt(turns: Sequence[Turn], uri: str, duration_seconds: float) -> str:
    """WebVTT (W3C): cues in the speaker's voice span, their text the speaker."""
    cues = [
        f"\n{_clock(start, '.')} --> {_clock(end, '.')}\n<v {name}>{name}</v>\n"
        for start, end, name in ((s, e, _escape_vtt(speaker)) for s, e, speaker in _cues(turns))
    ]
    return "WEBVTT\n" + "".join(cues)


def format_praat(turns: Sequence[Turn], uri: str, duration_seconds: float) -> str:
    """Praat TextGrid: a tier per speaker, so that overlap is kept; each covers the recording."""
    cues = _cues(turns)
    tiers = {name: _joined(cues, name) for name in sorted({cue.speaker for cue in cues})}
    length_ms = max([1, math.ceil(duration_seconds * 1000), *(cue.end_ms for cue in cues)])
    return _textgrid(tiers or {NO_SPEECH_TIER: []}, length_ms)


def _textgrid(tiers: Mapping[str, list[_Cue]], length_ms: int) -> str:
    """The long text form (Praat manual, "TextGrid file formats"), from 0 to ``length_ms``."""
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {_praat_seconds(length_ms)}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, cues) in enumerate(tiers.items(), start=1):
        intervals = _without_gaps(cues, length_ms)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_praat_text(name)}",
            "        xmin = 0",
            f"        xmax = {_praat_seconds(length_ms)}",
            f"        intervals: size = {len(intervals)}",
        ]
        for index, interval in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {_praat_seconds(interval.start_ms)}",
                f"            xmax = {_praat_seconds(interval.end_ms)}",
                f"            text = {_praat_text(interval.speaker)}",
            ]
    return "\n".join(lines) + "\n"


def _without_gaps(cues: Sequence[_Cue], length_ms: int) -> list[_Cue]:
    """A tier's intervals, those without a name between its cues."""
    filled: list[_Cue] = []
    position = 0
    for cue in cues:
        if cue.start_ms > position:
            filled.append(_Cue(position, cue.start_ms, ""))
        filled.append(cue)
        position = cue.end_ms
    if length_ms > position:
        filled.append(_Cue(position, length_ms, ""))
    return filled


def _praat_seconds(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds}.{thousandths:03d}".rstrip("0").rstrip(".")


def _praat_text(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def format_audacity(turns: Sequence[Turn], uri: str, duration_seconds: float) -> str:
    """Audacity label track: start, end and speaker, tab-separated, in seconds."""
    return "".join(f"{s / 1000:.6f}\t{e / 1000:.6f}\t{speaker}\n" for s, e, speaker in _cues(turns))


FORMATS: Mapping[str, FormatFunction] = MappingProxyType(
    {
        "rttm": lambda turns, uri, duration_seconds: format_rttm(uri, turns),
        "csv": format_csv,
        "srt": format_srt,
        "vtt": format_vtt,
        "textgrid": format_praat,
        "audacity": format_audacity,
    }
)
"""Every text format of turns, by the name users give it."""


def turns_as(name: str, result: Diarization, turns: Sequence[Turn]) -> str:
    """``turns`` of a result in a format of :data:`FORMATS`; RTTM says how sure names are."""
    if name == "rttm":
        return format_rttm(result.uri, turns, result.name_probabilities)
    return FORMATS[name](turns, result.uri, result.duration_seconds)


def _cues(turns: Sequence[Turn]) -> list[_Cue]:
    """Turns in whole milliseconds, sorted, names on one line."""
    return sorted(
        _Cue(s, e, " ".join(name.split()) or "?") for s, e, name in in_milliseconds(turns)
    )


def _joined(cues: Sequence[_Cue], speaker: str) -> list[_Cue]:
    """The cues of one speaker, those that overlap made one: a tier cannot overlap itself."""
    joined: list[_Cue] = []
    for cue in cues:
        if cue.speaker != speaker:
            continue
        if joined and cue.start_ms < joined[-1].end_ms:
            last = joined.pop()
            joined.append(_Cue(last.start_ms, max(last.end_ms, cue.end_ms), speaker))
        else:
            joined.append(cue)
    return joined


def _clock(milliseconds: int, separator: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{separator}{thousandths:03d}"


def _escape_vtt(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
