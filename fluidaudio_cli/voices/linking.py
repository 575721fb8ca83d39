"""One label for a person in all recordings: speakers of many recordings, linked.

Speakers are made one, the likeliest pair first, while that is likely enough; two of one
recording never are. A person's voice is what all its recordings together say. How rare pairs of
one person are is estimated from the pairs themselves (EM), as it depends on the recordings.

Exact: every speaker is compared with every other, the result depends on no order, and memory
grows with the number of speakers, not of pairs: the nearest one of each is remembered.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.result import Diarization, Speaker
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.known import Directions, Identity
from fluidaudio_cli.turns import Turn

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

# Pairs compared at a time: some 10 arrays of them take less than 100 MB.
_PAIRS = 1_000_000
# Log-odds from which speakers are linked: a wrong link spoils two people, a missing one none. In
# conversations of the readers of the fit it made 7 of 78 links fewer, all wrong.
_LEAST_ODDS = 1.0
# Of log-odds, for the share of pairs that are one person.
_BINS = np.linspace(-30.0, 30.0, 1201)
_EM_PASSES = 200
# Of all pairs: one person in all recordings, and hardly any pair of one.
_SHARES = (1e-6, 0.5)


class LinkedSpeaker(NamedTuple):
    """One speaker of one recording: its unit ``vector`` (d,) of ``seconds``; ``name`` if known."""

    uri: str
    label: str
    vector: NDArray[np.float32]
    seconds: float
    name: str = ""


class Person(NamedTuple):
    """Who a speaker is in all recordings; ``probability`` that this one of its speakers is."""

    name: str
    probability: float


@dataclass
class _Groups:
    """Groups of speakers while they are being merged; row i is gone once it is no ``owner``.

    ``vectors`` (n, d) float32 and ``reliable`` (n,) are kept up to date with ``totals``.
    """

    totals: Floats
    precisions: Floats
    vectors: NDArray[np.float32]
    reliable: Floats
    owner: Numbers
    recording: Numbers
    names: list[str]
    prior: float
    calibration: Calibration

    def merge(self, kept: int, folded: int) -> None:
        self.totals[kept] += self.totals[folded]
        self.precisions[kept] += self.precisions[folded]
        joined = Directions.summed(self.totals[kept][None], self.precisions[kept][None])
        self.vectors[kept], self.reliable[kept] = joined.vectors[0], joined.reliable[0]
        self.owner[self.owner == folded] = kept
        self.names[kept] = self.names[kept] or self.names[folded]

    def odds(self, rows: Numbers) -> Floats:
        """(r, n) log-odds of groups ``rows`` with all; -inf for what cannot be one person."""
        everyone = Directions(self.vectors, self.reliable, np.ones(len(self.owner)))
        own = Directions(self.vectors[rows], self.reliable[rows], np.ones(len(rows)))
        compared = own.compared(everyone, self.calibration)
        odds = compared.log_odds + self.prior
        odds[compared.likeness <= 0.0] = -np.inf
        odds[:, self.owner != np.arange(len(self.owner))] = -np.inf
        for place, row in enumerate(rows.tolist()):
            # Whoever speaks in a recording of this group is somebody else.
            inside = np.isin(self.recording, self.recording[self.owner == row])
            odds[place, self.owner[inside]] = -np.inf
            if self.names[row]:
                others = [bool(name) and name != self.names[row] for name in self.names]
                odds[place, others] = -np.inf
        return odds


def link(
    speakers: Sequence[LinkedSpeaker], calibration: Calibration
) -> dict[tuple[str, str], Person]:
    """Who is whom, by (uri, label): those that several recordings share, or that have a name.

    Named speakers of one name are one person beforehand. The others are called PERSON_00,
    PERSON_01 … in order of their recordings' names. Deterministic.
    """
    ordered = sorted(speakers, key=lambda each: (each.uri, each.label))
    if not ordered:
        return {}
    voices = Directions.of(
        np.stack([each.vector for each in ordered]),
        np.array([each.seconds for each in ordered]),
        calibration,
    )
    uris = {uri: number for number, uri in enumerate(dict.fromkeys(s.uri for s in ordered))}
    groups = _Groups(
        voices.totals,
        voices.precisions,
        voices.vectors.astype(np.float32),
        voices.reliable.copy(),
        np.arange(len(ordered)),
        np.array([uris[each.uri] for each in ordered]),
        [each.name for each in ordered],
        0.0,
        calibration,
    )
    nearest, best = _compared(groups)
    first_of: dict[str, int] = {}
    for row, each in enumerate(ordered):
        if each.name and first_of.setdefault(each.name, row) != row:
            groups.merge(first_of[each.name], row)
    if first_of:
        nearest, best = _nearest(groups, np.arange(len(ordered)))
    while True:
        kept = int(best.argmax())
        if not best[kept] > _LEAST_ODDS:
            break
        kept, folded = sorted((kept, int(nearest[kept])))
        stale = np.isin(nearest, [kept, folded]) | (np.arange(len(best)) == kept)
        groups.merge(kept, folded)
        best[folded] = -np.inf
        own = groups.odds(np.array([kept]))[0]
        nearer = own >= best
        nearest[nearer], best[nearer] = kept, own[nearer]
        again = np.flatnonzero(stale & ~nearer & (groups.owner == np.arange(len(best))))
        again = np.append(again, kept) if kept not in again else again
        nearest[again], best[again] = _nearest(groups, again)
    return _persons(ordered, voices, groups)


class Linker:
    """Results in, the same results with linked speakers out; meanwhile they lie on the disk."""

    def __init__(self, calibration: Calibration) -> None:
        # Before anything is heard.
        calibration.check_across()
        self._calibration = calibration
        self._speakers: list[LinkedSpeaker] = []
        self._count = 0
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed by results

    def add(self, result: Diarization) -> None:
        """Take in a recording; its evidence is not kept."""
        self._speakers += linked_speakers(result)
        pickle.dump(replace(result, evidence=None), self._spool)
        self._count += 1

    def results(self) -> Iterator[Diarization]:
        """All recordings in the order in which they came."""
        persons: dict[str, dict[str, Person]] = {}
        for (uri, label), person in link(self._speakers, self._calibration).items():
            persons.setdefault(uri, {})[label] = person
        self._spool.seek(0)
        with self._spool:
            for _ in range(self._count):
                result: Diarization = pickle.load(self._spool)
                yield relabelled(result, persons.get(result.uri, {}))


def linked_speakers(result: Diarization) -> list[LinkedSpeaker]:
    """The speakers of a recording, as :func:`link` takes them."""
    return [
        LinkedSpeaker(
            result.uri,
            speaker.label,
            speaker.embedding,
            speaker.clean_seconds,
            speaker.identity.name if speaker.identity else "",
        )
        for speaker in result.speakers
    ]


def relabelled(result: Diarization, mine: Mapping[str, Person]) -> Diarization:
    """``result`` with its speakers, by their labels, called as :func:`link` has them."""

    def renamed(turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(
            sorted(
                turn._replace(speaker=mine[turn.speaker].name) if turn.speaker in mine else turn
                for turn in turns
            )
        )

    def called(speaker: Speaker) -> Speaker:
        person = mine.get(speaker.label)
        if person is None:
            return speaker
        found = speaker.identity or Identity("", 0.0, (), 1.0)
        if not found.name:
            found = found._replace(name=person.name, probability=person.probability)
        return replace(speaker, label=person.name, identity=found)

    return replace(
        result,
        turns=renamed(result.turns),
        exclusive_turns=renamed(result.exclusive_turns),
        speakers=tuple(called(speaker) for speaker in result.speakers),
    )


def _compared(groups: _Groups) -> tuple[Numbers, Floats]:
    """The nearest of each, and its log-odds, once the share of pairs of one person is known."""
    from scipy.special import expit  # only who links waits for it

    counts = np.zeros(len(_BINS) - 1)
    for rows in _blocks(groups, np.arange(len(groups.owner))):
        odds = groups.odds(rows)
        counts += np.histogram(odds[np.isfinite(odds)], _BINS)[0]
    middles = (_BINS[:-1] + _BINS[1:]) / 2.0
    share = 0.1
    for _ in range(_EM_PASSES if counts.sum() else 0):
        posterior = expit(middles + np.log(share / (1.0 - share)))
        share = float(np.clip((counts @ posterior) / counts.sum(), *_SHARES))
    groups.prior = float(np.log(share / (1.0 - share)))
    return _nearest(groups, np.arange(len(groups.owner)))


def _nearest(groups: _Groups, rows: Numbers) -> tuple[Numbers, Floats]:
    nearest, best = [np.zeros(0, np.intp)], [np.zeros(0)]
    for part in _blocks(groups, rows):
        odds = groups.odds(part)
        nearest.append(odds.argmax(axis=1))
        gone = groups.owner[part] != part
        best.append(np.where(gone, -np.inf, odds.max(axis=1)))
    return np.concatenate(nearest), np.concatenate(best)


def _blocks(groups: _Groups, rows: Numbers) -> Iterator[Numbers]:
    size = max(1, _PAIRS // len(groups.owner))
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def _persons(
    ordered: Sequence[LinkedSpeaker], voices: Directions, groups: _Groups
) -> dict[tuple[str, str], Person]:
    from scipy.special import expit  # only who links waits for it

    totals, precisions = voices.totals, voices.precisions
    sizes = np.bincount(groups.owner, minlength=len(ordered))
    numbers: dict[int, str] = {}
    persons = {}
    for row, each in enumerate(ordered):
        owner = int(groups.owner[row])
        if sizes[owner] < 2 and not groups.names[owner]:
            continue
        name = groups.names[owner]
        if not name:
            name = numbers.setdefault(owner, f"PERSON_{len(numbers):02d}")
        probability = 1.0
        if sizes[owner] > 1:
            # With the others of that person; its own part of them is taken out.
            rest = groups.totals[owner] - totals[row]
            precision = max(groups.precisions[owner] - precisions[row], 0.0)
            others = Directions.summed(rest[None], np.array([precision]))
            own = Directions.summed(totals[row][None], precisions[row][None])
            odds = own.compared(others, groups.calibration).log_odds[0, 0] + groups.prior
            probability = float(expit(odds))
        persons[each.uri, each.label] = Person(name, probability)
    return persons
