"""A stream's evidence in, turns out: at once, corrected in the background, settled at the end.

What is final after the latency stays, unless a revision says otherwise by name and span. Every
so often all evidence of the last hour is clustered again beside the stream; speakers keep the
names under which they have spoken most. At the end the same evidence gives what ``diarize`` gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog, WindowEvidence
from fluidaudio_cli.diarization.frames import (
    CROP_SECONDS,
    GRID,
    SAMPLE_RATE,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
)
from fluidaudio_cli.diarization.ledger import Ledger, Revision, overlap_seconds, partners
from fluidaudio_cli.diarization.local_speakers import MIN_CLEAN_SECONDS
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.result import Conclusion
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.known import KnownPeople
from fluidaudio_cli.diarization.speakers.offline import LEAST_RELIABLE, SpeakerLabels
from fluidaudio_cli.diarization.speakers.online import Exemplar, OnlineSpeakers
from fluidaudio_cli.diarization.turn_builder import TurnBuilder, build_turns
from fluidaudio_cli.turns import Turn

# Evidence that is clustered again: an hour of windows 5 s apart takes some hundred milliseconds.
_MOST_WINDOWS = 720
# What a vote on a frame is worth, by the seconds of its window that follow (squared, of those from
# which it is whole): who has only begun to speak is easily taken for somebody else. On simulated
# conversations it is worth 3 to 5 % of the error at latencies of 1 and 2 s.
_FOLLOWED_SECONDS = 2.0
_LEAST_TRUST = 0.05
_FOLLOWING = GRID.hop_seconds * np.arange(WINDOW_FRAMES, 0, -1)
_TRUST = np.clip(_FOLLOWING / _FOLLOWED_SECONDS, _LEAST_TRUST, 1.0).astype(np.float32) ** 2
# How often, in seconds of audio, and as a share of what is clustered, of which an hour takes 0.4 s.
_REFINE_SECONDS = 10.0
_REFINE_SHARE = 0.01
# How long later the result is taken, whether or not it was ready sooner: the same stream gives
# the same turns on any machine.
_REFINE_DELAY_SECONDS = 1.0
# Somebody new is not withdrawn before so much more was heard.
_TRIAL_SECONDS = 15.0
# How often what was said of the last seconds is set against what has been heard since.
_LOOK_BACK_SECONDS = 5.0
# A change of one frame is left to the end of the stream.
_SHORTEST_REVISION_SECONDS = 0.02


@dataclass(frozen=True)
class Change:
    """What one window changed.

    ``final``: turns that are given out now, for good but for revisions. ``revisions`` of earlier
    ones. ``created``, ``confirmed`` and ``withdrawn``: speakers, by name. ``settled_seconds``:
    what is before it does not change any more.
    """

    settled_seconds: float
    final: tuple[Turn, ...] = ()
    revisions: tuple[Revision, ...] = ()
    created: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Refined:
    """Speakers found anew: ``turns`` by number, up to ``end`` s, and what each sounds like.

    ``names``: of those who were recognised.
    """

    turns: tuple[Turn, ...]
    start: float
    end: float
    exemplars: Mapping[str, Sequence[Exemplar]]
    names: Mapping[str, str]


class LiveTurns:
    """One stream. ``mode``: the offline mode whose windows, one of ``every``, are kept.

    ``step_samples`` between windows; ``latency_samples`` after which a moment is settled, at
    least a step. ``known``: people to be recognised.
    """

    def __init__(
        self,
        mode: ModeConfig,
        step_samples: int,
        latency_samples: int,
        bounds: SpeakerBounds = SpeakerBounds(),  # noqa: B008 - immutable
        known: KnownPeople | None = None,
    ) -> None:
        self.ledger = Ledger()
        self._mode, self._bounds, self._known = mode, bounds, known
        self._step = step_samples
        self._hold = latency_samples - step_samples
        self._grid = mode.windows.step_samples
        self.online = OnlineSpeakers(
            mode.calibration,
            speaker_model(mode, known=known),
            step_samples,
            self._grid // step_samples,
            mode.crops.per_speaker,
            bounds,
        )
        self._builder = TurnBuilder(mode.reconstruction, step_samples, trust=_TRUST)
        self._names: list[str] = []  # of the online model's speakers, by number
        self._used = 0
        self._confirmed: set[str] = set()
        self._end = 0
        self._refining: tuple[int, Future[_Refined]] | None = None
        self._refined_at = 0
        self._refined_windows = 1  # one alone is not worth it
        self._refined_until = 0.0
        self._looked_back_at = 0
        self._pool = ThreadPoolExecutor(1, "refinement")

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of those who are taken for somebody now."""
        alive = zip(self._names, self.online.speakers, strict=True)
        return tuple(name for name, speaker in alive if not speaker.withdrawn)

    def push(self, evidence: WindowEvidence) -> Change:
        """Take in the next window."""
        self._end = evidence.number * self._step + WINDOW_SAMPLES
        self.online.label(evidence)
        self._answer()
        return self._settled(self._name_new())

    def skip(self, number: int) -> Change:
        """Nobody is heard in the step that window ``number`` ends with."""
        self._end = number * self._step + WINDOW_SAMPLES
        return self._settled(())

    def tentative(self) -> tuple[Turn, ...]:
        """Turns that are not final yet."""
        return self._named(self._builder.preview(self._end))

    def finish(self, samples: int, last: WindowEvidence | None = None) -> tuple[Change, Conclusion]:
        """The end after ``samples``: what is left, and what all evidence says.

        ``last``: a window that ends there, which a file would not have. Names of the conclusion
        are the stream's.
        """
        self.close()
        told = set(self.speakers)
        if last is not None:
            self.online.label(last)
            self._name_new()
            self._answer()
        rest = self._named(self._builder.finish(samples).turns)
        self.ledger.add(rest)
        evidence = self.online.evidence
        evidence.samples = samples
        found = conclude(self.online, self._mode, self._bounds, StageClock())
        recognised = {
            speaker.label: speaker.identity.name
            for speaker in found.speakers
            if speaker.identity is not None and speaker.identity.name
        }
        names = self._keep_names(found.turns, recognised) | recognised
        turns = tuple(sorted(turn._replace(speaker=names[turn.speaker]) for turn in found.turns))
        exclusive = tuple(t._replace(speaker=names[t.speaker]) for t in found.exclusive_turns)
        seconds = samples / SAMPLE_RATE
        revisions = tuple(self.ledger.changes(turns, 0.0, seconds))
        self.ledger.apply(revisions)
        after = self.ledger.speakers()
        change = Change(
            seconds,
            rest,
            revisions,
            tuple(sorted(after - told)),
            tuple(sorted(after - self._confirmed)),
            tuple(sorted(told - after)),
        )
        speakers = tuple(replace(each, label=names[each.label]) for each in found.speakers)
        return change, Conclusion(turns, exclusive, speakers, found.notes, found.speaker_counts)

    def close(self) -> None:
        """End what runs in the background."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _answer(self) -> None:
        """Vote anew on what is not settled."""
        self._builder.forget()
        self._vote(self._builder)

    def _vote(self, builder: TurnBuilder) -> None:
        for look in (*self.online.decided, *self.online.recent):
            builder.add(look.evidence, look.labels.tolist())

    def _settled(self, created: tuple[str, ...]) -> Change:
        frontier = GRID.frames_within(max(0, self._end - self._hold))
        final = self._named(self._builder.settle(frontier))
        decided = self.online.decided
        while decided and GRID.window_offset(decided[0].begin) + WINDOW_FRAMES <= frontier:
            decided.popleft()
        self.ledger.add(final)
        change = self._refine(Change(GRID.boundary(frontier), final, created=created))
        if self._end - self._looked_back_at < _LOOK_BACK_SECONDS * SAMPLE_RATE:
            return change
        return replace(change, revisions=self._look_back())

    def _named(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(turn._replace(speaker=self._names[int(turn.speaker)]) for turn in turns)

    def _name_new(self) -> tuple[str, ...]:
        """Names for the online model's new speakers."""
        created = [self._next_name() for _ in self.online.speakers[len(self._names) :]]
        self._names += created
        return tuple(created)

    def _next_name(self) -> str:
        name = f"SPEAKER_{self._used:02d}"
        self._used += 1
        return name

    # Refinement

    def _look_back(self) -> tuple[Revision, ...]:
        """Correct moments settled of late by what their windows say since they were decided anew.

        Only those that the background has not decided on.
        """
        self._looked_back_at = self._end
        first = GRID.frames_within(max(0, self._end - WINDOW_SAMPLES))
        begin = max(self._refined_until, GRID.boundary(first))
        end = GRID.boundary(self._builder.open_since())
        if begin >= end:
            return ()
        builder = TurnBuilder(self._mode.reconstruction, self._step, trust=_TRUST, first=first)
        self._vote(builder)
        turns = self._named(builder.finish(self._end).turns)
        revisions = self.ledger.changes(turns, begin, end, _SHORTEST_REVISION_SECONDS)
        self.ledger.apply(revisions)
        return tuple(revisions)

    def _refine(self, change: Change) -> Change:
        """``change`` with what the background found, where that is due; begin anew."""
        if self._refining is not None and self._end >= self._refining[0]:
            refined, self._refining = self._refining[1].result(), None
            change = self._take(change, refined)
        log = self.online.evidence
        covered = min(log.windows, _MOST_WINDOWS) * self._grid / SAMPLE_RATE
        due = max(_REFINE_SECONDS, _REFINE_SHARE * covered)
        waited = (self._end - self._refined_at) / SAMPLE_RATE
        more = self._refining is None and log.windows > self._refined_windows
        if more and waited >= due and len(log.vectors):
            self._refined_at, self._refined_windows = self._end, log.windows
            recent, first = log.recent(_MOST_WINDOWS)
            recent.samples = (recent.windows - 1) * self._grid + WINDOW_SAMPLES
            ready = self._end + round(_REFINE_DELAY_SECONDS * SAMPLE_RATE)
            self._refining = (ready, self._pool.submit(self._cluster, recent, first))
        return change

    def _cluster(self, log: EvidenceLog, first: int) -> _Refined:
        """Speakers and turns of ``log``, whose windows begin with number ``first``."""
        # Who has hardly spoken yet may go on: who is nobody is told at the end.
        mode = replace(self._mode, calibration=self._mode.calibration.without_surplus())
        found = speaker_model(mode, log, self._known).finish(self._bounds)
        turns = build_turns(
            found.by_window(log), self._mode.reconstruction, self._grid, log.samples
        ).turns
        start = first * self._grid / SAMPLE_RATE
        # Before it no further window sees what these have seen.
        end = start + log.windows * self._grid / SAMPLE_RATE
        shifted = tuple(Turn(t.start + start, t.end + start, t.speaker) for t in turns)
        begin = start + self._grid / SAMPLE_RATE if first else 0.0
        names = {
            str(number): identity.name
            for number, identity in enumerate(found.identities)
            if identity.name
        }
        return _Refined(shifted, begin, end, self._exemplars(log, first, found), names)

    def _exemplars(
        self, log: EvidenceLog, first: int, found: SpeakerLabels
    ) -> dict[str, list[Exemplar]]:
        """What each speaker of ``log`` sounds like, in order of time."""
        most = self._mode.crops.per_speaker * CROP_SECONDS
        exemplars: dict[str, list[Exemplar]] = {}
        clean = log.clean_seconds
        for row, (label, window) in enumerate(
            zip(found.labels.tolist(), log.voice_windows.tolist(), strict=True)
        ):
            alone = clean[row] >= MIN_CLEAN_SECONDS
            if label < 0 or not alone or found.reliable[row] < LEAST_RELIABLE:
                continue
            time = ((first + window) * self._grid + WINDOW_SAMPLES) / SAMPLE_RATE
            heard, reliable = min(float(clean[row]), most), float(found.reliable[row])
            voice = Exemplar(log.vectors[row].copy(), heard, reliable, time)
            exemplars.setdefault(str(label), []).append(voice)
        return exemplars

    def _take(self, change: Change, refined: _Refined) -> Change:
        """Correct names, turns and the online model by what was found."""
        end = min(refined.end, GRID.boundary(self._builder.open_since()))
        self._refined_until = end
        before, named, waiting = self.ledger.copy(), self.speakers, self.tentative()
        told = before.turns(refined.start)
        names = self._keep_names(refined.turns, refined.names)
        renamed: dict[str, str | None] = {
            names[label]: name
            for label, name in refined.names.items()
            if names.get(label, name) != name
        }
        self._rename(renamed)
        names |= refined.names
        turns = [turn._replace(speaker=names[turn.speaker]) for turn in refined.turns]
        found = {turn.speaker for turn in turns}
        self.ledger.apply(
            self.ledger.changes(turns, refined.start, end, _SHORTEST_REVISION_SECONDS)
        )
        self._names += sorted(found - set(self.speakers))
        gone = [number for number, each in enumerate(self.online.speakers) if each.withdrawn]
        numbers = {name: n for n, name in enumerate(self._names) if n not in gone}
        self.online.replace(
            (numbers[names[label]], refined.exemplars.get(label, ()))
            for label in dict.fromkeys(turn.speaker for turn in refined.turns)
        )
        heirs = overlap_seconds([*told, *waiting], turns)
        for number, name in enumerate(self._names):
            speaker = self.online.speakers[number]
            if name in found or speaker.withdrawn or speaker.born > end - _TRIAL_SECONDS:
                continue
            first = before.first(name)
            if first is not None and first.end <= refined.start:
                continue
            likely = {b: s for (a, b), s in heirs.items() if a == name and s > 0.0}
            heir = max(likely, key=lambda each: likely[each], default=None)
            if heir is None and any(t.speaker == name and t.end > end for t in (*told, *waiting)):
                continue  # heard since, where this has not looked
            self.online.withdraw(number, None if heir is None else numbers[heir])
            renamed[name] = heir
            self._rename({name: heir})
        self._answer()
        self._look_back()
        confirmed = tuple(sorted(found - self._confirmed))
        self._confirmed |= found
        earliest = [turn.start for name in renamed if (turn := before.first(name)) is not None]
        since = min([refined.start, *earliest])
        now = self.ledger.turns(since)
        return Change(
            change.settled_seconds,
            change.final,
            tuple(before.changes(now, since, self._end / SAMPLE_RATE)),
            (*change.created, *sorted(set(self.speakers) - set(named))),
            confirmed,
            tuple(sorted(set(named) - set(self.speakers))),
        )

    def _rename(self, names: Mapping[str, str | None]) -> None:
        """Give speakers other ``names``; ``None``: they are nobody."""
        self.ledger.rename(names)
        self._names = [names.get(name) or name for name in self._names]

    def _keep_names(self, turns: Sequence[Turn], recognised: Mapping[str, str]) -> dict[str, str]:
        """The stream's name of each speaker of ``turns``: of whom most was given it by now.

        Somebody ``recognised`` for the first time still has the name from before, if there is one.
        """
        labels = list(dict.fromkeys(turn.speaker for turn in turns))
        names = {each: recognised[each] for each in labels if recognised.get(each) in self.speakers}
        free = set(self.speakers) - set(names.values())
        begin = min((turn.start for turn in turns), default=0.0)
        told = [t for t in (*self.ledger.turns(begin), *self.tentative()) if t.speaker in free]
        names |= partners([turn for turn in turns if turn.speaker not in names], told)
        for label in labels:
            if label not in names:
                unused = [each for each in self.speakers if each not in names.values()]
                # There are no more people than that: it must be one of those who have a name.
                full = len(unused) + len(names) >= (self._bounds.most or math.inf)
                given = unused[0] if unused and full else recognised.get(label)
                names[label] = given or self._next_name()
        return names
