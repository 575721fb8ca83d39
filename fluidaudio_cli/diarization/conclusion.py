"""From a recording's evidence to its turns and speakers; needs no network and no audio.

``conclude(speaker_model(mode, evidence), …)`` decides anew on evidence that was kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.evidence import EvidenceLog
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.result import Conclusion, Speaker
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.known import Identity, KnownPeople
from fluidaudio_cli.diarization.speakers.model import OfflineSpeakers, SpeakerModel
from fluidaudio_cli.diarization.speakers.offline import SpeakerLabels
from fluidaudio_cli.diarization.turn_builder import Reconstruction, build_turns
from fluidaudio_cli.turns import Turn, speaking_seconds
from fluidaudio_cli.wording import counted


def speaker_model(
    mode: ModeConfig, evidence: EvidenceLog | None = None, known: KnownPeople | None = None
) -> OfflineSpeakers:
    """The model that ``mode`` decides with once a recording ends.

    ``evidence`` that it has already; ``known``: people who may be among the speakers.
    """
    step, crops = mode.windows.step_samples, mode.crops.per_speaker
    return OfflineSpeakers(mode.calibration, step, crops, evidence, known)


def conclude(
    model: SpeakerModel, mode: ModeConfig, bounds: SpeakerBounds, clock: StageClock
) -> Conclusion:
    """Find the speakers of all evidence that ``model`` has taken in, and build their turns."""
    log = model.evidence
    with clock.stage("clustering", log.windows):
        found = model.finish(bounds)
    with clock.stage("reconstruction", log.windows):
        step, labelled = mode.windows.step_samples, found.by_window(log)
        built = build_turns(labelled, mode.reconstruction, step, log.samples)
    named, exclusive, order = _in_order_of_appearance(built, found.identities)
    seconds = speaking_seconds(named)
    speakers = tuple(
        Speaker(
            label,
            seconds[label],
            sum(turn.speaker == label for turn in named),
            found.centroids[number],
            float(found.seconds[number]),
            found.identities[number] if found.identities else None,
        )
        for label, number in order
    )
    notes = _notes(bounds, len(speakers), found)
    return Conclusion(named, exclusive, speakers, notes, found.counts)


def _in_order_of_appearance(
    rebuilt: Reconstruction, identities: Sequence[Identity]
) -> tuple[tuple[Turn, ...], tuple[Turn, ...], list[tuple[str, int]]]:
    """Turns with speakers by name, or called SPEAKER_00, SPEAKER_01 … as they first speak.

    And each label with the number of its speaker.
    """
    labels: dict[str, str] = {}
    unknown = 0
    for turn in rebuilt.turns:
        if turn.speaker not in labels:
            name = identities[int(turn.speaker)].name if identities else ""
            labels[turn.speaker] = name or f"SPEAKER_{unknown:02d}"
            unknown += not name
    named, exclusive = (
        tuple(sorted(turn._replace(speaker=labels[turn.speaker]) for turn in turns))
        for turns in (rebuilt.turns, rebuilt.exclusive_turns)
    )
    return named, exclusive, [(label, int(number)) for number, label in labels.items()]


def _notes(bounds: SpeakerBounds, given: int, found: SpeakerLabels) -> tuple[str, ...]:
    """What to say of bounds that could not be met, or against which the evidence speaks."""
    heard = counted(given, "speaker")
    wanted = bounds.exactly or bounds.at_least
    if wanted is not None and given < wanted:
        asked = f"{counted(wanted, 'speaker')} {'was' if wanted == 1 else 'were'} asked for"
        if not given:
            return (f"{asked}, but nobody speaks",)
        return (
            f"{asked}, but only {heard} could be given turns: "
            "the others' voices cannot be told apart, or never speak alone",
        )
    # Speakers may have no turn in a mode that drops short ones: nobody asked for that.
    as_found = bounds.fewest <= found.found <= (bounds.most or found.found)
    if given and not as_found and given not in found.counts:
        return (f"{heard} as asked for, although the evidence says {found.found}",)
    return ()
