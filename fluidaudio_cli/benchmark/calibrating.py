"""Fit the calibration of a model card to recordings whose speakers are known.

What concerns two voices (reliability, unlike cosine, pair) is fitted in closed terms, two groups
being one person and speakers being nobody by regression (:mod:`calibrating_groups`,
:mod:`calibrating_surplus`); all else is searched for, as long as it is asked for, for the least
error of diarization beyond what oracle labels have, with wrong counts as a second cost. What a
calibration is worth is told by other voices than those it was fitted to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from fluidaudio_cli.benchmark.calibrating_groups import Known, fit_groups
from fluidaudio_cli.benchmark.calibrating_surplus import fit_surplus
from fluidaudio_cli.benchmark.oracle import oracle_speakers, oracle_turns
from fluidaudio_cli.benchmark.trials import bands, least_cllr, weighted_cllr
from fluidaudio_cli.corpora.dataset import open_dataset
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog
from fluidaudio_cli.diarization.frames import CROP_SECONDS, SAMPLE_RATE
from fluidaudio_cli.diarization.local_speakers import LEAST_UTTERANCE_SECONDS, MIN_CLEAN_SECONDS
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.saved_evidence import read_evidence
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.progress import ProgressCallback
from fluidaudio_cli.scoring.matching import read_annotations
from fluidaudio_cli.scoring.sweep import score_turns
from fluidaudio_cli.turns import Turn

Floats = NDArray[np.float64]

# Windows nearer than this hear some of the same speech, whose likeness is no evidence.
_APART_SECONDS = 10.0
# Cost of a wrong count, and of one that is off by more than one, in points of error.
_WRONG, _FAR_OFF = 2.0, 3.0
# Tried for the probabilities of counts; what is not told has less than the last.
_TEMPERS, _MARGINS, _UNTOLD = (0.1, 0.2, 0.3, 0.5), (0.5, 1.0, 1.5, 2.0), 0.005
# Log-odds that segmentation gives one person's utterances to one local speaker: so it is with 79 %
# of 3 504 pairs of utterances in simulated conversations.
_SEGMENTATION_IS_RIGHT = math.log(4.0)
# Searched for: least and greatest value, and whether in equal ratios.
_RANGES = {
    "overlapped_reliability": (0.1, 0.6, False),
    "spread": (0.005, 0.3, True),
    "unlike_weight": (1.0, 20.0, True),
    "sharpness": (5.0, 60.0, True),
    "repetition": (0.3, 1.2, False),
    "talk_weight": (0.0, 2.0, False),
    "two_voices": (0.5, 20.0, True),
    "two_at_once": (0.5, 20.0, True),
    "together": (0.3, 6.0, True),
    "apart": (0.1, 3.0, True),
    "adjoining": (0.3, 6.0, True),
    "most_link": (1.0, 12.0, True),
}


class Pairs(NamedTuple):
    """Pairs of voices far apart in time: their cosine, and whether they are one person.

    ``seconds`` (2, n) heard of each, ``purity`` (2, n): see :func:`links.purity`. ``weights``:
    adding up to a half for one person and for two.
    """

    cosine: Floats
    seconds: Floats
    purity: Floats
    same: NDArray[np.bool_]
    weights: Floats

    def reliable(self, calibration: Calibration) -> tuple[Floats, Floats]:
        """How far both voices of each say whose they are."""
        one, other = calibration.reliability_of(self.seconds, self.purity)
        return one, other


def known_of(folder: Path, pipeline: Pipeline, progress: ProgressCallback) -> list[Known]:
    """Every recording of ``folder`` that has a reference, heard by ``pipeline``.

    Where there is evidence beside the references (``NAME.npz``, as ``--save-evidence`` writes it),
    that is read and nothing is heard; it must be of the pipeline's networks. Raises ``InputError``
    for evidence of others and for a folder without references.
    """
    references = read_annotations(folder).turns
    kept = [path for path in sorted(folder.glob("*.npz")) if path.stem in references]
    if kept:
        return [Known(_kept(path, pipeline), references[path.stem]) for path in kept]
    items = [item for item in open_dataset(folder).items if item.uri in references]
    known = []
    for number, item in enumerate(items):
        progress(number, len(items))
        log = pipeline.diarize(item.audio).evidence
        assert log is not None
        known.append(Known(log, references[item.uri]))
    return known


def _kept(path: Path, pipeline: Pipeline) -> EvidenceLog:
    saved = read_evidence(path)
    theirs = {model.name: model.comparable for model in saved.models}
    ours = {model.name: model.comparable for model in pipeline.models}
    if any(theirs.get(name) not in (None, network) for name, network in ours.items()):
        raise InputError(f"{path} is of other networks than the card", "make it anew, or delete it")
    if saved.plan.mode.windows != pipeline.mode.windows:
        raise InputError(
            f"{path} was made in mode {saved.plan.mode.name}", f"make it in {pipeline.mode.name}"
        )
    return saved.log


def fit(known: Sequence[Known], mode: ModeConfig, search_seconds: float, seed: int) -> Calibration:
    """Of ``known`` the calibration, that of ``mode`` being where it starts from.

    ``search_seconds``: how long to look for what has no closed terms; 0 leaves that as it is.
    """
    pairs = pairs_of(known, mode)
    fitted = fit_utterances(pairs, fit_pairs(pairs, mode.calibration))
    fitted = fit_groups(known, replace(mode, calibration=fitted))
    if search_seconds > 0:
        fitted = search(known, replace(mode, calibration=fitted), search_seconds, seed)
        fitted = fit_groups(known, replace(mode, calibration=fitted))
    fitted = fit_surplus(known, replace(mode, calibration=fitted))
    if search_seconds > 0:
        fitted = fit_counts(known, replace(mode, calibration=fitted))
    return fitted


def pairs_of(known: Sequence[Known], mode: ModeConfig) -> Pairs:
    """The pairs of each recording, each recording counting alike."""
    step = mode.windows.step_seconds
    parts = []
    for log, reference in known:
        labels = oracle_speakers(log, reference, step)
        rows = np.flatnonzero(
            log.vectors.any(axis=1) & (log.clean_seconds >= MIN_CLEAN_SECONDS) & (labels >= 0)
        )
        pairs = rows[np.array(np.triu_indices(len(rows), 1))]
        first, second = log.voice_windows[pairs]
        pairs = pairs[:, (second - first) * step >= _APART_SECONDS]
        if pairs.size:
            voices, links = speaker_model(mode, log).heard()
            cosine = np.einsum("nd,nd->n", *log.vectors[pairs])
            same = np.equal(*labels[pairs])
            weights = np.full(len(same), 1.0 / len(same))
            parts.append((cosine, voices.heard_seconds[pairs], links.purity[pairs], same, weights))
    if not parts:
        raise InputError("the recordings have no two voices far enough apart", "give longer ones")
    cosine, seconds, pure, same, weights = (
        np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)
    )
    if same.all() or not same.any():
        raise InputError(
            "the recordings have no two voices of one person and of two",
            "give conversations of several people who speak more than once",
        )
    for kind in (same, ~same):
        weights[kind] /= 2.0 * weights[kind].sum()
    return Pairs(cosine.astype(np.float64), seconds, pure, same, weights)


def fit_pairs(pairs: Pairs, start: Calibration) -> Calibration:
    """Reliability by least squares of cosines, then the log-odds of pairs by least Cllr."""
    same, other = pairs.same, ~pairs.same

    def expected(values: Floats, which: NDArray[np.bool_]) -> tuple[Calibration, Floats]:
        half, steepness, power = (float(value) for value in np.abs(values))
        shaped = replace(start, half_seconds=half, steepness=steepness, purity=power)
        one, other = pairs.reliable(shaped)
        return shaped, np.sqrt(one * other)[which]

    def misfit(values: Floats) -> float:
        error = pairs.cosine[same] - expected(values, same)[1]
        return float(pairs.weights[same] @ error**2)

    # The search could not leave a power of 0.
    begin = [start.half_seconds, start.steepness, start.purity or 1.0]
    found = minimize(misfit, begin, method="Nelder-Mead").x
    shaped, likeness = expected(found, other)
    weights = pairs.weights[other] * likeness
    unlike = float(weights @ pairs.cosine[other] / (weights @ likeness))
    plain = replace(shaped, unlike_cosine=unlike, pair_slope=1.0, pair_offset=0.0)
    ratios = plain.same_person(pairs.cosine, *pairs.reliable(plain))
    slope, offset = least_cllr(same, pairs.weights, ratios)
    return replace(plain, pair_slope=slope, pair_offset=offset)


def fit_utterances(pairs: Pairs, start: Calibration) -> Calibration:
    """When two utterances of one local speaker are two people's, by least Cllr of ``pairs``.

    Stays as it is where too few were heard for long enough.
    """
    seconds = pairs.seconds.min(axis=0)
    long = seconds >= LEAST_UTTERANCE_SECONDS
    same, weights = pairs.same[long], pairs.weights[long].copy()
    if same.all() or not same.any():
        return start
    for kind in (same, ~same):
        weights[kind] /= 2.0 * weights[kind].sum()
    heard = np.log(np.minimum(seconds[long], CROP_SECONDS))
    cosine, lesser, offset = least_cllr(same, weights, pairs.cosine[long], heard)
    return replace(
        start,
        utterance_cosine=cosine,
        utterance_seconds=lesser,
        utterance_offset=offset + _SEGMENTATION_IS_RIGHT,
    )


def cost(known: Sequence[Known], mode: ModeConfig, oracle: Sequence[float]) -> float:
    """Points of error beyond oracle labels, with what wrong counts cost."""
    lost = total = wrong = 0.0
    for (log, reference), least in zip(known, oracle, strict=True):
        turns = conclude(speaker_model(mode, log), mode, SpeakerBounds(), StageClock()).turns
        score = score_turns(reference, turns, _extent(log))
        lost += score.error - least
        total += score.total
        off = abs(_speakers(turns) - _speakers(reference))
        wrong += _WRONG * (off > 0) + _FAR_OFF * (off > 1)
    return 100.0 * lost / total + wrong / len(known)


def search(known: Sequence[Known], mode: ModeConfig, seconds: float, seed: int) -> Calibration:
    """Change a few values at a time and keep what costs less."""
    rules = mode.windows.step_seconds, mode.reconstruction
    oracle = [
        score_turns(reference, oracle_turns(log, *rules, reference), _extent(log)).error
        for log, reference in known
    ]
    random = np.random.default_rng(seed)
    best, least = mode.calibration, cost(known, mode, oracle)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        changes: dict[str, Any] = {}
        for name in random.choice(list(_RANGES), random.integers(1, 4), replace=False).tolist():
            low, high, ratio = _RANGES[name]
            value, step = getattr(best, name), random.normal()
            value = value * np.exp(0.35 * step) if ratio else value + 0.12 * step * (high - low)
            changes[name] = float(np.clip(value, low, high))
        tried = replace(best, **changes)
        found = cost(known, replace(mode, calibration=tried), oracle)
        if found < least:
            best, least = tried, found
    return best


def fit_counts(known: Sequence[Known], mode: ModeConfig) -> Calibration:
    """How surely numbers of speakers are told: the likeliest of a grid for the true ones."""

    def surprise(tried: Calibration) -> float:
        changed = replace(mode, calibration=tried)
        told = 0.0
        for log, reference in known:
            found = conclude(speaker_model(changed, log), changed, SpeakerBounds(), StageClock())
            right = found.speaker_counts.get(_speakers(reference), 0.0)
            told += float(np.log(max(right, _UNTOLD)))
        return -told

    grid = product(_TEMPERS, _MARGINS)
    return min(
        (replace(mode.calibration, count_temper=t, count_margin=m) for t, m in grid), key=surprise
    )


def worth(pairs: Pairs, calibration: Calibration) -> Iterator[str]:
    """How good the log-odds are on ``pairs``, and whether they mean what they say; lines."""
    odds = calibration.same_person(pairs.cosine, *pairs.reliable(calibration))
    cost = weighted_cllr(odds, pairs.same, pairs.weights)
    yield f"{len(odds)} pairs, Cllr {cost:.3f} (1: knows nothing)"
    for said, so, _ in bands(odds, pairs.same, pairs.weights, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)):
        yield f"  said {said:.2f}, observed {so:.2f}"


def _extent(log: EvidenceLog) -> tuple[tuple[float, float], ...]:
    return ((0.0, log.samples / SAMPLE_RATE),)


def _speakers(turns: Sequence[Turn]) -> int:
    return len({turn.speaker for turn in turns})
