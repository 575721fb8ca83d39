"""The speakers of a stream, as they are known by now: the last windows are decided anew each time.

A speaker is a few exemplars: of each stretch of its speech the look that heard most, kept by
certainty and recency, so that hours cost what minutes do. Beside these, the voices of the last
windows are grouped and shared out as those of a recording are (:mod:`offline`), so that what was
heard since decides as long as an answer can wait. What was too hasty nevertheless is corrected by
:meth:`OnlineSpeakers.replace`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fluidaudio_cli.diarization.evidence import (
    EvidenceLog,
    WindowEvidence,
)
from fluidaudio_cli.diarization.frames import (
    CROP_SECONDS,
    GRID,
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    WINDOW_SECONDS,
)
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.calibration import SHORTEST, Calibration
from fluidaudio_cli.diarization.speakers.counting import crowding, merge_likely
from fluidaudio_cli.diarization.speakers.known import Anchors
from fluidaudio_cli.diarization.speakers.links import Links, at_once, linked, present, purity
from fluidaudio_cli.diarization.speakers.mixture import (
    Groups,
    Labels,
    Mixture,
    Voices,
    folded,
    shares_of,
    through,
)
from fluidaudio_cli.diarization.speakers.model import OfflineSpeakers
from fluidaudio_cli.diarization.speakers.offline import (
    LEAST_RELIABLE,
    SpeakerLabels,
    starting_groups,
)

Floats = NDArray[np.float64]

MOST_EXEMPLARS = 24
"""Of a speaker: two minutes of speech, beyond which a mean of voices hardly changes."""

# Seconds of speech for which one exemplar stands: windows half a window apart hear it anew.
_STRETCH_SECONDS = WINDOW_SECONDS / 2
# An exemplar this much older counts for half as much: people move, and rooms change.
_HALF_LIFE_SECONDS = 600.0
# Passes of the mixture before and after speakers are counted for the second time.
_PASSES = 3
_LAST_PASSES = 2


class Exemplar(NamedTuple):
    """A voice (d,) that was heard alone for ``seconds``, up to ``time`` (s).

    ``reliable``: how far it says whose it is.
    """

    vector: NDArray[np.float32]
    seconds: float
    reliable: float
    time: float


@dataclass
class CachedSpeaker:
    """What is kept of a speaker.

    ``spoken``: windows that heard it, as many as see a moment counting one; ``alone``: seconds.
    """

    exemplars: list[Exemplar] = field(default_factory=list)
    spoken: float = 0.0
    alone: float = 0.0
    born: float = 0.0
    withdrawn: bool = False

    def hear(self, voice: Exemplar) -> None:
        """Keep ``voice``, in place of a poorer look at the same stretch."""
        kept = self.exemplars
        if kept and voice.time - kept[-1].time < _STRETCH_SECONDS:
            if voice.reliable >= kept[-1].reliable:
                # The stretch keeps its time, so that it ends.
                kept[-1] = voice._replace(time=kept[-1].time)
            return
        kept.append(voice)
        if len(kept) > MOST_EXEMPLARS:
            reliable = np.array([each.reliable for each in kept])
            age = voice.time - np.array([each.time for each in kept])
            worth = reliable * 0.5 ** (age / _HALF_LIFE_SECONDS)
            del kept[int(worth.argmin())]


@dataclass
class Look:
    """A window that is still being decided on.

    ``active`` (frames, n) and ``vectors`` (n, d) of its voices, ``labels`` (n,): their speakers as
    far as known, ``certain`` (n,): whether each is the likeliest whoever else is in the window.
    ``purity`` (n,) and ``at_once``: see :class:`links.Links`. ``links``: with each earlier window
    that sees some of the same, by its start.
    """

    evidence: WindowEvidence
    begin: int
    active: NDArray[np.float32]
    vectors: NDArray[np.float32]
    clean: Floats
    purity: Floats
    at_once: Floats
    labels: Labels
    certain: NDArray[np.bool_]
    links: dict[int, Floats]

    @property
    def end(self) -> float:
        """Seconds."""
        return (self.begin + WINDOW_SAMPLES) / SAMPLE_RATE


class OnlineSpeakers:
    """A :class:`SpeakerModel` that knows by each window who speaks in it.

    Windows are ``step_samples`` apart; those that ``offline`` would see, one of ``every``, it is
    given too, and :meth:`finish` is its: what a stream ends with is what a file would have.
    """

    def __init__(
        self,
        calibration: Calibration,
        offline: OfflineSpeakers,
        step_samples: int,
        every: int,
        crops: int,
        bounds: SpeakerBounds,
    ) -> None:
        self.speakers: list[CachedSpeaker] = []
        self.recent: deque[Look] = deque()
        self.decided: deque[Look] = deque()
        """Looks before these, whose speakers stay; who listens drops what it needs no more."""
        self._calibration = calibration
        self._offline = offline
        self._step = step_samples
        self._looks = WINDOW_SAMPLES / step_samples
        self._every = every
        self._most_heard = crops * CROP_SECONDS
        self._most = bounds.most

    @property
    def evidence(self) -> EvidenceLog:
        """What :meth:`finish` labels: the windows of the offline model."""
        return self._offline.evidence

    def update(self, evidence: WindowEvidence) -> None:
        """Take in the next window: the speakers of :attr:`recent` are decided anew."""
        self.keep(evidence)
        self.label(evidence)

    def keep(self, evidence: WindowEvidence) -> None:
        """Take in a window for the end only."""
        if self.on_grid(evidence.number):
            self._offline.update(replace(evidence, number=evidence.number // self._every))

    def on_grid(self, number: int) -> bool:
        """Whether the offline model sees window ``number``."""
        return number >= 0 and number % self._every == 0

    def finish(self, bounds: SpeakerBounds) -> SpeakerLabels:
        """The offline model's decision on all of :attr:`evidence`."""
        return self._offline.finish(bounds)

    def label(self, evidence: WindowEvidence) -> None:
        """As :meth:`update`, of a window that is not kept."""
        self._look(evidence)
        self._decide()

    def _look(self, evidence: WindowEvidence) -> None:
        """Take in a window; those that it shares nothing with are decided for good."""
        begin = evidence.number * self._step
        while self.recent and begin - self.recent[0].begin >= WINDOW_SAMPLES:
            self._cache(self.recent[0])
            self.decided.append(self.recent.popleft())
        voices = evidence.voices
        active = present(evidence.presence(), [voice.slot for voice in voices])
        vectors = np.array([voice.vector for voice in voices], np.float32)
        links = {
            other.begin: self._strength(other, begin, active)
            for other in self.recent
            if other.labels.size and voices
        }
        clean = np.array([voice.clean_seconds for voice in voices], np.float64)
        unknown = np.full(len(voices), -1, np.intp)
        self.recent.append(
            Look(
                evidence,
                begin,
                active,
                vectors,
                clean,
                purity(active),
                at_once(active),
                unknown,
                np.zeros(len(voices), bool),
                links,
            )
        )

    def _cache(self, look: Look) -> None:
        """Let its speakers keep what a window heard."""
        heard = np.clip(look.clean, SHORTEST, self._most_heard)
        reliable = self._calibration.reliability_of(heard, look.purity)
        for row, label in enumerate(look.labels.tolist()):
            if label < 0:
                continue
            speaker = self.speakers[label]
            speaker.spoken += 1.0 / self._looks
            speaker.alone += look.clean[row] / self._looks
            # Given to somebody for want of another, it would make that one sound like two.
            sure = look.certain[row] and reliable[row] >= LEAST_RELIABLE
            if sure and look.vectors[row].any():
                vector, says = look.vectors[row].copy(), float(reliable[row])
                speaker.hear(Exemplar(vector, float(heard[row]), says, look.end))

    def _decide(self) -> None:
        """Who speaks in the last windows, by all that was heard until now."""
        looks = [look for look in self.recent if look.labels.size]
        if not looks:
            return
        sizes = [look.labels.size for look in looks]
        clean = np.concatenate([look.clean for look in looks])
        voices = Voices(
            np.repeat(np.arange(len(looks)), sizes),
            np.concatenate([look.vectors for look in looks]),
            clean,
            np.minimum(clean, self._most_heard),
            self._looks,
        )
        links = self._links(looks, sizes)
        mixture = Mixture(voices, links, self._calibration)
        cached = [n for n, each in enumerate(self.speakers) if each.exemplars]
        prior = self._prior(cached, voices.vectors.shape[1])
        start = starting_groups(mixture, links)
        if start.max(initial=-1) < 0 and not cached:
            return
        begun = np.where(start >= 0, start + len(cached), -1)
        fresh = _added(prior, mixture.groups_of(begun, len(cached)))
        crowd = crowding(len(cached))

        def odds(groups: Groups) -> Floats:
            likely = groups.same_person(self._calibration, mixture.unlike)
            # Only with those in the cache: of the last seconds' groups few are of many people.
            likely[: len(cached)] -= crowd
            likely[:, : len(cached)] -= crowd
            likely[: len(cached), : len(cached)] = -np.inf
            return likely

        def anchors(count: int) -> Anchors:
            more = count - len(cached)
            return Anchors(
                np.pad(prior.totals, ((0, more), (0, 0))),
                np.pad(prior.precisions, (0, more)),
                np.pad(np.array([self.speakers[n].spoken for n in cached]), (0, more)),
            )

        groups, numbers = merge_likely(fresh, odds)
        most = len(groups) if self._most is None else max(self._most, len(cached))
        count = min(len(groups), most)
        labels = through(begun, numbers)
        labels[labels >= count] = -1
        shares = mixture.settle(shares_of(labels, count), _PASSES, anchors(count))
        groups, numbers = merge_likely(_added(prior, mixture.groups(shares)), odds)
        shares = mixture.settle(folded(shares, numbers), _LAST_PASSES, anchors(len(groups)))
        scores = mixture.scores(shares, anchors(len(groups)))
        found = mixture.windows.best(scores)
        certain = np.split(scores.argmax(axis=1) == found, np.cumsum(sizes)[:-1])
        for look, sure in zip(looks, certain, strict=True):
            look.certain = sure
        self._name(looks, sizes, found, cached)

    def _name(
        self, looks: Sequence[Look], sizes: Sequence[int], found: Labels, cached: Sequence[int]
    ) -> None:
        """Give the speakers ``found`` their numbers: those beyond ``cached`` as before, or new."""
        before = np.concatenate([look.labels for look in looks])
        fresh = np.unique(found[found >= len(cached)])
        waiting = [
            n for n, each in enumerate(self.speakers) if not each.exemplars and not each.withdrawn
        ]
        together = np.array(
            [[np.sum((found == new) & (before == old)) for old in waiting] for new in fresh]
        )
        numbers = dict(enumerate(cached))
        if together.size:
            for row, column in zip(*linear_sum_assignment(-together), strict=True):
                if together[row, column]:
                    numbers[int(fresh[row])] = waiting[column]
        now = self.recent[-1].end
        unused = [number for number in waiting if number not in numbers.values()]
        for label in fresh.tolist():
            if label in numbers:
                continue
            if self._most is not None and len(numbers) + len(unused) >= self._most and unused:
                # There are no more people than that: it must be one who has a number.
                numbers[label] = unused.pop(0)
            else:
                numbers[label] = len(self.speakers)
                self.speakers.append(CachedSpeaker(born=now))
        labels = np.array([numbers[label] for label in found.tolist()], np.intp)
        for look, part in zip(looks, np.split(labels, np.cumsum(sizes)[:-1]), strict=True):
            look.labels = part

    def _prior(self, cached: Sequence[int], size: int) -> Groups:
        """What the cache knows of some speakers."""
        totals, precisions = np.zeros((len(cached), size)), np.zeros(len(cached))
        for row, number in enumerate(cached):
            exemplars = self.speakers[number].exemplars
            reliable = np.array([each.reliable for each in exemplars])
            weights = np.sqrt(reliable) / (1.0 - reliable)
            totals[row] = weights @ np.stack([each.vector for each in exemplars])
            precisions[row] = (reliable / (1.0 - reliable)).sum()
        none = np.zeros((len(cached), len(cached)))
        alone = np.array([self.speakers[number].alone for number in cached])
        return Groups(totals, precisions, alone, none, none)

    def _links(self, looks: Sequence[Look], sizes: Sequence[int]) -> Links:
        """What the last windows say of each other's voices."""
        ends = np.cumsum(sizes).tolist()
        rows = {
            look.begin: slice(end - size, end)
            for look, size, end in zip(looks, sizes, ends, strict=True)
        }
        both = np.full((2, ends[-1], ends[-1]), np.nan)
        for look in looks:
            for begin, strength in look.links.items():
                if begin in rows:
                    both[:, rows[look.begin], rows[begin]] = strength
        pairs = np.argwhere(~np.isnan(both[0]))
        together, apart = both[:, pairs[:, 0], pairs[:, 1]]
        present = np.concatenate([look.active.sum(axis=0, dtype=np.float64) for look in looks])
        return Links(
            pairs[:, ::-1],
            together,
            apart,
            np.zeros(len(pairs)),
            present * GRID.hop_seconds,
            np.repeat(np.arange(len(looks)), sizes),
            np.concatenate([look.purity for look in looks]),
            np.concatenate([look.at_once for look in looks]),
        )

    def replace(self, speakers: Iterable[tuple[int, Sequence[Exemplar]]]) -> None:
        """Take over what was found to be the exemplars of some speakers, in order of time."""
        for number, exemplars in speakers:
            while number >= len(self.speakers):
                self.speakers.append(CachedSpeaker())
            self.speakers[number].exemplars = []
            for exemplar in exemplars:
                self.speakers[number].hear(exemplar)
            heard = sum(each.seconds for each in self.speakers[number].exemplars)
            self.speakers[number].alone = max(self.speakers[number].alone, heard)

    def withdraw(self, number: int, heir: int | None) -> None:
        """Speaker ``number`` is nobody of its own, but ``heir``, if that is known."""
        gone = self.speakers[number]
        gone.withdrawn, gone.exemplars = True, []
        if heir is not None:
            self.speakers[heir].spoken += gone.spoken
            self.speakers[heir].alone += gone.alone
        for look in (*self.decided, *self.recent):
            look.labels[look.labels == number] = -1 if heir is None else heir

    def _strength(self, before: Look, begin: int, active: NDArray[np.float32]) -> Floats:
        """(2, n, m) seconds together and apart of this window's voices and an earlier one's."""
        offset = GRID.window_offset(begin) - GRID.window_offset(before.begin)
        _, together, apart, _ = linked(before.active, active, offset, 0, 0)
        shape = 2, before.active.shape[1], active.shape[1]
        return np.asarray(np.concatenate([together, apart]).reshape(shape).swapaxes(1, 2))


def _added(prior: Groups, groups: Groups) -> Groups:
    """``groups``, the first of which have what ``prior`` knows of them besides."""
    more = len(groups) - len(prior)
    return Groups(
        groups.totals + np.pad(prior.totals, ((0, more), (0, 0))),
        groups.precisions + np.pad(prior.precisions, (0, more)),
        groups.seconds + np.pad(prior.seconds, (0, more)),
        groups.split,
        groups.linked,
    )
