"""A conversation's sound, as a stream, and its exact reference."""

from __future__ import annotations

import json
import struct
import wave
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.files import atomic_path
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.scoring.rttm import format_rttm
from fluidaudio_cli.scoring.uem import format_uem
from fluidaudio_cli.simulate.channel import channel_of
from fluidaudio_cli.simulate.noise import BLOCK, noise_blocks
from fluidaudio_cli.simulate.plan import Conversation
from fluidaudio_cli.simulate.room import impulse_response
from fluidaudio_cli.simulate.signals import GRID, Samples, from_db, rms, to_db
from fluidaudio_cli.simulate.turn_taking import Utterance
from fluidaudio_cli.simulate.voices import Voice

LEVELS_SCHEMA = "fluidaudio.conversation/1"

_FADE = GRID
"""A millisecond of fade at either end of a turn: words cut apart do not click."""


@dataclass(frozen=True)
class Levels:
    """What was measured of the speech before the gain to the level asked for.

    ``speech`` and ``noise`` are amplitudes: of the speech where somebody speaks, of the noise
    over the whole. ``turns``: of each turn as it arrives, in the order of the conversation's.
    """

    speech: float
    noise: float
    turns: tuple[float, ...]


class Renderer:
    """Makes one conversation's signals; every call starts from the beginning."""

    def __init__(
        self, conversation: Conversation, voices: tuple[Voice, ...], noise_folder: Path | None
    ) -> None:
        self._of = conversation
        self._noise_folder = noise_folder
        present = {seat.voice.name for seat in conversation.seats}
        absent = tuple(voice for voice in voices if voice.name not in present)
        # Babble is of others; where there are none, of whoever is there.
        self._others = absent or voices
        self._responses = [
            impulse_response(conversation.room, seat.place, conversation.stream(f"tail {number}"))
            for number, seat in enumerate(conversation.seats)
        ]
        self._turn_levels: list[float] = []

    def levels(self, scratch: Path, progress: ProgressCallback) -> Levels:
        """Measure speech and noise; leaves the speech in ``scratch`` (float32)."""
        squares = 0.0
        speaking = 0
        done = 0
        with scratch.open("wb") as file:
            for block, mask in zip(self.speech(), self._speaking(), strict=True):
                squares += float(np.square(block[mask], dtype=np.float64).sum())
                speaking += int(mask.sum())
                file.write(block.tobytes())
                done += block.size
                progress(done / SAMPLE_RATE / 2, self._of.seconds)
        noise = sum(float(np.square(b, dtype=np.float64).sum()) for b in self._raw_noise())
        return Levels(
            (squares / max(speaking, 1)) ** 0.5,
            (noise / self._of.samples) ** 0.5,
            tuple(self._turn_levels),
        )

    def speech(self, speaker: int | None = None) -> Iterator[Samples]:
        """The speech in the room, of all or of one, block by block."""
        self._turn_levels = []
        turns = iter(t for t in self._of.turns if speaker in (None, t.speaker))
        following = next(turns, None)
        ahead = np.zeros(BLOCK, np.float32)
        for first in range(0, self._of.samples, BLOCK):
            size = min(BLOCK, self._of.samples - first)
            while following is not None and following.start_ms * GRID < first + size:
                wet = self._wet(following)
                start = following.start_ms * GRID - first
                ahead = _at_least(ahead, start + wet.size)
                ahead[start : start + wet.size] += wet
                following = next(turns, None)
            yield ahead[:size].copy()
            ahead = _at_least(ahead[size:], BLOCK)

    def noise(self, levels: Levels) -> Iterator[Samples]:
        """The noise at the level asked for, given the speech at its."""
        if self._of.snr is None:
            yield from self._raw_noise()
            return
        gain = from_db(self._of.level - self._of.snr) / levels.noise
        for block in self._raw_noise():
            yield block * np.float32(gain)

    def mixture(self, scratch: Path, levels: Levels) -> Iterator[Samples]:
        """Speech (from ``scratch``) and noise through the channel."""
        gain = np.float32(from_db(self._of.level) / levels.speech)
        channel, _ = channel_of(
            self._of.recipe.channel, from_db(self._of.level), self._of.stream("channel")
        )
        with scratch.open("rb") as file:
            for noise in self.noise(levels):
                speech = np.frombuffer(file.read(4 * noise.size), np.float32)
                yield channel.push(speech * gain + noise)
        yield channel.flush()

    def _wet(self, turn: Utterance) -> Samples:
        seat = self._of.seats[turn.speaker]
        dry = np.concatenate(list(seat.voice.words(turn.words_ms, turn.length_ms)))
        fade = np.linspace(0, 1, _FADE + 2, dtype=np.float32)[1:-1]
        dry[:_FADE] *= fade
        dry[-_FADE:] *= fade[::-1]
        dry *= np.float32(from_db(seat.level + turn.level))
        response = self._responses[turn.speaker]
        if response.size == 1:
            wet = dry * response[0]
        else:
            from scipy.signal import oaconvolve  # a second to import, which not all need

            wet = oaconvolve(dry, response)
        self._turn_levels.append(rms(wet[: dry.size]))
        return np.asarray(wet, np.float32)

    def _speaking(self) -> Iterator[np.ndarray[Any, np.dtype[np.bool_]]]:
        """Where somebody speaks, block by block."""
        turns = self._of.turns
        first_open = 0
        for first in range(0, self._of.samples, BLOCK):
            size = min(BLOCK, self._of.samples - first)
            mask = np.zeros(size, np.bool_)
            while first_open < len(turns) and turns[first_open].end_ms * GRID <= first:
                first_open += 1
            for turn in turns[first_open:]:
                if turn.start_ms * GRID >= first + size:
                    break
                mask[max(turn.start_ms * GRID - first, 0) : max(turn.end_ms * GRID - first, 0)] = (
                    True
                )
            yield mask

    def _raw_noise(self) -> Iterator[Samples]:
        if self._of.noise == "none":
            for first in range(0, self._of.samples, BLOCK):
                yield np.zeros(min(BLOCK, self._of.samples - first), np.float32)
            return
        rng = self._of.stream(f"noise {self._of.noise}")
        yield from noise_blocks(
            self._of.noise, self._of.samples, rng, self._others, self._noise_folder
        )


def write_conversation(
    conversation: Conversation,
    voices: tuple[Voice, ...],
    folder: Path,
    noise_folder: Path | None = None,
    stems: Path | None = None,
    progress: ProgressCallback = no_progress,
) -> float:
    """Write URI.wav, URI.rttm, URI.uem and URI.json (levels) into ``folder``.

    Returns for how many seconds it is beyond full scale, and cut off there. ``stems``: a folder
    that is there, for URI.speech.wav and URI.noise.wav (before the channel, float32). Memory
    does not grow with length, but for the turns' list. Raises ``OSError``.
    """
    renderer = Renderer(conversation, voices, noise_folder)
    scratch = folder / f".{conversation.uri}.f32"
    total = conversation.seconds
    try:
        levels = renderer.levels(scratch, progress)
        with WavWriter(folder / f"{conversation.uri}.wav") as wav:
            for block in renderer.mixture(scratch, levels):
                wav.write(block)
                progress((total + wav.samples / SAMPLE_RATE) / 2, total)
        if stems is not None:
            _write_stems(conversation, renderer, levels, scratch, stems)
    finally:
        scratch.unlink(missing_ok=True)
    uri = conversation.uri
    _write_text(folder / f"{uri}.rttm", format_rttm(uri, conversation.reference()))
    _write_text(folder / f"{uri}.uem", format_uem(uri, ((0.0, total),)))
    document = json.dumps(levels_document(conversation, levels), indent=1)
    _write_text(folder / f"{uri}.json", document + "\n")
    return wav.cut_off / SAMPLE_RATE


def levels_document(conversation: Conversation, levels: Levels) -> dict[str, Any]:
    """Everything known of a conversation: speakers, places, and each turn's level (dBFS)."""
    gain = conversation.level - to_db(levels.speech)
    _, codec = channel_of(conversation.recipe.channel, 1.0, conversation.stream("channel"))
    return {
        "schema": LEVELS_SCHEMA,
        "uri": conversation.uri,
        "seed": conversation.recipe.seed,
        "number": conversation.number,
        "seconds": conversation.seconds,
        "level_dbfs": round(conversation.level, 2),
        "noise": conversation.noise,
        "snr_db": None if conversation.snr is None else round(conversation.snr, 2),
        "rt60_s": round(conversation.room.rt60, 3),
        "room_m": [round(extent, 2) for extent in conversation.room.size],
        "codec": codec,
        "speakers": [
            {
                "name": seat.voice.name,
                "level_at_1m_db": round(seat.level, 2),
                "distance_m": round(seat.distance, 2),
            }
            for seat in conversation.seats
        ],
        "turns": [
            {
                "speaker": conversation.seats[turn.speaker].voice.name,
                "start_sample": turn.start_ms * GRID,
                "end_sample": turn.end_ms * GRID,
                "level_dbfs": round(to_db(level) + gain, 2),
                "interjected": turn.interjected,
            }
            for turn, level in zip(conversation.turns, levels.turns, strict=True)
        ],
    }


def _write_stems(
    conversation: Conversation, renderer: Renderer, levels: Levels, scratch: Path, stems: Path
) -> None:
    gain = np.float32(from_db(conversation.level) / levels.speech)

    def speech() -> Iterator[Samples]:
        with scratch.open("rb") as file:
            while data := file.read(4 * BLOCK):
                yield np.frombuffer(data, np.float32) * gain

    for name, blocks in (("speech", speech()), ("noise", renderer.noise(levels))):
        with (
            atomic_path(stems / f"{conversation.uri}.{name}.wav") as draft,
            draft.open("wb") as wav,
        ):
            wav.write(_float_header(conversation.samples))
            for block in blocks:
                wav.write(block.astype("<f4").tobytes())


def _float_header(samples: int) -> bytes:
    """The head of a WAV file of float32 samples, mono at 16 kHz (44 bytes)."""
    size = 4 * samples
    form = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16)
    return form + struct.pack(
        "<HHIIHH4sI", 3, 1, SAMPLE_RATE, 4 * SAMPLE_RATE, 4, 32, b"data", size
    )


def _at_least(samples: Samples, size: int) -> Samples:
    """The samples with zeros after them, so that there are ``size``."""
    return np.concatenate([samples, np.zeros(max(size - samples.size, 0), np.float32)])


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


class WavWriter(AbstractContextManager["WavWriter", None]):
    """16-bit mono at 16 kHz, written as it comes.

    ``samples``: how many so far; ``cut_off``: how many of them were beyond full scale.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._wav: wave.Wave_write = wave.open(self._file, "wb")  # noqa: SIM115 - closed by __exit__
        self._wav.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "NONE"))
        self.samples = self.cut_off = 0

    def write(self, samples: Samples) -> None:
        """Write the next ``samples``; what is beyond full scale is cut off."""
        self.cut_off += int(np.count_nonzero(np.abs(samples) > 1.0))
        pcm = np.round(np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2")
        self._wav.writeframesraw(pcm.tobytes())
        self.samples += samples.size

    def __exit__(self, *_: object) -> None:
        """Complete the header."""
        try:
            self._wav.close()
        finally:
            self._file.close()
