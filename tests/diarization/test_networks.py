"""Networks of any card: what their scores and tensors come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fluidaudio_cli.diarization.crop_embedder import PendingVoice, _fill_by_repetition
from fluidaudio_cli.diarization.local_speakers import LocalSpeaker
from fluidaudio_cli.diarization.networks import Segmenter, VoiceNetwork, check_supported
from fluidaudio_cli.diarization.powerset import MEMBERSHIP, decode_speakers, subsets
from fluidaudio_cli.errors import ModelFormatError, UsageError
from fluidaudio_cli.models.card import EmbeddingCard, ModelCard, SegmentationCard, load_card

Floats = NDArray[np.float32]

# (1, 2 frames, 7 classes): mostly speaker 1, then mostly speakers 1 and 3.
PROBABILITIES = np.array(
    [[[0.1, 0.6, 0.05, 0.05, 0.1, 0.05, 0.05], [0.1, 0.2, 0.0, 0.1, 0.1, 0.5, 0.0]]], np.float32
)


class Request:
    """Gives what it was made with, and keeps what it was fed."""

    copied_bytes = 0

    def __init__(self, **outputs: Floats) -> None:
        self.outputs = outputs
        self.fed: dict[str, Any] = {}

    def run(self, feeds: Mapping[str, Any], outputs: object = None) -> Mapping[str, Any]:
        self.fed = dict(feeds)
        return self.outputs

    def start(self, feeds: Mapping[str, Any], outputs: object = None) -> None:
        raise AssertionError("only run is used")

    def wait(self) -> Mapping[str, Any]:
        raise AssertionError("only run is used")


def segmentation(**changes: Any) -> SegmentationCard:
    card = load_card().segmentation
    assert card is not None
    return replace(card, **changes)


@pytest.mark.parametrize(
    ("kind", "scores"),
    [
        ("probabilities", PROBABILITIES),
        ("log-probabilities", np.log(PROBABILITIES + 1e-10)),
        ("logits", np.log(PROBABILITIES + 1e-10) + 7.0),
    ],
)
def test_scores_of_each_kind_say_the_same(kind: str, scores: Floats) -> None:
    card = segmentation(scores=kind)
    activity = Segmenter(Request(), card).decode(scores)
    assert activity.classes.tolist() == [[1, 5]]
    assert activity.active(0).tolist() == [[True, False, False], [True, False, True]]
    assert activity.alone(0).tolist() == [[True, False, False], [False, False, False]]
    # 0.6 + 0.1 + 0.05 and so on, of 255; 0.1 of 255 is just below 25.5.
    assert activity.presence.tolist() == [[[191, 51, 38], [204, 25, 153]]]


@pytest.mark.parametrize(
    ("kind", "scores", "given"),
    [
        ("probabilities", np.log(PROBABILITIES + 1e-10), "-23.03"),
        ("log-probabilities", PROBABILITIES * np.nan, "nan"),
    ],
)
def test_scores_that_are_not_what_the_card_says(kind: str, scores: Floats, given: str) -> None:
    with pytest.raises(ModelFormatError, match=f"segmentation network gives {given}, and its"):
        Segmenter(Request(), segmentation(scores=kind)).decode(scores)


def test_speakers_one_by_one_become_the_same_classes() -> None:
    probabilities = np.array([[[0.1, 0.5, 0.2], [0.9, 0.9, 0.9], [0, 0, 0]]], np.float32)
    activity = decode_speakers(probabilities)
    assert activity.active(0).tolist() == [[False, True, False], [True] * 3, [False] * 3]
    assert activity.alone(0).tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert activity.presence[0, 0].tolist() == [26, 128, 51]


def test_classes_are_ordered_as_the_bundled_network_has_them() -> None:
    nobody, alone, pairs = [[0, 0, 0]], np.eye(3).tolist(), [[1, 1, 0], [1, 0, 1], [0, 1, 1]]
    assert MEMBERSHIP.tolist() == nobody + alone + pairs
    assert subsets(4, 1).shape == (5, 4)


def test_windows_go_in_with_the_axes_and_the_name_of_the_card() -> None:
    request = Request(segments=PROBABILITIES)
    card = segmentation(
        inputs={"sound": (1, 160_000)}, outputs={"segments": (1, 589, 7)}, scores="probabilities"
    )
    scores = Segmenter(request, card).scores(np.zeros((1, 1, 160_000), np.float32))
    assert request.fed["sound"].shape == (1, 160_000)
    assert scores is PROBABILITIES


def test_the_mean_over_time_is_taken_off_where_the_card_says_so() -> None:
    request = Request(vector=np.zeros((1, 4), np.float32))
    card = EmbeddingCard(
        file="x",
        inputs={"frames": (16, 3, 2)},
        outputs={"vector": (16, 4)},
        pooling="crop",
        subtract_mean=True,
    )
    VoiceNetwork(request, card).run(np.array([[[1, 0], [2, 0], [6, 3]]], np.float32))
    assert request.fed["frames"].tolist() == [[[-2, -1], [-1, -1], [3, 2]]]


def test_a_network_that_hears_less_gets_the_middle_of_a_crop() -> None:
    frames = np.repeat(np.arange(200, dtype=np.float32)[:, None], 2, axis=1)
    heard = np.zeros((150, 2), np.float32)
    assert _fill_by_repetition(frames, ((300, 500),), heard) == heard.nbytes
    assert heard[:, 0].tolist() == list(range(25, 175))
    # Too short: repeated.
    _fill_by_repetition(frames, ((300, 400),), heard)
    assert heard[:, 0].tolist() == [*range(100), *range(50)]


def test_windows_of_another_length_are_refused_by_name() -> None:
    def with_segmentation(**changes: Any) -> ModelCard:
        return replace(load_card(), segmentation=segmentation(**changes))

    check_supported(load_card())
    with pytest.raises(UsageError, match="samples of a window is 80000: only 160000 can be run"):
        check_supported(
            with_segmentation(
                inputs={"audio": ("batch", 1, 80_000)}, outputs={"segments": ("batch", 293, 7)}
            )
        )


def test_a_voice_is_the_mean_of_its_crops_by_what_they_heard() -> None:
    voice = PendingVoice(LocalSpeaker(0, 2.6, (), np.zeros(589, bool)))
    assert voice.voice(2).tolist() == [0.0, 0.0]
    voice.add(np.array([1.0, 0.0], np.float32), 200)
    assert voice.voice(2).tolist() == [1.0, 0.0]
    voice.add(np.array([0.0, 1.0], np.float32), 50)
    assert voice.voice(2) == pytest.approx(np.array([4.0, 1.0]) / np.sqrt(17.0))
