"""The speakers of a whole recording, from all its voices at once.

Voices start in small pure groups (average linkage), groups become speakers while calibrated
evidence says that two are one person (:mod:`counting`), who of them is nobody is found out
(:mod:`surplus`), and all voices, short and overlapped
ones too, are then shared out by a mixture (:mod:`mixture`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.evidence import EvidenceLog, WindowEvidence, unit_length
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.calibration import Calibration
from fluidaudio_cli.diarization.speakers.counting import (
    READINESS,
    count_probabilities,
    crowding,
    least_harmful_split,
    likeliest,
    merge_likely,
    merge_to,
)
from fluidaudio_cli.diarization.speakers.known import Anchors, Identity, KnownPeople
from fluidaudio_cli.diarization.speakers.linkage import average_linkage
from fluidaudio_cli.diarization.speakers.links import Links
from fluidaudio_cli.diarization.speakers.mixture import (
    PIECE,
    Floats,
    Groups,
    Labels,
    Mixture,
    Voices,
    folded,
    shares_of,
    through,
)
from fluidaudio_cli.diarization.speakers.surplus import Removal, removals_of, surplus_among

MOST_COMPARED = 400
"""Voices grouped at once, as time and memory grow with the square; more are grouped in parts."""

# Mean cosine distance up to which voices start in one group. Two people are seldom so near, and
# what starts apart can still become one.
START_DISTANCE = 0.5
LEAST_RELIABLE = 0.2
"""Voices that say less of whose they are (half a second heard purely, two seconds hardly) are given
to speakers, but do not start one while there are others, nor stand for one in a stream's cache."""

# Distance up to which parts are grouped: well within one person.
_PART_DISTANCE = 0.35
# Passes of the mixture before and after the speakers are counted for the second time.
_PASSES = 4
_LAST_PASSES = 3


@dataclass(frozen=True)
class SpeakerLabels:
    """The speakers of a recording.

    ``labels`` (n,): speaker of each voice in order of the windows, -1 for none. ``centroids``
    (k, d) float32: their voices, unit length, zeros where none was long enough. ``seconds``
    (k,): for how long each speaks alone. ``counts``: probability of each number of speakers as
    the evidence has it, whatever the user said; ``found``: the number that it says.
    ``reliable`` (n,): how far each voice says whose it is; 0 for one without a vector of its own.
    ``identities`` (k,): who they are, where voices were known; else empty.
    """

    labels: Labels
    centroids: NDArray[np.float32]
    seconds: Floats
    counts: Mapping[int, float]
    found: int
    reliable: Floats
    identities: tuple[Identity, ...] = ()

    def by_window(self, log: EvidenceLog) -> Iterator[tuple[WindowEvidence, list[int]]]:
        """Every window of ``log`` with the speakers of its voices."""
        used = 0
        for evidence in log:
            end = used + len(evidence.voices)
            yield evidence, self.labels[used:end].tolist()
            used = end


def find_speakers(
    voices: Voices,
    links: Links,
    calibration: Calibration,
    bounds: SpeakerBounds,
    known: KnownPeople | None = None,
) -> SpeakerLabels:
    """Find the speakers and give each local speaker to one of them; some may be ``known``.

    A recording whose voices are all too short to embed has one speaker, with a centroid of
    zeros; one without voices has none. Deterministic.
    """
    count = len(voices.windows)
    mixture = Mixture(voices, links, calibration)
    # Known voices can tell groups apart, but nobody tells apart what starts in one.
    distance = START_DISTANCE if known is None else _PART_DISTANCE
    start = starting_groups(mixture, links, distance)
    if start.max(initial=-1) < 0:
        labels = np.full(count, -1, np.intp)
        labels[np.flatnonzero(np.diff(voices.windows, prepend=-1))] = 0
        found = min(count, 1)
        unheard, seconds = np.zeros((found, voices.vectors.shape[1]), np.float32), np.zeros(found)
        identities = () if known is None else known.recognised(unheard, seconds)
        return SpeakerLabels(
            labels, unheard, seconds, {found: 1.0}, found, mixture.reliable, identities
        )

    decision = Decision(mixture, calibration, known, finds_surplus=calibration.tells_surplus)
    many = decision.settled(start)
    removals = decision.removals(many)
    labels = decision.without(many, removals)
    found = int(labels.max()) + 1
    parts = _Parts.of(mixture, labels, start)
    counts = _counts(found, decision.fewer(labels, removals), removals, parts, calibration)
    if found < bounds.fewest:
        if np.count_nonzero(start >= 0) < bounds.fewest:
            # Told that there are more, voices that say little start groups, too.
            start = starting_groups(mixture, links, distance, bounds.fewest)
            many = decision.settled(start)
            removals = decision.removals(many)
        labels = decision.without(many, removals, bounds.fewest)
    if bounds.most is not None and int(labels.max()) >= bounds.most:
        numbers = merge_to(mixture.groups_of(labels), decision.odds, bounds.most)
        labels = decision.settled_again(through(labels, numbers), bounds.most)
    while (speakers := int(labels.max()) + 1) < bounds.fewest:
        part = _Parts.of(mixture, labels, start).least_harmful()
        if part is None:
            part = _Parts.of(mixture, labels, np.arange(count)).least_harmful()
        if part is None:
            break
        labels = np.where(part, speakers, labels)
    final = mixture.groups_of(labels)
    identities = () if known is None else known.recognised(*decision.spoken(final))
    return SpeakerLabels(
        labels,
        unit_length(final.totals),
        decision.spoken(final)[1],
        counts,
        found,
        mixture.reliable,
        identities,
    )


class Decision:
    """Which groups of a recording's voices are one person, and which are nobody.

    ``known``: people who may be among them. ``finds_surplus``: whether it is found out afterwards
    who is nobody, so that groups need not be merged readily.
    """

    def __init__(
        self,
        mixture: Mixture,
        calibration: Calibration,
        known: KnownPeople | None,
        *,
        finds_surplus: bool,
    ) -> None:
        self._mixture = mixture
        self._calibration = calibration
        self._known = known
        self._readiness = READINESS if finds_surplus else 0.0
        self._against = self._readiness

    def spoken(self, groups: Groups) -> tuple[Floats, Floats]:
        """What each group sounds like, and for how long."""
        return groups.totals, groups.seconds / self._mixture.voices.inside

    def odds(self, groups: Groups) -> Floats:
        """(k, k) log-odds that two groups are one person."""
        likely = groups.same_person(self._calibration, self._mixture.unlike)
        return likely - self._against + self._agreed(groups)

    def settled(self, start: Labels) -> Labels:
        """(n,) speaker of each voice, as starting groups are likely to be one."""
        mixture = self._mixture
        self._against = self._readiness
        begun = mixture.groups_of(start)
        groups, numbers = merge_likely(begun, self.odds)
        if crowd := crowding(len(groups)):
            self._against = self._readiness + crowd
            groups, numbers = merge_likely(begun, self.odds)
        shares = shares_of(through(start, numbers), len(groups))
        shares = mixture.settle(shares, _PASSES, self._anchors(groups))
        groups, numbers = merge_likely(mixture.groups(shares), self.odds)
        return self._shared_out(folded(shares, numbers), groups)

    def settled_again(self, labels: Labels, speakers: int) -> Labels:
        """(n,) speaker of each voice, that of ``labels`` being where it starts."""
        groups = self._mixture.groups_of(labels, speakers)
        return self._shared_out(shares_of(labels, speakers), groups)

    def removals(self, labels: Labels) -> list[Removal]:
        """Who of the speakers ``labels`` is surplus, and who would be next."""
        if not self._calibration.tells_surplus:
            return []
        return removals_of(
            *self.speakers(labels), self.odds, self._agreed, self._calibration, _COUNTS_BESIDE
        )

    def speakers(self, labels: Labels) -> tuple[Groups, Floats]:
        """Of speakers ``labels`` the groups, and (k,) seconds in which each is present."""
        groups = self._mixture.groups_of(labels)
        given = labels >= 0
        present = np.bincount(labels[given], self._mixture.present_seconds[given])
        looks = self._mixture.voices.windows_per_moment
        return groups, present / looks

    def without(self, labels: Labels, removals: list[Removal], fewest: int = 1) -> Labels:
        """``labels`` without those who are surplus, but for those who make up the ``fewest``."""
        speakers = int(labels.max()) + 1
        gone = min(surplus_among(removals), max(0, speakers - fewest))
        if not gone:
            return labels
        return self.settled_again(through(labels, removals[gone - 1].numbers), speakers - gone)

    def fewer(self, labels: Labels, removals: list[Removal]) -> list[float]:
        """Log-odds that one of the speakers ``labels`` is none, then one more, and so on."""
        if removals:
            return [removal.log_odds for removal in removals[surplus_among(removals) :]]
        groups = self._mixture.groups_of(labels)
        found: list[float] = []
        while len(groups) > 1 and len(found) < _COUNTS_BESIDE:
            one, other, likely = likeliest(self.odds(groups))
            found.append(likely)
            groups = groups.merged(one, other)
        return found

    def _shared_out(self, shares: Floats, groups: Groups) -> Labels:
        heard = self._anchors(groups)
        shares = self._mixture.settle(shares, _LAST_PASSES, heard)
        scores = self._mixture.scores(shares, heard)
        return _compact(self._mixture.windows.best(scores))

    def _agreed(self, groups: Groups) -> Floats:
        if self._known is None:
            return np.zeros(groups.split.shape)
        return self._known.agreement(*self.spoken(groups))

    def _anchors(self, groups: Groups) -> Anchors | None:
        return None if self._known is None else self._known.anchors(*self.spoken(groups))


@dataclass(frozen=True)
class _Parts:
    """What could be cut off a speaker: its share of a starting group, or else single voices.

    ``labels`` (n,): part of each voice, -1 for none. ``odds`` (m,): log-odds that a part and
    the rest of its speaker are one person; ``seconds`` (m,): how long it is present;
    ``heard`` (m,): whether it says how its speaker sounds. ``speech_seconds``: of all voices.
    """

    labels: Labels
    odds: Floats
    seconds: Floats
    heard: NDArray[np.bool_]
    speech_seconds: float

    @classmethod
    def of(cls, mixture: Mixture, labels: Labels, start: Labels) -> _Parts:
        """Those of speakers ``labels`` (n,) and starting groups ``start`` (n,)."""
        # Voices too short to start a group are parts of their own: small ones.
        single = len(labels) + np.arange(len(labels))
        parts = _cut(labels, np.where(start >= 0, start, single))
        looks = mixture.voices.windows_per_moment
        speech = float(mixture.present_seconds.sum()) / looks
        two = mixture.beside_rest(parts, labels)
        odds = two.same_person(mixture.calibration, mixture.unlike)[:, 0, 1]
        present = np.bincount(parts[parts >= 0], mixture.present_seconds[parts >= 0])
        return cls(parts, odds, present / looks, two.precisions[:, 0] > 0.0, speech)

    def least_harmful(self) -> NDArray[np.bool_] | None:
        """(n,) voices to make a speaker of their own, told that there is one more."""
        most = max(_HARM_SECONDS, _HARM_SHARE * self.speech_seconds)
        part = least_harmful_split(self.odds, self.seconds, most)
        return None if part is None else np.asarray(self.labels == part)


def _cut(labels: Labels, groups: Labels) -> Labels:
    """(n,) part of each voice: those of one speaker and one group; -1 where it is all of it."""
    given = (labels >= 0) & (groups >= 0)
    parts = np.full(len(labels), -1, np.intp)
    if given.any():
        key = labels[given] * (int(groups.max()) + 1) + groups[given]
        kinds, parts[given] = np.unique(key, return_inverse=True)
        owners = kinds // (int(groups.max()) + 1)
        alone = np.bincount(owners)[owners] < 2
        parts[given] = np.where(alone[parts[given]], -1, parts[given])
    return _compact(parts)


def _counts(
    found: int, fewer: list[float], removals: list[Removal], parts: _Parts, calibration: Calibration
) -> dict[int, float]:
    """Probability of each number of speakers, not far from the one that was found."""
    surplus = [removal.log_odds for removal in removals[: surplus_among(removals)]]
    more = [*reversed(surplus), *np.sort(parts.odds[parts.heard]).tolist()][:_COUNTS_BESIDE]
    return count_probabilities(
        found, fewer, more, calibration.count_temper, calibration.count_margin
    )


# What a hint may cost when the evidence does not bear it out: seconds, or a share of all speech.
_HARM_SECONDS = 0.5
_HARM_SHARE = 0.06
# Numbers of speakers told beside the one found, in each direction.
_COUNTS_BESIDE = 3


def starting_groups(
    mixture: Mixture, links: Links, distance: float = START_DISTANCE, fewest: int = 1
) -> Labels:
    """(n,) small pure group of each voice that says enough to start one, else -1.

    ``distance``: mean cosine distance up to which voices are one group. Where such voices are
    fewer than ``fewest`` speakers, others start groups, too.
    """
    voices = mixture.voices
    core = np.flatnonzero(mixture.clean & (mixture.reliable >= LEAST_RELIABLE))
    if core.size < max(2, fewest):
        core = np.flatnonzero(mixture.clean)
    start = np.full(len(voices.windows), -1, np.intp)
    if core.size:
        start[core] = _start(mixture, links, core, distance)
    return start


def _start(mixture: Mixture, links: Links, core: NDArray[np.intp], distance: float) -> Labels:
    """(m,) small pure group of each voice of ``core``."""
    vectors = mixture.voices.vectors
    owner = _chains(vectors, links, core)
    # Voices of one window are two people: so are the chains they are part of.
    place = np.full(len(vectors), -1, np.intp)
    place[core] = owner
    pairs = place[mixture.windows.pairs()]
    apart: NDArray[np.intp] | None = pairs[(pairs >= 0).all(axis=1)]
    sums, sizes = _summed(vectors[core], np.ones(len(core)), owner)
    while len(sizes) > MOST_COMPARED:
        merged = _in_parts(sums, sizes, apart, _PART_DISTANCE)
        if int(merged.max()) + 1 > _STILL_MANY * len(sizes):
            # What does not condense is grouped regardless of distance, or would never end.
            merged = _in_parts(sums, sizes, apart, None)
        sums, sizes = _summed(sums, sizes, merged)
        owner, apart = merged[owner], None
    tree = average_linkage(sums, sizes, apart)
    return tree.labels(tree.clusters_below(distance))[owner]


def _chains(vectors: NDArray[np.float32], links: Links, core: NDArray[np.intp]) -> Labels:
    """(m,) chain of each voice of ``core``: what goes on from window to window, and sounds alike.

    It saves comparing each moment's voice with itself, as often as windows see it.
    """
    first, second = links.pairs.T
    allowed = np.zeros(len(vectors), bool)
    allowed[core] = True
    sure = links.together - links.apart >= _CHAIN_SECONDS
    rows = np.flatnonzero(sure & allowed[first] & allowed[second])
    alike = np.empty(len(rows))
    for begin in range(0, len(rows), PIECE):
        some = rows[begin : begin + PIECE]
        alike[begin : begin + PIECE] = (vectors[first[some]] * vectors[second[some]]).sum(axis=1)
    rows = rows[alike >= 1.0 - _PART_DISTANCE]
    chain = np.arange(len(vectors))
    taken: set[tuple[int, int]] = set()
    for one, other in zip(first[rows].tolist(), second[rows].tolist(), strict=True):
        # A voice joins the chain it was first linked to; two of one window join no one chain.
        window = int(links.windows[other])
        if chain[other] == other and (int(chain[one]), window) not in taken:
            chain[other] = chain[one]
            taken.add((int(chain[one]), window))
    return _compact(chain[core])


# Seconds together, less those apart, from which two voices of overlapping windows are one.
_CHAIN_SECONDS = 1.0


def _summed(
    sums: NDArray[np.float32], sizes: Floats, labels: Labels
) -> tuple[NDArray[np.float32], Floats]:
    """``sums`` and ``sizes`` of items with the same of ``labels``."""
    count = int(labels.max()) + 1
    totals = np.zeros((count, sums.shape[1]), np.float32)
    np.add.at(totals, labels, sums)
    return totals, np.bincount(labels, sizes, count).astype(np.float64)


# Groups left, of those before, from which parts count as not condensing.
_STILL_MANY = 0.9


def _in_parts(
    sums: NDArray[np.float32],
    sizes: Floats,
    apart: NDArray[np.intp] | None,
    distance: float | None,
) -> Labels:
    """Group consecutive parts on their own, up to ``distance``, or to half as many groups."""
    labels = np.empty(len(sizes), np.intp)
    used = 0
    for first in range(0, len(sizes), MOST_COMPARED):
        part = slice(first, first + MOST_COMPARED)
        forbidden = None
        if apart is not None:
            inside = apart - first
            forbidden = inside[((inside >= 0) & (inside < len(sizes[part]))).all(axis=1)]
        tree = average_linkage(sums[part], sizes[part], forbidden)
        half = (len(sizes[part]) + 1) // 2
        count = half if distance is None else tree.clusters_below(distance)
        labels[part] = tree.labels(count) + used
        used += count
    return labels


def _compact(labels: Labels) -> Labels:
    """Numbered without gaps, in the same order; -1 stays."""
    present = np.flatnonzero(np.bincount(labels[labels >= 0]))
    numbers = np.full(int(labels.max(initial=-1)) + 2, -1, np.intp)
    numbers[present] = np.arange(len(present))
    return np.asarray(numbers[labels])
