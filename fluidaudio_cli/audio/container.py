"""Open one audio stream of a media file with FFmpeg (PyAV), and nothing but that file.

FFmpeg is given a Python file object, never a name: a path such as ``http://…`` or
``concat:…`` is a file name like any other. Playlists that name further files or addresses
(m3u8, concat scripts, SDP, DASH) are no recordings, and any nested open is refused.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.error

from fluidaudio_cli.audio.declared import DeclaredLength, declared_length
from fluidaudio_cli.audio.headers import read_header
from fluidaudio_cli.errors import AudioError

NOT_AUDIO_REMEDY = "give a recording (WAV, FLAC, MP3, M4A, OGG, MP4, …)"
DAMAGED_REMEDY = "copy or export it again, or save what can be read with another program first"

_READ_BYTES = 256 * 1024
"""Per read of the file: each takes the GIL once, so few large ones."""

_WAV_BLOCK_BYTES = 32 * 1024
"""Per packet of PCM in WAV, instead of FFmpeg's 4 KiB: eight times fewer Python calls. FFmpeg may
look no further than that into PCM for another codec hidden there (by default 5 MB, 100 ms)."""

_REFERENCING_FORMATS = frozenset(
    {"concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp"}
    | {"webm_dash_manifest"}
)
"""Formats whose files only name other sources; reading one may also wait for more to appear."""


@dataclass(frozen=True)
class OpenedStream:
    """A demuxer with the audio stream chosen from it, the file both read, and its length."""

    file: BinaryIO
    container: Any
    stream: Any
    declared: DeclaredLength

    def close(self) -> None:
        """Release FFmpeg's contexts and the file."""
        self.container.close()
        self.file.close()


class _NamelessFile:
    """A file for FFmpeg that shows its extension (a hint for probing) but not its name.

    FFmpeg gives meaning to names (``image%03d``, ``scheme:rest``); a user's file name has none.
    """

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.name = "audio" + (suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", suffix) else "")
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell
        self.seekable = file.seekable


def open_stream(path: Path) -> OpenedStream:
    """Open ``path`` and choose its best audio stream (FFmpeg's rule: default, most channels).

    Raises ``AudioError`` when the file is missing, unreadable, a folder, empty, not a media
    file, or without an audio stream that can be decoded.
    """
    file = _open_file(path)
    try:
        header = read_header(file)
        if header.ogg_page_is_cut:
            raise AudioError(f"{path} is cut off: its last Ogg page is incomplete", DAMAGED_REMEDY)
        container = _open_container(file, path)
    except BaseException:
        file.close()
        raise
    try:
        stream = _choose_stream(container, path)
    except BaseException:
        container.close()
        file.close()
        raise
    return OpenedStream(file, container, stream, declared_length(container, stream, header))


def _open_file(path: Path) -> BinaryIO:
    if path.is_dir():
        raise AudioError(f"{path} is a folder, not a recording", "give the files in it")
    try:
        file = path.open("rb", buffering=_READ_BYTES)
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist", "check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"cannot read {path}: {reason}", "check its access rights") from error
    if path.is_file() and os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise AudioError(f"{path} is an empty file (0 bytes)", "record or copy it again")
    return file


def _refuse_nested(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError(f"a recording may not open {url}")


def _open_container(file: BinaryIO, path: Path) -> Any:
    try:
        return av.open(
            _NamelessFile(file, path.suffix),
            "r",
            # No protocol has this name: FFmpeg's own network and file access is off.
            container_options={
                "protocol_whitelist": "none",
                "format_whitelist": _format_whitelist(),
                **_block_options(file),
            },
            metadata_errors="replace",
            buffer_size=_READ_BYTES,
            io_open=_refuse_nested,
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AudioError(
            f"{path} is not a media file that can be decoded (or a playlist), or its header is cut "
            f"off or damaged ({reason_of(error)})",
            NOT_AUDIO_REMEDY,
        ) from error


@cache
def _format_whitelist() -> str:
    return ",".join(sorted(av.formats_available - _REFERENCING_FORMATS))


def _block_options(file: BinaryIO) -> dict[str, str]:
    magic = file.peek(4)[:4] if isinstance(file, BufferedReader) else b""
    if magic not in (b"RIFF", b"RF64", b"BW64"):
        return {}
    return {"max_size": str(_WAV_BLOCK_BYTES), "probesize": str(_WAV_BLOCK_BYTES)}


def _choose_stream(container: Any, path: Path) -> Any:
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    if not streams:
        kinds = sorted({s.type for s in container.streams}) or ["none"]
        raise AudioError(
            f"{path} has no audio stream that can be decoded "
            f"(container {container.format.name}, streams: {', '.join(kinds)})",
            NOT_AUDIO_REMEDY,
        )
    best = container.streams.best("audio")
    return best if best in streams else streams[0]


def reason_of(error: Exception) -> str:
    """The words of FFmpeg or the system for ``error``, without codes and file names."""
    return str(getattr(error, "strerror", None) or error)
