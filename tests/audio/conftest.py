"""Recordings written by the standard library and FFmpeg's encoders, small and deterministic."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from tests.audio.reading import Encode, Floats, WriteWav


@pytest.fixture
def write_wav(tmp_path: Path) -> WriteWav:
    """A RIFF WAVE file, byte by byte, so that it can be wrong on purpose.

    ``samples`` is (n,) or (n, channels) of the dtype stored; int32 with ``bits=24`` is packed.
    """

    def write(
        samples: npt.NDArray[Any],
        rate: int = 16_000,
        name: str = "audio.wav",
        bits: int | None = None,
        extensible: bool = False,
        data_bytes: int | None = None,
        before_format: bytes = b"",
        trailer: bytes = b"",
    ) -> Path:
        frames = samples[:, None] if samples.ndim == 1 else samples
        bits = bits or frames.dtype.itemsize * 8
        payload = np.ascontiguousarray(frames).tobytes()
        if bits == 24:
            quads = np.frombuffer(payload, np.uint8).reshape(-1, 4)
            payload = quads[:, :3].tobytes()
        channels, tag = frames.shape[1], 3 if frames.dtype.kind == "f" else 1
        align = channels * bits // 8
        header = struct.pack(
            "<HHIIHH", 0xFFFE if extensible else tag, channels, rate, rate * align, align, bits
        )
        if extensible:
            guid = struct.pack("<IHH", tag, 0, 0x10) + bytes.fromhex("800000aa00389b71")
            header += struct.pack("<HHI", 22, bits, (1 << channels) - 1) + guid
        stated = len(payload) if data_bytes is None else data_bytes
        body = b"WAVE" + before_format + b"fmt " + struct.pack("<I", len(header)) + header
        body += b"data" + struct.pack("<I", stated) + payload + trailer
        path = tmp_path / name
        riff = min(len(body), 0xFFFFFFFF) if data_bytes is None else 0xFFFFFFFF
        path.write_bytes(b"RIFF" + struct.pack("<I", riff) + body)
        return path

    return write


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """Mono or multi-channel float samples through one of FFmpeg's encoders.

    ``shift``: seconds added to the time stamp of a packet at that second; ``None``: it is lost.
    """

    def write(
        samples: Floats,
        name: str,
        codec: str,
        rate: int = 16_000,
        with_video: bool = False,
        shift: Callable[[float], float | None] = lambda _: 0.0,
        container_options: dict[str, str] | None = None,
        **options: str,
    ) -> Path:
        frames = samples[:, None] if samples.ndim == 1 else samples
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[frames.shape[1]]
        path = tmp_path / name
        with av.open(str(path), "w", options=container_options or {}) as container:
            video = _add_video(container) if with_video else None
            stream = container.add_stream(codec, rate=rate, layout=layout, options=options)
            context = stream.codec_context
            if video is not None:
                _encode_black(container, video)
            whole = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(frames.T, np.float32), format="fltp", layout=layout
            )
            whole.sample_rate = rate
            resampler = av.AudioResampler(
                context.format, layout, rate, frame_size=context.frame_size or 1024
            )
            position = 0
            for frame in [*resampler.resample(whole), *resampler.resample(None)]:
                # Time stamps let the muxer write how much of the start is encoder delay.
                frame.pts, frame.time_base = position, Fraction(1, rate)
                position += frame.samples
                _mux(container, stream.encode(frame), shift)
            _mux(container, stream.encode(None), shift)
        return path

    return write


def _mux(container: Any, packets: Any, shift: Callable[[float], float | None]) -> None:
    for packet in packets:
        later = shift(float(packet.pts * packet.time_base))
        if later is None:
            continue
        packet.pts += round(later / float(packet.time_base))
        packet.dts = packet.pts
        container.mux(packet)


def _add_video(container: Any) -> Any:
    stream = container.add_stream("mpeg4", rate=10)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
    return stream


def _encode_black(container: Any, stream: Any) -> None:
    for number in range(5):
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        picture.pts, picture.time_base = number, Fraction(1, 10)
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


@pytest.fixture
def video_only(tmp_path: Path) -> Path:
    """An MP4 of half a second of black picture and no sound."""
    path = tmp_path / "silent film.mp4"
    with av.open(str(path), "w") as container:
        _encode_black(container, _add_video(container))
    return path
