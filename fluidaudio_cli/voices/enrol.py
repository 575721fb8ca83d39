"""From a recording of one person to a voice: what is heard, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.flac import flac_bytes
from fluidaudio_cli.audio.source import SAMPLE_RATE, AudioSource
from fluidaudio_cli.diarization.level import Level
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.result import Diarization, ModelRef, Speaker
from fluidaudio_cli.diarization.speakers.known import Directions
from fluidaudio_cli.errors import AudioError, InputError, UsageError, named_errors
from fluidaudio_cli.files import temporary_folder
from fluidaudio_cli.turns import Turn, merge_self_overlap
from fluidaudio_cli.voices.voice import Heard, StoredVoice

LEAST_SECONDS = 1.0
"""Of speech: from less, a voice is hardly told from others."""

ENOUGH_SECONDS = 10.0
"""Of speech: with more, errors become fewer slowly."""

MOST_SECONDS = 600.0
"""Of audio that is heard: a voice is known long before."""

# Speech of others that a recording of one person may hold, seconds and share of the person's:
# a "yes" from the next room, or a breath taken for somebody.
_STRAY_SECONDS = 1.0
_STRAY_SHARE = 0.1
# Parts of one person's speech are more alike than this, on average; music's are not.
_LEAST_QUALITY = 0.35
# Log-odds from which two speakers of one recording are one after all. Two people there share the
# channel: those of the bundled sample reach 4.
_SURELY_ONE = 8.0
# Turns told of each speaker where there are several.
_SHOWN_TURNS = 3

Samples = NDArray[np.float32]
Span = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """What of ``source`` to hear: ``spans`` in seconds, all of it where there are none."""

    source: AudioSource
    uri: str
    spans: tuple[Span, ...] = ()

    def samples(self) -> Samples:
        """(n,) the spans end to end, at most ten minutes; raises ``AudioError``."""
        pieces: list[Samples] = []
        spans = self.spans or ((0.0, float("inf")),)
        left = round(MOST_SECONDS * SAMPLE_RATE)
        with self.source.open() as stream:
            for block in stream.blocks(SAMPLE_RATE):
                begin = stream.samples_read - block.size
                for first, last in spans:
                    start = round(min(max(first * SAMPLE_RATE - begin, 0), block.size))
                    stop = round(min(last * SAMPLE_RATE - begin, block.size, start + left))
                    pieces.append(block[start : max(stop, start)])
                    left -= pieces[-1].size
                if not left or stream.seconds_read >= spans[-1][1]:
                    break
        found = np.concatenate([np.zeros(0, np.float32), *pieces])
        if not found.size:
            raise AudioError(f"{self.source.path} has nothing in the time given", "check the times")
        return found


def spans_of(turns: Iterable[Turn], speaker: str, where: str) -> tuple[Span, ...]:
    """When ``speaker`` speaks alone; raises ``UsageError`` for one who is not in ``turns``."""
    merged = merge_self_overlap(turns)
    own = [turn for turn in merged if turn.speaker == speaker]
    if not own:
        names = ", ".join(f"'{name}'" for name in sorted({turn.speaker for turn in merged}))
        raise UsageError(f"'{speaker}' does not speak in {where}", f"it has {names or 'nobody'}")
    spans = [(turn.start, turn.end) for turn in own]
    for other in merged:
        if other.speaker != speaker:
            spans = [
                part
                for start, end in spans
                for part in ((start, min(end, other.start)), (max(start, other.end), end))
                if part[1] > part[0]
            ]
    if not spans:
        raise InputError(f"'{speaker}' never speaks alone in {where}", "enrol from another file")
    return tuple(sorted(set(spans)))


def hear(pipeline: Pipeline, part: Part, *, keep_audio: bool = False) -> Heard:
    """The voice of the one person who speaks in ``part``.

    Raises ``InputError`` where nobody or too little is heard, where several people speak (naming
    them with their times), and where it does not sound like one person; ``UsageError`` where the
    networks' calibration does not say how voices compare.
    """
    pipeline.mode.calibration.check_across()
    where = str(part.source.path)
    samples = part.samples()
    if samples.size >= round(MOST_SECONDS * SAMPLE_RATE):
        where = f"the first {MOST_SECONDS / 60:g} minutes of {where}"
    # FLAC has 16 bits, in which a very quiet voice would be rounded to noise.
    level = Level()
    level.heard(samples)
    audio = flac_bytes(samples * np.float32(level.gain))
    with _as_file(audio) as path:
        result = pipeline.diarize(path, uri=part.uri)
    speakers = _of_one_person(result, pipeline, where, bool(part.spans))
    seconds = sum(speaker.clean_seconds for speaker in speakers)
    if seconds < LEAST_SECONDS:
        raise InputError(
            f"{where} has {seconds:.1f} s of speech in it",
            f"a voice needs {LEAST_SECONDS:g} s, better {ENOUGH_SECONDS:g} s or more",
        )
    vector = sum(speaker.clean_seconds * speaker.embedding for speaker in speakers)
    unit = np.asarray(vector / np.linalg.norm(vector), np.float32)
    quality = _quality(result, unit)
    if quality is not None and quality < _LEAST_QUALITY:
        raise InputError(
            f"{where} does not sound like one person: its parts are alike by {quality:.2f} only",
            "give a recording of one person's speech, without music or noise",
        )
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    kept = audio if keep_audio else b""
    return Heard(part.uri, seconds, date, unit, quality, audio=kept)


def network_of(models: Sequence[ModelRef]) -> str:
    """SHA-256 of the embedding network, without which vectors mean nothing.

    The same network in 8-bit integers is no other one: voices are compared across both.

    Raises ``UsageError`` for models of which none is one.
    """
    for model in models:
        if model.name == "embedding":
            return model.comparable
    raise UsageError(
        "these models have no embedding network: they know no voice again",
        "leave out --models, or give a card with an embedding",
    )


@contextmanager
def _as_file(audio: bytes) -> Iterator[Path]:
    """A file that only its owner can read, as long as it is needed."""
    with temporary_folder() as folder:
        path = folder / "voice.flac"
        with named_errors(path):
            path.write_bytes(audio)
        yield path


def _of_one_person(
    result: Diarization, pipeline: Pipeline, where: str, in_spans: bool
) -> list[Speaker]:
    heard = [speaker for speaker in result.speakers if speaker.clean_seconds > 0.0]
    if not heard:
        raise InputError(f"nobody speaks in {where}", "give a recording of the person's speech")
    calibration = pipeline.mode.calibration
    most = max(heard, key=lambda speaker: speaker.clean_seconds)
    voices = Directions.of(
        np.stack([speaker.embedding for speaker in heard]),
        np.array([speaker.clean_seconds for speaker in heard]),
        calibration,
    )
    # Changing distance or mood, one person may have been taken for two.
    alike = voices.compared(voices, calibration).log_odds[heard.index(most)] > _SURELY_ONE
    own = [s for s, same in zip(heard, alike, strict=True) if same or s is most]
    stray = [s for s in result.speakers if s not in own]
    allowed = max(_STRAY_SECONDS, _STRAY_SHARE * most.speech_seconds)
    if sum(speaker.speech_seconds for speaker in stray) > allowed:
        told = "; ".join(_told(speaker, result, in_spans) for speaker in result.speakers)
        raise InputError(
            f"{len(result.speakers)} people speak in {where}: {told}",
            "say who: --from LABEL --turns F.rttm of diarize, or --start and --end",
        )
    return own


def _told(speaker: Speaker, result: Diarization, in_spans: bool) -> str:
    turns = [turn for turn in result.turns if turn.speaker == speaker.label]
    if in_spans:  # their times are none of the file's
        return f"{speaker.label} {speaker.speech_seconds:.1f} s"
    shown = ", ".join(f"{turn.start:.1f}-{turn.end:.1f} s" for turn in turns[:_SHOWN_TURNS])
    return f"{speaker.label} {shown}{' …' if len(turns) > _SHOWN_TURNS else ''}"


def _quality(result: Diarization, vector: NDArray[np.float32]) -> float | None:
    """Mean cosine of the windows' voices with all of it, by their seconds."""
    log = result.evidence
    assert log is not None
    heard = log.vectors.any(axis=1) & (log.clean_seconds >= LEAST_SECONDS)
    if np.count_nonzero(heard) < 2:
        return None
    return float(np.average(log.vectors[heard] @ vector, weights=log.clean_seconds[heard]))


def hear_again(pipeline: Pipeline, voice: StoredVoice, network: str) -> StoredVoice:
    """``voice`` as ``pipeline``'s ``network`` hears its kept audio.

    Recordings without audio stay only where the same network heard them.
    """
    heard = []
    for old in voice.recordings:
        if old.audio:
            with _as_file(old.audio) as path:
                new = hear(pipeline, Part(AudioSource(path, old.uri), old.uri))
            heard.append(replace(old, vector=new.vector, seconds=new.seconds, quality=new.quality))
        elif voice.network == network:
            heard.append(old)
    return StoredVoice(voice.name, network, tuple(heard))
