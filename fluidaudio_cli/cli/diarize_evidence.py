"""Evidence files on the command line: where they go, and what they are made to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluidaudio_cli.audio.folders import files_below, is_folder, uris_by_place
from fluidaudio_cli.cli import option_rules
from fluidaudio_cli.errors import InputError, UsageError
from fluidaudio_cli.files import check_folder
from fluidaudio_cli.recordings import STDIN, Place, is_audio_name

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.saved_evidence import SavedEvidence

_SUFFIX = ".npz"


def evidence_among(ctx: Any, files: Sequence[Place]) -> dict[Place, str]:
    """Files of evidence given in place of recordings, with their names; empty for recordings.

    A folder stands for the ``.npz`` in it where it has no audio. Raises ``UsageError`` where both
    kinds are given, and where options of ``ctx`` say how recordings are heard.
    """
    found: list[Path] = []
    other: Place | None = None
    for place in files:
        inside = _evidence_of(place)
        found += inside
        other = other if inside else place
    if found and other is not None:
        raise UsageError(f"{found[0]} is evidence and {other} is not", "diarize them apart")
    if found and (vain := option_rules.given(ctx, option_rules.HEARING)):
        raise UsageError(
            f"{found[0]} is evidence, of what was heard before", f"leave out {', '.join(vain)}"
        )
    if len(found) == 1:
        from fluidaudio_cli.diarization.saved_evidence import read_evidence

        return {found[0]: read_evidence(found[0]).audio.uri}
    return uris_by_place(found)


def _evidence_of(place: Place) -> list[Path]:
    if is_folder(place):
        has_audio = next(files_below(place, is_audio_name), None) is not None
        return [] if has_audio else list(files_below(place, _is_evidence))
    return [place] if isinstance(place, Path) and _is_evidence(place) else []


def _is_evidence(path: Path) -> bool:
    return path.suffix.lower() == _SUFFIX


def read_alike(files: Mapping[Place, str]) -> Iterator[SavedEvidence | InputError]:
    """Each of several files of evidence, or why it cannot be used beside those before it."""
    from fluidaudio_cli.diarization.saved_evidence import read_evidence

    made: tuple[object, object] | None = None
    for path, uri in files.items():
        assert isinstance(path, Path)
        try:
            saved = read_evidence(path)
        except InputError as error:
            yield error
            continue
        saved = replace(saved, audio=replace(saved.audio, uri=uri))
        how = {model.name: model.comparable for model in saved.models}, saved.plan.mode
        made = made or how
        if how != made:
            yield InputError(
                f"{path} was made by other networks, or in another mode, than those before it",
                "diarize the two kinds apart",
            )
            continue
        yield saved


def check_evidence_target(path: Path | None, recordings: int) -> None:
    """Make sure that ``--save-evidence`` can be met, before the work."""
    if path is None:
        return
    if _is_evidence(path):
        if recordings > 1:
            raise UsageError(
                f"--save-evidence {path} holds one recording, not {recordings}",
                "give a folder, which gets one file for each",
            )
        folder = path.parent
    elif path == STDIN or ((path.exists() or path.suffix) and not path.is_dir()):
        raise UsageError(
            f"--save-evidence {path} is neither a folder nor ends in {_SUFFIX}",
            f"give NAME{_SUFFIX} or a folder",
        )
    else:
        folder = path
    check_folder(folder, "choose another --save-evidence")


def evidence_path(path: Path, uri: str) -> Path:
    """The file of the recording ``uri``."""
    return path if _is_evidence(path) else path / f"{uri}{_SUFFIX}"
