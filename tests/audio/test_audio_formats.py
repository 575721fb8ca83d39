"""Every kind of valid input gives the samples it holds, at the right time."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from fluidaudio_cli.audio.source import SAMPLE_RATE, open_audio
from fluidaudio_cli.errors import AudioError
from fluidaudio_cli.recordings import uri_of
from tests.audio.reading import Encode, Floats, WriteWav, read, read_all


def tone(seconds: float, rate: int, hertz: float = 440.0) -> Floats:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def click(seconds: float, at: float, rate: int) -> Floats:
    """A 2 ms burst of a 2 kHz tone (codecs keep it; a single sample they smear)."""
    samples = np.zeros(round(seconds * rate), np.float32)
    first = round(at * rate)
    samples[first : first + round(0.002 * rate)] = 0.9
    return samples


def centre_of_energy(samples: Floats) -> float:
    energy = samples.astype(np.float64) ** 2
    return float(np.sum(energy * np.arange(energy.size)) / np.sum(energy)) / SAMPLE_RATE


def test_sample_equals_the_standard_library_reading_bit_for_bit(sample_wav: Path) -> None:
    with wave.open(str(sample_wav)) as reader:
        expected = np.frombuffer(reader.readframes(-1), "<i2") / np.float32(32_768)
    assert np.array_equal(read_all(sample_wav), expected)


@pytest.mark.parametrize(
    ("stored", "bits", "tolerance"),
    [
        (np.array([0, 64, 128, 192, 255], np.uint8), 8, 0.0),
        (np.array([-32_768, -16_384, 0, 16_384, 32_767], np.int16), 16, 0.0),
        (np.array([-(2**23), -(2**22), 0, 2**22, 2**23 - 1], np.int32), 24, 0.0),
        (np.array([-(2**31), -(2**30), 0, 2**30, 2**31 - 1], np.int32), 32, 1e-7),
        (np.array([-1.0, -0.5, 0.0, 0.5, 2.5], np.float32), 32, 0.0),
        (np.array([-1.0, -0.5, 0.0, 0.5, 2.5], np.float64), 64, 0.0),
    ],
)
@pytest.mark.parametrize("extensible", [False, True])
def test_wav_sample_types(
    stored: npt.NDArray[Any],
    bits: int,
    tolerance: float,
    extensible: bool,
    write_wav: WriteWav,
) -> None:
    path = write_wav(np.tile(stored, 20), bits=bits, extensible=extensible)
    last = {8: 127 / 128, 16: 32_767 / 32_768, 24: 1 - 2**-23, 32: 1.0}.get(bits, 2.5)
    if stored.dtype.kind == "f":
        last = 2.5  # beyond full scale is kept
    expected = np.tile(np.array([-1.0, -0.5, 0.0, 0.5, last]), 20)
    np.testing.assert_allclose(read_all(path), expected, atol=tolerance, rtol=0)


def test_channels_are_averaged(write_wav: WriteWav) -> None:
    frames = np.tile(np.array([[8_192, 16_384], [-32_768, -32_768]], np.int16), (500, 1))
    assert np.array_equal(
        read_all(write_wav(frames)), np.tile(np.array([0.375, -1.0], np.float32), 500)
    )


def test_unsigned_channels_are_averaged_about_their_middle(write_wav: WriteWav) -> None:
    frames = np.tile(np.array([[128, 192]], np.uint8), (500, 1))
    assert np.array_equal(read_all(write_wav(frames)), np.full(500, 0.25, np.float32))


def test_six_channels_planar_and_packed_agree(encode: Encode, write_wav: WriteWav) -> None:
    frames = np.stack([tone(0.2, 16_000, 200.0 * (k + 1)) for k in range(6)], axis=1)
    packed = read_all(write_wav(frames))
    np.testing.assert_allclose(packed, frames.mean(axis=1), atol=1e-6)
    # FLAC decodes to packed samples, WavPack (here of 8 bits) to one plane for each channel.
    for name, codec, planes, step in (
        ("six.flac", "flac", 1, 1 / 32_768),
        ("six.wv", "wavpack", 6, 1 / 128),
    ):
        path = encode(frames, name, codec)
        with av.open(str(path)) as container:
            assert len(next(container.decode(audio=0)).planes) == planes
        np.testing.assert_allclose(read_all(path), frames.mean(axis=1), atol=step)


def test_flac_equals_wav_bit_for_bit(sample_wav: Path, encode: Encode) -> None:
    samples = read_all(sample_wav)[:100_000]
    assert np.array_equal(read_all(encode(samples, "a.flac", "flac")), samples)


@pytest.mark.parametrize("block", [1, 160, 4_096, 20_000])
def test_the_size_of_the_buffer_does_not_matter(block: int, encode: Encode) -> None:
    path = encode(tone(0.3, 44_100), "a.flac", "flac", rate=44_100)
    assert np.array_equal(read_all(path, block), read_all(path, 100_000))


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_keeps_length_time_and_pitch(rate: int, write_wav: WriteWav) -> None:
    impulse = np.zeros(round(1.1 * rate) + 3, np.float32)
    impulse[rate // 2] = 1.0
    heard = read_all(write_wav(impulse, rate))
    assert abs(heard.size - round(impulse.size * SAMPLE_RATE / rate)) <= 1
    assert abs(int(np.argmax(heard)) - rate // 2 * SAMPLE_RATE / rate) <= 0.5

    heard = read_all(write_wav(tone(1.0, rate), rate))
    middle = slice(2_000, 14_000)  # without the filter's edges
    np.testing.assert_allclose(heard[middle], tone(1.0, SAMPLE_RATE)[middle], atol=1e-4)


def test_nothing_above_8_khz_folds_back(write_wav: WriteWav) -> None:
    heard = read_all(write_wav(tone(1.0, 48_000, 9_000.0), 48_000))[2_000:14_000]
    assert 20 * np.log10(np.sqrt(np.mean(heard**2)) / 0.35) < -90


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp3", "libmp3lame", 44_100),
        ("a.m4a", "aac", 44_100),
        ("a.opus", "libopus", 48_000),
        ("a.ogg", "libopus", 24_000),
        ("a.webm", "libopus", 48_000),
        ("a.mkv", "pcm_s16le", 22_050),
        ("a.aiff", "pcm_s16be", 16_000),
        ("a.w64", "pcm_s24le", 16_000),
        ("a.caf", "pcm_s16le", 16_000),
        ("a.caf", "alac", 44_100),
        ("a.au", "pcm_mulaw", 8_000),
        ("a.flac", "flac", 32_000),
    ],
)
def test_codecs_keep_events_where_they_were(
    name: str, codec: str, rate: int, encode: Encode
) -> None:
    heard = read_all(encode(click(1.5, 0.75, rate), name, codec, rate=rate))
    assert centre_of_energy(heard) == pytest.approx(0.751, abs=0.0015)
    # Lossy codecs end on a whole frame.
    assert 1.5 - 1e-3 <= heard.size / SAMPLE_RATE <= 1.5 + 0.06


@pytest.mark.parametrize("seconds", [0.05, 0.3])
@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp3", "libmp3lame", 8_000),
        ("a.m4a", "aac", 8_000),
        ("a.mkv", "aac", 16_000),
        ("a.mka", "libmp3lame", 44_100),
        ("a.opus", "libopus", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.caf", "alac", 44_100),
        ("a.wav", "adpcm_ima_wav", 8_000),
    ],
)
def test_delay_and_padding_of_a_codec_are_no_damage(
    name: str, codec: str, rate: int, seconds: float, encode: Encode
) -> None:
    heard = read_all(encode(tone(seconds, rate), name, codec, rate=rate))
    assert seconds - 0.05 < heard.size / SAMPLE_RATE < seconds + 0.25


@pytest.mark.parametrize("rate", [11_025, 44_100])
def test_alac_in_caf_keeps_its_last_frame(rate: int, encode: Encode) -> None:
    path = encode(np.zeros(rate * 2, np.float32), "a.caf", "alac", rate=rate)
    assert read_all(path).size == 32_000


def test_a_wav_length_that_counts_its_header_is_no_damage(write_wav: WriteWav) -> None:
    assert read_all(write_wav(np.ones(800, np.int16), data_bytes=1_600 + 44)).size == 800


def test_video_with_sound(encode: Encode) -> None:
    path = encode(click(1.5, 0.75, 48_000), "talk.mp4", "aac", rate=48_000, with_video=True)
    assert centre_of_energy(read_all(path)) == pytest.approx(0.751, abs=0.0015)


def test_info_and_progress(write_wav: WriteWav) -> None:
    path = write_wav(np.zeros((4_000, 2), np.int16), 8_000, name="réunion 100% a.wav")
    with open_audio(path) as stream:
        info = stream.info
        assert (info.path, info.uri) == (path, "réunion_100%_a")
        assert (info.container, info.codec) == ("wav", "pcm_s16le")
        assert (info.sample_rate, info.channels, info.duration_seconds) == (8_000, 2, 0.5)
        assert stream.seconds_read == 0.0
        assert stream.read_into(np.empty(4_000, np.float32)) == 4_000
        assert stream.seconds_read == 0.25
        assert stream.read_into(np.empty(8_000, np.float32)) == 4_000
        assert stream.read_into(np.empty(10, np.float32)) == 0


def test_fifty_milliseconds(write_wav: WriteWav) -> None:
    assert read_all(write_wav(np.ones(800, np.int16))).size == 800


def test_silence_offset_and_clipping_pass_unchanged(write_wav: WriteWav) -> None:
    assert not np.any(read_all(write_wav(np.zeros(3_000, np.int16))))
    square = np.repeat(np.tile(np.array([32_767, -32_768], np.int16), 20), 50)
    assert np.array_equal(read_all(write_wav(square)), square / np.float32(32_768))
    offset = np.full(3_000, 9_000, np.int16)
    assert np.array_equal(read_all(write_wav(offset)), offset / np.float32(32_768))


@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFEFDC + 0x1000])
def test_wav_written_to_a_pipe_has_no_length(stated: int, write_wav: WriteWav) -> None:
    samples = np.arange(5_000, dtype=np.int16)
    path = write_wav(samples, data_bytes=stated)
    assert np.array_equal(read_all(path), samples / np.float32(32_768))
    assert read(path)[1].duration_seconds == 0.3125  # from the file's size


def test_chunks_around_the_wav_data_are_not_sound(write_wav: WriteWav) -> None:
    samples = np.arange(5_000, dtype=np.int16)
    junk = b"JUNK" + (100_000).to_bytes(4, "little") + b"RIFF" * 25_000
    notes = b"LIST" + (8).to_bytes(4, "little") + b"INFOxxxx"
    path = write_wav(samples, before_format=junk, trailer=notes)
    assert np.array_equal(read_all(path), samples / np.float32(32_768))


@pytest.mark.parametrize(
    "name", ["-dash.wav", "two  words.wav", "%03d.wav", "emoji 🎙.wav", "noext"]
)
def test_odd_file_names(name: str, write_wav: WriteWav) -> None:
    assert read_all(write_wav(np.zeros(1_600, np.int16), name=name)).size == 1_600


def test_a_wrong_extension_does_not_matter(write_wav: WriteWav) -> None:
    assert read_all(write_wav(np.zeros(1_600, np.int16), name="really-wav.mp3")).size == 1_600


@pytest.mark.parametrize("suffix", [".al", ".ul", ".sw", ".ub"])
def test_samples_without_a_header_are_not_read_at_a_guessed_rate(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"call{suffix}"
    path.write_bytes(bytes(range(256)) * 100)
    with pytest.raises(AudioError, match="is not a media file that can be decoded"):
        open_audio(path)


def test_uri_has_no_white_space() -> None:
    assert uri_of(Path("x/two  words\t.tar.wav")) == "two_words_.tar"
    assert uri_of(Path("x/ .wav")) == "audio"


def test_an_hour_takes_no_more_memory_than_a_minute(write_wav: WriteWav) -> None:
    seconds = 3_600
    path = write_wav(np.zeros(0, np.int16), data_bytes=seconds * 32_000)
    with path.open("ab") as file:
        file.truncate(44 + seconds * 32_000)  # a hole in the file: zeros that take no disk
    process = psutil.Process()
    buffer = np.empty(160_000, np.float32)
    with open_audio(path) as stream:
        for _ in range(6):
            stream.read_into(buffer)
        after_a_minute = process.memory_info().rss
        peak = after_a_minute
        while stream.read_into(buffer):
            peak = max(peak, process.memory_info().rss)
        assert stream.seconds_read == seconds
    assert peak - after_a_minute < 8e6  # whole, it would be 230 MB


def test_wrong_buffers_are_refused(sample_wav: Path) -> None:
    with open_audio(sample_wav) as stream:
        wrong: list[Any] = [np.empty(4), np.empty((2, 2), np.float32), np.empty(8, np.float32)[::2]]
        for buffer in wrong:
            with pytest.raises(TypeError, match="contiguous float32"):
                stream.read_into(buffer)


def test_the_best_of_several_streams_is_read(tmp_path: Path) -> None:
    import av

    path = tmp_path / "two.mka"
    with av.open(str(path), "w", format="matroska") as container:
        streams = [
            container.add_stream("pcm_s16le", rate=16_000, layout=layout)
            for layout in ("mono", "stereo")
        ]
        for stream, level, layout in zip(streams, (1_000, 2_000), ("mono", "stereo"), strict=True):
            count = 1_600 * (2 if layout == "stereo" else 1)
            frame = av.AudioFrame.from_ndarray(
                np.full((1, count), level, np.int16), format="s16", layout=layout
            )
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    heard = read_all(path)
    assert np.array_equal(heard, np.full(1_600, 2_000 / 32_768, np.float32))


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioError) as caught:
        open_audio(tmp_path / "two\nlines.wav")
    assert "\n" not in str(caught.value)
