"""Fit how voices compare across recordings: ``across_...`` and ``stranger_...`` of a calibration.

Each voice's beginning is compared with the end of every voice: 2 s and 5 s plain, through noise, a
room and a telephone's bandwidth, and half of its audio plain. Every pair of channels counts alike.
``telephone`` is the mean of what its bandwidth adds to the same piece. Strangers are fitted on
plain recordings, where they are more alike than through most channels. What a fit is worth to
people whom it has not heard is told of fifths of the voices, each by a fit to the other four.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
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
    least_cllr,
)
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.known import Comparison, Directions
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.wording import counted

Floats = NDArray[np.float64]

TELEPHONE = "band=4000"
CHANNELS = ("", "noise=20", "noise=10", "room=0.5", TELEPHONE)
"""What a voice is heard through; the empty one is the recording as it is."""

_SECONDS = (2.0, 5.0)
_PARTS = 5
# With fewer a fifth has no two people.
_FEWEST = 2 * _PARTS


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

    def heard_through(self, first: str, second: str, heard: bool = True) -> NDArray[np.bool_]:
        """(k, n) pairs of which each side is, and in which both are ``heard``, or are not."""
        pairs = (self.through[0] == first)[:, None] & (self.through[1] == second)[None]
        return np.asarray(pairs & ((self.weights > 0.0) == heard))

    def compared(self, calibration: Calibration) -> Comparison:
        """Each enrolment with each test."""
        first, second = (Directions.of(*side, calibration) for side in (self.enrolled, self.tested))
        return first.compared(second, calibration)


class Heard(NamedTuple):
    """Every voice's ``pieces``: ``vectors`` (k, d), zeros for none, and ``seconds`` (k,) heard."""

    pieces: Sequence[Piece]
    vectors: NDArray[np.float32]
    seconds: Floats

    @property
    def voices(self) -> range:
        """All of them, by number."""
        return range(1 + max(piece.voice for piece in self.pieces))


def check_enough(folder: VoiceFolder) -> None:
    """``InputError`` where the voices are too few to be parted."""
    if len(folder.items) < _FEWEST:
        raise InputError(
            f"{folder.name} has {counted(len(folder.items), 'voice')}: too few to say how people "
            "compare",
            f"give {_FEWEST} or more: one file, or one folder of files, for each",
        )


def hear(
    folder: VoiceFolder, pipeline: Pipeline, progress: ProgressCallback = no_progress
) -> Heard:
    """All that trials are made of."""
    check_enough(folder)
    pieces = []
    for voice, item in enumerate(folder.items):
        half = float(item.samples.size) / SAMPLE_RATE / 2.0
        lengths = [(seconds, through) for seconds in _SECONDS for through in CHANNELS]
        pieces += [
            Piece(voice, min(seconds, half), at_end, through)
            for at_end in (False, True)
            for seconds, through in (*lengths, (half, ""))
        ]
    return Heard(pieces, *voices_of(pieces, folder, pipeline, progress))


def trials_of(heard: Heard, voices: Container[int]) -> Trials:
    """Trials among ``voices`` that share no audio; ``InputError`` where nobody is heard in them."""
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
    for first, second in product(CHANNELS, repeat=2):
        pair = (channels[0] == first)[:, None] & (channels[1] == second)[None] & usable
        for kind in (same, ~same):
            weights[pair & kind] = 1.0 / max(int(np.count_nonzero(pair & kind)), 1)
    for kind in (same, ~same):
        whole = weights[kind].sum()
        if not whole > 0.0:
            raise InputError("nobody speaks in the voices", "give recordings of people's speech")
        weights[kind] /= 2.0 * whole
    row_of = {heard.pieces[row]: row for row in own}
    moved = np.mean(
        [
            heard.vectors[row] - heard.vectors[row_of[replace(piece, through="")]]
            for piece, row in row_of.items()
            if piece.through == TELEPHONE
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
    begin = [0.7, 0.8, 1.5]

    def shaped(values: Floats) -> Calibration:
        most, half, steepness = np.abs(values)
        return replace(
            start,
            across_reliability=min(float(most), 0.99),
            across_half_seconds=float(half),
            across_steepness=float(steepness),
        )

    cosine = trials.compared(shaped(np.array(begin))).cosine

    def misfit(values: Floats) -> float:
        error = cosine[same] - trials.compared(shaped(values)).likeness[same]
        return float(trials.weights[same] @ error**2)

    found = shaped(minimize(misfit, begin, method="Nelder-Mead").x)
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
    slope, offset = least_cllr(trials.same, trials.weights, trials.compared(plain).log_odds)
    return replace(plain, across_slope=slope, across_offset=offset)


class Fifths(NamedTuple):
    """Trials among each fifth of the voices, and the calibration fitted to the other four."""

    trials: list[Trials]
    calibrations: list[Calibration]

    @classmethod
    def of(cls, heard: Heard, start: Calibration) -> Fifths:
        """Five fits, from ``start``."""
        parts = [heard.voices[part::_PARTS] for part in range(_PARTS)]
        others = [fit(trials_of(heard, {*heard.voices} - {*part}), start) for part in parts]
        return cls([trials_of(heard, part) for part in parts], others)

    def record(self, first: str, second: str) -> IdentificationRecord:
        """All trials in which each side is heard through one of :data:`CHANNELS`."""
        odds: list[list[float]] = [[], []]
        rates: list[list[float]] = [[], []]
        unheard = 0
        for one, by in zip(self.trials, self.calibrations, strict=True):
            found, pairs = one.compared(by), one.heard_through(first, second)
            silent = one.heard_through(first, second, heard=False)
            unheard += int(np.count_nonzero(silent & one.same))
            for kind, chosen in enumerate((pairs & one.same, pairs & ~one.same)):
                odds[kind] += found.log_odds[chosen].tolist()
                rates[kind] += found.false_accept[chosen].tolist()
        return IdentificationRecord(
            voices=len(odds[0]),
            same_odds=tuple(odds[0]),
            stranger_odds=tuple(odds[1]),
            same_rates=tuple(rates[0]),
            stranger_rates=tuple(rates[1]),
            unheard=unheard,
        )

    def worth(self) -> Iterator[str]:
        """What such a fit is worth to voices that it has not heard; lines."""
        for second in CHANNELS:
            record = self.record("", second)
            figures = {
                "EER": equal_error_rate(record),
                "false accepts at 1 %": false_accepts(record, 0.01),
                "false rejects": false_rejects(record, 0.01),
            }
            told = ", ".join(f"{name} {100.0 * figure:.2f} %" for name, figure in figures.items())
            yield f"  plain and {second or 'plain'}: {told}, Cllr {cllr(record):.3f}"


def fit_all(heard: Heard, start: Calibration) -> Calibration:
    """By the trials among all voices."""
    return fit(trials_of(heard, heard.voices), start)
