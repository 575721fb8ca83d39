"""Open the audio tracks of a media file with FFmpeg (PyAV), and nothing but that file.

FFmpeg is given a Python file object, never a name: a path such as ``http://…`` or
``concat:…`` is a file name like any other. Playlists that name further files or addresses
(m3u8, concat scripts, SDP, DASH) are no recordings, and any nested open is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import av
import av.error
from av.stream import Disposition

from fluidaudio_cli.audio.byte_source import READ_BYTES, ByteSource
from fluidaudio_cli.errors import AudioError, reason_of
from fluidaudio_cli.recordings import Place

NOT_AUDIO_REMEDY = "give a recording (WAV, FLAC, MP3, M4A, OGG, MP4, …)"
DAMAGED_REMEDY = "copy or export it again, or diarize it with --salvage"

_WAV_BLOCK_BYTES = 32 * 1024
"""Per packet of PCM in WAV, instead of FFmpeg's 4 KiB: eight times fewer Python calls. FFmpeg may
look no further than that into PCM for another codec hidden there (by default 5 MB, 100 ms)."""

_REFERENCING_FORMATS = frozenset(
    {"concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp"}
    | {"webm_dash_manifest"}
)
"""Formats whose files only name other sources; reading one may also wait for more to appear."""

_HEADERLESS_FORMATS = frozenset(
    {"alaw", "mulaw", "vidc", "dfpwm", "s8", "u8", "f32be", "f32le", "f64be", "f64le"}
    | {f"{sign}{bits}{end}" for sign in "su" for bits in (16, 24, 32) for end in ("be", "le")}
)
"""Samples alone, known by the file's extension: FFmpeg takes them for 44.1 kHz (dfpwm: 48), mono,
whatever they are."""

TrackChoice = int | Literal["all"] | None
"""An audio track by its number from 1, all of them mixed, or FFmpeg's choice."""


@dataclass(frozen=True)
class OpenedContainer:
    """A demuxer, the bytes it reads, its audio tracks, and those of them that were chosen."""

    file: ByteSource
    container: Any
    tracks: tuple[Any, ...]
    chosen: tuple[Any, ...]
    notes: tuple[str, ...]

    @property
    def formats(self) -> frozenset[str]:
        """FFmpeg's names of the container."""
        return frozenset(self.container.format.name.split(","))

    @property
    def streams(self) -> list[Any]:
        """All but covers and streams of no known codec, which damaged packets claim."""
        return [
            stream
            for stream in self.container.streams
            if stream.codec_context is not None
            and not stream.disposition & Disposition.attached_pic
        ]

    def close(self) -> None:
        """Release FFmpeg's contexts and the file."""
        self.container.close()
        self.file.close()


def open_container(
    path: Place, track: TrackChoice = None, salvage: bool = False
) -> OpenedContainer:
    """Open ``path`` and choose its tracks (FFmpeg's rule: the default one, most channels).

    Raises ``AudioError`` when the file is missing, unreadable, a folder, empty, not a media
    file, without an audio stream that can be decoded, or without the track asked for.
    """
    file = ByteSource(path)
    container = None
    try:
        if file.is_cut and file.magic == b"OggS" and not salvage:
            raise AudioError(
                f"{file.label} is cut off: its last Ogg page is incomplete", DAMAGED_REMEDY
            )
        container = _open_container(file, salvage)
        tracks = _audio_tracks(container, file.label)
        chosen, notes = _choose(container, tracks, track, file.label)
    except BaseException:
        if container is not None:
            container.close()
        file.close()
        raise
    return OpenedContainer(file, container, tracks, chosen, notes)


def _refuse_nested(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError(f"a recording may not open {url}")


def _open_container(file: ByteSource, salvage: bool) -> Any:
    try:
        return av.open(
            file,
            "r",
            # No protocol has this name: FFmpeg's own network and file access is off.
            container_options={
                "protocol_whitelist": "none",
                "format_whitelist": _format_whitelist(),
                **_block_options(file),
                # A parser would call packets contiguous that have junk between them.
                **({"fflags": "noparse"} if salvage and _is_adts(file.magic) else {}),
            },
            metadata_errors="replace",
            buffer_size=READ_BYTES,
            io_open=_refuse_nested,
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AudioError(
            f"{file.label} is not a media file that can be decoded (or a playlist), or its header "
            f"is cut off or damaged ({reason_of(error)})",
            NOT_AUDIO_REMEDY,
        ) from error


@cache
def _format_whitelist() -> str:
    return ",".join(sorted(av.formats_available - _REFERENCING_FORMATS - _HEADERLESS_FORMATS))


def _block_options(file: ByteSource) -> dict[str, str]:
    if file.magic not in (b"RIFF", b"RF64", b"BW64"):
        return {}
    return {"max_size": str(_WAV_BLOCK_BYTES), "probesize": str(_WAV_BLOCK_BYTES)}


def _is_adts(magic: bytes) -> bool:
    """Whether it begins with an AAC frame (ISO 13818-7, 6.2): sync of 12 bits, layer 0."""
    return magic[:1] == b"\xff" and magic[1] & 0xF6 == 0xF0


def _audio_tracks(container: Any, label: str) -> tuple[Any, ...]:
    tracks = tuple(s for s in container.streams.audio if s.codec_context is not None)
    if not tracks:
        kinds = sorted({s.type for s in container.streams}) or ["none"]
        raise AudioError(
            f"{label} has no audio stream that can be decoded "
            f"(container {container.format.name}, streams: {', '.join(kinds)})",
            NOT_AUDIO_REMEDY,
        )
    if container.format.name == "flac" and not tracks[0].codec_context.extradata:
        raise AudioError(
            f"{label} is not a media file that can be decoded: no FLAC header is at its beginning",
            NOT_AUDIO_REMEDY,
        )
    return tracks


def _choose(
    container: Any, tracks: tuple[Any, ...], wanted: TrackChoice, label: str
) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The tracks to be read, and what the user should know of the others."""
    listed = ", ".join(f"{k} ({_described(track)})" for k, track in enumerate(tracks, start=1))
    if wanted == "all":
        return tracks, (f"mixed from its audio tracks {listed}",) if len(tracks) > 1 else ()
    if wanted is not None:
        if not 1 <= wanted <= len(tracks):
            raise AudioError(
                f"{label} has no audio track {wanted}; it has {listed}", "choose one of them"
            )
        return (tracks[wanted - 1],), ()
    best = container.streams.best("audio")
    chosen = best if best in tracks else tracks[0]
    if len(tracks) == 1:
        return (chosen,), ()
    number = tracks.index(chosen) + 1
    return (chosen,), (
        f"has {len(tracks)} audio tracks: {listed}; track {number} was read "
        "(--track N reads another, --track all their mix)",
    )


def _described(track: Any) -> str:
    context = track.codec_context
    parts = [context.name, f"{context.channels} ch"]
    language = track.metadata.get("language")
    if language and language != "und":
        parts.append(language)
    title = " ".join(str(track.metadata.get("title", "")).split())
    if title:
        parts.append(f"'{title}'")
    return ", ".join(parts)
