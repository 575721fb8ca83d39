"""When whom speaks: a model of turn taking, fitted to real meetings.

A conversation is a chain of turns that hold the floor. After a turn its speaker goes on after a
pause (``same``), someone else does (``pause``), or someone else starts before the end
(``overlap``); which of the three, how long the pause or the overlap is and how often others
interject while the turn lasts depend on how long the turn is. Interjections (backchannels such
as "mhm", and whatever else lies wholly within another's turn) come at a rate per second. Each
speaker has a standing that decides how often the floor is theirs and how long they keep it.

The shapes are quantile tables counted in the only-words references of AMI's training meetings
(``tools/fit_turn_taking.py``, which also states how well conversations agree with meetings).
The idea of drawing pauses and overlaps from a corpus is that of F. Landini et al., "From
simulated mixtures to simulated conversations", Interspeech 2022.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import InputError

Table = NDArray[np.float64]

KINDS = ("same", "pause", "overlap")
"""How the floor goes on after a turn."""

SAME, PAUSE, OVERLAP = range(3)

_OWN_GAP_SECONDS = 0.3
"""A speaker who starts again sooner than this after their own end is one turn, not two."""

_INTRODUCED_BY = 0.8
"""Share of the conversation by which everyone has had the floor: a speaker asked for is there."""

INTRODUCTION_SECONDS = 3.0
"""Least length of a speaker's first turn, unless asked otherwise: a person of one short "yes" is no
fair count."""

_FILLED = 0.75
"""Most of the time left that one turn takes, since words may last longer than asked for; whoever
has not spoken yet gets an equal part of it."""

_OVERLAP_STEPS = 14
"""Halvings of the search for an overlap share: finer than what one turn more or less changes."""

_SCALE_LIMIT = 8.0
"""Natural logarithm of the most that overlaps are made rarer or likelier: e^8 is never, always."""


class Utterance(NamedTuple):
    """One turn: ``speaker`` by number; ``interjected``: wholly within another's turn.

    ``words_ms``: where in the speaker's voice its words begin. ``level``: dB over the speaker's.
    """

    speaker: int
    start_ms: int
    length_ms: int
    interjected: bool
    words_ms: int = 0
    level: float = 0.0

    @property
    def end_ms(self) -> int:
        """Where it ends."""
        return self.start_ms + self.length_ms

    @property
    def start(self) -> float:
        """In seconds."""
        return self.start_ms / 1000

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.length_ms / 1000

    @property
    def end(self) -> float:
        """In seconds."""
        return self.end_ms / 1000


Fit = Callable[[int, float], tuple[int, int]]
"""(speaker, seconds wanted) to where the speaker's next words begin and how long they last, ms."""


@dataclass(frozen=True)
class TurnModel:
    """The fitted parameters.

    ``edges`` (b-1,) seconds split turns by length into b classes. By class: ``kinds`` (b, 3)
    probabilities of KINDS, ``depth`` (b, q) quantiles of the overlap's seconds, ``rate`` (b,)
    interjections per second, ``interjection`` (b, q) quantiles of their seconds. By kind:
    ``gap`` (2, q) quantiles of the pause of ``same`` and ``pause``, ``length`` (3, q) of the turn's
    seconds. ``back``: how much likelier the speaker before the last is than another of equal
    standing. ``standing``: standard deviation of the logarithm of the speakers' weights;
    ``hold``: how far one standard deviation of standing shifts the length's normal score.
    ``spread``: standard deviation, between conversations, of the logarithm of the odds of overlap.
    ``overlap_scale``: how much likelier overlaps (odds) and interjections are than in meetings.
    ``introduction``: least seconds of a speaker's first turn.
    """

    edges: Table
    kinds: Table
    depth: Table
    rate: Table
    interjection: Table
    gap: Table
    length: Table
    back: float
    standing: float
    hold: float
    spread: float
    overlap_scale: float = 1.0
    introduction: float = INTRODUCTION_SECONDS

    def of_length(self, seconds: float) -> int:
        """The class of a turn's length."""
        return bisect_right(self.edges.tolist(), seconds)

    def kind(self, length_class: int, u: float) -> int:
        """Which of KINDS follows, at ``u`` of [0, 1)."""
        same, pause, overlap = self.kinds[length_class]
        overlap *= self.overlap_scale
        u *= same + pause + overlap
        return SAME if u < same else PAUSE if u < same + pause else OVERLAP


@cache
def shipped_model() -> TurnModel:
    """The model that comes with the program."""
    return model_from(json.loads(Path(__file__).with_name("turn_taking.json").read_text("utf-8")))


def model_from(document: dict[str, Any]) -> TurnModel:
    """The model of a parsed ``turn_taking.json``."""
    arrays = ("edges", "kinds", "depth", "rate", "interjection", "gap", "length")
    parameters: dict[str, Any] = {
        name: np.asarray(document[name], np.float64) for name in arrays
    } | {name: float(document[name]) for name in ("back", "standing", "hold", "spread")}
    return TurnModel(**parameters)


def converse(
    model: TurnModel,
    speakers: int,
    seconds: float,
    rng: np.random.Generator,
    fit: Fit | None = None,
) -> list[Utterance]:
    """A conversation of ``speakers`` within ``seconds``, sorted by start.

    ``fit`` says how long the words that a speaker has for about that many seconds last; by
    default exactly as long. Raises ``InputError`` when not everyone asked for gets a word in.
    """
    found = _Conversation(model, speakers, seconds, rng, fit or _as_wanted).run()
    silent = speakers - len({utterance.speaker for utterance in found})
    if silent:
        raise InputError(
            f"{silent} of {speakers} speakers get no word in within {seconds:g} s",
            "make the conversation longer or ask for fewer speakers",
        )
    return found


def overlap_share(utterances: Sequence[Utterance]) -> float:
    """Time in which two or more speak, of the time in which anyone does."""
    edges = sorted([(u.start, 1) for u in utterances] + [(u.end, -1) for u in utterances])
    speech = overlap = before = 0.0
    active = 0
    for time, step in edges:
        speech += (time - before) * (active > 0)
        overlap += (time - before) * (active > 1)
        active, before = active + step, time
    return overlap / speech if speech else 0.0


def with_overlap(make: Callable[[TurnModel], list[Utterance]], share: float) -> list[Utterance]:
    """What ``make`` returns for the shipped model, its overlaps scaled until they take ``share``.

    ``make`` must draw the same random numbers at each call. The nearest conversation found is
    returned: few turns cannot have any share.
    """
    low, high = -_SCALE_LIMIT, _SCALE_LIMIT
    best: list[Utterance] = []
    missed = math.inf
    for _ in range(_OVERLAP_STEPS):
        middle = (low + high) / 2
        made = make(replace(shipped_model(), overlap_scale=math.exp(middle)))
        found = overlap_share(made)
        if abs(found - share) < missed:
            best, missed = made, abs(found - share)
        low, high = (middle, high) if found < share else (low, middle)
    return best


class _Conversation:
    """One draw from the model."""

    def __init__(
        self, model: TurnModel, speakers: int, seconds: float, rng: np.random.Generator, fit: Fit
    ) -> None:
        lively = math.exp(model.spread * float(rng.standard_normal()))
        self._model = replace(model, overlap_scale=model.overlap_scale * lively)
        self._seconds = seconds
        self._key = int(rng.integers(2**62))
        self._rng = rng
        self._fit = fit
        self._scores = rng.standard_normal(speakers)
        self._weights = np.exp(model.standing * self._scores)
        self._free = np.zeros(speakers)  # when each may speak again
        self._unheard = set(range(speakers))
        self._speakers = speakers
        self._made: list[Utterance] = []

    def run(self) -> list[Utterance]:
        model = self._model
        before = -1
        start = self._at(model.gap[PAUSE], self._rng.random())
        floor = self._speak(self._choose(start, (), -1), start, PAUSE)
        for number in count():
            if floor is None:
                break
            length = model.of_length(floor.seconds)
            # Each turn has random numbers of its own, so that models that differ a little make
            # conversations that differ a little.
            self._rng = np.random.default_rng([self._key, number])
            u, extent = self._rng.random(2)
            kind = model.kind(length, u)
            if kind == OVERLAP:
                # Once all that can overlap does, only deeper overlaps give more.
                deeper = max(1.0, model.overlap_scale) ** 0.5
                depth = min(self._at(model.depth[length], extent) * deeper, floor.seconds * 0.98)
                start = max(floor.end - depth, floor.start)
            else:
                start = floor.end + self._at(model.gap[kind], extent)
            speaker = floor.speaker
            if kind != SAME or self._overdue(start):
                speaker = self._choose(start, (floor.speaker,), before)
            if speaker < 0:  # everybody else is speaking, or there is nobody else
                speaker, start = floor.speaker, floor.end + self._at(model.gap[SAME], extent)
            if speaker != floor.speaker:
                before = floor.speaker
            following = self._speak(speaker, start, kind, floor.end)
            self._interject(floor, length)
            floor = following
        return sorted(self._made, key=lambda made: (made.start, made.speaker))

    def _speak(
        self, speaker: int, start: float, kind: int, floor_end: float = 0.0
    ) -> Utterance | None:
        """Give ``speaker`` the floor at ``start``; None when the time is up."""
        score = _normal_score(self._rng.random()) + self._model.hold * self._scores[speaker]
        wanted = self._at(self._model.length[kind], _normal_cdf(score))
        waiting = len(self._unheard - {speaker})
        left = _FILLED * (self._seconds - start) / (waiting + 1)
        wanted = min(wanted, max(left, 0.0))
        if speaker in self._unheard:
            wanted = max(wanted, self._model.introduction)
        if start < floor_end:  # an overlap outlasts what it overlaps, or it were an interjection
            wanted = max(wanted, floor_end - start + _OWN_GAP_SECONDS)
        return self._add(speaker, start, wanted, interjected=False)

    def _interject(self, floor: Utterance, length: int) -> None:
        model, draw = self._model, self._rng.random
        # Of a fixed, fitted and scaled rate: the waiting times of a Poisson process.
        time = floor.start
        rate = model.rate[length] * min(model.overlap_scale, 4.0)
        while rate > 0:
            wait, size = draw(), draw()
            time += -math.log1p(-wait) / rate
            seconds = self._at(model.interjection[length], size)
            if time >= floor.end:
                return
            speaker = self._choose(time, (floor.speaker,), -1)
            if speaker >= 0 and time + seconds < floor.end and speaker not in self._unheard:
                self._add(speaker, time, seconds, interjected=True)

    def _choose(self, start: float, but: tuple[int, ...], before: int) -> int:
        """Who speaks at ``start``, by standing, of those who are silent then; -1 for nobody."""
        u = self._rng.random()
        weights = np.where(self._free <= start, self._weights, 0.0)
        if self._overdue(start):
            weights[[s for s in range(self._speakers) if s not in self._unheard]] = 0.0
        if before >= 0:
            weights[before] *= self._model.back
        weights[list(but)] = 0.0
        total = np.cumsum(weights)
        if total[-1] <= 0:
            return -1
        return int(np.searchsorted(total, u * total[-1], side="right"))

    def _overdue(self, start: float) -> bool:
        """Whether it is time for somebody who has not spoken yet."""
        heard = self._speakers - len(self._unheard)
        return (
            bool(self._unheard) and start > _INTRODUCED_BY * self._seconds * heard / self._speakers
        )

    def _add(
        self, speaker: int, start: float, wanted: float, *, interjected: bool
    ) -> Utterance | None:
        words_ms, length_ms = self._fit(speaker, wanted)
        made = Utterance(speaker, round(start * 1000), length_ms, interjected, words_ms)
        if made.end > self._seconds:
            return None
        self._unheard.discard(speaker)
        self._free[speaker] = made.end + _OWN_GAP_SECONDS
        self._made.append(made)
        return made

    @staticmethod
    def _at(table: Table, u: float) -> float:
        """The value at quantile ``u`` of a table of equally spaced quantiles."""
        place = u * (len(table) - 1)
        low = min(int(place), len(table) - 2)
        return float(table[low] + (place - low) * (table[low + 1] - table[low]))


def _as_wanted(_: int, wanted: float) -> tuple[int, int]:
    return 0, max(round(wanted * 1000), 1)


def _normal_cdf(score: float) -> float:
    return 0.5 * math.erfc(-score / math.sqrt(2))


def _normal_score(u: float) -> float:
    return NormalDist().inv_cdf(min(max(u, 1e-9), 1 - 1e-9))
