"""Alignment, padding, and the accounting of the buffer pool."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fluidaudio_cli.executors.buffers import AlignedPool, PoolStatistics, aligned_empty, is_aligned


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


def test_pool_hands_a_returned_buffer_out_again() -> None:
    pool = AlignedPool()
    first = pool.take((2, 3))
    second = pool.take((2, 3))
    assert first is not second
    pool.give_back(first)
    assert pool.take((3, 2)) is not first
    assert pool.take((2, 3), np.int32) is not first
    assert pool.take((2, 3)) is first
    # 2 x 24 bytes, one of (3, 2), one of int32: 4 allocations of 24 bytes, 1 reuse, 4 out.
    assert pool.statistics == PoolStatistics(4, 96, 1, 4)


def test_pool_refuses_what_is_not_out() -> None:
    pool = AlignedPool()
    buffer = pool.take((2, 3))
    pool.give_back(buffer)
    for stranger in (buffer, np.empty((2, 3), np.float32)):
        with pytest.raises(ValueError, match=r"shape \(2, 3\) was given back that is not out"):
            pool.give_back(stranger)
    assert pool.statistics.outstanding == 0


def test_pool_among_threads_never_shares_a_buffer() -> None:
    pool = AlignedPool()
    clashes = []

    def work(mark: int) -> None:
        for _ in range(300):
            buffer = pool.take((16,))
            buffer[...] = mark
            if not np.all(buffer == mark):
                clashes.append(mark)
            pool.give_back(buffer)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = pool.statistics
    assert clashes == []
    assert statistics.allocations <= 4
    assert statistics.allocations + statistics.reused == 1200
    assert statistics.outstanding == 0
