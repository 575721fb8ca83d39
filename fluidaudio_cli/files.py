"""Outputs that are whole or absent: written beside their target, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fluidaudio_cli.errors import HostError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary sibling of ``target`` that replaces it when the block ends without error.

    Works for a file or a directory; a device or a pipe (``/dev/null``) is written directly.
    Raises ``HostError`` when the place cannot be written (missing permission, disk full);
    ``target`` is then as it was.
    """
    if target.exists() and not (target.is_file() or target.is_dir()):
        try:
            yield target
        except OSError as error:
            raise _cannot_write(target, error) from error
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        draft = scratch / target.name
        yield draft
        if draft.is_dir() and target.is_dir():
            target.replace(scratch / "previous")
        draft.replace(target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text_atomic(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, whole or not at all."""
    with atomic_path(target) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def _cannot_write(target: Path, error: OSError) -> HostError:
    reason = error.strerror or str(error)
    return HostError(f"cannot write {target}: {reason}", "free space or choose another --output")
