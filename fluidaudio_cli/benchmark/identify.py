"""``benchmark --identify``: how well a voice is known again, and whether rates mean what they say.

Each voice is enrolled from the beginning of its recordings and identified from their end, in
pieces that share no audio; every test is compared with every enrolment. What comes of it are
trials (D. van Leeuwen, N. Brümmer, "An Introduction to Application-Independent Evaluation of
Speaker Recognition Systems", 2007): of one person, or of two (strangers).

A condition is called ``enrol=5 test=2``, with what the test was heard through behind it, and
where the enrolment was so too, that behind ``enrol``.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.benchmark.grid import Cell, Condition, Effort, Study, crossed
from fluidaudio_cli.benchmark.results import (
    CellRecord,
    FileRecord,
    IdentificationRecord,
    ProcessRecord,
)
from fluidaudio_cli.benchmark.worker import facts_of
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.diarization.speakers.known import Directions
from fluidaudio_cli.files import file_sha256, temporary_folder
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.simulate.codecs import narrowed
from fluidaudio_cli.simulate.noise import noise_blocks
from fluidaudio_cli.simulate.render import WavWriter
from fluidaudio_cli.simulate.room import draw_room, impulse_response, seat
from fluidaudio_cli.simulate.signals import from_db, rms
from fluidaudio_cli.simulate.voices import read_audio, voice_files

IDENTIFY = "identify"

SECONDS = (2, 5, 15, 30)
"""Of enrolment and of test."""

THROUGH = ("noise=20", "noise=10", "noise=0", "room=0.5", "band=4000")
"""What a test of 5 s is heard through besides: noise (SNR in dB), a room (RT60 in s), a telephone's
bandwidth (Hz); the latter once more on both sides."""

BOTH = THROUGH[-1:]

FEWEST_VOICES = 8
"""From fewer, a rate of one in a hundred says nothing."""

_ALL_SECONDS = 5
# Level of each piece, below full scale: no clipping, well above silence.
_LEVEL_DB = -26.0
_DISTANCE = 1.2

Samples = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VoiceItem:
    """One person's recordings: ``audio`` is the first of ``files``."""

    uri: str
    files: tuple[Path, ...]

    @property
    def audio(self) -> Path:
        """The first recording."""
        return self.files[0]

    @cached_property
    def samples(self) -> Samples:
        """All of it, end to end."""
        return np.concatenate([read_audio(path) for path in self.files])


@dataclass(frozen=True)
class VoiceFolder:
    """Voices in a folder, as ``grid.Recordings``."""

    name: str
    items: tuple[VoiceItem, ...]
    fingerprint: str

    @classmethod
    def of(cls, folder: Path, most: int | None = None) -> VoiceFolder:
        """One file, or one folder of files, for each voice; raises as ``voice_files``."""
        found = list(voice_files(folder).items())[:most]
        digest = hashlib.sha256()
        for name, files in found:
            digest.update(f"{name} {' '.join(map(file_sha256, files))}\n".encode())
        items = tuple(VoiceItem(name, files) for name, files in found)
        return cls(folder.name, items, digest.hexdigest())


def conditions_of(folder: VoiceFolder) -> dict[str, Condition]:
    """The condition of every cell; the one called "" stands for the voices as they are."""
    names = [f"enrol={enrol} test={test}" for enrol in SECONDS for test in SECONDS]
    names += [f"enrol={_ALL_SECONDS} test={_ALL_SECONDS} {through}" for through in THROUGH]
    names += [f"enrol={_ALL_SECONDS} {through} test={_ALL_SECONDS} {through}" for through in BOTH]
    return {name: Condition(name, folder) for name in ("", *names)}


def identify_study(folder: VoiceFolder, **levels: Sequence[object]) -> Study:
    """Every combination of the levels under every condition; measured here, not in workers."""
    conditions = [name for name in conditions_of(folder) if name]
    cells = crossed(**levels, condition=conditions)
    once = Effort(processes=1, warmup=0, iterations=1)

    def measure(
        wanted: Sequence[Cell],
        load: Callable[[Cell], Pipeline],
        _items: object = None,
        progress: ProgressCallback = no_progress,
    ) -> Iterator[CellRecord]:
        for kind in dict.fromkeys(cell.at(condition="") for cell in wanted):
            own = [cell for cell in wanted if cell.at(condition="") == kind]
            pipeline = load(kind)
            try:
                yield from _measured(own, pipeline, folder, progress)
            finally:
                pipeline.close()

    return Study(IDENTIFY, cells, once, measure=measure)


@dataclass(frozen=True)
class Piece:
    """Some seconds from the beginning of a voice's recordings, or their end, heard through."""

    voice: int
    seconds: float
    at_end: bool
    through: str = ""

    def samples(self, recorded: Samples) -> Samples:
        """The piece of ``recorded``, as it is heard; the same each time."""
        size = round(self.seconds * SAMPLE_RATE)
        cut = recorded[recorded.size - size :] if self.at_end else recorded[:size]
        rng = np.random.default_rng([self.voice, zlib.crc32(self.through.encode())])
        heard = _heard_through(cut, self.through, rng)
        level = from_db(_LEVEL_DB) / max(rms(heard), 1e-6)
        return np.asarray(heard * np.float32(level), np.float32)


def voices_of(
    pieces: Sequence[Piece],
    folder: VoiceFolder,
    pipeline: Pipeline,
    progress: ProgressCallback = no_progress,
) -> tuple[NDArray[np.float32], Floats]:
    """(n, d) unit vectors, zeros where nobody was heard, and (n,) seconds of speech."""
    size = pipeline.embedding_size
    vectors, seconds = np.zeros((len(pieces), size), np.float32), np.zeros(len(pieces))
    with temporary_folder() as scratch:
        paths = []
        for number, piece in enumerate(pieces):
            paths.append(scratch / f"{number}.wav")
            with WavWriter(paths[-1]) as wav:
                wav.write(piece.samples(folder.items[piece.voice].samples))
        outcomes = pipeline.diarize_many([(path, None) for path in paths])
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Diarization) and outcome.speakers:
                # Who speaks most: the rest are breaths and noise.
                most = max(outcome.speakers, key=lambda speaker: speaker.clean_seconds)
                vectors[number], seconds[number] = most.embedding, most.clean_seconds
            progress(number + 1, len(pieces))
    return vectors, seconds


def _measured(
    cells: Sequence[Cell], pipeline: Pipeline, folder: VoiceFolder, progress: ProgressCallback
) -> Iterator[CellRecord]:
    pipeline.mode.calibration.check_across()
    lengths = [item.samples.size / SAMPLE_RATE for item in folder.items]
    trials = {}
    for cell in cells:
        (enrol, before), (test, after) = _levels(cell.condition)
        voices = [i for i, length in enumerate(lengths) if length >= enrol + test]
        trials[cell] = (
            [Piece(voice, enrol, False, before) for voice in voices],
            [Piece(voice, test, True, after) for voice in voices],
        )
    enough = {cell: pair for cell, pair in trials.items() if len(pair[0]) >= FEWEST_VOICES}
    pieces = list(dict.fromkeys(p for pair in enough.values() for side in pair for p in side))
    vectors, seconds = voices_of(pieces, folder, pipeline, progress)
    place = {piece: row for row, piece in enumerate(pieces)}
    for cell, sides in trials.items():
        if cell not in enough:
            (enrol, _), (test, _) = _levels(cell.condition)
            yield CellRecord(
                cell=cell,
                study=IDENTIFY,
                unavailable=f"{len(sides[0])} of {len(folder.items)} voices have "
                f"{enrol + test:g} s of audio, and {FEWEST_VOICES} are needed",
            )
            continue
        found = []
        for side in sides:
            rows = [place[piece] for piece in side]
            found.append(Directions.of(vectors[rows], seconds[rows], pipeline.mode.calibration))
        yield _record(cell, pipeline, folder, [piece.voice for piece in sides[0]], *found)


def _record(
    cell: Cell,
    pipeline: Pipeline,
    folder: VoiceFolder,
    voices: Sequence[int],
    enrolled: Directions,
    tested: Directions,
) -> CellRecord:
    compared = tested.compared(enrolled, pipeline.mode.calibration)
    heard = compared.likeness > 0.0
    same = np.eye(len(voices), dtype=bool)

    def told(values: Floats, which: NDArray[np.bool_]) -> tuple[float, ...]:
        return tuple(float(f"{value:.5g}") for value in values[which & heard].tolist())

    files = tuple(
        FileRecord(uri=item.uri, audio_seconds=item.samples.size / SAMPLE_RATE)
        for item in folder.items
    )
    return CellRecord(
        cell=cell,
        study=IDENTIFY,
        **facts_of(pipeline),
        processes=(ProcessRecord(load_seconds=pipeline.load_seconds, files=files),),
        identification=IdentificationRecord(
            voices=len(voices),
            same_odds=told(compared.log_odds, same),
            same_rates=told(compared.false_accept, same),
            stranger_odds=told(compared.log_odds, ~same),
            stranger_rates=told(compared.false_accept, ~same),
            unheard=int(np.count_nonzero(same & ~heard)),
        ),
    )


def _levels(condition: str) -> tuple[tuple[float, str], tuple[float, str]]:
    """Seconds, and what they are heard through, of the enrolment and of the test."""
    found = re.fullmatch(r"enrol=(\d+)(?: (\S+))? test=(\d+)(?: (\S+))?", condition)
    assert found is not None
    return (float(found[1]), found[2] or ""), (float(found[3]), found[4] or "")


def _heard_through(samples: Samples, through: str, rng: np.random.Generator) -> Samples:
    kind, _, level = through.partition("=")
    if kind == "noise":
        noise = np.concatenate(list(noise_blocks("noise", samples.size, rng, [])))
        gain = from_db(-float(level)) * rms(samples) / max(rms(noise), 1e-6)
        return np.asarray(samples + noise * np.float32(gain), np.float32)
    if kind == "room":
        room = draw_room(float(level), _DISTANCE, rng)
        place = seat(room, _DISTANCE, float(rng.uniform(0, 2 * np.pi)))
        wet = oaconvolve(samples, impulse_response(room, place, rng))
        return np.asarray(wet[: samples.size], np.float32)
    if kind == "band":
        band = narrowed(float(level))
        return np.concatenate([band.push(samples), band.flush()]).astype(np.float32)
    return samples
