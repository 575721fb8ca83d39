"""Peers beside our modes: the rows of one table, from the same scorer over the same extents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from fluidaudio_cli.benchmark.accuracy import ScoredItem, assess
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.peers.results import PeerResult
from fluidaudio_cli.benchmark.results import AccuracyRecord, DerRecord, VariantRecord

_MEGABYTE = 1e6


@dataclass(frozen=True)
class ComparedRun:
    """One row: our mode or a peer. ``None`` where something was not measured.

    Error rates are fractions, pooled over files by speech; memory is in bytes;
    ``speakers_right`` counts files whose number of speakers was found.
    """

    name: str
    unavailable: str = ""
    rtfx: float | None = None
    strict: float | None = None
    lenient: float | None = None
    speakers_right: int = 0
    files: int = 0
    peak_rss_bytes: float | None = None
    note: str = ""


def score_peer(result: PeerResult, items: Iterable[ScoredItem]) -> dict[str, AccuracyRecord]:
    """Scores of each diarized file by uri, strict and lenient, as our modes are scored.

    ``items`` are matched to files by uri, which is the name of the audio file without suffix.
    Raises ``AnnotationError`` for broken annotations and ``KeyError`` for a file without item.
    """
    by_uri = {item.uri: item for item in items}
    return {
        each.path.stem: assess(by_uri[each.path.stem], each.turns, each.audio_seconds)
        for each in result.files
    }


def peer_row(result: PeerResult, scores: Mapping[str, AccuracyRecord]) -> ComparedRun:
    """The row of a peer; ``scores`` as ``score_peer`` gives them."""
    if result.unavailable:
        return ComparedRun(result.name, unavailable=result.unavailable)
    notes = [f"{result.threads} thread(s)"]
    if "threshold" in result.settings:
        notes.append(f"threshold {result.settings['threshold']:g}")
    if result.failures:
        notes.append(f"{len(result.failures)} file(s) failed")
    records = list(scores.values())
    lenient = [record.lenient for record in records if record.lenient is not None]
    return ComparedRun(
        name=f"{result.name} {result.version}",
        rtfx=result.rtfx,
        strict=_rate([record.strict for record in records]),
        lenient=_rate(lenient),
        speakers_right=sum(each.speakers_found == each.speakers_true for each in records),
        files=len(result.files),
        peak_rss_bytes=result.peak_rss_bytes,
        note=", ".join(notes),
    )


def our_row(variant: VariantRecord) -> ComparedRun:
    """The row of one of our modes, from the benchmark's own figures (medians)."""
    if variant.unavailable is not None:
        return ComparedRun(variant.name, unavailable=variant.unavailable)
    strict, lenient = _median(variant, "der_strict"), _median(variant, "der_lenient")
    memory = _median(variant, "peak_memory")
    accuracies = [file.accuracy for file in variant.finished if file.accuracy is not None]
    return ComparedRun(
        name=variant.name,
        rtfx=_median(variant, "rtfx"),
        strict=None if strict is None else strict / 100.0,
        lenient=None if lenient is None else lenient / 100.0,
        speakers_right=sum(each.speakers_found == each.speakers_true for each in accuracies),
        files=len(variant.finished),
        peak_rss_bytes=None if memory is None else memory * _MEGABYTE,
    )


def speed_ratio(ours: ComparedRun, peer: ComparedRun) -> float | None:
    """How many times as fast ``ours`` is; ``None`` when either was not measured."""
    if ours.rtfx is None or not peer.rtfx:
        return None
    return ours.rtfx / peer.rtfx


def best_by_error(results: Sequence[tuple[PeerResult, Mapping[str, AccuracyRecord]]]) -> int:
    """Index of the result with the lowest strict error: the peer's best threshold.

    Raises ``ValueError`` when none has a score.
    """
    rates = [
        (rate, index)
        for index, (_, scores) in enumerate(results)
        if (rate := _rate([record.strict for record in scores.values()])) is not None
    ]
    return min(rates)[1]


def _rate(records: Sequence[DerRecord]) -> float | None:
    return reduce(add, records).rate if records else None


def _median(variant: VariantRecord, metric: str) -> float | None:
    summary = METRICS[metric].measure(variant)
    return None if summary is None else summary.median
