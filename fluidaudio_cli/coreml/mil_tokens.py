"""Tokens of textual MIL (``model.mil`` in a compiled ``.mlmodelc``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fluidaudio_cli.errors import ModelFormatError

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<arrow>->)
  | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]*\.?[0-9a-fA-F]*(?:[pP][+-]?\d+)?
                    |(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?
                    |(?:inf|nan)\b))
  | (?P<name>[A-Za-z_@$][\w@$.]*)
  | (?P<mark>[()\[\]{}<>,;=?])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_END = ("end", "end of file", -1)


@dataclass(frozen=True)
class Source:
    """A MIL text and where it comes from, for messages that name file and line."""

    path: Path
    text: str

    def error(self, position: int, what: str) -> ModelFormatError:
        """An error at character ``position`` (-1: the end)."""
        before = self.text if position < 0 else self.text[:position]
        return ModelFormatError(f"{self.path}:{before.count(chr(10)) + 1}: {what}")


class Tokens:
    """Cursor over the tokens of a source; each is (class, text, position)."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._tokens = _tokenize(source)
        self._next = 0

    def peek(self) -> str:
        """Text of the next token, without taking it."""
        return self._token()[1]

    def position(self) -> int:
        """Where the next token stands."""
        return self._token()[2]

    def take(self) -> str:
        """Text of the next token, which must not be the end."""
        if self._next >= len(self._tokens):
            raise self.error("unexpected end of file")
        text = self._token()[1]
        self._next += 1
        return text

    def accept(self, text: str) -> bool:
        """Take the next token if it reads ``text``."""
        if self._token()[1] != text or self._token()[0] == "string":
            return False
        self._next += 1
        return True

    def expect(self, text: str) -> None:
        """Take the next token, which must read ``text``."""
        if not self.accept(text):
            raise self.error(f"expected '{text}', found {self._shown()}")

    def until(self, text: str) -> Iterator[None]:
        """One turn for each item of a list that ends with ``text``: takes it, and the commas."""
        while not self.accept(text):
            yield
            self.accept(",")

    def name(self) -> str:
        """Take an identifier."""
        return self._of("name", "a name")

    def string(self) -> str:
        """Take a string literal, its escapes resolved."""
        literal = self._of("string", "a string")[1:-1]
        return _ESCAPE.sub(_unescape, literal)

    def is_class(self, kind: str) -> bool:
        """Whether the next token is a ``name``, ``number``, ``string`` or ``mark``."""
        return self._token()[0] == kind

    def error(self, what: str) -> ModelFormatError:
        """An error at the next token."""
        return self.source.error(self._token()[2], what)

    def _of(self, kind: str, wanted: str) -> str:
        if self._token()[0] != kind:
            raise self.error(f"expected {wanted}, found {self._shown()}")
        return self.take()

    def _token(self) -> tuple[str, str, int]:
        return self._tokens[self._next] if self._next < len(self._tokens) else _END

    def _shown(self) -> str:
        kind, text, _ = self._token()
        return text if kind == "end" else f"'{text[:40]}'"


def _tokenize(source: Source) -> list[tuple[str, str, int]]:
    tokens = []
    position = 0
    while position < len(source.text):
        match = _TOKEN.match(source.text, position)
        if match is None:
            raise source.error(position, f"unexpected character {source.text[position]!r}")
        if match.lastgroup != "space":
            tokens.append((str(match.lastgroup), match.group(), position))
        position = match.end()
    return tokens


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if code[0] == "x" and len(code) == 3:
        return chr(int(code[1:], 16))
    if code in _ESCAPED:
        return _ESCAPED[code]
    return chr(int(code, 8)) if code[0] in "01234567" else code
