"""Make what the segmentation student learns from: mixtures of 10 s, the teacher's word, the truth.

    python tools/segmentation_mixtures.py VOICES TIMING NOISE -o SHARDS --without a,b,c

VOICES: a file for each reader; TIMING: references (RTTM) of real meetings, for who speaks when;
NOISE: recordings of noise. Each shard (``000000.npz``) holds ``windows`` of log-mel frames (the
student's own front end), the teacher's log-probabilities and who was made to speak. Shard n of a
seed is the same whoever makes it; those that are there already are left, so the program can be
stopped and started, and several can work on one folder (``--share 0/2``). ``made.json`` says of
which readers. Readers sound at five speeds, each as a person of their own.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.select import select_executor
from fluidaudio_cli.files import atomic_path
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.simulate.render import WavWriter
from fluidaudio_cli.simulate.room import draw_room, impulse_response, seat
from fluidaudio_cli.simulate.signals import GRID, Samples, from_db, rms
from fluidaudio_cli.simulate.voices import Voice, read_audio, read_voice

Floats = NDArray[np.float32]

WINDOW_SAMPLES = 160_000
FRAMES = 589
HOP_SAMPLES = 270
FIRST_CENTRE = 495
"""The teacher's frames: sample in the middle of the first, and the step to the next."""

KERNEL_SAMPLES = 440
"""27.5 ms under a Hann window: 591 frames at the teacher's hop, one more at either end."""

MELS = 64
FLOOR = 1e-6
"""Of the window's mean power: quieter bands are taken for silence."""

LEAST_VARIANCE = 1e-10
"""Added to the window's: digital silence stays silence."""

SPEEDS = (0.86, 0.93, 1.0, 1.08, 1.16)
"""Faster is higher and from a smaller head: another person."""

MOST_SPEAKERS = 4
"""One more than the student tells apart: who is left out is the teacher's choice."""

SHARD_WINDOWS = 64
_ROOMS = 160
_SEATS = 4
_TRACK_SECONDS = 60


def spectrum() -> tuple[Floats, Floats]:
    """(440, 280) window times cosines and sines, and (280, 64) from their squares to mel bands.

    A component every 40 Hz to 3.2 kHz, every 80 Hz above: no wider apart than a window's lobe.
    A band of white noise of variance 1 has energy 1.
    """
    hertz = np.concatenate([np.arange(40, 3200, 40), np.arange(3200, 8000, 80)])
    width = np.concatenate([np.full(79, 40.0), np.full(60, 80.0)])
    time = np.arange(KERNEL_SAMPLES) - (KERNEL_SAMPLES - 1) / 2
    hann = np.hanning(KERNEL_SAMPLES + 2)[1:-1]
    phase = 2 * np.pi * np.outer(time, hertz) / SAMPLE_RATE
    waves = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * hann[:, None]
    waves /= math.sqrt(float((hann**2).sum()))

    def mel(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127 * np.log1p(frequency / 700)

    points = np.linspace(mel(np.array(40.0)), mel(np.array(7960.0)), MELS + 2)
    at = mel(hertz.astype(float))
    rise = (at[:, None] - points[:-2]) / (points[1:-1] - points[:-2])
    fall = (points[2:] - at[:, None]) / (points[2:] - points[1:-1])
    bands = np.maximum(np.minimum(rise, fall), 0) * width[:, None]
    # Low bands are narrower than the step between components: they take the nearest.
    for band in np.flatnonzero(bands.sum(axis=0) == 0):
        bands[np.argmin(np.abs(at - points[band + 1])), band] = 1
    bands /= bands.sum(axis=0)
    return waves.astype(np.float32), np.concatenate([bands, bands]).astype(np.float32)


class FrontEnd:
    """Log-mel frames as the student's package makes them."""

    def __init__(self) -> None:
        self._waves, self._bands = spectrum()

    def __call__(self, audio: Samples) -> NDArray[np.float16]:
        """(160000,) to (591, 64)."""
        scaled = (audio - audio.mean()) / np.sqrt(audio.var() + LEAST_VARIANCE)
        frames = np.lib.stride_tricks.sliding_window_view(scaled, KERNEL_SAMPLES)[::HOP_SAMPLES]
        energy = np.square(np.ascontiguousarray(frames, np.float32) @ self._waves) @ self._bands
        return np.asarray(np.log(energy + np.float32(FLOOR)), np.float16)


class Spoken(NamedTuple):
    """Speaker by number within the window, seconds."""

    speaker: int
    start: float
    end: float


@dataclass(frozen=True)
class Sounds:
    """What mixtures are made of. ``rooms``: responses of the seats of each."""

    voices: Sequence[Sequence[Voice]]
    meetings: Sequence[Sequence[tuple[str, float, float]]]
    rooms: Sequence[Sequence[Samples]]
    noises: Sequence[Samples]


def readers_in(folder: Path, without: Collection[str]) -> dict[str, Path]:
    """The files of readers by name, but for those that are kept for measuring."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".flac", ".wav", ".opus"))
    return {path.stem: path for path in files if path.stem not in without}


def gather(
    voices: Mapping[str, Path],
    timing: Path,
    noise: Path,
    scratch: Path,
    seed: int,
    farthest_metres: float = 3.0,
) -> Sounds:
    """Read everything; ``scratch``: for readers at other speeds."""
    rng = np.random.default_rng([seed, 1])
    persons = [_at_speeds(name, path, scratch) for name, path in voices.items()]
    rooms = []
    for _ in range(_ROOMS):
        room = draw_room(float(rng.uniform(0.1, 0.9)), 3.0, rng)
        metres = rng.uniform(0.4, farthest_metres, _SEATS)
        places = zip(metres, rng.uniform(0, 6.28, _SEATS), strict=True)
        rooms.append([impulse_response(room, seat(room, d, a), rng) for d, a in places])
    noises = [read_audio(path) for path in sorted(noise.iterdir()) if path.suffix != ".tsv"]
    noises = [noise for noise in noises if noise.size > 2 * SAMPLE_RATE]
    size = _TRACK_SECONDS * SAMPLE_RATE
    noises += [_coloured(slope, size, rng) for slope in (0.0, 0.5, 0.5, 0.8, 1.0)]
    noises += [_babble(persons, 6 + 4 * number, size, rng) for number in range(4)]
    meetings = [_turns(path) for path in sorted(timing.glob("*.rttm"))]
    return Sounds(persons, meetings, rooms, noises)


def _at_speeds(name: str, path: Path, scratch: Path) -> list[Voice]:
    made = []
    for speed in SPEEDS:
        copy = scratch / f"{name}-{speed}.wav"
        if not copy.exists():
            changed = soxr.resample(read_audio(path), SAMPLE_RATE, SAMPLE_RATE / speed)
            with atomic_path(copy) as draft, WavWriter(draft) as wav:
                wav.write(changed.astype(np.float32))
        made.append(read_voice(copy.stem, [copy]))
    return made


def _turns(path: Path) -> list[tuple[str, float, float]]:
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(row[7], float(row[3]), float(row[3]) + float(row[4])) for row in rows]


def _coloured(slope: float, samples: int, rng: np.random.Generator) -> Samples:
    bins = scipy.fft.rfft(rng.standard_normal(samples).astype(np.float32))
    hertz = np.maximum(np.linspace(0, SAMPLE_RATE / 2, bins.size), 50).astype(np.float32)
    return np.asarray(scipy.fft.irfft(bins * hertz**-slope, samples), np.float32)


def _babble(
    persons: Sequence[Sequence[Voice]], count: int, samples: int, rng: np.random.Generator
) -> Samples:
    track = np.zeros(samples, np.float32)
    for index in rng.permutation(len(persons))[:count]:
        said = persons[index][int(rng.integers(len(SPEEDS)))].samples
        track += np.take(said, np.arange(samples) + int(rng.integers(said.size)), mode="wrap")
    return track


class Mixer:
    """Draws windows; ``level_spread_db`` between speakers, at ``least_snr_db`` or better."""

    def __init__(
        self, sounds: Sounds, level_spread_db: float = 3.5, least_snr_db: float = 2.0
    ) -> None:
        self._of = sounds
        self._level_spread_db, self._least_snr_db = level_spread_db, least_snr_db

    def draw(self, rng: np.random.Generator) -> tuple[Samples, NDArray[np.uint8]]:
        """(160000,) samples, and (589,) the set of speakers of each frame, a bit for each."""
        turns = self._plan(rng)
        speakers = sorted({turn.speaker for turn in turns})
        persons = rng.choice(len(self._of.voices), MOST_SPEAKERS, replace=False)
        room = self._of.rooms[int(rng.integers(len(self._of.rooms)))]
        dry = rng.random() < 0.15
        size = scipy.fft.next_fast_len(WINDOW_SAMPLES + SAMPLE_RATE, real=True)
        bins = np.zeros(size // 2 + 1, np.complex64)
        truth = np.zeros((MOST_SPEAKERS, FRAMES), np.bool_)
        centres = (FIRST_CENTRE + HOP_SAMPLES * np.arange(FRAMES)) / SAMPLE_RATE
        for speaker in speakers:
            voice = self._of.voices[persons[speaker]][int(rng.integers(len(SPEEDS)))]
            said = np.zeros(size, np.float32)
            gain = float(rng.normal(0, self._level_spread_db))
            words = int(rng.integers(voice.milliseconds))
            for turn in turns:
                if turn.speaker == speaker:
                    words = self._say(said, voice, turn, words, gain, truth, centres, rng)
            heard = scipy.fft.rfft(said)
            if not dry:
                response = room[speaker]
                response = response / np.abs(response).max()
                heard *= scipy.fft.rfft(response, size)
            bins += heard
        speech = scipy.fft.irfft(bins * self._channel(bins.size, rng), size)[:WINDOW_SAMPLES]
        mixed = self._with_noise(np.asarray(speech, np.float32), rng)
        sets = (truth.T * (1 << np.arange(MOST_SPEAKERS))).sum(axis=1)
        return mixed, sets.astype(np.uint8)

    @staticmethod
    def _say(
        said: Samples,
        voice: Voice,
        turn: Spoken,
        words: int,
        gain: float,
        truth: NDArray[np.bool_],
        centres: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> int:
        start_ms, length_ms = voice.cut(words, turn.end - turn.start)
        first = round(turn.start * SAMPLE_RATE)
        samples = np.concatenate(list(voice.words(start_ms, length_ms)))
        samples = samples * np.float32(from_db(gain + float(rng.normal(0, 2))))
        samples[:GRID] *= np.linspace(0, 1, GRID, dtype=np.float32)
        samples[-GRID:] *= np.linspace(1, 0, GRID, dtype=np.float32)
        skipped = max(-first, 0)
        part = samples[skipped : skipped + WINDOW_SAMPLES - max(first, 0)]
        said[max(first, 0) : max(first, 0) + part.size] += part
        end = turn.start + length_ms / 1000
        truth[turn.speaker] |= (centres >= turn.start) & (centres < end)
        return start_ms + length_ms

    @staticmethod
    def _channel(bins: int, rng: np.random.Generator) -> Floats:
        """Gain of each frequency: a microphone's, now and then a telephone's."""
        points = np.linspace(0, 1, 8)
        at = np.linspace(0, 1, bins) ** 0.5
        curve = np.interp(at, points, rng.normal(0, rng.uniform(0, 5), points.size))
        if rng.random() < 0.15:
            hertz = np.linspace(0, SAMPLE_RATE / 2, bins)
            curve[hertz > rng.uniform(3300, 4000)] -= 60
            if rng.random() < 0.5:
                curve[hertz < rng.uniform(150, 300)] -= 40
        return np.asarray(10 ** (curve / 20), np.float32)

    def _with_noise(self, speech: Samples, rng: np.random.Generator) -> Samples:
        level = rms(speech) or from_db(-30)
        mixed = speech
        if rng.random() < 0.9:
            track = self._of.noises[int(rng.integers(len(self._of.noises)))]
            at = np.arange(WINDOW_SAMPLES) + int(rng.integers(track.size))
            noise = np.take(track, at, mode="wrap")
            snr = float(rng.uniform(self._least_snr_db, 35))
            gain = level * from_db(-snr) / max(rms(noise), 1e-9)
            mixed = mixed + noise * np.float32(gain)
        mixed = mixed * np.float32(from_db(float(rng.uniform(-45, -14))) / max(rms(mixed), 1e-9))
        if rng.random() < 0.04:
            top = float(np.abs(mixed).max()) * rng.uniform(0.2, 0.7)
            mixed = np.clip(mixed, -top, top)
        return np.asarray(np.rint(np.clip(mixed, -1, 1) * 32767) / 32768, np.float32)

    def _plan(self, rng: np.random.Generator) -> list[Spoken]:
        """Who speaks when: as in a meeting, as in two at once, taking turns fast, or hardly."""
        kind = rng.random()
        if kind < 0.50:
            return self._meeting(rng, int(rng.integers(2, MOST_SPEAKERS + 1)))
        if kind < 0.70:
            two = self._meeting(rng, 2)
            return two + [Spoken(s + 1, a, b) for s, a, b in self._meeting(rng, 2)]
        if kind < 0.92:
            return list(self._in_turn(rng))
        if kind < 0.97:
            return [Spoken(0, float(rng.uniform(-2, 8)), 10.0)]
        return []

    def _meeting(self, rng: np.random.Generator, most: int) -> list[Spoken]:
        turns = self._of.meetings[int(rng.integers(len(self._of.meetings)))]
        first = float(rng.uniform(0, turns[-1][2] - 10))
        inside = [t for t in turns if t[2] > first and t[1] < first + 10]
        seconds: dict[str, float] = {}
        for name, start, end in inside:
            seconds[name] = seconds.get(name, 0) + min(end, first + 10) - max(start, first)
        chosen = sorted(seconds, key=lambda name: -seconds[name])[:most]
        return [
            Spoken(chosen.index(name), max(start - first, -1), min(end - first, 11))
            for name, start, end in inside
            if name in chosen
        ]

    @staticmethod
    def _in_turn(rng: np.random.Generator) -> Iterator[Spoken]:
        speakers = int(rng.integers(2, 4))
        overlapping = rng.random() < 0.4
        time, speaker = float(rng.uniform(-2, 1)), 0
        while time < 10:
            length = float(np.exp(rng.normal(0.5, 0.7)))
            yield Spoken(speaker, time, time + length)
            time += length + float(rng.exponential(0.4))
            if overlapping:
                time -= float(rng.exponential(0.5))
            speaker = (speaker + int(rng.integers(1, speakers))) % speakers


def teacher() -> Generator[Floats, Floats, None]:
    """A coroutine: send (n, 160000), get (n, 589, 7) log-probabilities."""
    options = ExecutorOptions(precision="bf16")
    model = select_executor().load(bundled_models()["segmentation"].package, options)
    request = model.request()
    answer = np.zeros(0, np.float32)
    while True:
        audio = yield answer
        answer = np.array(request.run({"audio": audio[:, None]})["log_probabilities"], np.float32)


def main() -> None:
    """Make shards until stopped or done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("voices", type=Path)
    parser.add_argument("timing", type=Path)
    parser.add_argument("noise", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--without", default="", help="readers kept for measuring, by commas")
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--share", default="0/1", help="make shards number a, a+b, …: a/b")
    parser.add_argument("--seed", type=int, default=15)
    asked = parser.parse_args()
    kept = set(filter(None, asked.without.split(",")))
    voices = readers_in(asked.voices, kept)
    scratch = asked.output / "voices"
    scratch.mkdir(parents=True, exist_ok=True)
    made = {"seed": asked.seed, "readers": sorted(voices), "speeds": SPEEDS, "kept": sorted(kept)}
    with atomic_path(asked.output / "made.json") as draft:
        draft.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    sounds = gather(voices, asked.timing, asked.noise, scratch, asked.seed)
    mixer, front_end, targets = Mixer(sounds), FrontEnd(), teacher()
    next(targets)
    first, step = map(int, asked.share.split("/"))
    for number in range(first, asked.shards, step):
        path = asked.output / f"{number:06d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng([asked.seed, 2, number])
        drawn = [mixer.draw(rng) for _ in range(SHARD_WINDOWS)]
        audio = np.stack([samples for samples, _ in drawn])
        words = [targets.send(audio[at : at + 8]) for at in range(0, SHARD_WINDOWS, 8)]
        with atomic_path(path) as draft, draft.open("wb") as file:
            np.savez(
                file,
                frames=np.stack([front_end(samples) for samples in audio]),
                teacher=np.concatenate(words).astype(np.float16),
                truth=np.stack([sets for _, sets in drawn]),
            )


if __name__ == "__main__":
    main()
