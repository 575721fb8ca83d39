"""A diarization as JSON ("fluidaudio.diarization/1").

Plain dictionaries in a fixed order of keys: the same result gives the same text. ``segments``
are in whole milliseconds, by the same rounding as every other format; what rounds to nothing is
left out. Durations that were measured are in seconds with six digits, and ``null`` stands for
what is not known.

::

    schema             "fluidaudio.diarization/1"
    fluidaudio_version string
    uri                string, the recording's name
    audio              path, container, codec (FFmpeg's names), sample_rate (Hz), channels,
                       duration_seconds (decoded), tracks, track (from 1; null: all mixed),
                       lost ([start, end] of what --salvage could not decode: silence)
    segments           [{start, end, speaker, probability?}], sorted by start; may overlap;
                       probability: of the name of a known voice
    exclusive_segments the same, never two at a time
    speakers           [{label, speech_seconds, turns, known?, embedding?}], by first appearance;
                       known: only with --known or --link, {name or null, probability,
                       false_accept, candidates [{name, probability}]};
                       embedding: 192 numbers of unit length or null, only when asked for
    speaker_counts     [{speakers, probability}]: how likely the evidence alone makes each number
                       of speakers; numbers under half a percent are left out
    timings            stages [{name, seconds, calls, items, concurrent}], processing_seconds
                       (wall, decoding to turns), cpu_seconds, model_load_seconds,
                       model_load_cached, rtfx (audio ÷ processing seconds), overlapped (stages
                       ran beside each other and do not add up), windows, crops, copied_bytes
    plan               how the run was put together: models (card), executor, compute_units,
                       networks {ROLE: {precision, batch}}, threads, workers, one_thread_each,
                       tuning (followed, or empty); its mode and asked stand below
    config             mode (every value of the mode file, and its name), speakers {exactly,
                       at_least, at_most}, exclusive (which turns were scored), known (only with
                       --known: voices, max_false_accept), linked (--link)
    executor           asked {executor, precision, compute_units, threads, low_latency},
                       ran {MODEL: {executor, version, precision, device, threads, streams, batch,
                       kernel}}
    environment        python, system, architecture, cpu, logical_cores, usable_cores, packages
    models             [{name, sha256}]
    notes              [string], what the user should know
    scores             only with a reference: reference, uem {source, intervals}, and the figures
                       of "fluidaudio.score/1" for one recording
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fluidaudio_cli import __version__
from fluidaudio_cli.recordings import shown_path
from fluidaudio_cli.turns import in_milliseconds

if TYPE_CHECKING:
    from fluidaudio_cli.diarization.pipeline import Pipeline
    from fluidaudio_cli.diarization.plan import Plan
    from fluidaudio_cli.diarization.result import Diarization, ModelRef, Speaker
    from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
    from fluidaudio_cli.diarization.speakers.known import Identity
    from fluidaudio_cli.scoring.metrics import FileScore
    from fluidaudio_cli.turns import Turn

SCHEMA = "fluidaudio.diarization/1"

_PACKAGES = ("numpy", "av", "soxr", "onnxruntime", "openvino", "coremltools")
# Six digits: microseconds, and finer than an embedding computed in float32.
_DIGITS = 6


@dataclass(frozen=True)
class Ran:
    """What ran. ``environment``: of its host, empty unless asked for."""

    plan: Plan
    models: Sequence[ModelRef] = ()
    load_seconds: float = 0.0
    load_cached: bool = True
    environment: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, pipeline: Pipeline, environment: bool) -> Ran:
        """A loaded pipeline on this host, described if ``environment`` is asked for."""
        host = describe_host() if environment else {}
        seconds, cached = pipeline.load_seconds, pipeline.load_cached
        return cls(pipeline.plan, pipeline.models, seconds, cached, host)


@dataclass(frozen=True)
class RunFacts:
    """What all recordings of one run share.

    ``notes``: what the user should know of all recordings.
    """

    ran: Ran
    speakers: SpeakerBounds
    exclusive: bool
    notes: Sequence[str] = ()
    known: Mapping[str, object] | None = None
    linked: bool = False


@dataclass(frozen=True)
class ScoredAgainst:
    """Scores of a recording and the file whose turns they were made against."""

    reference: str
    score: FileScore


def diarization_document(
    result: Diarization,
    run: RunFacts,
    *,
    embeddings: bool = False,
    scored: ScoredAgainst | None = None,
) -> dict[str, Any]:
    """The document described above, as plain values that ``json`` writes."""
    audio, timings = result.audio, result.timings
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "fluidaudio_version": __version__,
        "uri": result.uri,
        "audio": {
            "path": shown_path(audio.path),
            "container": audio.container,
            "codec": audio.codec,
            "sample_rate": audio.sample_rate,
            "channels": audio.channels,
            "duration_seconds": round(result.duration_seconds, _DIGITS),
            "tracks": audio.tracks,
            "track": audio.track,
            "lost": [[round(start, 3), round(end, 3)] for start, end in audio.lost],
        },
        "segments": _segments(result.turns, result.name_probabilities),
        "exclusive_segments": _segments(result.exclusive_turns, result.name_probabilities),
        "speakers": [_speaker(speaker, embeddings) for speaker in result.speakers],
        "speaker_counts": [
            {"speakers": count, "probability": round(probability, 3)}
            for count, probability in result.speaker_counts.items()
        ],
        "timings": {
            "stages": [
                {
                    "name": stage.name,
                    "seconds": round(stage.busy_seconds, _DIGITS),
                    "calls": stage.calls,
                    "items": stage.items,
                    "concurrent": stage.concurrent,
                }
                for stage in timings.stages
            ],
            "processing_seconds": round(timings.processing_seconds, _DIGITS),
            "cpu_seconds": round(timings.cpu_seconds, _DIGITS),
            "model_load_seconds": round(run.ran.load_seconds, _DIGITS),
            "model_load_cached": run.ran.load_cached,
            "rtfx": round(result.rtfx, 3),
            "overlapped": timings.overlapped,
            "windows": timings.windows,
            "crops": timings.crops,
            "copied_bytes": timings.copied_bytes,
        },
        "plan": run.ran.plan.summary(),
        "config": {
            "mode": run.ran.plan.mode.as_dict(),
            "speakers": asdict(run.speakers),
            "exclusive": run.exclusive,
            **({} if run.known is None else {"known": dict(run.known)}),
            **({"linked": True} if run.linked else {}),
        },
        "executor": {
            "asked": dict(run.ran.plan.asked),
            "ran": {model.name: dict(model.ran) for model in run.ran.models},
        },
        "environment": dict(run.ran.environment),
        "models": [{"name": model.name, "sha256": model.sha256} for model in run.ran.models],
        "notes": [*run.notes, *result.notes],
    }
    if scored is not None:
        document["scores"] = _scores(scored)
    return document


def format_document(document: Mapping[str, Any]) -> str:
    """The text of a document, ending in a newline."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def describe_host() -> dict[str, object]:
    """The ``environment`` of the document: quick to gather, and nothing that names the user."""
    # Imported here: every format needs this module, only JSON the facts.
    import platform

    from fluidaudio_cli.executors.machine import processors
    from fluidaudio_cli.measure.environment import cpu_model, package_versions

    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "logical_cores": os.cpu_count(),
        "usable_cores": processors(),
        "packages": package_versions(_PACKAGES),
    }


def identity_document(identity: Identity) -> dict[str, Any]:
    """Who a speaker is, as JSON says it."""
    return {
        "name": identity.name or None,
        "probability": round(identity.probability, 4),
        "false_accept": float(f"{identity.false_accept:.3g}"),
        "candidates": [
            {"name": name, "probability": round(probability, 4)}
            for name, probability in identity.candidates
        ],
    }


def _segments(turns: Iterable[Turn], probabilities: Mapping[str, float]) -> list[dict[str, Any]]:
    # Python's float division of whole milliseconds gives the shortest text, 1.235 and no more.
    return [
        {"start": start / 1000, "end": end / 1000, "speaker": speaker}
        | ({"probability": round(probabilities[speaker], 4)} if speaker in probabilities else {})
        for start, end, speaker in in_milliseconds(turns)
    ]


def _speaker(speaker: Speaker, with_embedding: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "label": speaker.label,
        "speech_seconds": round(speaker.speech_seconds, 3),
        "turns": speaker.turns,
    }
    if speaker.identity is not None:
        entry["known"] = identity_document(speaker.identity)
    if with_embedding:
        vector = speaker.embedding
        known = bool(vector.any())
        entry["embedding"] = [round(float(x), _DIGITS) for x in vector] if known else None
    return entry


def _scores(scored: ScoredAgainst) -> dict[str, Any]:
    from fluidaudio_cli.scoring.document import scores_as_dict

    score = scored.score
    return {
        "reference": scored.reference,
        "uem": {"source": score.uem_source, "intervals": [list(pair) for pair in score.uem]},
        **scores_as_dict(score),
    }
