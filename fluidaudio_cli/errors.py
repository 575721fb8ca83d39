"""The errors users see: one line saying what, where, and what to do about it.

Exit codes are given at the command-line boundary only (``cli/process.py``); a library caller
catches these classes, or the standard class each of them also is.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any


class FluidAudioError(Exception):
    """Base of every error this package raises on purpose.

    ``message`` says what is wrong and where; ``remedy`` what to do. ``str()`` joins them on
    one line.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = " ".join(message.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.message}: {self.remedy}" if self.remedy else self.message)


class UsageError(FluidAudioError, ValueError):
    """An option or a configuration value that cannot be honoured (exit code 2)."""


class InputError(FluidAudioError, ValueError):
    """A file whose content cannot be used (exit code 3)."""


class AudioError(InputError):
    """Audio that is missing, empty, damaged, or not audio."""


class AnnotationError(InputError):
    """An RTTM, UEM or lab file that breaks its format, or does not fit its counterpart."""


class ModelFormatError(InputError):
    """A Core ML package that cannot be read or lowered."""


class HostError(FluidAudioError, RuntimeError):
    """This machine cannot do what was asked (exit code 4)."""


class ExecutorUnavailableError(HostError):
    """The executor, precision or compute unit asked for is not on this machine."""


class SelfTestError(HostError):
    """A model's numeric self-test failed on an executor; the figures are in the message."""


class DownloadError(HostError):
    """A download that could not be completed or does not match its hash."""


class GateError(FluidAudioError):
    """A performance gate failed (exit code 1)."""


_REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EFBIG: "allow larger files (ulimit -f), or choose another file system",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENOMEM: "lower --memory-limit or close other programs",
    errno.EIO: "check the disk",
}
OUT_OF_MEMORY = f"out of memory: {_REMEDIES[errno.ENOMEM]}"


@contextmanager
def os_errors(
    what: str,
    remedy: str = "",
    kind: type[FluidAudioError] = HostError,
    *also: type[Exception],
) -> Iterator[None]:
    """Raise an ``OSError`` of the block, or one of ``also``, as ``kind``: ``what``, and why.

    ``remedy``: unless the system's error has one of its own. A pipe that nobody reads stays a
    ``BrokenPipeError``.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except BrokenPipeError:
        raise
    except kinds as error:
        raise kind(f"{what}: {reason_of(error)}", remedy_of(error, remedy)) from error


@contextmanager
def named_errors(path: PathLike[str]) -> Iterator[None]:
    """Name ``path`` in an ``OSError`` of the block: of reading and writing the system does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        raise


def reason_of(error: BaseException) -> str:
    """Why, in the words of the system or of FFmpeg, without codes and file names."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def remedy_of(error: BaseException, otherwise: str = "") -> str:
    """What helps against ``error`` of the system; ``otherwise`` where that depends on its place."""
    number = getattr(error, "errno", None)
    if otherwise and number in (errno.ENOSPC, errno.EDQUOT):
        return otherwise
    return _REMEDIES.get(number or 0, otherwise)


def show_warning(message: Warning | str, *_where: Any, **_more: Any) -> None:
    """For ``warnings.showwarning``: one line, without the source that raised it."""
    with suppress(OSError):
        sys.stderr.write(f"warning: {' '.join(str(message).split())}\n")
