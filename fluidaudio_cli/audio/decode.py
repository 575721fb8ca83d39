"""Decode a stream frame by frame, and stop at the first sign that it is not whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av.error

from fluidaudio_cli.audio.container import NOT_AUDIO_REMEDY, OpenedStream
from fluidaudio_cli.audio.declared import declared_length
from fluidaudio_cli.audio.pcm import PEAK_LIMIT, PcmFrame
from fluidaudio_cli.errors import AudioError

DAMAGED_REMEDY = "copy or export it again, or save what can be read with another program first"

_RESYNCING_CONTAINERS = frozenset({"mp3", "aac"})
"""Bare sequences of frames without a header: a cut recording may begin or end with junk."""


def decode_frames(opened: OpenedStream, path: Path) -> Iterator[PcmFrame]:
    """Yield the stream's frames in order; each is valid until the next is asked for.

    Raises ``AudioError`` for a packet that does not decode, samples that are not finite, a file
    cut before the length its header states, and a stream without any sample. What was decoded
    before has been yielded by then, and the message tells how much that was.
    """
    container, stream = opened.container, opened.stream
    declared = declared_length(container, stream)
    resyncs = bool(set(container.format.name.split(",")) & _RESYNCING_CONTAINERS)
    # Lossless codecs carry checksums; without this a damaged frame would pass as noise.
    stream.codec_context.options = {"err_detect": "crccheck+explode"} if not resyncs else {}
    seconds = 0.0
    damage: Exception | None = None
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                if not resyncs:
                    raise
                damage = error if seconds else None
                continue
            for frame in frames:
                if damage is not None:
                    raise damage
                pcm = PcmFrame(frame)
                _check_usable(pcm, path, seconds)
                if pcm.samples:
                    yield pcm
                    seconds += pcm.samples / pcm.sample_rate
    except av.error.FFmpegError as error:
        if not seconds:
            raise AudioError(
                f"{path} has no audio that decodes ({error.strerror})", NOT_AUDIO_REMEDY
            ) from error
        raise AudioError(
            f"{path} is damaged after {seconds:.2f} s ({error.strerror}); "
            f"only the {seconds:.2f} s before can be decoded",
            DAMAGED_REMEDY,
        ) from error
    if not seconds:
        raise AudioError(f"{path} has no audio samples", NOT_AUDIO_REMEDY)
    missing = declared.shortfall(seconds)
    if missing:
        raise AudioError(
            f"{path} is cut off: its header states {declared.seconds:.2f} s, "
            f"only {seconds:.2f} s can be decoded",
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
