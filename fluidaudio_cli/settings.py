"""YAML files of settings as frozen dataclasses: unknown keys fail, every value knows its line.

Used for performance modes and model cards. Values are checked against the annotations of the
dataclass they become; a field without a default must be there.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fluidaudio_cli.errors import FluidAudioError, os_errors

if TYPE_CHECKING:
    from pydantic import ValidationError

_T = TypeVar("_T")
# What PyYAML raises for a value that is not of the type it looks like, a date of month 13 or an
# unknown `!!bool`, and for one nested too deep.
_UNREADABLE = (ValueError, LookupError, AttributeError, RecursionError)
# Below this no value is located: none is as deep, but an alias may hold itself.
_DEEPEST = 8
# A text as short cannot be nested so deep that libyaml's reader has no stack left, and crashes.
_SHALLOW_CHARACTERS = 10_000
_DEEPEST_NESTING = 1000


class Place(NamedTuple):
    """Where a value stands: its file and line, and the comment above it, which is its reason."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        """As in ``balanced.yaml:12``."""
        return f"{self.file}:{self.line}" if self.line else self.file


class Settings(NamedTuple):
    """The content of a file, and the place of each value by its dotted name."""

    content: dict[str, Any]
    places: dict[str, Place]


def read_yaml(path: Path, what: str, error: type[FluidAudioError]) -> Any:
    """The content of a YAML file, ``None`` of an empty one.

    Raises ``error`` for a file that cannot be read; ``what`` says there what it should be.
    """
    return _parsed(path, f"{what} ", error)[0]


def read_settings(path: Path, error: type[FluidAudioError]) -> Settings:
    """Read a YAML file whose outermost level is a mapping; ``error`` is raised for any other."""
    content, node, text = _parsed(path, "", error)
    if not isinstance(content, dict):
        raise error(f"{path}: the file holds no keys", "see the documentation for an example")
    places: dict[str, Place] = {}
    _locate(node, "", path, text.splitlines(), places, error)
    return Settings(content, places)


def build(kind: type[_T], content: Any, where: str, path: Path, error: type[FluidAudioError]) -> _T:
    """``content`` as a dataclass ``kind``; ``where`` is its dotted name in ``path``.

    Raises ``error`` with file, key and what was expected for an unknown or missing key, and for
    a value of another type.
    """
    _check_names(kind, content, where, path, error)
    prefix = f"{where}." if where else ""
    hints = get_type_hints(kind)
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        name = field.name
        if name in content:
            values[name] = _value(hints[name], content[name], f"{prefix}{name}", path, error)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise error(f"{path}: {prefix}{name} is missing", "add it")
    try:
        return kind(**values)
    except ValueError as problem:
        raise error(f"{path}: {prefix}{problem}", "correct it") from problem


def check_keys(
    kind: Any, content: Any, where: str, path: Path, error: type[FluidAudioError]
) -> None:
    """Refuse, in ``error``, what has no place in a ``kind`` and values of other types.

    Missing keys are not looked for.
    """
    _check_names(kind, content, where, path, error)
    prefix = f"{where}." if where else ""
    hints = get_type_hints(kind)
    for key, value in content.items():
        if is_dataclass(hints[key]):
            check_keys(hints[key], value, f"{prefix}{key}", path, error)
        else:
            _value(hints[key], value, f"{prefix}{key}", path, error)


def _check_names(
    kind: Any, content: Any, where: str, path: Path, error: type[FluidAudioError]
) -> None:
    known = {field.name for field in fields(kind)}
    if not isinstance(content, Mapping):
        name = where or "the file"
        raise error(f"{path}: {name} holds no keys", f"known: {', '.join(sorted(known))}")
    prefix = f"{where}." if where else ""
    for key in content:
        if key not in known:
            raise error(
                f"{path}: unknown key {prefix}{key}", f"known here: {', '.join(sorted(known))}"
            )


def _value(kind: Any, given: Any, where: str, path: Path, error: type[FluidAudioError]) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return given
    if is_dataclass(kind) and isinstance(kind, type):
        return build(kind, given, where, path, error)
    if origin in (Union, types.UnionType):
        if given is None and type(None) in parts:
            return None
        choices = [part for part in parts if part is not type(None)]
        fitting = next((part for part in choices if type(given) is part), choices[0])
        return _value(fitting, given, where, path, error)
    if origin is Literal:
        if any(given == part and type(given) is type(part) for part in parts):  # 1 is not true
            return given
        raise error(f"{path}: {where} is {given!r}", f"use {', '.join(map(spelt, parts))}")
    if origin is tuple and isinstance(given, list):
        return tuple(
            _value(parts[0], each, f"{where}[{number}]", path, error)
            for number, each in enumerate(given)
        )
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(given, dict):
        return {
            str(key): _value(parts[1], each, f"{where}.{key}", path, error)
            for key, each in given.items()
        }
    if kind is float and type(given) in (int, float):
        if not abs(given) <= sys.float_info.max:  # .nan is neither
            raise error(f"{path}: {where} is {given!r}", "give a number")
        return float(given)
    plain = origin or kind
    if not isinstance(given, plain) or isinstance(given, bool) != (plain is bool):
        name = {"tuple": "list", "Mapping": "keys and values"}.get(plain.__name__, plain.__name__)
        raise error(f"{path}: {where} is {given!r}", f"give a value of type {name}")
    return given


def spelt(value: object) -> str:
    """A plain value as a file has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flattened(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``, mappings merged key by key."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def _parsed(path: Path, what: str, error: type[FluidAudioError]) -> tuple[Any, Any, str]:
    """A YAML file's content, the node that was made of, and the text."""
    import yaml

    refused = f"cannot read {what}{path}", "check the file", error
    with os_errors(*refused, yaml.YAMLError, *_UNREADABLE):
        text = path.read_text(encoding="utf-8")
        # libyaml's parser where PyYAML was built with it: ten times as fast.
        kind = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        depth = 0
        for event in yaml.parse(text, kind) if len(text) > _SHALLOW_CHARACTERS else ():
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST_NESTING:
                raise ValueError(f"nested deeper than {_DEEPEST_NESTING} levels")
        loader = kind(text)
        try:
            node = loader.get_single_node()
            return None if node is None else loader.construct_document(node), node, text
        finally:
            loader.dispose()


def _locate(
    node: Any,
    prefix: str,
    path: Path,
    lines: list[str],
    places: dict[str, Place],
    error: type[FluidAudioError],
) -> None:
    if node.id != "mapping" or prefix.count(".") >= _DEEPEST:
        return
    seen: set[str] = set()
    for key, value in node.value:
        name = str(key.value)
        if name in seen:
            # YAML would keep the last silently.
            raise error(f"{path}:{key.start_mark.line + 1}: {prefix}{name} is there twice")
        seen.add(name)
        line = key.start_mark.line
        places[f"{prefix}{name}"] = Place(path.name, line + 1, _comment_above(lines, line))
        _locate(value, f"{prefix}{name}.", path, lines, places, error)


def _comment_above(lines: list[str], line: int) -> str:
    """The comment that ends on the line before ``line`` (counted from 0), on one line."""
    found: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].lstrip()[1:].strip())
    return " ".join(found)


def first_problem(error: ValidationError) -> str:
    """Where a document breaks its schema and how, on one line."""
    first, *rest = error.errors(include_url=False, include_context=False)
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{place}: {first['msg']}{more}"
