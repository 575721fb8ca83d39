"""Decode a stream block by block, and stop at the first sign that it is not whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av.error

from fluidaudio_cli.audio.batch import FrameBatcher
from fluidaudio_cli.audio.container import DAMAGED_REMEDY, NOT_AUDIO_REMEDY, OpenedStream, reason_of
from fluidaudio_cli.audio.pcm import PEAK_LIMIT, PcmFrame
from fluidaudio_cli.errors import AudioError

_RESYNCING_CONTAINERS = frozenset({"mp3", "aac"})
"""Bare sequences of frames without a header: a cut recording may begin or end with junk."""

_TAG_MAGICS = (b"ID3", b"TAG", b"APETAGEX")
"""Tags found between the frames of such recordings where several were joined to one file."""

_DecodeError = (av.error.FFmpegError, OSError, ValueError)
"""What a damaged file can raise: FFmpeg's errors, and those of reading where it points."""


def decode_frames(opened: OpenedStream, path: Path) -> Iterator[PcmFrame]:
    """Yield the stream's samples in blocks, in order.

    Raises ``AudioError`` for a packet that does not decode, samples that are not finite, a file
    cut before the length its header states, and a stream without any sample. What was decoded
    before has been yielded by then, and the message tells how much that was.
    """
    batcher = FrameBatcher()
    seconds = 0.0
    damage: Exception | None = None
    frames = _decode(opened)
    while True:
        try:
            frame = next(frames, None)
        except _DecodeError as error:
            damage, frame = error, None
        for block in batcher.drain() if frame is None else batcher.push(frame):
            pcm = PcmFrame(block)
            _check_usable(pcm, path, seconds)
            seconds += pcm.samples / pcm.sample_rate
            yield pcm
        if frame is None:
            break
    if damage is not None:
        raise _damaged(path, seconds, damage) from damage
    if not seconds:
        raise AudioError(f"{path} has no audio samples", NOT_AUDIO_REMEDY)
    if opened.declared.exceeds(seconds):
        raise AudioError(
            f"{path} is cut off or damaged: its header states {opened.declared.seconds:.2f} s, "
            f"only {seconds:.2f} s can be decoded",
            DAMAGED_REMEDY,
        )


def _decode(opened: OpenedStream) -> Iterator[Any]:
    """FFmpeg's frames; its errors as they are, those at either end of a bare stream ignored."""
    container, stream = opened.container, opened.stream
    resyncs = bool(set(container.format.name.split(",")) & _RESYNCING_CONTAINERS)
    if not resyncs:
        # Lossless codecs carry checksums; without this a damaged frame would pass as noise.
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    started = False
    damage: Exception | None = None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if not resyncs:
                raise
            if not bytes(packet).startswith(_TAG_MAGICS):
                damage = error
            continue
        if frames and damage is not None and started:
            raise damage
        for frame in frames:
            started = True
            damage = None
            yield frame
    if damage is not None and not started:
        raise damage


def _damaged(path: Path, seconds: float, error: Exception) -> AudioError:
    reason = reason_of(error)
    if not seconds:
        return AudioError(f"{path} has no audio that decodes ({reason})", NOT_AUDIO_REMEDY)
    return AudioError(
        f"{path} is damaged after {seconds:.2f} s ({reason}); only what is before can be decoded",
        DAMAGED_REMEDY,
    )


def _check_usable(pcm: PcmFrame, path: Path, offset_seconds: float) -> None:
    index = pcm.first_unusable()
    if index is None:
        return
    value = next(float(c[index]) for c in pcm.channels if not abs(c[index]) <= PEAK_LIMIT)
    raise AudioError(
        f"{path} has a sample that is not a usable number ({value:g}) "
        f"at {offset_seconds + index / pcm.sample_rate:.3f} s",
        "repair the program that wrote it, or convert the file to 16-bit",
    )
