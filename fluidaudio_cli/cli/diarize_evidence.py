"""Evidence files on the command line of ``diarize``: where they go, and what they are made to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.recordings import Place

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.saved_evidence import SavedEvidence

_SUFFIX = ".npz"


def evidence_among(files: Sequence[Place]) -> SavedEvidence | None:
    """The evidence that was given in place of recordings; ``None`` for recordings.

    Raises ``InputError`` for a file that is not evidence.
    """
    found = [each for each in files if isinstance(each, Path) and each.suffix.lower() == _SUFFIX]
    if not found:
        return None
    if len(files) > 1:
        raise UsageError(
            f"{files[0]} and {len(files) - 1} more: a file of evidence stands alone",
            "give one .npz at a time",
        )
    from fluidaudio_cli.diarization.saved_evidence import read_evidence

    return read_evidence(found[0])


def check_evidence_target(path: Path | None, recordings: int) -> None:
    """Make sure that ``--save-evidence`` can be met, before the work."""
    if path is None:
        return
    if path.suffix.lower() == _SUFFIX:
        if recordings > 1:
            raise UsageError(
                f"--save-evidence {path} holds one recording, not {recordings}",
                "give a folder, which gets one file for each",
            )
        folder = path.parent
    else:
        if path.exists() and not path.is_dir():
            raise UsageError(
                f"--save-evidence {path} is neither a folder nor ends in {_SUFFIX}",
                f"give NAME{_SUFFIX} or a folder",
            )
        folder = path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"cannot write to {folder}: {error.strerror}", "choose another --save-evidence"
        ) from error
    if not os.access(folder, os.W_OK):
        raise HostError(f"cannot write to {folder}", "choose another --save-evidence")


def evidence_path(path: Path, uri: str) -> Path:
    """The file of the recording ``uri``."""
    return path if path.suffix.lower() == _SUFFIX else path / f"{uri}{_SUFFIX}"
