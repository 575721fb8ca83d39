"""Where decoded samples lie on the recording's time line.

A container stamps its packets with the time at which a player presents them: audio may begin
later than the picture, pause, or miss packets that were lost or never sent (DTX). What lies
between is silence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

JITTER_SECONDS = 0.015
"""Smaller deviations are rounding (time stamps in whole milliseconds) or a clock's drift. Less
than a packet of any common codec, 20 ms: one lost packet counts."""

_REPEAT_SECONDS = 1.0
"""Time stamps that go back by less repeat what was there already; by more, a new count begins
(joined files, a restarted stream), which goes on where the last one ended."""

_DOUBTFUL_SECONDS = 0.5
"""A time stamp that jumps by more is believed when those behind it bear it out; Opus without
speech sends a packet every 0.4 s."""

_PROOF_SECONDS = 1.0
"""Of sound behind such a jump: more than a packet of any container that stamps only the first."""

_FALSE_START_SECONDS = 3600.0
"""A longer pause behind the first second is none: the first packets were stamped wrongly, as some
recorders of live streams do."""

Stamped = tuple[Any, float | None]
"""A frame and its time stamp in seconds."""

MAX_PAUSE_SECONDS = 24 * 3600.0
"""All pauses of a recording together. More is a broken time stamp rather than a break."""


class Placement(NamedTuple):
    """``gap_seconds`` of silence before a frame; ``repeated_seconds`` to drop from it."""

    gap_seconds: float = 0.0
    repeated_seconds: float = 0.0


IN_PLACE = Placement()


class PauseTooLongError(Exception):
    """A pause, whose seconds are its argument, is beyond what is plausible."""


class Doubts:
    """Frames whose time stamps jump, held back until those behind bear them out.

    One wild time stamp among good ones would move all that follows. ``begin``: where the first
    one is expected.
    """

    def __init__(self, begin: float | None = None) -> None:
        self._next = begin  # stamp of a frame that follows the last one believed
        self._held: list[Stamped] = []
        self._held_seconds = 0.0
        self.refuted = 0

    def goes_on(self, seconds: float | None, duration: float) -> bool:
        """Whether a frame needs no ``push``: nothing is held, and its stamp is no jump."""
        if self._held or seconds is None or self._next is None:
            return False
        if abs(seconds - self._next) >= _DOUBTFUL_SECONDS:
            return False
        self._next = seconds + duration
        return True

    def push(self, frame: Any, seconds: float | None, duration: float) -> list[Stamped]:
        """Take a frame; return those that are settled, with no time stamp if it is refuted."""
        old = None if self._next is None else self._next + self._held_seconds
        goes_on = (
            old is None or abs((old if seconds is None else seconds) - old) < _DOUBTFUL_SECONDS
        )
        if goes_on and self._held and seconds is not None:
            self.refuted += 1
            self._held = [(held, None) for held, _ in self._held]
        self._held.append((frame, seconds))
        self._held_seconds += duration
        in_doubt = not goes_on or (len(self._held) > 1 and seconds is None)
        if in_doubt and self._held_seconds < _PROOF_SECONDS:
            return []
        begin = old if seconds is None else seconds
        self._next = None if begin is None else begin + duration
        return self.drain()

    def drain(self) -> list[Stamped]:
        """All that are held."""
        settled, self._held, self._held_seconds = self._held, [], 0.0
        return settled


class Timeline:
    """The position reached by one track, in seconds since ``zero``, the container's beginning.

    ``zero``: a time stamp, or ``None`` for that of the first frame. ``longest``: seconds of all
    pauses that are believed.
    """

    def __init__(self, zero: float | None, longest: float = MAX_PAUSE_SECONDS) -> None:
        self.zero = zero
        self._longest = longest
        self.position = 0.0
        self._shift = 0.0  # of time stamps that are not believed as they are
        self.started_at: float | None = None  # time stamp of the first frame
        self.paused_seconds = 0.0
        self.pauses = 0
        self.restarts = 0

    def place(self, seconds: float | None) -> Placement:
        """Where a frame stamped ``seconds`` goes; ``None``: behind the one before it.

        Raises ``PauseTooLongError``, and takes the time stamp for a new count after that.
        """
        if seconds is None:
            return IN_PLACE
        if self.zero is None:
            self.zero = seconds
        if self.started_at is None:
            self.started_at = seconds
        ahead = seconds + self._shift - self.zero - self.position
        if abs(ahead) < JITTER_SECONDS:
            return IN_PLACE
        if ahead > 0:
            if 0 < self.position < _PROOF_SECONDS and ahead > _FALSE_START_SECONDS:
                self._shift -= ahead
                self.restarts += 1
                return IN_PLACE
            if self.paused_seconds + ahead > self._longest:
                self._shift -= ahead
                raise PauseTooLongError(ahead)
            self.paused_seconds += ahead
            self.pauses += 1
            return Placement(gap_seconds=ahead)
        if ahead > -_REPEAT_SECONDS and self.position > 0:
            return Placement(repeated_seconds=-ahead)
        self._shift -= ahead
        if self.position > 0:
            self.restarts += 1
        return IN_PLACE

    def delay(self, seconds: float) -> None:
        """All time stamps from now on are too early by ``seconds``."""
        self._shift += seconds

    def begin_later(self, seconds: float) -> None:
        """All time stamps so far were too early by ``seconds``."""
        if self.zero is not None and self.started_at is not None:
            self.zero += seconds
            self.started_at += seconds

    def advance(self, seconds: float) -> None:
        """``seconds`` of samples or silence were put there."""
        self.position += seconds
