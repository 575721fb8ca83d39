"""Audio as it comes, turns as they follow: windows that end at the newest sample.

The first windows begin before the recording, in silence. One window in so many is one that
``diarize`` would see, and is kept: the end of a stream is decided on those.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from fluidaudio_cli.audio.source import AudioInfo
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.frames import FBANK_TAIL_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES
from fluidaudio_cli.diarization.level import Level, peak
from fluidaudio_cli.diarization.live_turns import Change, LiveTurns
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.result import Conclusion, Diarization
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.known import KnownPeople
from fluidaudio_cli.diarization.windows import Samples, Window, window_count
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.machine import return_large_blocks
from fluidaudio_cli.turns import Turn

SHORTEST_LATENCY = 0.5
LONGEST_LATENCY = 30.0

# Steps between windows, in seconds. Each must divide the mode's; the longest is taken that lets
# a moment be seen by four windows before it is settled.
_STEPS = (0.5, 1.0, 2.5)
_LOOKS = 4
# Sound waiting, in seconds beyond a step, from which windows are left out, and up to which.
_BEHIND_SECONDS = 2.0
_CAUGHT_UP_SECONDS = 0.5

_HEARD = WINDOW_SAMPLES + FBANK_TAIL_SAMPLES


def step_for(latency_seconds: float, mode: ModeConfig) -> float:
    """Seconds between windows for a latency; raises ``UsageError`` for one that cannot be."""
    if not SHORTEST_LATENCY <= latency_seconds <= LONGEST_LATENCY:
        raise UsageError(
            f"--latency {latency_seconds:g} s",
            f"give {SHORTEST_LATENCY:g} to {LONGEST_LATENCY:g} s",
        )
    grid = mode.windows.step_seconds
    fitting = [step for step in _STEPS if (grid / step).is_integer()]
    if not fitting:
        raise UsageError(
            f"the mode's step of {grid:g} s is no multiple of {_STEPS[0]:g} s",
            "use balanced, accurate or fast",
        )
    return max([fitting[0], *(step for step in fitting if step * _LOOKS <= latency_seconds)])


@dataclass(frozen=True)
class Step:
    """What a step brought. ``seconds`` of sound so far; ``computing_seconds`` it took.

    ``tentative``: turns that may still change. ``behind``: windows are being left out.
    """

    seconds: float
    computing_seconds: float
    change: Change
    tentative: tuple[Turn, ...]
    speakers: tuple[str, ...]
    behind: bool = False


@dataclass
class StreamFigures:
    """What a stream took; of all its steps.

    ``left_out``: windows that were not looked at, because computing fell behind; ``silent``:
    because nothing was heard in their step. ``longest_wait``: seconds of sound waiting at most.
    """

    computing: list[float] = field(default_factory=list)
    left_out: int = 0
    silent: int = 0
    longest_wait: float = 0.0
    revisions: int = 0
    revised_seconds: float = 0.0
    created: int = 0
    withdrawn: int = 0

    def count(self, change: Change) -> None:
        """Take in what changed."""
        self.revisions += len(change.revisions)
        self.revised_seconds += sum(each.end - each.start for each in change.revisions)
        self.created += len(change.created)
        self.withdrawn += len(change.withdrawn)

    def percentile(self, share: float) -> float:
        """Of the computing time of a step, in seconds; 0 without steps."""
        return float(np.quantile(self.computing, share)) if self.computing else 0.0


class LiveDiarizer:
    """One stream through ``pipeline``, which was loaded for low latency."""

    def __init__(
        self,
        pipeline: Pipeline,
        latency_seconds: float,
        speakers: SpeakerBounds = SpeakerBounds(),  # noqa: B008 - immutable
        known: KnownPeople | None = None,
    ) -> None:
        mode = pipeline.mode
        if pipeline.follows_speakers:
            raise UsageError(
                f"{pipeline.plan.models} follows speakers itself, and is not for streams",
                "give --models with a segmentation and an embedding",
            )
        return_large_blocks()
        self.step_seconds = step_for(latency_seconds, mode)
        self.step_samples = round(self.step_seconds * SAMPLE_RATE)
        latency_samples = round(latency_seconds * SAMPLE_RATE)
        self.turns = LiveTurns(mode, self.step_samples, latency_samples, speakers, known)
        self.figures = StreamFigures()
        self._frontend = pipeline.live_frontend(self.step_samples)
        self._pipeline = pipeline
        self._grid = mode.windows.step_samples
        self._quiet = 10.0 ** (mode.windows.silence_dbfs / 20.0)
        self._level = Level()
        self._clock = StageClock(kept=False)
        self._heard = np.zeros(_HEARD, np.float32)
        self._samples = 0
        self._steps = 0
        self._cpu = time.process_time()
        self.behind = False
        """Whether windows are being left out."""
        self._every = 1

    @property
    def wanted(self) -> int:
        """Samples for the next step: the first needs a little more than a step."""
        return (self._steps + 1) * self.step_samples + FBANK_TAIL_SAMPLES - self._samples

    @property
    def seconds(self) -> float:
        """Of sound so far."""
        return self._samples / SAMPLE_RATE

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the sound."""
        return self._level.notes if self._samples else ("no sound came from the source",)

    def push(self, samples: Samples, waiting_seconds: float = 0.0) -> Step | None:
        """The next ``wanted`` samples; ``None`` where their window was left out.

        ``waiting_seconds``: of sound that was spoken already and waits to be taken.
        """
        started = time.perf_counter()
        self._hear(samples)
        self._steps += 1
        number = self._steps - WINDOW_SAMPLES // self.step_samples
        self._keep_up(waiting_seconds)
        kept = self.turns.online.on_grid(number)
        if not kept:
            if self.behind and self._steps % self._every:
                self.figures.left_out += 1
                self._hear_more(number)
                return None
            if peak(samples) * self._level.gain < self._quiet:
                self.figures.silent += 1
                self._hear_more(number)
                return self._told(self.turns.skip(number), started)
        evidence = self._frontend.evidence(self._window(number), keep=kept)
        self._hear_more(number)
        return self._told(self.turns.push(evidence), started)

    def finish(self, samples: Samples) -> tuple[Step, Conclusion]:
        """The last samples, fewer than ``wanted``; the end."""
        started = time.perf_counter()
        self._hear(samples)
        last = self._heard.copy()
        count = window_count(self._samples, self._grid)
        if (whole := self._frontend.hear_more()) is not None:
            self.turns.online.keep(whole)
        for grid_number in range(self.turns.online.evidence.windows, count):
            padded = self._padded(last, grid_number)
            found = self._pipeline.window_evidence(padded, self._clock)
            self._frontend.count(found)
            self.turns.online.keep(found)
        missing, answered = self.wanted, None
        if self._samples > self._steps * self.step_samples:
            self._hear(np.zeros(missing, np.float32), silence=True)
            number = self._steps + 1 - WINDOW_SAMPLES // self.step_samples
            valid = _HEARD - missing
            window = self._window(number)._replace(valid_samples=valid)
            answered = self._frontend.evidence(window, keep=False)
        change, conclusion = self.turns.finish(self._samples, answered)
        self.figures.count(change)
        took = time.perf_counter() - started
        speakers = tuple(sorted({turn.speaker for turn in conclusion.turns}))
        return Step(self.seconds, took, change, (), speakers, self.behind), conclusion

    def result(self, info: AudioInfo, found: Conclusion) -> Diarization:
        """What was found at the end, as ``diarize`` has it."""
        evidence, seconds = self.turns.online.evidence, sum(self.figures.computing)
        result = found.result(info, evidence, self._clock, seconds, self._cpu, overlapped=True)
        timings = replace(
            result.timings,
            windows=self._frontend.windows,
            crops=self._frontend.crops,
            copied_bytes=self._frontend.copied_bytes,
        )
        return replace(result, timings=timings)

    def close(self) -> None:
        """End what runs in the background."""
        self.turns.close()

    def _hear(self, samples: Samples, *, silence: bool = False) -> None:
        count = len(samples)
        if count:
            self._heard[:-count] = self._heard[count:].copy()
            self._heard[-count:] = samples
        if not silence:
            self._level.heard(samples)
            self._samples += count

    def _hear_more(self, number: int) -> None:
        """Go on with the window that is kept, which is all there before the next one is."""
        every = self._grid // self.step_samples
        whole = self._frontend.hear_more(every - number % every)
        if whole is not None:
            self.turns.online.keep(whole)

    def _window(self, number: int) -> Window:
        samples, tail = self._heard[:WINDOW_SAMPLES], self._heard[WINDOW_SAMPLES:]
        return Window(number, samples, tail, _HEARD, 0, self._clock, self._level.gain)

    def _padded(self, heard: Samples, grid_number: int) -> Window:
        """A window of the end as a file's would be: silence after the last sample."""
        begin = grid_number * self._grid - (self._samples - _HEARD)
        whole = np.zeros(_HEARD, np.float32)
        rest = heard[begin:]
        whole[: len(rest)] = rest
        number = grid_number * (self._grid // self.step_samples)
        samples, tail = whole[:WINDOW_SAMPLES], whole[WINDOW_SAMPLES:]
        return Window(number, samples, tail, len(rest), 0, self._clock, self._level.gain)

    def _keep_up(self, waiting: float) -> None:
        """Leave out more windows while sound piles up, fewer once it does not."""
        self.figures.longest_wait = max(self.figures.longest_wait, waiting)
        if waiting > self.step_seconds + _BEHIND_SECONDS:
            self.behind, self._every = True, min(2 * self._every, self._grid // self.step_samples)
        elif waiting <= self.step_seconds + _CAUGHT_UP_SECONDS:
            self.behind, self._every = False, 1

    def _told(self, change: Change, started: float) -> Step:
        self.figures.count(change)
        tentative = self.turns.tentative()
        took = time.perf_counter() - started
        self.figures.computing.append(took)
        return Step(self.seconds, took, change, tentative, self.turns.speakers, self.behind)
