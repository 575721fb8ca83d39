"""Any folder of audio and RTTM (and UEM) files as a corpus.

Files are matched by uri: that of the audio (``recordings.uri_of``), and the field of the RTTM
and UEM lines (NIST RT-09 formats), so one RTTM may hold many recordings. What has no
counterpart is an error: a recording silently left out changes the score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fluidaudio_cli.audio.folders import files_below
from fluidaudio_cli.errors import AnnotationError, InputError
from fluidaudio_cli.recordings import canonical_name, is_audio_name, uri_of
from fluidaudio_cli.scoring.lines import content_lines

# Index of the uri among a line's fields, by file suffix.
_URI_FIELD = {".rttm": 1, ".uem": 0}


@dataclass(frozen=True)
class DatasetItem:
    """One recording. ``reference`` and ``uem`` may hold other recordings too: select by ``uri``.

    ``uem`` is None where the corpus has none: the extent of the audio is scored then.
    ``duration`` is a hint in seconds, for progress and ordering; None while unknown.
    """

    uri: str
    audio: Path
    reference: Path
    uem: Path | None
    duration: float | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of this item."""
        both = (self.audio, self.reference)
        return both if self.uem is None else (*both, self.uem)


def scan_folder(folder: Path, *, partial: bool = False) -> tuple[DatasetItem, ...]:
    """The recordings below ``folder``, sorted by uri. Hidden files are not looked at.

    Of several annotations of a recording the one in its own folder counts: other references may
    lie in folders beside it.

    With ``partial``, recordings without a counterpart are left out; otherwise they are an error.

    Raises:
        InputError: No such folder, one in it that cannot be read, nothing usable in it, or one
            uri twice.
        AnnotationError: Audio without a reference, a reference or UEM without audio, a
            reference that holds no turn.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", "give a folder of audio and RTTM files")
    paths = sorted(files_below(folder, lambda _: True))
    audio = _unique(((uri_of(path), path) for path in paths if is_audio_name(path)), "audio")
    references = _by_uri(paths, ".rttm", audio)
    uems = _by_uri(paths, ".uem", audio)
    if not audio:
        raise InputError(f"no audio files in {folder}", "give a folder of audio and RTTM files")
    if not references:
        raise AnnotationError(f"no RTTM files in {folder}", "put URI.rttm beside the audio")
    if not partial:
        _check_pairs(audio, references, uems)
    items = tuple(
        DatasetItem(uri, audio[uri], references[uri], uems.get(uri))
        for uri in sorted(audio.keys() & references.keys())
    )
    if not items:
        raise AnnotationError(
            f"no audio in {folder} has a reference", "name the audio URI.wav as in the RTTM"
        )
    return items


def annotation_uris(path: Path) -> tuple[str, ...]:
    """The uris an RTTM or UEM file speaks of, in order of appearance.

    Only the uri is looked at here; ``scoring`` reads these files strictly. Raises
    ``AnnotationError`` for a file that is unreadable, not UTF-8, or of no recording.
    """
    index = _URI_FIELD[path.suffix.lower()]
    found: dict[str, None] = {}
    for line in content_lines(path):
        fields = line.fields()
        if len(fields) > index and (index == 0 or fields[0] == "SPEAKER"):
            found[canonical_name(fields[index])] = None
    if not found:
        raise AnnotationError(f"{path} holds no recording", "an empty reference cannot be scored")
    return tuple(found)


def _by_uri(paths: list[Path], suffix: str, audio: Mapping[str, Path]) -> dict[str, Path]:
    files = [path for path in paths if path.suffix.lower() == suffix]
    pairs = [(uri, path) for path in files for uri in annotation_uris(path)]
    beside = {uri for uri, path in pairs if uri in audio and path.parent == audio[uri].parent}
    return _unique(
        (
            (uri, path)
            for uri, path in pairs
            if uri not in beside or path.parent == audio[uri].parent
        ),
        suffix[1:],
    )


def _unique(pairs: Iterable[tuple[str, Path]], what: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for uri, path in pairs:
        if uri in found:
            raise InputError(f"two {what} files for {uri}: {found[uri]} and {path}", "remove one")
        found[uri] = path
    return found


def _check_pairs(
    audio: Mapping[str, Path], references: Mapping[str, Path], uems: Mapping[str, Path]
) -> None:
    for uri in sorted(audio.keys() - references.keys()):
        raise AnnotationError(f"{audio[uri]} has no reference", f"add an RTTM for uri {uri}")
    for annotated in (references, uems):
        for uri in sorted(annotated.keys() - audio.keys()):
            raise AnnotationError(
                f"{annotated[uri]} speaks of {uri}, of which there is no audio",
                "add the audio or remove the lines",
            )
