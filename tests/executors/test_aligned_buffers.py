"""Alignment."""

from __future__ import annotations

import numpy as np
import pytest

from fluidaudio_cli.executors.buffers import aligned_empty


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 589, 7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8])
def test_buffers_start_on_a_cache_line(shape: tuple[int, ...], dtype: type) -> None:
    buffers = [aligned_empty(shape, dtype) for _ in range(8)]
    assert all(buffer.ctypes.data % 64 == 0 for buffer in buffers)
    assert all(buffer.shape == shape and buffer.dtype == dtype for buffer in buffers)
    assert all(buffer.flags.c_contiguous and buffer.flags.writeable for buffer in buffers)
