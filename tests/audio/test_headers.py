"""Headers that are wrong about their samples, and pipes, which are read once."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.audio.byte_source import ByteSource
from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.audio.stated import read_stated
from fluidaudio_cli.errors import AudioError
from tests.audio.reading import Encode, Floats, read, read_all

SAMPLES = np.random.default_rng(2).integers(-9_000, 9_000, 48_000).astype(np.int16)
EXPECTED = SAMPLES / np.float32(32_768)
DATA = SAMPLES.tobytes()
BIG = SAMPLES.astype(">i2").tobytes()
WIDE = (SAMPLES.astype(np.int32) << 16).astype("<i4").tobytes()
HALF = len(DATA) // 2
NOTE = "its header states 1.50 s and is not believed: what follows is sound as well"


def pcm(bits: int = 16, width: int = 2) -> bytes:
    return struct.pack("<HHIIHH", 1, 1, 16_000, 16_000 * width, width, bits)


def extensible(width: int, valid: int) -> bytes:
    guid = struct.pack("<IHH", 1, 0, 16) + bytes.fromhex("800000aa00389b71")
    head = struct.pack("<HHIIHH", 0xFFFE, 1, 16_000, 16_000 * width, width, 8 * width)
    return head + struct.pack("<HHI", 22, valid, 4) + guid


def wav(form: bytes, data: bytes, size: int, trailer: bytes = b"") -> bytes:
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data + trailer


def rf64(size: int) -> bytes:
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, size, 0, 0)
    form = b"fmt " + struct.pack("<I", 16) + pcm()
    return b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + form + b"data" + b"\xff" * 4 + DATA


def w64(size: int, form: bytes | None = None, data: bytes = DATA) -> bytes:
    def guid(name: bytes) -> bytes:
        return name + bytes.fromhex("f3acd3118cd100c04f8edb8a")

    form = form or pcm()
    body = guid(b"wave") + guid(b"fmt ") + struct.pack("<Q", 24 + len(form)) + form
    body += guid(b"data") + struct.pack("<Q", size + 24) + data
    return (
        b"riff"
        + bytes.fromhex("2e91cf11a5d628db04c10000")
        + struct.pack("<Q", len(body) + 24)
        + body
    )


def aiff(size: int, compression: bytes = b"") -> bytes:
    """With ``compression`` an AIFF-C: its name and an empty description."""
    rate = struct.pack(">HQ", 16_383 + 13, 16_000 << 50)
    more = compression and compression + bytes(2)
    form = b"COMM" + struct.pack(">IhIh", 18 + len(more), 1, size // 2, 16) + rate + more
    body = (
        (b"AIFC" if more else b"AIFF")
        + form
        + b"SSND"
        + struct.pack(">I", size + 8)
        + bytes(8)
        + BIG
    )
    return b"FORM" + struct.pack(">I", len(body)) + body


def caf(size: int, bits: int = 16, width: int = 2, data: bytes = BIG) -> bytes:
    form = struct.pack(">d4sIIIII", 16_000.0, b"lpcm", 0, width, 1, 1, bits)
    head = b"caff" + struct.pack(">HH", 1, 0) + b"desc" + struct.pack(">q", 32) + form
    return head + b"data" + struct.pack(">q", size) + bytes(4) + data


def au(size: int) -> bytes:
    return b".snd" + struct.pack(">IIIII", 24, size, 3, 16_000, 1) + BIG


@pytest.fixture
def read_bytes(tmp_path: Path) -> Callable[..., tuple[Floats, Any]]:
    """All samples and the final facts of a recording with this content, of a file or a pipe."""

    def given(content: bytes, suffix: str, through_pipe: bool) -> tuple[Floats, Any]:
        path = tmp_path / f"given.{suffix}"
        writer = None
        if through_pipe:
            os.mkfifo(path)
            writer = threading.Thread(target=path.write_bytes, args=(content,))
            writer.start()
        else:
            path.write_bytes(content)
        try:
            return read(path)
        finally:
            if writer is not None:
                writer.join()

    return given


LIST = b"LIST" + struct.pack("<I", 10) + b"INFOxxxxxx"
OWN = b"zzqq" + struct.pack("<I", 100) + bytes(range(100))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("through_pipe", [False, True])
@pytest.mark.parametrize(
    ("content", "suffix", "note"),
    [
        (wav(pcm(), DATA, len(DATA)), "wav", ""),
        (wav(pcm(), DATA, HALF), "wav", NOTE),
        (wav(pcm(), DATA, 0), "wav", ""),
        (wav(pcm(), DATA, 0x7FFFFFFF), "wav", ""),
        (wav(pcm(), DATA, 0xFFFFFFFF), "wav", ""),
        (wav(pcm(), DATA, len(DATA), LIST), "wav", ""),
        (wav(pcm(), DATA, len(DATA), OWN), "wav", ""),
        (wav(pcm(), DATA, len(DATA), b"TAG" + b" " * 125), "wav", ""),
        (rf64(len(DATA)), "rf64", ""),
        (rf64(HALF), "rf64", NOTE),
        (rf64(0), "rf64", ""),
        (w64(len(DATA)), "w64", ""),
        (w64(HALF), "w64", NOTE),
        (aiff(len(DATA)), "aiff", ""),
        (aiff(HALF), "aiff", NOTE),
        (aiff(HALF, b"NONE"), "aiff", NOTE),
        (caf(len(DATA) + 4), "caf", ""),
        (caf(HALF + 4), "caf", NOTE),
        (caf(-1), "caf", ""),
        # Of a CAF and a W64, chunks have long sizes, and a W64's long names.
        (caf(len(DATA) + 4) + b"zzqq" + struct.pack(">q", 100) + bytes(range(100)), "caf", ""),
        (w64(len(DATA)) + b"zzqq" + bytes(12) + struct.pack("<q", 124) + bytes(100), "w64", ""),
        (au(len(DATA)), "au", ""),
        (au(0), "au", ""),
        (au(0xFFFFFFFF), "au", ""),
        (wav(extensible(4, 24), WIDE, len(WIDE)), "wav", ""),
        (wav(extensible(4, 16), WIDE, len(WIDE)), "wav", ""),
        (wav(extensible(2, 12), DATA, len(DATA)), "wav", ""),
        (wav(pcm(24, 4), WIDE, len(WIDE)), "wav", ""),
        (w64(len(WIDE), extensible(4, 24), WIDE), "w64", ""),
        (
            caf(len(WIDE) + 4, 24, 4, (SAMPLES.astype(np.int32) << 16).astype(">i4").tobytes()),
            "caf",
            "",
        ),
    ],
)
def test_all_samples_whatever_the_header_says(
    content: bytes, suffix: str, note: str, through_pipe: bool, read_bytes: Any
) -> None:
    samples, info = read_bytes(content, suffix, through_pipe)
    np.testing.assert_array_equal(samples, EXPECTED)
    assert info.notes == ((note,) if note else ())
    if not through_pipe:
        assert info.duration_seconds == pytest.approx(3.0, abs=0.01)


def test_a_header_that_states_too_little_and_does_not_bind_is_told(
    encode: Encode, read_bytes: Any
) -> None:
    content = encode(EXPECTED, "a.mka", "pcm_s16le").read_bytes()
    name, length, half = b"\x44\x89\x88", struct.pack(">d", 3000.0), struct.pack(">d", 1500.0)
    assert name + length in content
    samples, info = read_bytes(content.replace(name + length, name + half), "mka", False)
    np.testing.assert_array_equal(samples, EXPECTED)
    assert info.notes == ("it is 1.50 s longer than its header states",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_that_ends_early_is_cut_off(read_bytes: Any) -> None:
    with pytest.raises(AudioError, match=r"its header states 3\.00 s, only 1\.00 s can be decoded"):
        read_bytes(wav(pcm(), DATA, len(DATA))[: 44 + 32_000], "wav", True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.m4a", "aac", 44_100),
        ("a.caf", "alac", 44_100),
        ("a.wtv", "mp2", 48_000),
        ("a.wv", "wavpack", 44_100),
        ("a.ogg", "libopus", 48_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.ismv", "aac", 44_100),  # fragments, whose first one states its own length
    ],
)
def test_compressed_sound_from_a_pipe(
    name: str, codec: str, rate: int, encode: Encode, read_bytes: Any
) -> None:
    path = encode(np.tile(EXPECTED, 3), name, codec, rate=rate)
    samples, info = read_bytes(path.read_bytes(), name[2:], True)
    assert abs(samples.size - read_all(path).size) < 1_700
    copied = "it cannot be read forward: the pipe was copied to a temporary file first"
    assert info.notes == ((copied,) if name in ("a.m4a", "a.caf", "a.wtv") else ())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_that_gives_nothing_is_empty(read_bytes: Any) -> None:
    with pytest.raises(
        AudioError, match=r"given\.wav is empty \(0 bytes\): record or copy it again"
    ):
        read_bytes(b"", "wav", True)


def test_standard_input(tmp_path: Path) -> None:
    script = (
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from fluidaudio_cli.audio.source import open_audio\n"
        "with open_audio(Path('-')) as stream:\n"
        "    count = stream.read_into(np.empty(100_000, np.float32))\n"
        "    print(count, stream.info.uri, stream.info.duration_seconds)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=wav(pcm(), DATA, len(DATA)),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == "48000 stdin 3.0\n"


def test_a_chunk_that_points_nowhere_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = w64(len(DATA)).replace(b"data", b"what")
    at = content.index(b"what") + 16
    for size in (2**62, 2**63 - 1, 2**64 - 1, 23):
        path = tmp_path / "a.w64"
        path.write_bytes(content[:at] + struct.pack("<Q", size) + content[at + 8 :])
        with pytest.raises(AudioError):
            open_audio(path)
    # Zeros are chunks without name or length: a gigabyte of them is not walked through.
    path = tmp_path / "a.wav"
    path.write_bytes(wav(pcm(), b"", 0)[:36])
    with path.open("ab") as file:
        file.truncate(1 << 30)
    with pytest.raises(AudioError, match=r"a\.wav has no samples, only empty chunks"):
        open_audio(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("power", [16_383 + 32, 0x7FFF])
def test_a_rate_that_no_number_holds_is_bad_input(tmp_path: Path, power: int) -> None:
    """Found by fuzzing: AIFF has room for exponents beyond those of a double."""
    path = tmp_path / "x.aiff"
    content = aiff(len(DATA))
    path.write_bytes(content.replace(struct.pack(">H", 16_383 + 13), struct.pack(">H", power), 1))
    with pytest.raises(AudioError, match=r"x\.aiff "), open_audio(path) as stream:
        stream.read_into(np.empty(1000, np.float32))


@pytest.mark.parametrize("size", [1 << 50, (1 << 63) - 100])
def test_a_chunk_that_ends_where_no_file_can_is_bad_input(tmp_path: Path, size: int) -> None:
    """Found by fuzzing: looking for the next chunk there is not allowed."""
    path = tmp_path / "x.caf"
    path.write_bytes(caf(4, data=b"").replace(struct.pack(">q", 32), struct.pack(">q", size), 1))
    with pytest.raises(AudioError, match=r"x\.caf "), open_audio(path):
        pass


def test_a_seek_before_the_beginning_is_an_error_code(tmp_path: Path) -> None:
    """Found by fuzzing: PyAV prints exceptions of its callbacks, with their traceback."""
    path = tmp_path / "x.wav"
    path.write_bytes(b"RIFF")
    assert ByteSource(path).seek(-1) < 0


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x02\x2c" + bytes(300)])
@pytest.mark.parametrize(
    ("frame", "seconds"),
    [(b"\xff\xfb\x90\x00", 1000 * 1152 / 44_100), (b"\xff\xf3\x98\x00", 1000 * 576 / 16_000)],
)
def test_an_mp3_is_as_long_as_the_frames_that_it_counts(
    tag: bytes, frame: bytes, seconds: float
) -> None:
    content = tag + frame + bytes(32) + b"Xing" + struct.pack(">II", 1, 1000) + bytes(400)
    stated = read_stated(content[:16], lambda offset, count: content[offset : offset + count])
    assert stated.play_seconds == pytest.approx(seconds)
