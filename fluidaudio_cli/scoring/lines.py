"""Lines of an annotation file, read strictly: every complaint names the file and the line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fluidaudio_cli.errors import AnnotationError, os_errors
from fluidaudio_cli.recordings import STDIN

# Python's float() also takes "nan", "1_000" and non-ASCII digits; an annotation may hold none.
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMMENT_MARKS = (";", "#")
_MAX_QUOTED = 80
_DECIMALS = 9
# 31 years; far more could not be told apart to the millisecond, or added up.
_MOST_SECONDS = 1e9


@dataclass(frozen=True)
class Line:
    """One line with content: its file, its number from 1, its text without surrounding blanks."""

    path: Path
    number: int
    text: str

    def fields(self, limit: int = -1) -> list[str]:
        """Fields separated by ASCII blanks only, so that a no-break space stays in a name."""
        return re.split(r"[ \t]+", self.text, maxsplit=max(limit - 1, 0))

    def refuse(self, reason: str, remedy: str = "correct or delete the line") -> NoReturn:
        """Raise ``AnnotationError`` naming file, line number and reason."""
        raise AnnotationError(f"{self.path}, line {self.number}: {reason}", remedy)

    def require_number(self, text: str, what: str, no_value: str) -> None:
        """Refuse ``text`` unless it is a decimal number or ``no_value``, in any case."""
        if text.upper() != no_value and not _DECIMAL.fullmatch(text):
            self.refuse(
                f"{what} is {quoted(text)}, not a number or {no_value}",
                "write names without blanks: each separates two fields",
            )

    def seconds(self, text: str, what: str) -> float:
        """A finite, non-negative decimal number of seconds, to the nanosecond."""
        if not _DECIMAL.fullmatch(text):
            self.refuse(f"{what} is {quoted(text)}, not a number of seconds like 12.345")
        value = float(text)
        if value < 0:
            self.refuse(f"{what} is {text}, and must not be negative")
        if value > _MOST_SECONDS:
            self.refuse(f"{what} is {quoted(text)}, which is longer than any recording")
        return abs(round(value, _DECIMALS))  # "-0.0" is zero

    def interval(self, start_text: str, end_text: str) -> tuple[float, float]:
        """Start and end in seconds, the end after the start."""
        start, end = self.seconds(start_text, "the start"), self.seconds(end_text, "the end")
        if end <= start:
            self.refuse(f"ends at {end_text} s, not after its start at {start_text} s")
        return start, end


def content_lines(path: Path) -> Iterator[Line]:
    """Lines of a UTF-8 text file (a byte-order mark is dropped) but blanks and comments.

    Lines end with LF or CRLF; ``;`` (so ``;;`` too) and ``#`` begin a comment, as in md-eval.
    ``-`` is standard input. Raises ``AnnotationError`` when the file cannot be read or is not
    UTF-8 text.
    """
    with os_errors(f"cannot read {path}", "check the path", AnnotationError):
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise AnnotationError(
            f"{path}, line {number}: not UTF-8 text", "save the file in UTF-8"
        ) from error
    # Not str.splitlines(): it also splits at U+2028 and form feeds, which a name may hold.
    for number, raw in enumerate(text.split("\n"), start=1):
        line = Line(path, number, raw.strip(" \t\r"))
        if "\0" in raw:
            line.refuse("holds a NUL byte, so this is not a text file", "check the path")
        if line.text and not line.text.startswith(_COMMENT_MARKS):
            yield line


def quoted(text: str) -> str:
    """``text`` in quotes, shortened so that an error stays one readable line."""
    shown = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
    return f"'{shown}'"
