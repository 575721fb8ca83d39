"""A stream's windows in, evidence out: each at once, and of those that are kept more by and by.

The next window hears nearly the same. So what an utterance sounds like is embedded while it grows,
and now and then while it goes on; else it is known from the window before. The end of a stream
needs of some windows what a file gives, which depends on no other window: what was known is
embedded there, too, while others come. In one step that would be the longest by far.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from fluidaudio_cli.diarization.crop_embedder import PendingVoice
from fluidaudio_cli.diarization.evidence import WindowEvidence
from fluidaudio_cli.diarization.evidence_worker import EvidenceWorker, OpenWindow, WindowBatch
from fluidaudio_cli.diarization.frames import GRID, SAMPLE_RATE, WINDOW_FRAMES
from fluidaudio_cli.diarization.local_speakers import FBANK_HOP_SECONDS, LocalSpeaker
from fluidaudio_cli.diarization.windows import Window

# Utterances of two windows are one that agree on so much of when it is said.
_AGREEING = 0.8
# Seconds more to hear of an utterance with which it is embedded anew, and for how long it is known
# while it goes on: on 26 simulated conversations less of either gains nothing at a latency of 1 s.
_GROWN_SECONDS = 0.25
_KNOWN_SECONDS = 1.0
# How much sound a step has for each voice that is embedded in it; twice as many are where nothing
# is known of them yet. The others wait for a step with less to do.
_SECONDS_A_VOICE = 0.5


class _Heard(NamedTuple):
    """An utterance of a window, and what it sounds like.

    ``voice``: as it was embedded last, in the window that begins at sample ``at``. ``stale``:
    whether it should be embedded anew.
    """

    speaker: LocalSpeaker
    voice: PendingVoice
    at: int
    stale: bool = False


class LiveFrontend:
    """One window at a time through ``worker``, ``step_samples`` apart, for who waits for it.

    ``windows``, ``crops`` and ``copied_bytes``: what it took so far.
    """

    def __init__(self, worker: EvidenceWorker, step_samples: int) -> None:
        self._worker = worker
        self._step = step_samples
        self._room = max(1, round(step_samples / SAMPLE_RATE / _SECONDS_A_VOICE))
        # One that is kept stays where it was copied to, while others pass.
        self._passing, self._kept = WindowBatch(1), WindowBatch(1)
        self._before: list[_Heard] = []
        self._before_at = 0
        self._later: OpenWindow | None = None
        self._unheard: deque[PendingVoice] = deque()
        self._embedded = 0  # voices in this step
        self.windows = self.crops = self.copied_bytes = 0

    def evidence(self, window: Window, *, keep: bool) -> WindowEvidence:
        """What ``window`` says at once, voices of it known from the window before.

        ``keep``: its evidence as of a file's window comes from :meth:`hear_more`, of which all of
        the one before must have come.
        """
        self._worker.discard()
        batch = self._kept if keep else self._passing
        batch.clear()
        batch.add(window, 0)
        (opened,) = self._worker.segment(batch)
        self.windows += 1
        self.copied_bytes += opened.window.copied_bytes
        at = window.number * self._step
        heard = [self._known(voice.speaker, at) for voice in opened.voices]
        unknown = [
            row
            for row, (voice, each) in enumerate(zip(opened.voices, heard, strict=True))
            if each is None and voice.speaker.crops
        ]
        stale = sorted((each.at, row) for row, each in enumerate(heard) if each and each.stale)
        anew = unknown[: 2 * self._room]
        anew += [row for _, row in stale[: max(0, self._room - len(anew))]]
        crops = self.crops
        self._embedded = self._embed(opened.window, [opened.voices[row] for row in anew])
        now = [
            _Heard(voice.speaker, voice, at) if each is None or row in anew else each
            for row, (voice, each) in enumerate(zip(opened.voices, heard, strict=True))
        ]
        self._before, self._before_at = now, at
        if keep:
            self._later = opened
            self._unheard.extend(voice for voice in opened.voices if not voice.vectors)
        voices = tuple(
            PendingVoice(each.speaker, vectors=each.voice.vectors, frames=each.voice.frames)
            for each in now
        )
        found = self._worker.collect(opened._replace(voices=voices))
        return replace(found, crops=self.crops - crops)

    def hear_more(self, steps: int = 1) -> WindowEvidence | None:
        """Embed voices of the window that is kept: in so many ``steps``, this one included, all.

        All that a file's window gives, once that is there, in the order of windows.
        """
        room, self._embedded = max(0, self._room - self._embedded), 0
        if self._later is None:
            return None
        self._worker.discard()
        # Those that other steps may have room for wait for them.
        due = math.ceil(len(self._unheard) / steps) if len(self._unheard) >= steps else 0
        voices = list(islice(self._unheard, max(room, due)))
        self._embed(self._later.window, voices)
        for _ in voices:
            self._unheard.popleft()
        if self._unheard:
            return None
        whole, self._later = self._later, None
        return self._worker.collect(whole)

    def count(self, evidence: WindowEvidence) -> None:
        """Add what ``evidence`` took, which came another way."""
        self.windows += 1
        self.crops += evidence.crops
        self.copied_bytes += evidence.copied_bytes

    def _known(self, speaker: LocalSpeaker, at: int) -> _Heard | None:
        """Who of the window before ``speaker`` is, of the window that begins at sample ``at``."""
        moved = GRID.window_offset(at) - GRID.window_offset(self._before_at)
        shared = WINDOW_FRAMES - moved
        known: _Heard | None = None
        most = _AGREEING
        for each in self._before:
            if not each.voice.vectors or shared <= 0:
                continue
            now, then = speaker.mask[:shared], each.speaker.mask[moved:]
            agreed = int(np.sum(now & then)) / max(1, int(np.sum(now | then)))
            if agreed >= most:
                known, most = each, agreed
        if known is None:
            return None
        grown = _seconds(speaker) - _seconds(known.voice.speaker) >= _GROWN_SECONDS
        goes_on = bool(speaker.mask[shared:].any())
        stale = grown or (goes_on and at - known.at > _KNOWN_SECONDS * SAMPLE_RATE)
        return known._replace(speaker=speaker, stale=stale)

    def _embed(self, window: Window, voices: Sequence[PendingVoice]) -> int:
        """Embed ``voices`` now; how many there was something to hear of."""
        for voice in voices:
            self._worker.embed(window, voice)
        self._worker.flush(window.clock)
        for voice in voices:
            self.crops += len(voice.vectors)
            self.copied_bytes += voice.copied_bytes
        return sum(bool(voice.vectors) for voice in voices)


def _seconds(speaker: LocalSpeaker) -> float:
    """How much of ``speaker`` its crops hear."""
    return FBANK_HOP_SECONDS * sum(last - first for crop in speaker.crops for first, last in crop)
