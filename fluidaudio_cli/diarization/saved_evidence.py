"""Evidence in a file, with what is needed to decide anew who is who (docs/evidence.md)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fluidaudio_cli import __version__
from fluidaudio_cli.audio.source import AudioInfo
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog
from fluidaudio_cli.diarization.frames import WINDOW_FRAMES
from fluidaudio_cli.diarization.plan import Plan, plan_of
from fluidaudio_cli.diarization.result import Diarization, ModelRef
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.known import KnownPeople
from fluidaudio_cli.diarization.windows import window_count
from fluidaudio_cli.errors import FluidAudioError, InputError
from fluidaudio_cli.recordings import shown_path, uri_from


def save_evidence(result: Diarization, plan: Plan, models: Sequence[ModelRef], path: Path) -> None:
    """Write the evidence of ``result``, found by ``models`` as ``plan`` says.

    Raises ``HostError`` where ``path`` cannot be written.
    """
    log = result.evidence
    assert log is not None
    log.facts = {
        "fluidaudio_version": __version__,
        "audio": {**asdict(result.audio), "path": shown_path(result.audio.path)},
        "plan": plan.as_dict(),
        "models": [asdict(model) for model in models],
    }
    log.save(path)


@dataclass(frozen=True)
class SavedEvidence:
    """What the networks found in a recording, and how they ran."""

    log: EvidenceLog
    audio: AudioInfo
    plan: Plan
    models: tuple[ModelRef, ...]

    def diarize(self, speakers: SpeakerBounds, known: KnownPeople | None = None) -> Diarization:
        """Turns and speakers; the same as then for the same ``speakers``."""
        clock = StageClock()
        cpu, wall = time.process_time(), time.perf_counter()
        mode = self.plan.mode
        found = conclude(speaker_model(mode, self.log, known), mode, speakers, clock)
        return found.result(self.audio, self.log, clock, time.perf_counter() - wall, cpu)


def read_evidence(path: Path) -> SavedEvidence:
    """Read what :func:`save_evidence` wrote.

    Raises ``InputError`` for another file, and for one of a version that had other values.
    """
    log = EvidenceLog.load(path)
    try:
        audio = dict(log.facts["audio"])
        audio["path"] = Path(audio["path"])
        audio["notes"] = tuple(audio["notes"])
        audio["lost"] = tuple((float(start), float(end)) for start, end in audio["lost"])
        models = tuple(ModelRef(**model) for model in log.facts["models"])
        saved = SavedEvidence(log, AudioInfo(**audio), plan_of(log.facts["plan"]), models)
        _check(saved)
    except (KeyError, TypeError, ValueError, ArithmeticError, FluidAudioError) as error:
        written = str(log.facts.get("fluidaudio_version", "another version"))
        raise InputError(
            f"{path} cannot be used: it was written by fluidaudio {written} ({error})",
            "make it anew with --save-evidence",
        ) from error
    return saved


def _check(saved: SavedEvidence) -> None:
    """Raise ``ValueError`` for windows that are not the recording's, or a name that is none."""
    log, uri = saved.log, saved.audio.uri
    expected = window_count(log.samples, saved.plan.mode.windows.step_samples)
    if log.windows != expected or next(iter(log)).shape[0] != WINDOW_FRAMES:
        raise ValueError(f"{log.samples} samples have other windows")
    # Results are named by it.
    if uri_from(str(uri)) != uri or Path(uri).name != uri:
        raise ValueError(f"a recording cannot be called {uri!r}")
