"""Sound lies where a player presents it, counted from the beginning of the container."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fluidaudio_cli.audio.source import SAMPLE_RATE, open_audio
from fluidaudio_cli.audio.timeline import Doubts, PauseTooLongError, Placement, Timeline
from fluidaudio_cli.errors import AudioError
from tests.audio.reading import Encode, Floats, read, read_all


def clicks(rate: int) -> Floats:
    """Three seconds with a burst at 0.5 and one at 2.5 s."""
    samples = np.zeros(3 * rate, np.float32)
    for at in (0.5, 2.5):
        samples[round(at * rate) : round((at + 0.002) * rate)] = 0.9
    return samples


def heard_at(samples: Floats) -> list[float]:
    """Where bursts begin: more than 0.1 s after the last loud sample."""
    loud = np.nonzero(np.abs(samples) > 0.2)[0]
    starts = loud[np.diff(loud, prepend=-SAMPLE_RATE) > SAMPLE_RATE / 10]
    return [float(start) / SAMPLE_RATE for start in starts]


def late(_: float) -> float:
    return 4.0


def paused(seconds: float) -> float:
    return 5.0 if seconds >= 1.5 else 0.0


CODECS = [
    ("a.mkv", "libopus", 48_000),
    ("a.mp4", "aac", 44_100),
    ("a.mov", "alac", 44_100),
    ("b.mkv", "flac", 16_000),
    ("a.ts", "aac", 44_100),
]


@pytest.mark.parametrize(("name", "codec", "rate"), [*CODECS, ("a.wtv", "mp2", 48_000)])
def test_sound_that_starts_later_than_the_picture(
    name: str, codec: str, rate: int, encode: Encode
) -> None:
    path = encode(clicks(rate), name, codec, rate=rate, with_video=True, shift=late)
    assert heard_at(read_all(path)) == pytest.approx([4.5, 6.5], abs=0.025)
    assert "of its time line hold no audio and count as silence" in read(path)[1].notes[0]


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    # FFmpeg stamps the first page of FLAC in Ogg with 0 whatever it says.
    [*CODECS, ("a.ogg", "libopus", 48_000), ("a.oga", "flac", 16_000)],
)
def test_sound_alone_counts_from_its_own_start(
    name: str, codec: str, rate: int, encode: Encode
) -> None:
    path = encode(clicks(rate), name, codec, rate=rate, shift=late)
    samples = read_all(path)
    assert heard_at(samples) == pytest.approx([0.5, 2.5], abs=0.025)
    assert samples.size / SAMPLE_RATE == pytest.approx(3.0, abs=0.05)
    assert read(path)[1].notes == ()


@pytest.mark.parametrize("with_video", [False, True])
@pytest.mark.parametrize(("name", "codec", "rate"), CODECS)
def test_pauses_are_silence(
    name: str, codec: str, rate: int, with_video: bool, encode: Encode
) -> None:
    path = encode(clicks(rate), name, codec, rate=rate, with_video=with_video, shift=paused)
    samples = read_all(path)
    assert heard_at(samples) == pytest.approx([0.5, 7.5], abs=0.025)
    assert not np.any(np.abs(samples[2 * SAMPLE_RATE : 6 * SAMPLE_RATE]) > 1e-3)
    assert samples.size / SAMPLE_RATE == pytest.approx(8.0, abs=0.05)


def test_lost_packets_leave_the_rest_in_place(encode: Encode) -> None:
    def lose(seconds: float) -> float | None:
        return None if 1.0 < seconds < 1.1 or 2.0 < seconds < 2.03 else 0.0

    path = encode(clicks(48_000), "a.webm", "libopus", rate=48_000, shift=lose)
    assert heard_at(read_all(path)) == pytest.approx([0.5, 2.5], abs=0.005)
    (note,) = read(path)[1].notes
    assert note.startswith(("0.12 s of its time line", "0.14 s"))
    assert "at 2 places" in note


def test_chained_ogg_files_are_read_end_to_end(encode: Encode) -> None:
    path = encode(clicks(48_000), "a.ogg", "libopus", rate=48_000)
    path.write_bytes(path.read_bytes() * 2)
    assert heard_at(read_all(path)) == pytest.approx([0.5, 2.5, 3.5, 5.5], abs=0.01)


def test_fragments_joined_in_the_middle_are_whole(encode: Encode) -> None:
    options = {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"}
    path = encode(clicks(44_100), "a.mp4", "aac", rate=44_100, container_options=options)
    content = path.read_bytes()
    starts = [at.start() - 4 for at in re.finditer(b"moof", content)]
    path.write_bytes(content[: starts[0]] + content[starts[4] :])  # 0.51 s each
    assert heard_at(read_all(path)) == pytest.approx([2.5 - 4 * 0.511 + 0.023], abs=0.02)


def test_chained_flac_of_another_rate_lasts_as_long(encode: Encode) -> None:
    """FFmpeg stamps the second part as if its samples had the first part's rate."""
    path = encode(clicks(44_100), "a.oga", "flac", rate=44_100)
    other = encode(clicks(16_000), "b.oga", "flac")
    path.write_bytes(path.read_bytes() + other.read_bytes())
    assert heard_at(read_all(path)) == pytest.approx([0.5, 2.5, 3.5, 5.5], abs=0.002)


def test_hours_of_pause_take_no_memory(encode: Encode) -> None:
    path = encode(
        clicks(16_000), "a.mka", "pcm_s16le", shift=lambda t: 7_200.0 if t >= 1.5 else 0.0
    )
    buffer = np.empty(1 << 20, np.float32)
    with open_audio(path) as stream:
        while stream.read_into(buffer):
            pass
        assert stream.seconds_read == pytest.approx(7_203.0, abs=0.01)


def test_an_absurd_pause_is_refused_and_salvage_reads_on(encode: Encode) -> None:
    path = encode(
        clicks(48_000), "a.mka", "libopus", rate=48_000, shift=lambda t: 1e9 if t >= 1.5 else 0.0
    )
    with pytest.raises(AudioError) as caught:
        read_all(path)
    assert str(caught.value) == (
        f"{path} states a pause of 1000000000 s at 1.51 s, more than 24 h: its time stamps are "
        "damaged: write it anew with another program, or diarize it with --salvage, "
        "without the pause"
    )
    samples, info = read(path, salvage=True)
    assert samples.size == pytest.approx(48_000, abs=200)
    assert (info.notes, info.lost) == (("not believed: 1 impossible time stamp",), ())


def test_a_jump_is_believed_when_what_follows_bears_it_out() -> None:
    doubts = Doubts()
    assert doubts.push("a", 10.0, 0.4) == [("a", 10.0)]
    assert doubts.push("b", 18_000.0, 0.4) == []
    assert doubts.push("c", 10.8, 0.4) == [("b", None), ("c", 10.8)]
    assert doubts.push("d", 3.0, 0.4) == []
    assert doubts.push("e", None, 0.4) == []
    assert doubts.push("f", 3.8, 0.4) == [("d", 3.0), ("e", None), ("f", 3.8)]
    assert doubts.push("g", 4.2, 0.4) == [("g", 4.2)]
    assert doubts.push("h", 5.5, 0.4) == []
    assert doubts.drain() == [("h", 5.5)]
    assert doubts.refuted == 1


def test_a_wrong_stamp_of_the_first_packet_is_no_pause() -> None:
    timeline = Timeline(None)
    assert timeline.place(0.0) == Placement()
    timeline.advance(0.02)
    assert timeline.place(18_000.0) == Placement()
    timeline.advance(1.0)
    assert timeline.place(18_003.0).gap_seconds == pytest.approx(2.0)
    assert timeline.restarts == 1
    doubts = Doubts(0.0)
    assert doubts.push("a", 18_000.0, 0.02) == []
    assert doubts.push("b", 0.02, 0.02) == [("a", None), ("b", 0.02)]


def test_placement_by_hand() -> None:
    timeline = Timeline(10.0)
    assert timeline.place(12.0) == Placement(gap_seconds=2.0)
    timeline.advance(2.0)
    timeline.advance(1.0)
    assert timeline.place(13.010) == Placement()  # jitter
    assert timeline.place(None) == Placement()
    assert timeline.place(12.75) == Placement(repeated_seconds=0.25)
    assert timeline.place(0.0) == Placement()  # a new count
    timeline.advance(1.0)
    assert timeline.place(1.0) == Placement()
    assert timeline.place(1.5) == Placement(gap_seconds=0.5)
    assert (timeline.paused_seconds, timeline.pauses, timeline.restarts) == (2.5, 2, 1)
    with pytest.raises(PauseTooLongError):
        timeline.place(90_000.0)
    timeline.advance(0.5)
    assert timeline.place(90_000.5) == Placement()
    with pytest.raises(PauseTooLongError):
        Timeline(0.0, longest=3_600.0).place(3_601.0)
