"""Run the networks of a model card on the bundled sample, and say what is wrong, a line a fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.diarization.evidence import FULL_SCALE, WindowEvidence
from fluidaudio_cli.diarization.frames import GRID, WINDOW_SAMPLES
from fluidaudio_cli.diarization.loading import load_pipeline
from fluidaudio_cli.diarization.modes import ModeConfig, SegmentationRules, load_mode
from fluidaudio_cli.diarization.networks import Segmenter, check_supported
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.executors.select import select_executor
from fluidaudio_cli.models.card import (
    DISTILLED_SEGMENTATION,
    NARROW_EMBEDDING,
    ModelCard,
    NetworkCard,
    SegmentationCard,
    Shape,
)
from fluidaudio_cli.turns import Turn

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

# Rounding in fp16 moves the sum of a frame's probabilities by less than this.
_SUM_TOLERANCE = 0.02
# Turns of references are placed by hand, to about this; a grid that is off by more is wrong.
_MOST_LAG_SECONDS = 0.15
_LAGS_SECONDS = 1.0
# Voices of less speech say little; the bundled network keeps people apart by 0.4 on the sample.
_LEAST_SECONDS = 1.0
_LEAST_APART = 0.1
# The bundled network in 8-bit integers gives voices of the sample 0.998.
_LEAST_ALIKE = 0.95


def check_card(card: ModelCard, audio: Path, reference: tuple[Turn, ...]) -> list[str]:
    """Faults of the card's networks, found on ``audio`` with its ``reference``; none is good.

    Raises ``UsageError`` for networks that this program cannot run, and what loading raises.
    """
    check_supported(card)
    # The densest mode: most voices to compare.
    mode = load_mode("accurate", card)
    faults, windows = _heard(card, mode, {role: role for role in card.networks}, audio)
    faults = faults or list(evidence_faults(windows, mode.windows.step_seconds, reference))
    if not faults and DISTILLED_SEGMENTATION in card.packages:
        distilled = replace(mode, segmentation=SegmentationRules(True))
        names = {"segmentation": DISTILLED_SEGMENTATION}
        faults, _ = _heard(card, distilled, names, audio, diarize=False)
    if not faults and NARROW_EMBEDDING in card.packages:
        narrow = replace(mode, embedding=replace(mode.embedding, narrow=True))
        faults, others = _heard(card, narrow, {"embedding": NARROW_EMBEDDING}, audio)
        faults = faults or list(likeness_faults(windows, others))
    return faults


def _heard(
    card: ModelCard, mode: ModeConfig, names: dict[str, str], audio: Path, *, diarize: bool = True
) -> tuple[list[str], list[WindowEvidence]]:
    """Faults in shapes and scores of some networks, and without any, what is heard in ``audio``.

    ``names``: which networks, by role, and what their faults call them.
    """
    # Core ML runs a package in its own precision, and in no other.
    precision = "auto" if select_executor().traits.package_precision else "fp32"
    loaded = load_pipeline(mode, models=card.path, precision=precision, tuning=False)
    with closing(loaded) as pipeline:
        faults = [
            fault
            for role, name in names.items()
            for fault in shape_faults(name, card.networks[role], pipeline.compiled[role])
        ]
        if not faults and card.segmentation is not None and "segmentation" in names:
            scores = _scores(pipeline, card.segmentation, audio)
            faults = list(score_faults(scores, card.segmentation, names["segmentation"]))
        if faults or not diarize:
            return faults, []
        return faults, list(pipeline.diarize(audio).evidence or ())


def likeness_faults(windows: list[WindowEvidence], narrow: list[WindowEvidence]) -> Iterator[str]:
    """Vectors of the narrow network that are not those of the usual one, on the same voices."""
    pairs = [
        float(voice.vector @ other.vector)
        for window, again in zip(windows, narrow, strict=True)
        for voice, other in zip(window.voices, again.voices, strict=True)
        if voice.vector.any()
    ]
    alike = float(np.mean(pairs)) if pairs else 0.0
    if alike < _LEAST_ALIKE:
        yield (
            f"{NARROW_EMBEDDING}: its vectors have a mean cosine of {alike:.2f} with those of the "
            f"usual network, where {_LEAST_ALIKE} is the least"
        )


def shape_faults(role: str, card: NetworkCard, model: CompiledModel) -> Iterator[str]:
    """Tensors that the package has otherwise, or not at all."""
    for what, stated, specs in (
        ("input", card.inputs, model.inputs),
        ("output", card.outputs, model.outputs),
    ):
        found = {spec.name: spec.shape for spec in specs}
        for name, shape in stated.items():
            if name not in found:
                yield f"{role}: the package has no {what} {name}, but {', '.join(found)}"
            elif not _fits(shape, found[name]):
                yield (
                    f"{role}: {what} {name} is {_shown(found[name])} in the package, "
                    f"{list(shape)} in the card"
                )


def score_faults(
    scores: Floats, card: SegmentationCard, role: str = "segmentation"
) -> Iterator[str]:
    """Scores (windows, frames, classes) that are not what the card says they are."""
    if not np.isfinite(scores).all():
        yield f"{role}: some scores are no finite numbers"
        return
    within = bool((scores >= 0).all() and (scores <= 1 + _SUM_TOLERANCE).all())
    powerset = card.classes == "powerset"
    logs = powerset and _sums_to_one(np.exp(scores))
    plain = within and (not powerset or _sums_to_one(scores))
    kind = "log-probabilities" if logs else "probabilities" if plain else "logits"
    # Log-probabilities are logits too.
    if kind == card.scores or (card.scores == "logits" and kind == "log-probabilities"):
        return
    if card.scores == "log-probabilities" and not powerset and (scores <= 0).all():
        return
    yield (
        f"{role}: scores are {kind} (from {scores.min():.2f} to {scores.max():.2f}), "
        f"not {card.scores} as the card says"
    )


def evidence_faults(
    windows: list[WindowEvidence], step_seconds: float, reference: tuple[Turn, ...]
) -> Iterator[str]:
    """A frame grid beside the reference, and vectors that do not tell its people apart."""
    people = sorted({turn.speaker for turn in reference})
    hearing = "diarizer" if any(window.placed for window in windows) else "segmentation"
    truth: list[Bools] = []  # of each window: (frames, people)
    heard: list[Bools] = []  # of each window: (frames, slots)
    for window in windows:
        times = window.number * step_seconds + GRID.window_centres()
        truth.append(np.stack([_speaking(reference, who, times) for who in people], axis=1))
        heard.append(window.presence() >= FULL_SCALE / 2)
    speech = np.concatenate([each.any(axis=1) for each in heard])
    wanted = np.concatenate([each.any(axis=1) for each in truth])
    if not speech.any():
        yield f"{hearing}: nobody is heard in the sample, where two people speak"
        return
    most = round(_LAGS_SECONDS / GRID.hop_seconds)
    agreement = {
        lag: float((np.roll(speech, -lag) == wanted).mean()) for lag in range(-most, most + 1)
    }
    lag = max(agreement, key=lambda each: (agreement[each], -abs(each)))
    if abs(lag) * GRID.hop_seconds > _MOST_LAG_SECONDS:
        yield (
            f"{hearing}: its speech fits the sample best {lag * GRID.hop_seconds:+.2f} s off: "
            "the frame grid does not fit"
        )
    if hearing == "diarizer":
        # (people, slots) frames in common
        common = sum(
            spoken.T.astype(int) @ active for active, spoken in zip(heard, truth, strict=True)
        )
        if len(set(np.argmax(common, axis=1).tolist())) < len(people):
            yield "diarizer: one track speaks for several people of the sample"
        return
    vectors: list[tuple[int, Floats]] = []
    for window, active, spoken in zip(windows, heard, truth, strict=True):
        for voice in window.voices:
            if voice.clean_seconds >= _LEAST_SECONDS and voice.vector.any():
                shared = (active[:, voice.slot, None] & spoken).sum(axis=0)
                vectors.append((int(shared.argmax()), voice.vector))
    same: list[float] = []
    other: list[float] = []
    for (who, first), (whom, second) in combinations(vectors, 2):
        (same if who == whom else other).append(float(first @ second))
    if not same or not other:
        yield "embedding: too few voices of the sample have vectors to compare"
    elif np.mean(same) - np.mean(other) < _LEAST_APART:
        yield (
            f"embedding: vectors do not tell two voices apart: mean cosine {np.mean(same):.2f} "
            f"of one person, {np.mean(other):.2f} of two"
        )


def _scores(pipeline: Pipeline, card: SegmentationCard, audio: Path) -> Floats:
    found = []
    segmenter = Segmenter(pipeline.compiled["segmentation"].request(), card)
    with open_audio(audio) as stream:
        window = np.zeros((1, 1, WINDOW_SAMPLES), np.float32)
        while stream.read_into(window[0, 0]) == WINDOW_SAMPLES:
            found.append(np.array(segmenter.scores(window)))
    return np.concatenate(found)


def _speaking(turns: tuple[Turn, ...], who: str, times: NDArray[np.floating[Any]]) -> Bools:
    spoken = np.zeros(times.size, np.bool_)
    for start, end, speaker in turns:
        if speaker == who:
            spoken |= (times >= start) & (times < end)
    return spoken


def _sums_to_one(values: Floats) -> bool:
    return bool((np.abs(values.sum(axis=-1) - 1.0) < _SUM_TOLERANCE).all())


def _fits(stated: Shape, found: tuple[int | None, ...]) -> bool:
    """Whether the sizes agree; where the batch is free, or filled up to a fixed one, any does."""
    return len(stated) == len(found) and all(
        size is None or axis == 0 or size == wanted
        for axis, (wanted, size) in enumerate(zip(stated, found, strict=True))
    )


def _shown(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("*" if size is None else str(size) for size in shape) + "]"
