"""What is profiled, and how much is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fluidaudio_cli.diarization.loading import Wishes
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.models.card import BUNDLED


@dataclass(frozen=True)
class Options:
    """What is profiled, as ``diarize`` would run it, and how much is measured.

    ``models``: name or path of a model card; ``wishes``: what else a plan is made of. ``tuning``:
    follow what was stored for this machine. ``peaks``: measure what the machine can do, some
    seconds. ``reference``, ``uem``: files to score the turns with.
    """

    mode: str = "balanced"
    models: str = BUNDLED
    wishes: Wishes = field(default_factory=Wishes)
    tuning: bool = True
    speakers: SpeakerBounds = SpeakerBounds()  # noqa: RUF009 - immutable
    reference: Path | None = None
    uem: Path | None = None
    peaks: bool = True
    precision_report: bool = False
