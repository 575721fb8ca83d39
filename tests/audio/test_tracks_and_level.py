"""Several tracks, inverted channels, and what --salvage gives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fluidaudio_cli.audio.container import TrackChoice
from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.errors import AudioError
from tests.audio.reading import Encode, Floats, WriteWav, read

LEVELS = (1_000, 2_000)


@pytest.fixture
def two_tracks(tmp_path: Path) -> Path:
    """Half a second of 1000, and, from 0.25 s on, a second of 2000 (of 32 768)."""
    path = tmp_path / "two.mka"
    with av.open(str(path), "w", format="matroska") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in LEVELS]
        streams[0].metadata["language"] = "und"
        streams[1].metadata.update(language="ger", title="guest")
        for stream, level, start, count in zip(
            streams, LEVELS, (0, 4_000), (8_000, 16_000), strict=True
        ):
            frame = av.AudioFrame.from_ndarray(
                np.full((1, count), level, np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
            container.mux(stream.encode(frame))
    return path


@pytest.mark.parametrize(
    ("track", "steps"),
    [
        (1, [(0, 1_000), (8_000, 0)]),
        (2, [(0, 0), (4_000, 2_000), (20_000, 0)]),
        ("all", [(0, 1_000), (4_000, 3_000), (8_000, 2_000), (20_000, 0)]),
    ],
)
def test_a_track_or_the_mix_of_all(
    track: TrackChoice, steps: list[tuple[int, int]], two_tracks: Path
) -> None:
    samples, info = read(two_tracks, track=track)
    assert samples.size == steps[-1][0]
    for (start, level), (stop, _) in zip(steps, [*steps[1:]], strict=False):
        assert np.all(samples[start:stop] == np.float32(level / 32_768))
    assert (info.tracks, info.track) == (2, None if track == "all" else track)


def test_a_track_of_few_words_is_mixed_at_its_times(tmp_path: Path) -> None:
    path, words = tmp_path / "sparse.mka", (0.5, 12.5, 24.5)
    with av.open(str(path), "w", format="matroska") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in LEVELS]
        frames = [(float(second), 0, 0, 16_000) for second in range(30)]
        frames += [(second, 1, 9_000, 320) for second in words]
        for second, index, level, count in sorted(frames):
            frame = av.AudioFrame.from_ndarray(
                np.full((1, count), level, np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
            frame.pts = round(second * 16_000)
            container.mux(streams[index].encode(frame))
    samples, _ = read(path, track="all")
    starts = np.nonzero(np.diff(samples, prepend=0.0) > 0)[0] / 16_000
    assert starts == pytest.approx(words, abs=1e-3)


def test_without_a_choice_the_tracks_are_named(two_tracks: Path) -> None:
    _, info = read(two_tracks)
    assert info.track == 1
    assert info.notes[0] == (
        "has 2 audio tracks: 1 (pcm_s16le, 1 ch), 2 (pcm_s16le, 1 ch, ger, 'guest'); track 1 was "
        "read (--track N reads another, --track all their mix)"
    )
    with pytest.raises(AudioError, match=r"has no audio track 3; it has 1 \(pcm_s16le, 1 ch\), 2"):
        open_audio(two_tracks, track=3)


def speech(seconds: float = 2.0, rate: int = 16_000) -> Floats:
    noise = np.random.default_rng(5).standard_normal(round(seconds * rate))
    return (0.1 * np.convolve(noise, np.ones(8) / 8, "same")).astype(np.float32)


@pytest.mark.parametrize("inverse", [-1.0, -0.3])
def test_an_inverted_channel_is_turned_back(inverse: float, write_wav: WriteWav) -> None:
    left = speech()
    samples, info = read(write_wav(np.stack([left, inverse * left], axis=1)))
    np.testing.assert_allclose(samples, left * (1 - inverse) / 2, atol=1e-6)
    assert info.notes == ("a channel is the first one inverted; it was turned back for the mix",)


def test_an_inverted_channel_is_turned_about_the_middle_of_unsigned_samples(
    write_wav: WriteWav,
) -> None:
    steps = np.rint(500 * speech())
    frames = np.stack([128 + steps, 128 - steps, 128 + steps], axis=1).astype(np.uint8)
    samples, _ = read(write_wav(frames))
    np.testing.assert_allclose(samples, steps / 128, atol=1e-6)


def test_one_inverted_microphone_of_four(write_wav: WriteWav) -> None:
    left = speech()
    samples, _ = read(write_wav(np.stack([left, left, -left, left], axis=1)))
    np.testing.assert_allclose(samples, left, atol=1e-6)


def test_channels_that_differ_are_averaged_as_they_are(write_wav: WriteWav) -> None:
    one, other = speech(), np.random.default_rng(6).standard_normal(32_000).astype(np.float32)
    samples, info = read(write_wav(np.stack([one, 0.1 * other - 0.5 * one], axis=1)))
    np.testing.assert_allclose(samples, 0.25 * one + 0.05 * other, atol=1e-6)
    assert info.notes == ()


def test_the_last_sample_does_not_decide_how_channels_are_mixed(write_wav: WriteWav) -> None:
    left, right = speech(2 * 16_384 / 16_000), speech(2 * 16_384 / 16_000)[::-1]
    samples = np.append(np.stack([left, right], axis=1), [[0.1, -0.2]], axis=0)
    mono, info = read(write_wav(samples.astype(np.float32)))
    assert mono[-1] == pytest.approx(-0.05)
    assert info.notes == ()


@pytest.mark.parametrize(
    ("dtype", "middle", "steps", "of"),
    [(np.int16, 0, 32, "32768"), (np.int16, 0, 2, "32768"), (np.uint8, 128, 1, "128")],
)
def test_a_recording_of_few_steps_is_told(
    dtype: Any, middle: int, steps: int, of: str, write_wav: WriteWav
) -> None:
    tone = steps * np.sin(np.arange(8_000) / 9)
    path = write_wav((np.rint(tone) + middle).astype(dtype), rate=44_100)
    assert read(path)[1].notes == (
        f"its loudest sample is {steps} of {of} steps: too coarse to tell voices apart with "
        "certainty; record louder",
    )
    louder = np.where(np.arange(8_000) == 7_000, 33, tone)  # once is enough
    assert read(write_wav((np.rint(louder) + middle).astype(dtype)))[1].notes == ()


def test_a_faint_recording_in_floats_is_not_coarse(write_wav: WriteWav) -> None:
    assert read(write_wav(1e-4 * speech()))[1].notes == ()


def test_salvage_keeps_what_follows_the_damage_in_place(encode: Encode) -> None:
    original = speech(4.0)
    path = encode(original, "a.flac", "flac")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(AudioError, match="cut off or damaged"):
        read(path)
    samples, info = read(path, salvage=True)
    ((start, end),) = info.lost
    assert 1.5 < start < end < 2.5
    assert samples.size == original.size
    silent = slice(round(start * 16_000), round(end * 16_000))
    assert not np.any(samples[silent])
    kept = np.ones(original.size, bool)
    kept[silent] = False
    np.testing.assert_allclose(samples[kept], original[kept], atol=1 / 32_768)
    assert info.notes == (
        f"{end - start:.2f} s could not be decoded at 1 place, and count as silence",
    )


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp3", "libmp3lame", 44_100),
        ("a.aac", "aac", 44_100),
        ("a.ac3", "ac3", 48_000),
        ("a.eac3", "eac3", 48_000),
        ("a.wav", "libmp3lame", 44_100),
        ("a.avi", "libmp3lame", 44_100),
    ],
)
def test_salvage_counts_the_bytes_that_gave_nothing(
    name: str, codec: str, rate: int, encode: Encode
) -> None:
    click = np.zeros(10 * rate, np.float32)
    click[8 * rate : 8 * rate + 90] = 0.9
    path = encode(click + 0.01 * speech(10.0, rate), name, codec, rate=rate, b="64000")
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(16_000) + content[middle + 16_000 :])
    samples, info = read(path, salvage=True)
    assert np.argmax(np.abs(samples)) / 16_000 == pytest.approx(8.0, abs=0.06)
    assert info.lost[0][1] - info.lost[0][0] == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(("name", "codec"), [("a.ogg", "libopus"), ("a.webm", "libopus")])
@pytest.mark.parametrize("junk", [26, -3_000])
def test_damage_is_no_pause(name: str, codec: str, junk: int, encode: Encode) -> None:
    path = encode(speech(12.0, 48_000), name, codec, rate=48_000)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"\xaa" * junk + content[middle - min(junk, 0) :])
    with pytest.raises(AudioError, match=r"damaged after \d\.\d\d s \(bytes in between belong to"):
        read(path)
    samples, info = read(path, salvage=True)
    assert samples.size / 16_000 == pytest.approx(12.0, abs=0.05)
    assert len(info.lost) == 1


def test_tta_in_matroska_lacks_its_last_frame(encode: Encode) -> None:
    path = encode(speech(2.5), "a.mkv", "tta", shift=lambda _: 1.0)
    samples, info = read(path)
    assert samples.size / 16_000 == pytest.approx(2.09, abs=0.01)  # two of 1.04 s
    (lost,) = info.lost
    assert lost == pytest.approx((2.09, 2.5), abs=0.01)
    assert info.notes[-1] == "0.41 s could not be decoded at 1 place, and count as silence"


def test_salvage_of_amr_tells_that_times_are_lost_with_its_frames(tmp_path: Path) -> None:
    path, frame = tmp_path / "a.amr", b"\x3c" + bytes(31)
    path.write_bytes(b"#!AMR\n" + frame * 50 + b"\x74" + bytes(31) + frame * 50)
    with pytest.raises(AudioError, match=r"is damaged after 1\.00 s"):
        read(path)
    assert "times behind the first of them may be wrong: AMR cannot tell them" in (
        read(path, salvage=True)[1].notes
    )


def test_salvage_believes_no_absurd_count_of_samples(encode: Encode) -> None:
    path = encode(speech(0.1), "a.caf", "pcm_f32be")
    content = bytearray(path.read_bytes())
    content[40:44] = (1 << 20).to_bytes(4, "big")  # frames in each packet of one
    path.write_bytes(content)
    buffer = np.empty(1 << 20, np.float32)
    with open_audio(path, salvage=True) as stream:
        while stream.read_into(buffer):
            pass
        assert 1_000 < stream.seconds_read <= 3_601
        assert any(note.startswith("not believed: ") for note in stream.info.notes)


def test_salvage_silences_samples_that_are_no_numbers(write_wav: WriteWav) -> None:
    frames = np.full(40_000, 0.5, np.float32)
    frames[20_000] = np.nan
    samples, info = read(write_wav(frames), salvage=True)
    ((start, end),) = info.lost
    assert start <= 1.25 < end < 2.5
    silent = slice(round(start * 16_000), round(end * 16_000))
    expected = np.where(np.isfinite(frames), frames, np.float32(0.0))
    expected[silent] = 0.0
    np.testing.assert_array_equal(samples, expected)


def test_salvage_of_a_file_cut_off_tells_what_is_missing(write_wav: WriteWav) -> None:
    path = write_wav(np.ones(32_000, np.int16))
    path.write_bytes(path.read_bytes()[: 44 + 24_000])
    samples, info = read(path, salvage=True)
    assert (samples.size, info.lost) == (12_000, ((0.75, 2.0),))


def test_salvage_tells_that_what_is_missing_is_unknown(encode: Encode) -> None:
    path = encode(speech(2.0, 48_000), "a.mkv", "libopus", rate=48_000, with_video=True)
    path.write_bytes(path.read_bytes()[:-9_000])
    samples, info = read(path, salvage=True)
    assert info.notes == (
        f"what follows {samples.size / 16_000:.2f} s could not be read; how long that is, "
        "is not known",
    )
