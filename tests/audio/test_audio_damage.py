"""What cannot be decoded whole is an error of one line that says what, where and how much."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.audio.byte_source import ByteSource
from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.errors import AudioError
from tests.audio.reading import Encode, WriteWav, read, read_all

DAMAGED = "copy or export it again, or diarize it with --salvage"


def noise(seconds: float, rate: int = 16_000) -> npt.NDArray[np.float32]:
    """Speech-band noise, which no codec compresses to nothing."""
    white = 0.2 * np.random.default_rng(7).standard_normal(round(seconds * rate))
    return np.convolve(white, np.ones(8) / 4, "same").astype(np.float32)


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        open_audio(path)
    return str(caught.value)


def failure(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_all(path)
    return str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "no such.wav"
    assert refusal(path) == f"{path} does not exist: check the path"


def test_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is a folder, not a recording: give the files in it"


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert refusal(path) == f"{path} is an empty file (0 bytes): record or copy it again"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_unreadable_file(write_wav: WriteWav) -> None:
    path = write_wav(np.zeros(100, np.int16))
    path.chmod(0)
    assert refusal(path) == f"cannot read {path}: Permission denied: check its access rights"


def test_unreadable_file_simulated(write_wav: WriteWav, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_wav(np.zeros(100, np.int16))

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert refusal(path) == f"cannot read {path}: Permission denied: check its access rights"


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "ogg", "mp4", "txt"])
def test_text_under_another_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"notes.{suffix}"
    path.write_text("These are the minutes of the meeting.\n" * 50)
    message = refusal(path)
    assert message.startswith(f"{path} is not a media file") or "has no audio" in message
    assert message.endswith("give a recording (WAV, FLAC, MP3, M4A, OGG, MP4, …)")


def test_random_bytes(tmp_path: Path) -> None:
    path = tmp_path / "random.mp3"
    path.write_bytes(np.random.default_rng(3).bytes(40_000))
    failure(path)


@pytest.mark.parametrize("size", [4, 12, 30, 44])
def test_a_wav_cut_before_its_first_sample(size: int, write_wav: WriteWav) -> None:
    path = write_wav(np.zeros(1_000, np.int16))
    path.write_bytes(path.read_bytes()[:size])
    message = refusal(path)
    assert re.search("header is cut off|no audio samples|no audio stream", message), message


def test_zero_samples(write_wav: WriteWav) -> None:
    path = write_wav(np.zeros(0, np.int16))
    assert refusal(path).startswith(f"{path} has no audio samples")


def test_no_audio_stream(video_only: Path) -> None:
    message = refusal(video_only)
    assert message.startswith(f"{video_only} has no audio stream that can be decoded")
    assert "streams: video" in message


def test_mp4_without_its_index(encode: Encode) -> None:
    path = encode(noise(2.0), "a.m4a", "aac")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    assert refusal(path).startswith(
        f"{path} is not a media file that can be decoded (or a playlist), or its header is cut off"
    )


@pytest.mark.parametrize("open_ended", [False, True])
def test_a_wav_that_shrinks_while_it_is_read_is_cut(open_ended: bool, write_wav: WriteWav) -> None:
    path = write_wav(np.ones(960_000, np.int16))
    stated = "" if open_ended else "its header states 60.00 s, "
    if open_ended:  # as a recorder leaves it that did not come to the end
        content = path.read_bytes()
        path.write_bytes(content[:40] + bytes(4) + content[44:])
    with open_audio(path) as stream:
        blocks = stream.blocks(16_000)
        next(blocks)
        os.truncate(path, 960_044)
        with pytest.raises(AudioError) as caught:
            list(blocks)
    assert str(caught.value) == (
        f"{path} is cut off or damaged: {stated}only 30.00 s can be decoded: {DAMAGED}"
    )


def test_a_disk_that_fails_is_one_line(
    encode: Encode, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """FFmpeg looks for the next cluster and reads again: PyAV would print what that raises."""
    path = encode(noise(60.0), "a.mkv", "pcm_s16le")

    def fails(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with open_audio(path) as stream:
        blocks = stream.blocks(16_000)
        next(blocks)
        raw = stream._opened.file._raw
        broken = SimpleNamespace(read=fails, seek=raw.seek, tell=raw.tell, close=raw.close)
        monkeypatch.setattr(stream._opened.file, "_raw", broken)
        with pytest.raises(AudioError, match=r"is damaged after .* s \(Input/output error\)"):
            list(blocks)
    assert capfd.readouterr() == ("", "")


def test_a_disk_that_fails_in_the_header_is_the_recordings_fault(
    write_wav: WriteWav, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended a folder's run, killed the workers of a job, and did not say which file."""
    path = write_wav(np.ones(16_000, np.int16))

    def fails(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(ByteSource, "_read_at", fails)
    assert failure(path) == f"cannot read {path}: Input/output error: check the disk"


def test_wav_cut_midway_says_how_much_is_left(write_wav: WriteWav) -> None:
    path = write_wav(np.ones(32_000, np.int16))
    path.write_bytes(path.read_bytes()[: 44 + 24_000])
    assert failure(path) == (
        f"{path} is cut off or damaged: its header states 2.00 s, "
        f"only 0.75 s can be decoded: {DAMAGED}"
    )


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.flac", "flac", 16_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.ogg", "libopus", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.aiff", "pcm_s16be", 16_000),
        ("a.tta", "tta", 16_000),
        ("a.avi", "libmp3lame", 44_100),
        ("a.asf", "libmp3lame", 44_100),
        ("film.mkv", "libopus", 48_000),
        ("film.avi", "libmp3lame", 44_100),
        ("film.asf", "libmp3lame", 44_100),
    ],
)
def test_files_cut_midway(name: str, codec: str, rate: int, encode: Encode) -> None:
    path = encode(noise(4.0, rate), name, codec, rate=rate, with_video=name.startswith("film"))
    whole = path.read_bytes()
    assert abs(read_all(path).size / 16_000 - 4.0) < 0.05  # whole, it decodes
    path.write_bytes(whole[: len(whole) // 2])
    message = failure(path)
    assert re.search("is cut off|is damaged after", message), message
    assert message.endswith(DAMAGED)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.flac", "flac", 16_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.m4a", "aac", 44_100),
        ("a.ogg", "libopus", 48_000),
    ],
)
def test_damage_in_the_middle(name: str, codec: str, rate: int, encode: Encode) -> None:
    path = encode(noise(4.0, rate), name, codec, rate=rate)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = np.random.default_rng(1).bytes(400)
    path.write_bytes(content)
    message = failure(path)
    assert re.search(r"damaged after \d\.\d\d s|only \d\.\d\d s can be decoded", message), message


@pytest.mark.parametrize(
    ("name", "codec", "rate", "reason"),
    [
        ("a.asf", "libmp3lame", 44_100, "is damaged after 2.17 s (what follows is no packet)"),
        ("a.voc", "pcm_u8", 16_000, "is damaged after 2.06 s (what follows is no packet)"),
        # PyAV keeps the error of a frame that follows others in its packet.
        ("a.wav", "adpcm_ms", 16_000, "is damaged after 2.04 s (a frame does not decode)"),
    ],
)
def test_the_reading_does_not_end_early_without_a_word(
    name: str, codec: str, rate: int, reason: str, encode: Encode
) -> None:
    path = encode(noise(4.0, rate), name, codec, rate=rate)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + np.random.default_rng(3).bytes(50_000) + content[middle:])
    assert reason in failure(path)


def test_rubbish_that_claims_the_rest_of_an_flv(encode: Encode) -> None:
    path = encode(noise(4.0, 44_100), "a.flv", "libmp3lame", rate=44_100)
    content = path.read_bytes()
    tag = flv_tag(content)
    picture = b"\x09" + (len(content) - tag).to_bytes(3, "big") + bytes(7) + b"\x2f"
    path.write_bytes(content[:tag] + picture + content[tag:])
    assert "its header states 4.03 s, only 2.04 s can be decoded" in failure(path)


def flv_tag(content: bytes | bytearray) -> int:
    """Where a tag begins in the middle: type, length, time stamp, stream, content, length again."""
    tag = 13
    while tag < len(content) // 2:
        tag += 11 + int.from_bytes(content[tag + 1 : tag + 4], "big") + 4
    return tag


def test_one_wild_time_stamp_moves_nothing(encode: Encode) -> None:
    path = encode(noise(4.0, 44_100), "a.flv", "aac", rate=44_100)
    whole, content = read_all(path), bytearray(path.read_bytes())
    content[flv_tag(content) + 4] ^= 0x80  # 2.3 h later
    path.write_bytes(content)
    assert np.array_equal(read_all(path), whole)
    assert read(path)[1].notes == ("not believed: 1 impossible time stamp",)


def test_a_stream_that_only_appeared_on_the_way_is_no_crash(
    encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV cannot flush the decoder of such a stream (SWF, FLV, MPEG-TS)."""
    path = encode(noise(1.0), "a.flac", "flac")
    with open_audio(path) as stream:
        packets = stream._tracks[0]._demuxer._packets

        def failing() -> Iterator[Any]:
            yield from packets
            raise IndexError("list index out of range")

        monkeypatch.setattr(stream._tracks[0]._demuxer, "_packets", failing())
        assert stream.read_into(np.empty(20_000, np.float32)) == 16_000


def test_what_precedes_the_damage_is_handed_out(encode: Encode) -> None:
    path = encode(noise(4.0), "a.flac", "flac")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with open_audio(path) as stream:
        half = np.empty(24_000, np.float32)
        assert stream.read_into(half) == 24_000
        np.testing.assert_allclose(half, noise(4.0)[:24_000], atol=1 / 32_768)
        with pytest.raises(AudioError, match=r"is damaged after 1\.\d\d s"):
            stream.read_into(np.empty(32_000, np.float32))


@pytest.mark.parametrize("salvage", [False, True])
def test_flac_without_its_header_is_refused(salvage: bool, encode: Encode) -> None:
    path = encode(noise(1.0), "a.flac", "flac")
    path.write_bytes(bytes(700) + path.read_bytes())
    with pytest.raises(AudioError, match="no FLAC header is at its beginning"):
        open_audio(path, salvage=salvage)


def test_tags_behind_an_mp3_are_no_damage(encode: Encode) -> None:
    path = encode(noise(2.0, 44_100), "a.mp3", "libmp3lame", rate=44_100)
    clean = read_all(path)
    path.write_bytes(path.read_bytes() + b"junk of an old tagger " * 40 + b"TAG" + b" " * 125)
    assert np.array_equal(read_all(path)[: clean.size - 2_000], clean[:-2_000])


@pytest.mark.parametrize("tag", [b"APETAGEX" + bytes(24), b"TAG" + bytes(125)])
def test_tags_behind_wavpack_are_no_damage(tag: bytes, encode: Encode) -> None:
    """Where WavPack keeps them; FFmpeg looks for a block there."""
    path = encode(noise(2.5), "a.wv", "wavpack")
    path.write_bytes(path.read_bytes() + tag * 40)
    samples, info = read(path)
    assert (samples.size, info.notes) == (40_000, ())


@pytest.mark.parametrize("rates", [(44_100, 44_100), (16_000, 44_100), (44_100, 22_050)])
def test_joined_mp3_files_are_one_recording(rates: tuple[int, int], encode: Encode) -> None:
    paths = [encode(noise(2.0, r), f"{k}.mp3", "libmp3lame", rate=r) for k, r in enumerate(rates)]
    # The second begins with an ID3 tag.
    paths[0].write_bytes(paths[0].read_bytes() + paths[1].read_bytes())
    assert abs(read_all(paths[0]).size - 64_000) < 2_500


def test_an_mpeg_ts_that_ends_within_a_packet_is_told(encode: Encode) -> None:
    path = encode(noise(1.0, 48_000), "a.ts", "mp2", rate=48_000)
    for cut, notes in (
        (0, ()),
        (100, ("it ends within a packet: if it was cut off, what is missing is not known",)),
    ):
        path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
        assert read(path)[1].notes == notes


@pytest.mark.parametrize(("name", "codec"), [("a.voc", "pcm_u8"), ("a.rm", "ac3")])
def test_a_last_packet_of_fewer_bytes_than_it_states_is_told(
    name: str, codec: str, encode: Encode
) -> None:
    path = encode(noise(1.0, 44_100), name, codec, rate=44_100)
    for size in (path.stat().st_size, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:size])
        samples, info = read(path)
        told = ("it ends within a packet: if it was cut off, what is missing is not known",)
        assert info.notes == (told if samples.size < 15_000 else ())


def test_bare_frames_that_end_within_one_are_told(encode: Encode) -> None:
    path = encode(noise(1.0, 44_100), "a.aac", "aac", rate=44_100)
    path.write_bytes(path.read_bytes()[:-2_000])
    samples, info = read(path)
    assert info.notes == (
        f"what follows {samples.size / 16_000:.2f} s could not be read; how long that is, is not "
        "known",
    )


@pytest.mark.parametrize(
    ("name", "before", "offset", "size", "seconds"),
    [
        ("a.asf", bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 64, 8, None),
        # By its number of bytes.
        ("a.mp3", b"Info", 8, 4, pytest.approx(2.0, abs=0.2)),
    ],
)
def test_a_length_of_nothing_is_unknown(
    name: str, before: bytes, offset: int, size: int, seconds: Any, encode: Encode
) -> None:
    """As a recorder leaves it that was stopped."""
    path = encode(noise(2.0, 44_100), name, "libmp3lame", rate=44_100)
    content = bytearray(path.read_bytes())
    at = content.index(before) + offset
    content[at : at + size] = bytes(size)
    path.write_bytes(content)
    info = read(path)[1]
    assert (info.duration_seconds, info.notes) == (seconds, ())


def test_joined_wav_files_are_told(write_wav: WriteWav) -> None:
    path = write_wav(np.zeros(8_000, np.int16))
    path.write_bytes(path.read_bytes() * 2)
    assert read(path)[1].notes == (
        "another recording follows in the same file, and was not read: part them",
    )


def test_a_header_that_points_outside_the_file(encode: Encode) -> None:
    path = encode(noise(1.0), "a.w64", "pcm_s16le")
    content = bytearray(path.read_bytes())
    data = content.index(b"data")
    content[data : data + 4] = b"what"  # FFmpeg skips what it does not know, by the size stated
    content[data + 16 : data + 24] = (2**62).to_bytes(8, "little")
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path} is not a media file that can be decoded")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e30, "1e+30")],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_that_are_not_numbers(
    value: float, shown: str, dtype: type[np.floating[Any]], write_wav: WriteWav
) -> None:
    frames: npt.NDArray[Any] = np.zeros((40_000, 2), dtype)
    frames[20_000, 1] = value
    frames[30_000, 0] = value
    path = write_wav(frames)
    assert failure(path) == (
        f"{path} has a sample that is not a usable number ({shown}) at 1.250 s: "
        "repair the program that wrote it, or convert the file to 16-bit"
    )


def test_loud_float_samples_are_usable(write_wav: WriteWav) -> None:
    # Energy beyond the quick check's bound, each sample within the limit.
    assert np.array_equal(
        read_all(write_wav(np.full(5_000, 9e5, np.float32))), np.full(5_000, 9e5, np.float32)
    )


def test_ffmpeg_prints_nothing(encode: Encode) -> None:
    path = encode(noise(2.0, 44_100), "a.mp3", "libmp3lame", rate=44_100)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :][:400] = bytes(400)
    content[3_000:3_400] = np.random.default_rng(1).bytes(400)
    path.write_bytes(content)
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from fluidaudio_cli.audio.source import open_audio\n"
        "from fluidaudio_cli.errors import AudioError\n"
        "try:\n"
        "    stream = open_audio(Path(sys.argv[1]))\n"
        "    while stream.read_into(np.empty(4000, np.float32)): pass\n"
        "except AudioError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{path} is damaged after 0.")
    assert done.stdout.count("\n") == 1
