"""References given to ``fluidaudio diarize``: read before the long work, applied after it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.files import resolved
from fluidaudio_cli.wording import listed

if TYPE_CHECKING:
    from fluidaudio_cli.report.diarization_json import ScoredAgainst
    from fluidaudio_cli.scoring.extents import Extents
    from fluidaudio_cli.scoring.rttm import Rttm
    from fluidaudio_cli.turns import Turn


@dataclass(frozen=True)
class References:
    """The reference of each recording and, where a UEM was given, its scored time.

    ``files``: what was read, links followed.
    """

    path: Path
    annotations: Rttm
    uems: dict[str, Extents] | None
    names: dict[str, str]
    files: frozenset[Path]

    def score(self, uri: str, turns: Sequence[Turn], audio_seconds: float) -> ScoredAgainst:
        """Scores of the turns found in ``uri``, over its UEM or all of its audio.

        Raises ``AnnotationError`` when the reference has no speech in that time.
        """
        from fluidaudio_cli.report.diarization_json import ScoredAgainst
        from fluidaudio_cli.scoring.metrics import LENIENT, STRICT, score_conditions

        name = self.names[uri]
        extents = None if self.uems is None else self.uems[name]
        score = score_conditions(
            (STRICT, LENIENT),
            self.annotations.turns[name],
            turns,
            ((0.0, audio_seconds),) if extents is None else extents,
            uri=uri,
            uem_source="audio" if extents is None else "given",
            no_score=self.annotations.no_score.get(name, ()),
        )
        return ScoredAgainst(str(self.path), score)


def read_references(reference: Path, uem: Path | None, uris: Collection[str]) -> References:
    """Read the reference (RTTM or lab file, or a folder of them) for the recordings ``uris``.

    A file that speaks of one recording only is taken for the only recording there is, whatever
    name it has. Raises ``AnnotationError`` for a recording that reference or UEM lacks.
    """
    from fluidaudio_cli.scoring.matching import annotation_files, read_annotations, read_uems

    annotations = read_annotations(reference)
    names = _names(reference, annotations.turns, uris)
    uems = None
    if uem is not None:
        uems = read_uems(uem)
        missing = sorted(set(names.values()) - set(uems))
        if missing:
            raise AnnotationError(
                f"{uem} does not mention {listed(missing)}", "add its scored time, or leave it out"
            )
    files = [*annotation_files(reference), *([] if uem is None else [uem])]
    return References(reference, annotations, uems, names, frozenset(map(resolved, files)))


def _names(path: Path, known: Collection[str], uris: Collection[str]) -> dict[str, str]:
    """Which recording of the reference each of ours is."""
    missing = sorted(set(uris) - set(known))
    if not missing:
        return {uri: uri for uri in uris}
    if len(uris) == 1 and len(known) == 1:
        return dict(zip(uris, known, strict=True))
    raise AnnotationError(
        f"{path} has no recording {listed(missing)} (it has {listed(sorted(known))})",
        "the second field of its lines must be the audio file's name without extension",
    )
