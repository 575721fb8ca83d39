"""Which audio codecs the FFmpeg inside PyAV decodes here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

COMMON_CODECS: Mapping[str, str] = MappingProxyType(
    {
        "WAV": "pcm_s16le",
        "FLAC": "flac",
        "MP3": "mp3",
        "AAC": "aac",
        "Opus": "opus",
        "Vorbis": "vorbis",
    }
)
"""What recordings are usually in, and FFmpeg's names for it."""


def decodable(codec: str) -> bool:
    """Whether there is a decoder for FFmpeg's ``codec``."""
    import av
    from av.codec import Codec

    try:
        Codec(codec, "r")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def library_version() -> str:
    """Version of PyAV and of the FFmpeg library inside it that decodes."""
    import av

    avcodec = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return f"PyAV {av.__version__}, libavcodec {avcodec}"
