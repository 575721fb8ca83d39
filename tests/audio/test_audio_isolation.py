"""Decoding one file opens that file: no address and no other file that it names."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.errors import AudioError
from tests.audio.reading import WriteWav


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server on this machine that nobody should call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


def assert_nobody_called(server: socket.socket) -> None:
    with pytest.raises(TimeoutError):
        server.accept()


@pytest.mark.parametrize("suffix", ["m3u8", "wav", "mp4"])
def test_a_playlist_reaches_no_server(suffix: str, tmp_path: Path, listener: socket.socket) -> None:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"
    path = tmp_path / f"list.{suffix}"
    path.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:0\n"
        f"#EXTINF:9.0,\n{address}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(AudioError):
        open_audio(path)
    assert_nobody_called(listener)


def test_a_session_description_reaches_no_server(tmp_path: Path, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    path = tmp_path / "call.sdp"
    path.write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=call\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"a=control:rtsp://127.0.0.1:{port}/x\nm=audio {port} RTP/AVP 0\n"
    )
    with pytest.raises(AudioError):
        open_audio(path)
    assert_nobody_called(listener)


def test_a_playlist_or_script_opens_no_other_file(tmp_path: Path, write_wav: WriteWav) -> None:
    secret = write_wav(np.zeros(16_000, np.int16), name="secret.wav")
    for name, text in {
        "list.ffconcat": f"ffconcat version 1.0\nfile '{secret.name}'\n",
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\n{secret}\n#EXT-X-ENDLIST\n",
        "file.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\nfile:{secret}\n",
    }.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(AudioError, match=r"not a media file|no audio"):
            open_audio(path)


@pytest.mark.parametrize("scheme", ["http://127.0.0.1:{port}/a.wav", "tcp://127.0.0.1:{port}"])
def test_an_address_is_a_missing_file(scheme: str, listener: socket.socket) -> None:
    address = Path(scheme.format(port=listener.getsockname()[1]))
    with pytest.raises(AudioError, match=r"127\.0\.0\.1:\d+.* does not exist"):
        open_audio(address)
    assert_nobody_called(listener)


def test_a_protocol_in_a_name_means_nothing(
    tmp_path: Path, write_wav: WriteWav, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(np.zeros(800, np.int16), name="a.wav")
    with pytest.raises(AudioError, match="does not exist"):
        open_audio(Path("concat:a.wav|a.wav"))
    write_wav(np.zeros(1_600, np.int16), name="concat:a.wav|a.wav")
    with open_audio(Path("concat:a.wav|a.wav")) as stream:
        assert stream.read_into(np.empty(9_999, np.float32)) == 1_600
