"""Error rates on the development meetings, which a fresh machine does not have.

The bounds are the project's own; the sets are used whole where that is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.loading import load_pipeline
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.result import Conclusion, Diarization
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.scoring.matching import read_annotations, read_uems
from fluidaudio_cli.scoring.metrics import LENIENT, STRICT, Scores, pool, score_conditions

SIMULATED, AMI = "sim-meetings", "ami-excerpts"


def diarized(mode: str, folder: Path, uris: Sequence[str] = ()) -> dict[str, Diarization]:
    """The recordings of a folder, or those of these names."""
    pipeline = load_pipeline(mode)
    paths = [folder / f"{uri}.flac" for uri in uris] or sorted(folder.glob("*.flac"))
    found = {}
    for result in pipeline.diarize_many([(path, None) for path in paths]):
        assert isinstance(result, Diarization), result
        found[result.uri] = result
    pipeline.close()
    assert len(found) == len(paths)
    return found


def scores(found: dict[str, Diarization], folder: Path) -> Scores:
    """Pooled over the recordings."""
    references, uems = read_annotations(folder).turns, read_uems(folder)
    return pool(
        [
            score_conditions((STRICT, LENIENT), references[uri], found[uri].turns, uems[uri])
            for uri in found
        ]
    )


@pytest.fixture(scope="module")
def in_fast(shared_data: Path) -> dict[str, Diarization]:
    """The simulated meetings in the quickest mode, with their evidence."""
    return diarized("fast", shared_data / SIMULATED)


def decided(found: Diarization, speakers: SpeakerBounds) -> Conclusion:
    """The speakers of the same evidence, decided anew as the pipeline does."""
    assert found.evidence is not None
    mode = load_mode("fast")
    return conclude(speaker_model(mode, found.evidence), mode, speakers, StageClock())


@pytest.mark.parametrize(("mode", "strict", "counted"), [("balanced", 0.12, 6), ("fast", 0.135, 5)])
def test_simulated_meetings(
    shared_data: Path, mode: str, strict: float, counted: int, request: pytest.FixtureRequest
) -> None:
    folder = shared_data / SIMULATED
    known = request.getfixturevalue("in_fast") if mode == "fast" else diarized(mode, folder)
    pooled = scores(known, folder)
    assert pooled.strict.der.rate <= strict
    assert pooled.speakers.files == 10
    # In the others somebody speaks for a moment only; nothing is fitted to these meetings. Which
    # arithmetic embeds decides one of them.
    assert pooled.speakers.correct_files >= counted


def test_simulated_meetings_accurate(shared_data: Path) -> None:
    """Three of the ten, for time's sake: quiet, noisy, and eight voices."""
    uris = ("call-2spk", "meeting-noisy15db", "panel-8spk")
    folder = shared_data / SIMULATED
    assert scores(diarized("accurate", folder, uris), folder).strict.der.rate <= 0.11


def test_ami_excerpts_accurate(shared_data: Path) -> None:
    folder = shared_data / AMI
    pooled = scores(diarized("accurate", folder), folder)
    assert pooled.strict.der.rate <= 0.34
    assert pooled.lenient.der.rate <= 0.17


@pytest.mark.parametrize(
    ("uri", "counts"), [("meeting1", (2, 3, 4, 5)), ("panel-8spk", (4, 7, 8, 9))]
)
def test_number_of_speakers_is_honoured_where_there_are_voices(
    in_fast: dict[str, Diarization], uri: str, counts: tuple[int, ...]
) -> None:
    assert decided(in_fast[uri], SpeakerBounds()).turns == in_fast[uri].turns
    for count in counts:
        result = decided(in_fast[uri], SpeakerBounds(exactly=count))
        assert len(result.speakers) == count
        # Against the evidence it is done all the same, and said.
        likeliest = max(result.speaker_counts, key=lambda n: result.speaker_counts[n])
        doubt = f"{count} speakers as asked for, although the evidence says {likeliest}"
        assert result.notes == (() if count in result.speaker_counts else (doubt,))
        assert {turn.speaker for turn in result.turns} == {s.label for s in result.speakers}


def test_bounds_hold_on_a_meeting_of_four(in_fast: dict[str, Diarization]) -> None:
    for bounds, least, most in (
        (SpeakerBounds(at_most=3), 1, 3),
        (SpeakerBounds(at_least=6), 6, 6),
        (SpeakerBounds(at_least=2, at_most=5), 2, 5),
    ):
        assert least <= len(decided(in_fast["meeting1"], bounds).speakers) <= most
