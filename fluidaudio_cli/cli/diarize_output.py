"""Where the results of ``fluidaudio diarize`` go, decided and tried before the long work."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fluidaudio_cli.cli.process import interrupts_held
from fluidaudio_cli.cli.report_output import chosen_format
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.files import write_text_atomic
from fluidaudio_cli.recordings import Place

STDOUT = Path("-")

Refused = dict[Place, HostError]
"""Recordings whose result cannot be written, and why."""


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


EXTENSIONS: Mapping[Format, str] = {
    Format.table: ".txt",
    Format.rttm: ".rttm",
    Format.json: ".json",
    Format.csv: ".csv",
    Format.srt: ".srt",
    Format.vtt: ".vtt",
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


def check_targets(destination: Destination, recordings: Mapping[Place, str]) -> Refused:
    """Make sure that the results can be written, before they are computed.

    Makes the folder. Returns those of several recordings whose result's name the file system
    does not take, and why. Raises ``HostError`` where nothing can be written, ``UsageError``
    where a recording would be overwritten by its own result.
    """
    folder = destination.folder or (destination.file and destination.file.parent)
    if folder is not None:
        check_folder(folder)
    sources = {path.resolve() for path in recordings if isinstance(path, Path)}
    refused = {}
    for path, uri in recordings.items():
        error = check_target(destination.path_of(uri), path, sources.__contains__)
        if error is not None:
            refused[path] = error
    if refused and len(refused) == len(recordings):
        raise next(iter(refused.values()))
    return refused


def check_folder(folder: Path) -> None:
    """Make ``folder``, and make sure that it can be written to. Raises ``HostError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as failure:
        raise _unwritable(folder, failure.strerror or str(failure)) from failure


def check_target(
    target: Path | None, recording: Place, is_recording: Callable[[Path], bool]
) -> HostError | None:
    """Why the file system does not take the name of a result; raises as :func:`check_targets`."""
    if target is None:
        return None
    error = _name_error(target, recording)
    if error is None:
        if is_recording(target.resolve()):
            raise UsageError(f"{target} is a recording itself", "choose another --output")
        if target.is_dir():
            raise _unwritable(target, "Is a directory")
    return error


def _name_error(target: Path, recording: Place) -> HostError | None:
    """Why no file can be called ``target``: a name too long, or not of this file system."""
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return HostError(
            f"cannot write the result of {recording}: {reason}", "rename it, or write to stdout"
        )
    return None


def _unwritable(place: Path, reason: str) -> HostError:
    return HostError(f"cannot write to {place}: {reason}", "choose another place for the result")


def write_stdout(text: str) -> None:
    """Write to stdout at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_file(target: Path, text: str) -> None:
    """Write ``target`` whole or not at all; Ctrl-C waits until nothing temporary is left."""
    with interrupts_held():
        write_text_atomic(target, text)
