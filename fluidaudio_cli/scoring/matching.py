"""References and hypotheses from files or folders, paired by uri."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.scoring.extents import Extents
from fluidaudio_cli.scoring.lab import read_lab
from fluidaudio_cli.scoring.rttm import Rttm, parse_rttm
from fluidaudio_cli.scoring.uem import read_uem
from fluidaudio_cli.turns import Turn
from fluidaudio_cli.wording import listed

_LAB_SUFFIX = ".lab"
_ANNOTATION_SUFFIXES = (".rttm", _LAB_SUFFIX)
_UEM_SUFFIXES = (".uem",)


@dataclass(frozen=True)
class Pair:
    """One recording on both sides.

    ``uem`` is None when no UEM was given; ``no_score`` is what the reference excludes (NOSCORE).
    ``omitted``: the hypothesis has no line of it, so nobody speaks there.
    """

    uri: str
    reference: tuple[Turn, ...]
    hypothesis: tuple[Turn, ...]
    uem: Extents | None
    no_score: Extents = ()
    omitted: bool = False


def read_annotations(path: Path) -> Rttm:
    """Turns of a file (lab by its suffix, else RTTM) or of a folder's ``.rttm`` and ``.lab``.

    Raises ``AnnotationError`` for a folder without such files, and when two files speak of the
    same uri.
    """
    turns: dict[str, tuple[Turn, ...]] = {}
    no_score: dict[str, Extents] = {}
    notes: list[str] = []
    origin: dict[str, Path] = {}
    for file in annotation_files(path):
        is_lab = file.suffix.lower() == _LAB_SUFFIX
        found = Rttm(read_lab(file)) if is_lab else parse_rttm(file)
        _claim(origin, found.turns, file)
        turns.update(found.turns)
        no_score.update(found.no_score)
        notes.extend(found.notes)
    # Of a folder with a file for each recording, one that is missing was forgotten.
    return Rttm(turns, no_score, tuple(notes), may_omit=not path.is_dir())


def annotation_files(path: Path) -> list[Path]:
    """``path`` itself, or of a folder what :func:`read_annotations` reads."""
    return _files(path, _ANNOTATION_SUFFIXES)


def read_uems(path: Path) -> dict[str, Extents]:
    """Scored time per uri, of a file or of a folder's ``.uem``; a uri may be in one file only."""
    uems: dict[str, Extents] = {}
    origin: dict[str, Path] = {}
    for file in _files(path, _UEM_SUFFIXES):
        found = read_uem(file)
        _claim(origin, found, file)
        uems.update(found)
    return uems


def match_by_uri(
    reference: Rttm, hypothesis: Rttm, uems: Mapping[str, Extents] | None = None
) -> tuple[Pair, ...]:
    """Pair both sides by uri, in alphabetical order.

    A hypothesis file need not mention a recording in which it found nobody (``Rttm.may_omit``),
    as long as it fits the reference at all: it has no turns, or shares a recording. Raises
    ``AnnotationError`` when a uri is on one side only otherwise, or absent from ``uems``. A UEM
    may cover more recordings than are scored.
    """
    answered = {uri for uri, turns in hypothesis.turns.items() if turns or uri in reference.turns}
    fits = not answered or not answered.isdisjoint(reference.turns)
    omitted = set(reference.turns) - answered if hypothesis.may_omit and fits else set()
    _same_uris(reference.turns, omitted | (answered if omitted else set(hypothesis.turns)))
    pairs: list[Pair] = []
    for uri in sorted(reference.turns):
        uem = None
        if uems is not None:
            if uri not in uems:
                raise AnnotationError(
                    f"the UEM does not mention '{uri}'", "add its scored time, or score without UEM"
                )
            uem = uems[uri]
        no_score = reference.no_score.get(uri, ())
        found = hypothesis.turns.get(uri, ())
        pairs.append(Pair(uri, reference.turns[uri], found, uem, no_score, uri in omitted))
    return tuple(pairs)


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(
        file for file in path.iterdir() if file.suffix.lower() in suffixes and not file.is_dir()
    )
    if not files:
        raise AnnotationError(
            f"folder {path} has no {' or '.join(suffixes)} file", "check the path"
        )
    return files


def _claim(origin: dict[str, Path], uris: Iterable[str], file: Path) -> None:
    for uri in uris:
        if uri in origin:
            raise AnnotationError(
                f"'{uri}' is in both {origin[uri]} and {file}", "keep one of the two"
            )
        origin[uri] = file


def _same_uris(reference: Iterable[str], hypothesis: Iterable[str]) -> None:
    left, right = set(reference), set(hypothesis)
    complaints = [
        f"in the {side} only: {listed(sorted(only))}"
        for side, only in (("reference", left - right), ("hypothesis", right - left))
        if only
    ]
    if complaints:
        raise AnnotationError(
            f"reference and hypothesis are not of the same recordings ({'; '.join(complaints)})",
            "give both sides the same uris; a file's uri is its second RTTM field",
        )
