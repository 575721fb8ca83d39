"""Fit how voices compare across recordings: ``across_...`` and ``stranger_...`` of a calibration.

    python tools/fit_voices.py READERS > calibration.yaml

READERS holds one file, or one folder of files, for each voice. Each voice's beginning is compared
with the end of every voice: 2 s and 5 s plain, through noise, a room and a telephone's bandwidth,
and half of its audio plain. Every pair of channels counts alike. ``telephone`` is the mean of what
its bandwidth adds to the same piece. Strangers are fitted on plain recordings, where they are more
alike than through most channels. What a fit is worth to people whom it has not heard is told of
fifths of the readers, each by a fit to the other four.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import minimize

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.benchmark.identify import Piece, VoiceFolder, voices_of
from fluidaudio_cli.benchmark.results import IdentificationRecord
from fluidaudio_cli.benchmark.trials import (
    cllr,
    equal_error_rate,
    false_accepts,
    false_rejects,
    min_dcf,
)
from fluidaudio_cli.diarization.loading import load_pipeline
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.known import Comparison, Directions

Floats = NDArray[np.float64]

_SECONDS = (2.0, 5.0)
_TELEPHONE = "band=4000"
_CHANNELS = ("", "noise=20", "noise=10", "room=0.5", _TELEPHONE)
_PARTS = 5


class Trials(NamedTuple):
    """All voices: k enrolments against n tests; ``weights`` (k, n) add to a half for each kind.

    ``through``: what each side is heard through, (k,) and (n,). ``telephone``: as the calibration
    has it.
    """

    enrolled: tuple[NDArray[np.float32], Floats]
    tested: tuple[NDArray[np.float32], Floats]
    same: NDArray[np.bool_]
    weights: Floats
    through: tuple[NDArray[np.str_], NDArray[np.str_]]
    telephone: tuple[float, ...]

    def heard_through(self, first: str, second: str) -> NDArray[np.bool_]:
        """(k, n) pairs of which each side is."""
        pairs = (self.through[0] == first)[:, None] & (self.through[1] == second)[None]
        return np.asarray(pairs & (self.weights > 0.0))

    def compared(self, calibration: Calibration) -> Comparison:
        """Each enrolment with each test."""
        first, second = (Directions.of(*side, calibration) for side in (self.enrolled, self.tested))
        return first.compared(second, calibration)


class Heard(NamedTuple):
    """Every voice's ``pieces``: ``vectors`` (k, d), zeros for none, and ``seconds`` (k,) heard."""

    pieces: Sequence[Piece]
    vectors: NDArray[np.float32]
    seconds: Floats


def hear(folder: VoiceFolder, pipeline: Pipeline) -> Heard:
    """All that trials are made of."""
    pieces = []
    for voice, item in enumerate(folder.items):
        half = float(item.samples.size) / SAMPLE_RATE / 2.0
        lengths = [(seconds, through) for seconds in _SECONDS for through in _CHANNELS]
        pieces += [
            Piece(voice, min(seconds, half), at_end, through)
            for at_end in (False, True)
            for seconds, through in (*lengths, (half, ""))
        ]
    return Heard(pieces, *voices_of(pieces, folder, pipeline))


def trials_of(heard: Heard, voices: Container[int]) -> Trials:
    """Trials among ``voices`` that share no audio."""
    own = [row for row, piece in enumerate(heard.pieces) if piece.voice in voices]
    rows = [np.array([row for row in own if heard.pieces[row].at_end == end]) for end in (0, 1)]
    names, channels = (
        [np.array([getattr(heard.pieces[row], name) for row in side]) for side in rows]
        for name in ("voice", "through")
    )
    same = names[0][:, None] == names[1][None]
    there = np.asarray(heard.vectors.any(axis=1))
    usable = there[rows[0]][:, None] & there[rows[1]][None]
    weights = np.zeros(same.shape)
    for first in _CHANNELS:
        for second in _CHANNELS:
            pair = (channels[0] == first)[:, None] & (channels[1] == second)[None] & usable
            for kind in (same, ~same):
                weights[pair & kind] = 1.0 / max(int(np.count_nonzero(pair & kind)), 1)
    for kind in (same, ~same):
        weights[kind] /= 2.0 * weights[kind].sum()
    row_of = {heard.pieces[row]: row for row in own}
    moved = np.mean(
        [
            heard.vectors[row] - heard.vectors[row_of[replace(piece, through="")]]
            for piece, row in row_of.items()
            if piece.through == _TELEPHONE
        ],
        axis=0,
    )
    telephone = tuple((moved / np.linalg.norm(moved)).tolist())
    enrolled, tested = ((heard.vectors[side], heard.seconds[side]) for side in rows)
    return Trials(enrolled, tested, same, weights, (channels[0], channels[1]), telephone)


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
    strangers = other & trials.heard_through("", "")
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


def tell(trials: Sequence[Trials], calibrations: Sequence[Calibration]) -> None:
    """A row of errors for what enrolment and test are heard through, of all trials together."""
    sys.stderr.write(f"| {' | '.join(('enrolment, test', *_FIGURES))} |\n")
    for first, second in (*(("", channel) for channel in _CHANNELS), (_TELEPHONE, _TELEPHONE)):
        odds: list[list[float]] = [[], []]
        rates: list[list[float]] = [[], []]
        for one, by in zip(trials, calibrations, strict=True):
            found, pairs = one.compared(by), one.heard_through(first, second)
            for kind, chosen in enumerate((pairs & one.same, pairs & ~one.same)):
                odds[kind] += found.log_odds[chosen].tolist()
                rates[kind] += found.false_accept[chosen].tolist()
        record = IdentificationRecord(
            voices=len(odds[0]),
            same_odds=tuple(odds[0]),
            stranger_odds=tuple(odds[1]),
            same_rates=tuple(rates[0]),
            stranger_rates=tuple(rates[1]),
        )
        figures = (f"{figure(record):.2f}" for figure in _FIGURES.values())
        name = f"{first or 'plain'}, {second or 'plain'}"
        sys.stderr.write(f"| {name} | {' | '.join(figures)} |\n")


_FIGURES: Mapping[str, Callable[[IdentificationRecord], float]] = {
    "EER %": lambda record: 100.0 * equal_error_rate(record),
    "minDCF": min_dcf,
    "Cllr": cllr,
    "FA at 1 %": lambda record: 100.0 * false_accepts(record, 0.01),
    "FR at 1 %": lambda record: 100.0 * false_rejects(record, 0.01),
    "FA at 5 %": lambda record: 100.0 * false_accepts(record, 0.05),
    "FR at 5 %": lambda record: 100.0 * false_rejects(record, 0.05),
}


def _cllr(odds: Floats, trials: Trials) -> float:
    cost = np.logaddexp(0.0, np.where(trials.same, -odds, odds))
    return float((trials.weights * cost).sum() / np.log(2.0))


def _least(cost: Callable[[Floats], float], start: list[float]) -> Floats:
    return np.asarray(minimize(cost, start, method="Nelder-Mead").x)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("voices", type=Path, help="folder of one file, or folder, a voice")
    parser.add_argument("--mode", default="balanced")
    parser.add_argument("--models", help="model card, by default the bundled one")
    asked = parser.parse_args()
    pipeline = load_pipeline(asked.mode, models=asked.models)
    folder = VoiceFolder.of(asked.voices)
    heard, start = hear(folder, pipeline), pipeline.mode.calibration
    everyone = range(len(folder.items))
    parts = [everyone[part::_PARTS] for part in range(_PARTS)]
    others = [fit(trials_of(heard, {*everyone} - {*part}), start) for part in parts]
    tell([trials_of(heard, part) for part in parts], others)
    fitted = fit(trials_of(heard, everyone), start)
    values = {
        name: value
        for name, value in fitted.rounded(4).items()
        if name.startswith(("across_", "stranger_", "telephone"))
    }
    text = yaml.safe_dump({"calibration": values}, sort_keys=False, default_flow_style=None)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
