"""The networks of a model card as the frontend uses them, whatever their tensors look like.

``Segmenter``: windows to who speaks in them. ``VoiceNetwork``: frames of crops to vectors. Fixed
batches are the executor's matter (``executors/fixed_batch.py``): here any number of rows goes in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.frames import (
    CROP_FRAMES,
    FBANK_FRAME_SAMPLES,
    FBANK_HOP_SAMPLES,
    HOP_SAMPLES,
    RECEPTIVE_FIELD_SAMPLES,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
)
from fluidaudio_cli.diarization.powerset import LocalActivity, decode, decode_speakers, subsets
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.base import InferRequest
from fluidaudio_cli.models.card import (
    EmbeddingCard,
    FrontEndCard,
    ModelCard,
    NetworkCard,
    SegmentationCard,
)

Floats = NDArray[np.float32]

# Probabilities below this are rounding: their logarithm would be infinite.
_LEAST = np.float32(1e-10)


class Segmenter:
    """A segmentation network: (windows, 1, samples) to :class:`LocalActivity`."""

    def __init__(self, request: InferRequest, card: SegmentationCard) -> None:
        self._request = request
        self._card = card
        self._input, self._rank = _only_input(card)
        (self._output,) = card.outputs
        self.shape = (card.frames, card.speakers)

    def scores(self, audio: Floats) -> Floats:
        """(windows, frames, classes) as the network gives them, valid until the next call."""
        given = audio if self._rank == 3 else audio[:, 0]
        return np.asarray(self._request.run({self._input: given})[self._output], np.float32)

    def decode(self, scores: Floats) -> LocalActivity:
        """Decisions and probabilities of each speaker."""
        card = self._card
        if card.classes == "per-speaker":
            return decode_speakers(_probabilities(scores, card.scores))
        membership = subsets(card.speakers, card.at_once)
        if card.scores == "logits":
            shifted = scores - scores.max(axis=-1, keepdims=True)
            logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        else:
            logs = scores if card.scores == "log-probabilities" else np.log(scores + _LEAST)
        return decode(np.asarray(logs, np.float32), membership)


class FilterBank:
    """A front end: (crops, 1, samples) to (crops, frames, bands)."""

    def __init__(self, request: InferRequest, card: FrontEndCard) -> None:
        self._request = request
        self._input, self._rank = _only_input(card)
        (self._output,) = card.outputs
        self.samples = int(card.inputs[self._input][-1])
        _, self.frames, self.bands = (
            int(size) if isinstance(size, int) else 0 for size in card.outputs[self._output]
        )

    def run(self, audio: Floats, out: Floats) -> None:
        """Write the frames of ``audio`` to ``out``, where the embedding reads them."""
        given = audio if self._rank == 3 else audio[:, 0]
        self._request.run({self._input: given}, {self._output: out})


class VoiceNetwork:
    """An embedding network on crops: (crops, frames, bands) to (crops, size), any length."""

    def __init__(self, request: InferRequest, card: EmbeddingCard) -> None:
        self._request = request
        (self._input,), (self._output,) = card.inputs, card.outputs
        self._subtract = card.subtract_mean
        self.frames = card.crop_frames
        self.size = card.size

    def run(self, frames: Floats) -> Floats:
        """Vectors of whole crops of ``frames`` frames each."""
        if self._subtract:
            frames = frames - frames.mean(axis=1, keepdims=True)
        return np.asarray(self._request.run({self._input: frames})[self._output], np.float32)


def _only_input(card: NetworkCard) -> tuple[str, int]:
    """Name and number of axes of a network's one input."""
    ((name, shape),) = card.inputs.items()
    return name, len(shape)


def _probabilities(scores: Floats, kind: str) -> Floats:
    if kind == "probabilities":
        return scores
    if kind == "log-probabilities":
        return np.exp(scores)
    return np.asarray(1.0 / (1.0 + np.exp(-scores)), np.float32)


def check_supported(card: ModelCard) -> None:
    """Refuse a card whose networks hear audio in other pieces than this program cuts.

    Raises ``UsageError`` naming key, value and what is needed.
    """
    segmentation, front_end = card.segmentation, card.front_end
    if segmentation is None or front_end is None:
        raise UsageError(
            f"{card.path}: networks of this kind are described, but not run yet",
            "use segmentation, front_end and embedding with pooling: crop",
        )
    for key, found, needed in (
        ("segmentation: samples of a window", segmentation.window_samples, WINDOW_SAMPLES),
        ("segmentation: frames of a window", segmentation.frames, WINDOW_FRAMES),
        ("segmentation.hop_samples", segmentation.hop_samples, HOP_SAMPLES),
        (
            "segmentation.receptive_field_samples",
            segmentation.receptive_field_samples,
            RECEPTIVE_FIELD_SAMPLES,
        ),
        ("front_end: frames of a crop", _frames(front_end), CROP_FRAMES),
        ("front_end.hop_samples", front_end.hop_samples, FBANK_HOP_SAMPLES),
        ("front_end.frame_samples", front_end.frame_samples, FBANK_FRAME_SAMPLES),
    ):
        if found != needed:
            raise UsageError(f"{card.path}: {key} is {found}", f"only {needed} can be run yet")


def _frames(card: NetworkCard) -> int:
    size = next(iter(card.outputs.values()))[1]
    return size if isinstance(size, int) else 0
