"""Alignment and padding."""

from __future__ import annotations

import numpy as np
import pytest

from fluidaudio_cli.executors.buffers import aligned_empty, is_aligned


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 589, 7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8])
def test_buffers_start_on_a_cache_line(shape: tuple[int, ...], dtype: type) -> None:
    buffers = [aligned_empty(shape, dtype) for _ in range(8)]
    assert all(buffer.ctypes.data % 64 == 0 for buffer in buffers)
    assert all(buffer.shape == shape and buffer.dtype == dtype for buffer in buffers)
    assert all(buffer.flags.c_contiguous and buffer.flags.writeable for buffer in buffers)


def test_row_padding_aligns_every_row() -> None:
    buffer = aligned_empty((4, 80 + 7), np.float32, row_multiple=16)
    assert buffer.shape == (4, 87)
    assert buffer.strides == (96 * 4, 4)  # 87 goes up to 6 * 16
    assert all(row.ctypes.data % 64 == 0 for row in buffer)
    assert aligned_empty((4, 96), np.float32, row_multiple=16).flags.c_contiguous


def test_is_aligned() -> None:
    buffer = aligned_empty((32,), np.float32)
    assert is_aligned(buffer)
    assert not is_aligned(buffer[1:])
    assert is_aligned(buffer[16:])
