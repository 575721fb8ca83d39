"""One network for everything: audio in chunks to who speaks, with states carried along.

The kind of network that Sortformer and LS-EEND are: its speakers keep their places for a whole
recording, so that nobody need find out afterwards who is who.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.evidence import FULL_SCALE, LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.evidence_worker import Found, WindowBatch
from fluidaudio_cli.diarization.frames import GRID, SAMPLE_RATE, WINDOW_SAMPLES
from fluidaudio_cli.diarization.networks import FilterBank, Floats, check_scores, probabilities_of
from fluidaudio_cli.diarization.powerset import ACTIVE
from fluidaudio_cli.diarization.windows import Window
from fluidaudio_cli.executors.base import Array, CompiledModel
from fluidaudio_cli.models.card import DiarizerCard


class ChunkNetwork:
    """The network on one recording at a time: chunk after chunk of audio to activity.

    ``front_end``: what makes of the audio what the network takes, where it takes no audio.
    """

    def __init__(
        self, model: CompiledModel, card: DiarizerCard, front_end: FilterBank | None = None
    ) -> None:
        self._request = model.request()
        self._card = card
        self._front_end = front_end
        self._inputs = {spec.name: spec for spec in model.inputs}
        shape = card.inputs[card.audio_input]
        self._shape = tuple(1 if isinstance(size, str) else size for size in shape)
        self.samples = front_end.samples if front_end else self._shape[-1]
        self.hop_samples = card.hop_samples
        self.context_samples = card.context_frames * card.hop_samples
        self.advance_samples = card.frames * card.hop_samples - self.context_samples
        self.speakers = len(card.tracks)
        self.start()

    def start(self) -> None:
        """Begin another recording: states are zeros."""
        self._states = {name: self._filled(name, 0.0) for name in self._card.states}
        self._frames = 0

    def run(self, chunk: Floats, hearing: bool = True) -> Floats:
        """(frames, speakers) probabilities of those frames of ``chunk`` (samples,) that are new.

        ``hearing``: whether there is audio in it. Fewer frames while the network's delay lasts.
        """
        card = self._card
        begin, self._frames = self._frames, self._frames + card.frames - card.context_frames
        late = max(0, card.delay_frames - begin)
        feeds: dict[str, Array] = {card.audio_input: self._features(chunk), **self._states}
        for name, value in card.constants.items():
            feeds[name] = self._filled(name, value)
        if card.hearing_input:
            feeds[card.hearing_input] = self._filled(card.hearing_input, float(hearing))
        if card.deciding_input:
            feeds[card.deciding_input] = self._deciding(begin)
        found = self._request.run(feeds)
        # Copies, because a request's results last until its next run only.
        self._states = {name: np.array(found[given]) for name, given in card.states.items()}
        scores = np.asarray(found[card.activity_output], np.float32)[0][:, list(card.tracks)]
        new = scores[card.context_frames :][late:]
        check_scores(new, card.scores, "diarizer")
        return probabilities_of(new, card.scores)

    def _features(self, chunk: Floats) -> Floats:
        if self._front_end is None:
            return chunk.reshape(self._shape)
        out = np.empty((1, self._front_end.frames, self._front_end.bands), np.float32)
        self._front_end.run(chunk[None, None], out)
        return out

    def _deciding(self, begin: int) -> Array:
        """1 where frames from ``begin`` on are past the delay: for each, or for the chunk."""
        values = self._filled(self._card.deciding_input, 0.0)
        past = np.arange(begin, self._frames) >= self._card.delay_frames
        values[...] = past if values.shape[-1] == past.size else past.any()
        return values

    def _filled(self, name: str, value: float) -> Array:
        spec = self._inputs[name]
        return np.full([size or 1 for size in spec.shape], value, spec.dtype)


class _Open(NamedTuple):
    """A window whose activity is not known to its end yet."""

    place: int
    number: int
    begin_samples: int
    copied_bytes: int


class DiarizerWorker:
    """Takes windows in order, hears each sample once, and gives evidence of every window.

    ``step_samples``: from one window to the next. A window of number 0 begins a recording.
    """

    def __init__(self, network: ChunkNetwork, step_samples: int) -> None:
        self._network = network
        self._step = step_samples
        self._open: list[_Open] = []
        self._heard = 0  # samples of the recording taken so far
        self._waiting: Floats = np.zeros(0, np.float32)
        # Probabilities of the frames from ``_first`` on.
        self._activity: Floats = np.zeros((0, network.speakers), np.float32)
        self._first = 0
        self.discard()

    def process(self, batch: WindowBatch) -> list[Found]:
        """Hear what the windows of ``batch`` have that those before had not."""
        found: list[Found] = []
        for place, window in zip(batch.places, batch.windows, strict=True):
            if window.number == 0:
                found.extend(self.flush(window.clock))
                self.discard()
            begin = window.number * self._step
            self._open.append(_Open(place, window.number, begin, window.copied_bytes))
            self._hear(window, begin)
            found.extend(self._ready(window.clock))
        return found

    def flush(self, clock: StageClock) -> list[Found]:
        """The evidence of the windows that are open: the recording ends."""
        if not self._open:
            return []
        last = self._open[-1].begin_samples + WINDOW_SAMPLES
        network = self._network
        while self._known_samples < last:
            heard = len(self._waiting) > network.context_samples
            missing = max(0, network.samples - len(self._waiting))
            self._waiting = np.pad(self._waiting, (0, missing))
            self._run(clock, heard)
        return list(self._ready(clock))

    def discard(self) -> None:
        """Forget the recording."""
        network = self._network
        network.start()
        self._open, self._heard, self._first = [], 0, 0
        self._waiting = np.zeros(network.context_samples, np.float32)
        self._activity = self._activity[:0]

    @property
    def _known_samples(self) -> int:
        return (self._first + len(self._activity)) * self._network.hop_samples

    def _hear(self, window: Window, begin: int) -> None:
        end = min(WINDOW_SAMPLES, window.valid_samples)
        new = window.samples[self._heard - begin : end]
        self._heard = max(self._heard, begin + end)
        self._waiting = np.concatenate([self._waiting, new])
        while len(self._waiting) >= self._network.samples:
            self._run(window.clock)

    def _run(self, clock: StageClock, hearing: bool = True) -> None:
        network = self._network
        with clock.stage("diarizer", 1):
            found = network.run(self._waiting[: network.samples], hearing)
        self._waiting = self._waiting[network.advance_samples :]
        self._activity = np.concatenate([self._activity, found])

    def _ready(self, clock: StageClock) -> Iterator[Found]:
        while self._open and self._known_samples >= self._open[0].begin_samples + WINDOW_SAMPLES:
            opened = self._open.pop(0)
            with clock.stage("collect", 1):
                evidence = self._evidence(opened)
            following = (opened.number + 1) * self._step // self._network.hop_samples
            gone = max(0, following - self._first)
            self._activity, self._first = self._activity[gone:], self._first + gone
            yield opened.place, evidence

    def _evidence(self, opened: _Open) -> WindowEvidence:
        """The activity at the frames of the window, each speaker with a vector along its axis."""
        samples = opened.begin_samples + GRID.window_centres() * SAMPLE_RATE
        rows = (samples / self._network.hop_samples).astype(np.intp) - self._first
        activity = self._activity[rows]
        active: NDArray[np.bool_] = activity >= ACTIVE
        alone = active & (active.sum(axis=1, keepdims=True) == 1)
        axes = np.eye(self._network.speakers, dtype=np.float32)
        voices = tuple(
            LocalVoice(slot, float(alone[:, slot].sum()) * GRID.hop_seconds, axes[slot])
            for slot in np.flatnonzero(active.any(axis=0)).tolist()
        )
        presence = np.rint(activity * FULL_SCALE).astype(np.uint8)
        copied = opened.copied_bytes
        return WindowEvidence.of(opened.number, voices, presence, copied_bytes=copied, placed=True)
