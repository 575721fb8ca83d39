"""What segmentation networks are taught with: windows of 10 s of which it is known who speaks.

    python tools/segmentation_mixtures.py VOICES… --timing RTTM --noise NOISE… \\
        --recordings REAL… --without READERS -o SOUNDS.npz

VOICES: folders of a file a person; RTTM: references of real meetings, for who speaks when; NOISE:
sounds in which nobody speaks; REAL: conversations of which nobody said who speaks when, for what
another network says of them. All is gathered in one file, so that a machine that trains needs
PyTorch and that file. There :class:`Mixer` draws windows without a sample in them, and
``render_mixtures.py`` renders them by the batch, on any device. Readers sound at five speeds, each
as a person of their own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.files import atomic_path
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.simulate.room import draw_room, impulse_response, seat
from fluidaudio_cli.simulate.signals import GRID, Samples, from_db, rms
from fluidaudio_cli.simulate.voices import Voice, read_audio, read_voice

WINDOW_SAMPLES = 160_000
FRAMES = 589
HOP_SAMPLES = 270
FIRST_CENTRE = 495
"""The network's frames: sample in the middle of the first, and the step to the next."""

SPEEDS = (0.86, 0.93, 1.0, 1.08, 1.16)
"""Faster is higher and from a smaller head: another person."""

MOST_SPEAKERS = 4
"""One more than the networks tell apart: who is left out counts for nothing."""

UNTOLD = 255
"""In place of the set of speakers: nobody said who speaks."""

LEVEL_SPREAD_DB = 6.0
LEAST_SNR_DB = 0.0
FARTHEST_METRES = 4.0
"""Real meetings have people who are hardly heard."""

RECORDED = 0.1
"""Share of windows from real conversations, where there are any."""

BABBLE = 0.25
"""Share of noises that are many people at once: nothing is taken for a speaker so easily, and where
it was one noise in twenty, what had been learnt of it was lost."""

QUIET, QUIET_SNR_DB = 0.4, 25.0
"""Share of windows with little noise, and the least of what it is below speech: where noise hides
nothing, a network has to know voices."""

_BABBLES = 8
_ROOMS = 400
_SEATS = 4
_TRACK_SECONDS = 60
_SILENT = 300.0
"""dB between speech and a noise that is not there."""

CURVE_POINTS = 8
_NO_LIMIT = float(SAMPLE_RATE)
_STORED_LEVEL = 0.1
"""Of full scale: speech's peaks are up to ten times as high."""


class Spoken(NamedTuple):
    """Speaker by number within the window, seconds."""

    speaker: int
    start: float
    end: float


@dataclass(frozen=True)
class Sounds:
    """What mixtures are made of. ``voices``: each person at each speed; ``rooms``: responses of
    the seats of each; ``about``: whose voices and recordings they are."""

    voices: Sequence[Sequence[Voice]]
    meetings: Sequence[Sequence[tuple[str, float, float]]]
    rooms: Sequence[Sequence[Samples]]
    noises: Sequence[Samples]
    babble: Sequence[Samples]
    recordings: Sequence[Samples]
    about: Mapping[str, Any]


def gather(
    folders: Sequence[Path],
    timing: Path,
    noises: Sequence[Path],
    recordings: Sequence[Path],
    without: Collection[str],
    told: str,
    target: Path,
) -> None:
    """Read everything and write it to ``target``, without the voices named in ``without``.

    ``told``: what it is, for the manifest of a network that learns from it.
    """
    stored: dict[str, Any] = {}
    for path in _audio_in(folders):
        if path.stem in without:
            continue
        try:
            voice = read_voice(path.stem, [path])
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)  # noqa: T201
            continue
        stored[f"voice:{voice.name}"] = _as_int16(voice.samples)
        stored[f"starts:{voice.name}"] = np.array(voice.starts, np.int32)
        stored[f"ends:{voice.name}"] = np.array(voice.ends, np.int32)
    for kind, places in (("noise", noises), ("recording", recordings)):
        for path in _audio_in(places):
            samples = read_audio(path)
            if samples.size > 2 * SAMPLE_RATE:
                stored[f"{kind}:{path.stem}"] = _as_int16(samples / max(rms(samples), 1e-9))
    meetings = [
        [
            (turn.speaker, turn.start, turn.end)
            for turns in read_rttm(path).values()
            for turn in turns
        ]
        for path in sorted(timing.glob("*.rttm"))
    ]
    about = {"meetings": meetings, "told": told}
    with atomic_path(target) as draft, draft.open("wb") as file:
        np.savez(file, **stored, about=np.array(json.dumps(about)))


def _audio_in(folders: Sequence[Path]) -> list[Path]:
    kinds = (".flac", ".wav", ".opus", ".ogg")
    return [p for folder in folders for p in sorted(folder.iterdir()) if p.suffix in kinds]


def _as_int16(samples: Samples) -> NDArray[np.int16]:
    scaled = np.rint(samples * (_STORED_LEVEL * 32767))
    return np.asarray(np.clip(scaled, -32767, 32767), np.int16)


def load(path: Path, seed: int) -> Sounds:
    """The sounds in a file that :func:`gather` wrote, with rooms and noises drawn by ``seed``."""
    rng = np.random.default_rng([seed, 1])
    kinds: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        for key in file.files:
            kind, _, name = key.partition(":")
            kinds.setdefault(kind, {})[name] = file[key]

    def samples_of(kind: str) -> list[Samples]:
        scale = np.float32(1 / (_STORED_LEVEL * 32767))
        return [each * scale for each in kinds.get(kind, {}).values()]

    recorded = zip(kinds.get("voice", {}), samples_of("voice"), strict=True)
    persons = [
        [_at_speed(name, said, kinds["starts"][name], kinds["ends"][name], s) for s in SPEEDS]
        for name, said in recorded
    ]
    size = _TRACK_SECONDS * SAMPLE_RATE
    noises = samples_of("noise")
    noises += [_coloured(slope, size, rng) for slope in (0.0, 0.5, 0.5, 0.8, 1.0)]
    babble = [_babble(persons, 4 + 2 * number, size, rng) for number in range(_BABBLES)]
    rooms = []
    for _ in range(_ROOMS):
        room = draw_room(float(rng.uniform(0.1, 0.9)), 3.0, rng)
        metres = rng.uniform(0.4, FARTHEST_METRES, _SEATS)
        places = zip(metres, rng.uniform(0, 6.28, _SEATS), strict=True)
        rooms.append([impulse_response(room, seat(room, d, a), rng) for d, a in places])
    names: dict[str, Any] = {kind: sorted(kinds.get(kind, {})) for kind in ("voice", "recording")}
    meetings = [[(name, a, b) for name, a, b in turns] for turns in about["meetings"]]
    return Sounds(
        persons,
        meetings,
        rooms,
        noises,
        babble,
        samples_of("recording"),
        names | {"told": about["told"]},
    )


def _at_speed(
    name: str,
    said: Samples,
    starts: NDArray[np.int32],
    ends: NDArray[np.int32],
    speed: float,
) -> Voice:
    changed = soxr.resample(said, SAMPLE_RATE * speed, SAMPLE_RATE)
    whole = changed.size // GRID
    places = [
        tuple(sorted({min(round(at / speed), whole) for at in edges.tolist()}))
        for edges in (starts, ends)
    ]
    samples = np.ascontiguousarray(changed[: whole * GRID], np.float32)
    return Voice(f"{name}-{speed}", samples, places[0], places[1])


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


class Mixtures(NamedTuple):
    """``b`` windows without samples: where these lie among all sounds, and what becomes of them.

    ``pieces`` (n, 6): row of speakers, first sample, place in the window, length, and whether it
    rises at its beginning and falls at its end; ``gains`` (n,). ``seats`` (b, 4): the response of
    each speaker, 0 being none. ``curves`` (b, 8): dB at points from 0 to 8 kHz; ``bands`` (b, 2):
    what a telephone cuts, Hz. ``noises`` (b, 2, 3): first sample, length, place in it; ``snrs``
    (b, 2): dB. ``levels`` (b,): dB of full scale; ``clipped`` (b,): share of the peak. ``sets``
    (b, 589): who speaks, a bit for each, or ``UNTOLD``.
    """

    pieces: NDArray[np.int64]
    gains: NDArray[np.float32]
    seats: NDArray[np.int64]
    curves: NDArray[np.float32]
    bands: NDArray[np.float32]
    noises: NDArray[np.int64]
    snrs: NDArray[np.float32]
    levels: NDArray[np.float32]
    clipped: NDArray[np.float32]
    sets: NDArray[np.uint8]


def joined(windows: Sequence[Mixtures]) -> Mixtures:
    """All of them as one batch."""
    rows = np.cumsum([0, *(window.seats.size for window in windows)])
    pieces = [window.pieces.copy() for window in windows]
    for each, row in zip(pieces, rows[:-1], strict=True):
        each[:, 0] += row
    parts = zip(*(window[1:] for window in windows), strict=True)
    return Mixtures(np.concatenate(pieces), *(np.concatenate(part) for part in parts))


class Mixer:
    """Draws windows."""

    def __init__(self, sounds: Sounds) -> None:
        self._of = sounds
        places: list[tuple[int, int]] = []
        first = 0
        for samples in all_samples(sounds):
            places.append((first, samples.size))
            first += samples.size
        left = iter(places)
        self._voices = list(itertools.islice(left, len(SPEEDS) * len(sounds.voices)))
        self._noises = list(itertools.islice(left, len(sounds.noises)))
        self._babble = list(itertools.islice(left, len(sounds.babble)))
        self._recordings = list(left)
        self._centres = FIRST_CENTRE + HOP_SAMPLES * np.arange(FRAMES)

    def batch(self, rng: np.random.Generator, windows: int) -> Mixtures:
        """So many windows."""
        return joined([self.draw(rng) for _ in range(windows)])

    def draw(self, rng: np.random.Generator) -> Mixtures:
        """One window."""
        pieces: list[tuple[int, ...]] = []
        gains: list[float] = []
        if self._recordings and rng.random() < RECORDED:
            seats = np.zeros(MOST_SPEAKERS, np.int64)
            sets = np.full(FRAMES, UNTOLD)
            first, size = self._recordings[int(rng.integers(len(self._recordings)))]
            at = int(rng.integers(max(size - WINDOW_SAMPLES, 0) + 1))
            pieces.append((0, first + at, 0, min(WINDOW_SAMPLES, size), 0, 0))
            gains.append(1.0)
            least_snr = 15.0
        else:
            seats = self._seats(rng)
            sets = self._speech(pieces, gains, rng)
            least_snr = QUIET_SNR_DB if rng.random() < QUIET else LEAST_SNR_DB
        points = rng.normal(0, rng.uniform(0, 5), CURVE_POINTS)
        telephone = rng.random() < 0.15
        top = rng.uniform(3300, 4000) if telephone else _NO_LIMIT
        bottom = rng.uniform(150, 300) if telephone and rng.random() < 0.5 else 0.0
        noises = [self._noise(rng) for _ in range(2)]
        snrs = [
            float(rng.uniform(least_snr, least_snr + 35)) if rng.random() < share else _SILENT
            for share in (0.9, 0.3)
        ]
        clipped = rng.uniform(0.2, 0.7) if rng.random() < 0.04 else 1.0
        return Mixtures(
            np.array(pieces, np.int64).reshape(-1, 6),
            np.array(gains, np.float32),
            seats[None],
            points[None].astype(np.float32),
            np.array([[bottom, top]], np.float32),
            np.array([noises], np.int64),
            np.array([snrs], np.float32),
            np.array([rng.uniform(-45, -14)], np.float32),
            np.array([clipped], np.float32),
            sets[None].astype(np.uint8),
        )

    def _seats(self, rng: np.random.Generator) -> NDArray[np.int64]:
        room = int(rng.integers(len(self._of.rooms)))
        dry = rng.random() < 0.15
        seats = np.arange(MOST_SPEAKERS) + 1 + room * _SEATS
        return np.zeros_like(seats) if dry else seats

    def _noise(self, rng: np.random.Generator) -> tuple[int, int, int]:
        kind = self._babble if rng.random() < BABBLE else self._noises
        first, size = kind[int(rng.integers(len(kind)))]
        return first, size, int(rng.integers(size))

    def _speech(
        self, pieces: list[tuple[int, ...]], gains: list[float], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        turns = self._plan(rng)
        persons = rng.choice(len(self._of.voices), MOST_SPEAKERS, replace=False)
        truth = np.zeros((MOST_SPEAKERS, FRAMES), np.bool_)
        for speaker in sorted({turn.speaker for turn in turns}):
            speed = int(rng.integers(len(SPEEDS)))
            voice = self._of.voices[persons[speaker]][speed]
            first, _ = self._voices[persons[speaker] * len(SPEEDS) + speed]
            gain = float(rng.normal(0, LEVEL_SPREAD_DB))
            words = int(rng.integers(voice.milliseconds))
            for turn in (turn for turn in turns if turn.speaker == speaker):
                start_ms, length_ms = voice.cut(words, turn.end - turn.start)
                words = start_ms + length_ms
                loud = from_db(gain + float(rng.normal(0, 2)))
                place = round(turn.start * SAMPLE_RATE)
                for piece in _pieces(voice, start_ms, length_ms, place):
                    pieces.append((speaker, first + piece[0], *piece[1:]))
                    gains.append(loud)
                since = self._centres - place
                truth[speaker] |= (since >= 0) & (since < length_ms * GRID)
        return np.asarray(truth.T @ (1 << np.arange(MOST_SPEAKERS)))

    def _plan(self, rng: np.random.Generator) -> list[Spoken]:
        """Who speaks when: as in a meeting, as in two at once, taking turns fast, or hardly."""
        kind = rng.random()
        if kind < 0.50:
            return self._meeting(rng, int(rng.integers(2, MOST_SPEAKERS + 1)))
        if kind < 0.70:
            two = self._meeting(rng, 2)
            return two + [Spoken(s + 1, a, b) for s, a, b in self._meeting(rng, 2)]
        if kind < 0.90:
            return list(self._in_turn(rng))
        if kind < 0.95:
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


def all_samples(sounds: Sounds) -> list[Samples]:
    """Voices, noises, babble and recordings: in this order mixtures number their samples."""
    said = [voice.samples for person in sounds.voices for voice in person]
    return [*said, *sounds.noises, *sounds.babble, *sounds.recordings]


def _pieces(voice: Voice, start_ms: int, length_ms: int, place: int) -> Iterator[tuple[int, ...]]:
    """A turn's samples within the window: first, place, length, whether it rises, and falls."""
    position, left = (start_ms % voice.milliseconds) * GRID, length_ms * GRID
    begins = 1
    while left > 0 and place < WINDOW_SAMPLES:
        whole = min(left, voice.samples.size - position)
        skipped = max(-place, 0)
        length = min(place + whole, WINDOW_SAMPLES) - max(place, 0)
        if length > 0:
            ends = int(whole == left and place + whole <= WINDOW_SAMPLES)
            yield position + skipped, max(place, 0), length, begins * (skipped == 0), ends
        begins = 0
        left -= whole
        place += whole
        position = 0


def main() -> None:
    """Gather the sounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("voices", type=Path, nargs="+", help="folders of a file a person")
    parser.add_argument("--timing", type=Path, required=True)
    parser.add_argument("--noise", type=Path, nargs="+", required=True)
    parser.add_argument("--recordings", type=Path, nargs="*", default=[])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--without", default="", help="voices kept for measuring, by commas")
    parser.add_argument("--told", default="", help="what it is, for the manifest")
    asked = parser.parse_args()
    kept = set(filter(None, asked.without.split(",")))
    gather(
        asked.voices, asked.timing, asked.noise, asked.recordings, kept, asked.told, asked.output
    )


if __name__ == "__main__":
    main()
