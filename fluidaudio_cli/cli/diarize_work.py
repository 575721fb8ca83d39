"""What ``diarize`` has a job's workers do (see ``fluidaudio_cli.jobs``)."""

from __future__ import annotations

import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fluidaudio_cli.jobs.work import Facts

if TYPE_CHECKING:
    from fluidaudio_cli.audio.source import AudioSource
    from fluidaudio_cli.cli.known import KnownVoices
    from fluidaudio_cli.diarization.pipeline import Pipeline
    from fluidaudio_cli.diarization.plan import Plan
    from fluidaudio_cli.diarization.result import Diarization
    from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
    from fluidaudio_cli.errors import AudioError
    from fluidaudio_cli.report.diarization_json import Ran


@dataclass(frozen=True)
class PipelineFacts(Facts):
    """Facts of a worker that diarizes, as its results tell them."""

    ran: Ran


@dataclass(frozen=True)
class DiarizeWork:
    """Diarize ``AudioSource`` objects.

    ``plan``: how, or ``None`` to have each machine make its own of ``asked``, the arguments of
    ``make_plan``. ``people``: voices to recognise. ``evidence``: whether results keep theirs,
    which is large (``--save-evidence``, ``--link``).
    ``environment``: whether facts describe the host.
    """

    plan: Plan | None
    asked: Mapping[str, Any]
    speakers: SpeakerBounds
    people: KnownVoices | None = None
    evidence: bool = False
    environment: bool = False

    def start(self, threads: int | None) -> DiarizeSession:
        """Load the models; ``threads`` of a plan that is given are its own."""
        from fluidaudio_cli.diarization.loading import load, make_plan

        plan = self.plan or make_plan(**{**self.asked, "threads": threads})
        return DiarizeSession(self, load(plan))


class DiarizeSession:
    """A loaded pipeline, and where it runs."""

    def __init__(self, work: DiarizeWork, pipeline: Pipeline) -> None:
        from fluidaudio_cli.report.diarization_json import Ran

        self._work, self._pipeline = work, pipeline
        self._known = (
            work.people.people(pipeline.models, pipeline.mode.calibration) if work.people else None
        )
        self.facts = PipelineFacts(
            host=socket.gethostname(),
            architecture=platform.machine(),
            plan=pipeline.plan.as_dict(),
            ran=Ran.of(pipeline, work.environment),
        )

    def run(self, sources: Sequence[AudioSource]) -> Iterator[Diarization | AudioError]:
        """Diarize them; what they share of batches and time is as in ``Pipeline.diarize_many``."""
        recordings = [(source, None) for source in sources]
        found = self._pipeline.diarize_many(
            recordings, speakers=self._work.speakers, known=self._known
        )
        for each in found:
            if isinstance(each, Exception) or self._work.evidence:
                yield each
            else:
                yield replace(each, evidence=None)
