"""The networks of a model card as the frontend uses them, whatever their tensors look like.

``Segmenter``: windows to who speaks in them. ``VoiceNetwork``: frames of crops to vectors.
``MaskedVoiceNetwork``: windows, and which of their frames count, to vectors. Fixed batches are the
executor's matter (``executors/fixed_batch.py``): here any number of rows goes in.
"""

from __future__ import annotations

from collections.abc import Iterator

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
from fluidaudio_cli.errors import ModelFormatError, UsageError
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
        check_scores(scores, card.scores, "segmentation")
        if card.classes == "per-speaker":
            return decode_speakers(probabilities_of(scores, card.scores))
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


class MaskedVoiceNetwork:
    """An embedding network on whole windows: (rows, samples) under masks to (rows, size)."""

    def __init__(self, request: InferRequest, card: EmbeddingCard) -> None:
        self._request = request
        self._mask = card.mask_input
        (self._audio,) = (name for name in card.inputs if name != self._mask)
        self._rank = len(card.inputs[self._audio])
        (self._output,) = card.outputs
        self.size = card.size

    def run(self, audio: Floats, masks: Floats) -> Floats:
        """Vectors of windows ``audio`` (n, 160000) where ``masks`` (n, 589) are 1, not 0."""
        given = audio if self._rank == 2 else audio[:, None]
        found = self._request.run({self._audio: given, self._mask: masks})
        return np.asarray(found[self._output], np.float32)


def _only_input(card: NetworkCard) -> tuple[str, int]:
    """Name and number of axes of a network's one input."""
    ((name, shape),) = card.inputs.items()
    return name, len(shape)


def check_scores(scores: Floats, kind: str, role: str) -> None:
    """``ModelFormatError`` for what is no number, or no probability where ``kind`` says so."""
    lowest = scores.min(initial=0.0)
    if not lowest >= (0.0 if kind == "probabilities" else -np.inf):
        raise ModelFormatError(
            f"the {role} network gives {lowest:.2f}, and its model card says that these are {kind}",
            "see what fluidaudio models check says of the card",
        )


def probabilities_of(scores: Floats, kind: str) -> Floats:
    """Scores of which each stands for itself, of the ``kind`` that a card says."""
    if kind == "probabilities":
        return scores
    if kind == "log-probabilities":
        return np.exp(scores)
    return np.asarray(1.0 / (1.0 + np.exp(-scores)), np.float32)


def check_supported(card: ModelCard) -> None:
    """Refuse a card whose networks hear audio in other pieces than this program cuts.

    Raises ``UsageError`` naming key, value and what is needed.
    """
    for key, found, needed in _sizes(card):
        if found != needed:
            raise UsageError(f"{card.path}: {key} is {found}", f"only {needed} can be run yet")


def _sizes(card: ModelCard) -> Iterator[tuple[str, object, int]]:
    """(key, what the card says, what can be run)"""
    segmentation, front_end, embedding = card.segmentation, card.front_end, card.embedding
    if segmentation is None or embedding is None:
        return  # a diarizer cuts the audio itself
    yield "segmentation: samples of a window", segmentation.window_samples, WINDOW_SAMPLES
    yield "segmentation: frames of a window", segmentation.frames, WINDOW_FRAMES
    yield "segmentation.hop_samples", segmentation.hop_samples, HOP_SAMPLES
    field = segmentation.receptive_field_samples
    yield "segmentation.receptive_field_samples", field, RECEPTIVE_FIELD_SAMPLES
    if front_end is not None:
        frames = next(iter(front_end.outputs.values()))[1]
        yield "front_end: frames of a crop", frames, CROP_FRAMES
        yield "front_end.hop_samples", front_end.hop_samples, FBANK_HOP_SAMPLES
        yield "front_end.frame_samples", front_end.frame_samples, FBANK_FRAME_SAMPLES
    for name, shape in embedding.inputs.items():
        if name == embedding.mask_input:
            yield "embedding: frames of a mask", shape[-1], WINDOW_FRAMES
        elif embedding.pooling == "mask":
            yield "embedding: samples of a window", shape[-1], WINDOW_SAMPLES
