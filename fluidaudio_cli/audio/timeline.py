"""Where decoded samples lie on the recording's time line.

A container stamps its packets with the time at which a player presents them: audio may begin
later than the picture, pause, or miss packets that were lost or never sent (DTX). What lies
between is silence.
"""

from __future__ import annotations

from typing import NamedTuple

JITTER_SECONDS = 0.015
"""Smaller deviations are rounding (time stamps in whole milliseconds) or a clock's drift. Less
than a packet of any common codec, 20 ms: one lost packet counts."""

_REPEAT_SECONDS = 1.0
"""Time stamps that go back by less repeat what was there already; by more, a new count begins
(joined files, a restarted stream), which goes on where the last one ended."""

MAX_PAUSE_SECONDS = 24 * 3600.0
"""All pauses of a recording together. More is a broken time stamp rather than a break."""


class Placement(NamedTuple):
    """``gap_seconds`` of silence before a frame; ``repeated_seconds`` to drop from it."""

    gap_seconds: float = 0.0
    repeated_seconds: float = 0.0


IN_PLACE = Placement()


class PauseTooLongError(Exception):
    """``seconds`` of pause, beyond what is plausible."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


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
