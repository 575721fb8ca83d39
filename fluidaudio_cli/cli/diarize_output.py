"""Where the results of ``fluidaudio diarize`` go, decided and tried before the long work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fluidaudio_cli.cli.report_output import STDOUT, chosen_format
from fluidaudio_cli.errors import HostError, UsageError, reason_of
from fluidaudio_cli.files import check_folder, resolved
from fluidaudio_cli.recordings import Place

Refused = dict[str, HostError]
"""Recordings, by uri, whose results cannot be written, and why."""


class Format(str, Enum):
    """How a diarization is written."""

    table = "table"
    rttm = "rttm"
    json = "json"
    csv = "csv"
    srt = "srt"
    vtt = "vtt"
    textgrid = "textgrid"
    audacity = "audacity"


EXTENSIONS: Mapping[Format, str] = {kind: f".{kind.value}" for kind in Format} | {
    Format.table: ".txt",
    Format.textgrid: ".TextGrid",
    Format.audacity: ".txt",
}
# .txt could be the table or Audacity's labels: not guessed.
_BY_SUFFIX = {ext.lower(): kind for kind, ext in EXTENSIONS.items() if ext != ".txt"}


@dataclass(frozen=True)
class Destination:
    """The format, and the file of each recording, or one file or stdout (``None``) for all."""

    format: Format
    folder: Path | None = None
    file: Path | None = None

    def check(self) -> None:
        """Make sure that its folder is there, and can be written to. Raises ``HostError``."""
        folder = self.folder or (self.file and self.file.parent)
        if folder is not None:
            check_folder(folder, "choose another --output or --output-dir")

    @property
    def on_stdout(self) -> bool:
        """Whether results go to stdout."""
        return self.folder is None and self.file is None

    def path_of(self, uri: str) -> Path | None:
        """Where the recording ``uri`` is written; ``None`` is stdout."""
        if self.folder is not None:
            return self.folder / f"{uri}{EXTENSIONS[self.format]}"
        return self.file


def choose_destination(
    wanted: Format | None, output: Path | None, output_dir: Path | None, recordings: int
) -> Destination:
    """The destination that the options mean.

    Raises ``UsageError`` where they contradict each other, leave the format open, or would put
    several recordings into one file that can hold only one.
    """
    if output_dir is not None:
        if output is not None:
            raise UsageError("--output and --output-dir exclude each other", "give one of them")
        return Destination(wanted or Format.rttm, folder=output_dir)
    file = None if output is None or output == STDOUT else output
    if file is None:
        # A program that reads wants turns, not a table.
        kind = wanted or (Format.table if sys.stdout.isatty() else Format.rttm)
    else:
        kind = chosen_format(wanted, file, _BY_SUFFIX, Format.rttm)
    if recordings > 1 and kind not in _FOR_SEVERAL:
        raise UsageError(
            f"{recordings} recordings do not fit into one {kind.value} output",
            "add --output-dir DIR, which gets one file for each",
        )
    return Destination(kind, file=file)


# RTTM names the recording in every line; a table names it in its title.
_FOR_SEVERAL = (Format.rttm, Format.table)


def check_targets(
    recordings: Iterable[tuple[Place, str]],
    paths_of: Iterable[Callable[[str], Path | None]],
    read_as: Callable[[Path], str],
) -> Refused:
    """Make sure that what is written of ``recordings`` can be, before it is computed.

    ``paths_of``: from a uri to its files, ``None`` for stdout. ``read_as``: what the command reads
    a file as, if it does. Returns those whose files cannot be written, and why. Raises that of the
    first if it is so with all, ``UsageError`` where what is read would be overwritten.
    """
    refused: Refused = {}
    written = 0
    for place, uri in recordings:
        for target in filter(None, (path_of(uri) for path_of in paths_of)):
            error = _name_error(target, place)
            if error is not None:
                refused.setdefault(uri, error)
            elif os.path.lexists(target) and (kind := read_as(resolved(target))):
                raise UsageError(f"{target} is {kind} itself", "choose another --output")
        written += uri not in refused
    if refused and not written:
        raise next(iter(refused.values()))
    return refused


def _name_error(target: Path, recording: Place) -> HostError | None:
    """Why no file can be called ``target``: a folder is, or the file system has no such names."""
    try:
        target.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, ValueError) as error:
        return HostError(
            f"cannot write the result of {recording}: {reason_of(error)}",
            "rename it, or write to stdout",
        )
    if target.is_dir():
        return HostError(f"cannot write to {target}: Is a directory", "choose another place")
    return None
