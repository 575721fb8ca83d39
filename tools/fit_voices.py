"""Fit how voices compare across recordings: ``across_...`` and ``stranger_...`` of a calibration.

    python tools/fit_voices.py READERS [--check OTHERS] > calibration.yaml

READERS holds one file, or one folder of files, for each voice; OTHERS should be other voices. Each
voice's beginning is compared with the end of every voice, 2 s, 5 s and half of its audio of each,
both heard plain, through noise, a room and a telephone's bandwidth. Every pair of channels counts
alike. ``telephone`` is the mean of what its bandwidth adds to the same piece. Strangers are fitted
on plain recordings, where they are more alike than through most channels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import minimize

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.benchmark.identify import Piece, VoiceFolder, voices_of
from fluidaudio_cli.diarization.loading import load_pipeline
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.known import Comparison, Directions

Floats = NDArray[np.float64]

_SECONDS = (2.0, 5.0)
_TELEPHONE = "band=4000"
_CHANNELS = ("", "noise=20", "noise=10", "room=0.5", _TELEPHONE)
_RATES = (0.05, 0.01)


class Trials(NamedTuple):
    """All voices: k enrolments against n tests; ``weights`` (k, n) add to a half for each kind.

    ``plain`` (k, n): neither is heard through anything. ``telephone``: as the calibration has it.
    """

    enrolled: tuple[NDArray[np.float32], Floats]
    tested: tuple[NDArray[np.float32], Floats]
    same: NDArray[np.bool_]
    weights: Floats
    plain: NDArray[np.bool_]
    telephone: tuple[float, ...]

    def compared(self, calibration: Calibration) -> Comparison:
        """Each enrolment with each test."""
        first, second = (Directions.of(*side, calibration) for side in (self.enrolled, self.tested))
        return first.compared(second, calibration)


def trials_of(folder: VoiceFolder, pipeline: Pipeline) -> Trials:
    """Trials that share no audio."""
    sides: list[list[Piece]] = [[], []]
    for voice, item in enumerate(folder.items):
        half = float(item.samples.size) / SAMPLE_RATE / 2.0
        for at_end in (False, True):
            sides[at_end] += [
                Piece(voice, min(seconds, half), at_end, channel)
                for seconds in (*_SECONDS, half)
                for channel in _CHANNELS
            ]
    vectors, seconds = voices_of([*sides[0], *sides[1]], folder, pipeline)
    cut = len(sides[0])
    voices, channels = (
        [np.array([getattr(piece, name) for piece in side]) for side in sides]
        for name in ("voice", "through")
    )
    same = voices[0][:, None] == voices[1][None]
    heard = np.asarray(vectors.any(axis=1))
    usable = heard[:cut, None] & heard[None, cut:]
    weights = np.zeros(same.shape)
    for first in _CHANNELS:
        for second in _CHANNELS:
            pair = (channels[0] == first)[:, None] & (channels[1] == second)[None] & usable
            for kind in (same, ~same):
                weights[pair & kind] = 1.0 / max(int(np.count_nonzero(pair & kind)), 1)
    for kind in (same, ~same):
        weights[kind] /= 2.0 * weights[kind].sum()
    through = [np.array([bool(piece.through) for piece in side]) for side in sides]
    plain = ~(through[0][:, None] | through[1][None])
    enrolled, tested = (vectors[:cut], seconds[:cut]), (vectors[cut:], seconds[cut:])
    row_of = {piece: row for row, piece in enumerate([*sides[0], *sides[1]])}
    pairs = [
        (row, row_of[replace(piece, through="")])
        for piece, row in row_of.items()
        if piece.through == _TELEPHONE
    ]
    moved = np.mean([vectors[row] - vectors[plain] for row, plain in pairs], axis=0)
    telephone = tuple((moved / np.linalg.norm(moved)).tolist())
    return Trials(enrolled, tested, same, weights, plain, telephone)


def fit(trials: Trials, start: Calibration) -> Calibration:
    """Reliability by least squares, strangers by moments, log-odds by least Cllr."""
    same, other = trials.same, ~trials.same
    start = replace(start, telephone=trials.telephone)
    cosine = trials.compared(start).cosine

    def shaped(values: Floats) -> Calibration:
        most, half, steepness = np.abs(values)
        return replace(
            start,
            across_reliability=min(float(most), 0.99),
            across_half_seconds=float(half),
            across_steepness=float(steepness),
        )

    def misfit(values: Floats) -> float:
        error = cosine[same] - trials.compared(shaped(values)).likeness[same]
        return float(trials.weights[same] @ error**2)

    found = shaped(_least(misfit, [0.7, 0.8, 1.5]))
    likeness = trials.compared(found).likeness[other]
    weights = trials.weights[other] * likeness
    unlike = float(weights @ cosine[other] / (weights @ likeness))
    strangers = other & trials.plain & (trials.weights > 0.0)
    weights, values = trials.weights[strangers], cosine[strangers]
    mean = float(np.average(values, weights=weights))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    skew = float(np.average(((values - mean) / spread) ** 3, weights=weights))
    plain = replace(
        found,
        across_unlike=unlike,
        across_slope=1.0,
        across_offset=0.0,
        stranger_cosine=mean,
        stranger_spread=spread,
        stranger_skew=skew,
    )
    ratios = trials.compared(plain).log_odds
    slope, offset = _least(lambda line: _cllr(line[0] * ratios + line[1], trials), [1.0, 0.0])
    return replace(plain, across_slope=float(slope), across_offset=float(offset))


def tell(trials: Trials, calibration: Calibration) -> None:
    """Cllr, and false accepts observed where some are asked for."""
    compared = trials.compared(calibration)
    sys.stderr.write(f"Cllr {_cllr(compared.log_odds, trials):.3f}")
    for rate in _RATES:
        accepted = compared.false_accept <= rate
        of = [
            np.average(accepted[kind], weights=trials.weights[kind])
            for kind in (~trials.same, trials.same)
        ]
        sys.stderr.write(
            f"; asked {100 * rate:g} %: false accepts {100 * of[0]:.2f} %, "
            f"rejects {100 * (1 - of[1]):.2f} %"
        )
    sys.stderr.write("\n")


def _cllr(odds: Floats, trials: Trials) -> float:
    cost = np.logaddexp(0.0, np.where(trials.same, -odds, odds))
    return float((trials.weights * cost).sum() / np.log(2.0))


def _least(cost: Callable[[Floats], float], start: list[float]) -> Floats:
    return np.asarray(minimize(cost, start, method="Nelder-Mead").x)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("voices", type=Path, help="folder of one file, or folder, a voice")
    parser.add_argument("--check", type=Path, help="the same of other voices")
    parser.add_argument("--mode", default="balanced")
    parser.add_argument("--models", help="model card, by default the bundled one")
    asked = parser.parse_args()
    pipeline = load_pipeline(asked.mode, models=asked.models)
    trials = trials_of(VoiceFolder.of(asked.voices), pipeline)
    fitted = fit(trials, pipeline.mode.calibration)
    tell(trials, fitted)
    if asked.check:
        tell(trials_of(VoiceFolder.of(asked.check), pipeline), fitted)
    values = {
        name: value
        for name, value in fitted.rounded(4).items()
        if name.startswith(("across_", "stranger_", "telephone"))
    }
    text = yaml.safe_dump({"calibration": values}, sort_keys=False, default_flow_style=None)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
