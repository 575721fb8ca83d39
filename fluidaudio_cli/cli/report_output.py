"""Where a report goes and in what form: table or JSON, on stdout or in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fluidaudio_cli.errors import UsageError, os_errors
from fluidaudio_cli.files import check_folder, resolved, write_text_atomic
from fluidaudio_cli.recordings import STDIN

if TYPE_CHECKING:
    from rich.console import Console

STDOUT = STDIN
FORMAT_NAMES = ("--format", "--output-format")
OUTPUT_NAMES = ("--output", "-o")


class ReportFormat(str, Enum):
    """How a report is written."""

    table = "table"
    json = "json"


FormatOption = Annotated[
    ReportFormat | None,
    typer.Option(*FORMAT_NAMES, help="Default: by the ending of --output, else table."),
]
OutputOption = Annotated[
    Path, typer.Option(*OUTPUT_NAMES, metavar="PATH|-", help="Where to write; - is stdout.")
]

_BY_SUFFIX = {".json": ReportFormat.json, ".txt": ReportFormat.table}
_Kind = TypeVar("_Kind")


def chosen_format(
    wanted: _Kind | None, output: Path, by_suffix: Mapping[str, _Kind], default: _Kind
) -> _Kind:
    """The format asked for, or that ``output`` ends in; ``default`` on stdout.

    Raises ``UsageError`` for a name that does not tell the format.
    """
    if wanted is not None:
        return wanted
    if output == STDOUT:
        return default
    try:
        return by_suffix[output.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"the name of --output {output} does not tell the format",
            f"add --format, or end it in {', '.join(sorted(by_suffix))}",
        ) from None


def check_ending(option: str, path: Path, endings: Collection[str]) -> None:
    """Refuse, before long work, a file whose name says that it is something else."""
    if path.suffix.lower() not in {ending.lower() for ending in endings}:
        raise UsageError(f"{option} {path} has no such ending", f"end it in {', '.join(endings)}")


def check_writable(option: str, path: Path) -> None:
    """Refuse, before long work, a file that cannot be written; its folder is made."""
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder", "give a file")
    with os_errors(f"cannot write {path}", f"choose another {option}"), suppress(FileNotFoundError):
        path.stat()
    place = resolved(path)
    if path == STDOUT or (place.exists() and not place.is_file()):  # a device or a pipe
        return
    check_folder(place.parent, f"choose another {option}", f"cannot write {path}")


def check_not_read(option: str, path: Path, read: Iterable[Path | None]) -> None:
    """Refuse, before long work, to write over what the command reads, or writes besides."""
    others = {resolved(each) for each in read if each is not None} - {resolved(STDOUT)}
    if resolved(path) in others:
        raise UsageError(
            f"{option} {path} is given for something else too", "write to another file"
        )


def check(output: Path, wanted: ReportFormat | None) -> None:
    """Refuse, before long work, a name that does not tell the format, or cannot be written."""
    chosen_format(wanted, output, _BY_SUFFIX, ReportFormat.table)
    check_writable("--output", output)


def write_report(
    output: Path,
    wanted: ReportFormat | None,
    document: Callable[[], Any] | Collection[Any],
    render: Callable[..., object],
    *shown: Any,
) -> None:
    """Write ``document``, or what it gives, as JSON, or what ``render`` prints of ``shown``."""
    chosen = chosen_format(wanted, output, _BY_SUFFIX, ReportFormat.table)
    if chosen is ReportFormat.json:
        content = document() if callable(document) else document
        write(output, json.dumps(_finite(content), indent=2, ensure_ascii=False) + "\n")
    else:
        write(output, lambda console: render(console, *shown))


def write(output: Path, content: str | Callable[[Console], object]) -> None:
    """Write a text, or what is printed: on a terminal with colours, in a file without."""
    if output == STDOUT:
        if isinstance(content, str):
            typer.echo(content, nl=False)
        else:
            from fluidaudio_cli.cli.render.console import stdout_console

            content(stdout_console())
        return
    if not isinstance(content, str):
        from fluidaudio_cli.cli.render.console import plain_text

        content = plain_text(content)
    write_text_atomic(output, content)


def _finite(value: Any) -> Any:
    """The document with null for each number that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
