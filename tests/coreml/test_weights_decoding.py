"""Packed numbers and compressed weights, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fluidaudio_cli.coreml.constexpr import SCHEMES, Array, Inputs
from fluidaudio_cli.coreml.dtypes import decode, stored_bytes


def evaluate(kind: str, inputs: Inputs) -> tuple[Array, ...]:
    return SCHEMES[kind][2](inputs)


@pytest.mark.parametrize(
    ("dtype", "raw", "expected"),
    [
        ("int4", [0x8F, 0x07], [-1, -8, 7]),
        ("uint4", [0x8F, 0x07], [15, 8, 7]),
        ("uint1", [0b00000101], [1, 0, 1]),
        ("uint2", [0b11_10_01_00, 0b11], [0, 1, 2, 3, 3]),
        # 3 bits straddle bytes: 1, 2, 3, 4 from the stream 001 010 011 100 (low bits first)
        ("uint3", [0b11_010_001, 0b0000_100_0], [1, 2, 3, 4]),
        ("uint6", [0b01_000001, 0b1111_1111, 0b0000_0011], [1, 61, 63]),
        ("fp16", [0x00, 0x3C, 0x00, 0xC0], [1.0, -2.0]),
        ("int32", [0xFE, 0xFF, 0xFF, 0xFF], [-2]),
    ],
)
def test_packed_numbers(dtype: str, raw: list[int], expected: list[float]) -> None:
    data = np.array(raw, np.uint8)
    if dtype == "uint6":
        # 000001 | 111101 | 111111: low bits of each element first
        value = 1 | 61 << 6 | 63 << 12
        data = np.frombuffer(value.to_bytes(3, "little"), np.uint8)
    assert stored_bytes(dtype, len(expected)) == len(data)
    assert decode(data, dtype, len(expected)).tolist() == expected


def test_affine_ios16() -> None:
    (dense,) = evaluate(
        "constexpr_affine_dequantize",
        {
            "quantized_data": np.array([[250, 0], [10, 20]], np.uint8),
            "zero_point": np.array([5, 10], np.uint8),
            "scale": np.array([0.5, 2.0], np.float16),
            "axis": np.array(1, np.int32),
        },
    )
    assert dense.tolist() == [[122.5, -20.0], [2.5, 20.0]]
    assert dense.dtype == np.float16


def test_palette_ios16() -> None:
    # 2 bits each, low bits first: 1, 0, 3, 2, 1
    (dense,) = evaluate(
        "constexpr_lut_to_dense",
        {
            "indices": np.array([0b10_11_00_01, 0b01], np.uint8),
            "lut": np.array([10, 11, 12, 13], np.float32),
            "shape": np.array([5, 1], np.uint32),
        },
    )
    assert dense.tolist() == [[11], [10], [13], [12], [11]]


def test_palettes_per_group() -> None:
    # The example of the operation's documentation: two palettes over rows.
    (dense,) = evaluate(
        "constexpr_lut_to_dense",
        {
            "indices": np.array([2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3], np.uint8).reshape(6, 2),
            "lut": np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float16).reshape(2, 1, 4, 1),
        },
    )
    assert dense.tolist() == [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]


def test_palette_of_vectors() -> None:
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], np.uint8)
    lut = np.array([1, 2, 3, 7, 8, 9], np.int8).reshape(1, 1, 1, 2, 3)
    (middle,) = evaluate(
        "constexpr_lut_to_dense",
        {"indices": indices, "lut": lut, "vector_axis": np.array(1, np.int32)},
    )
    assert middle[0].tolist() == [[1, 1], [2, 2], [3, 3], [7, 1], [8, 2], [9, 3]]
    (last,) = evaluate(
        "constexpr_lut_to_dense",
        {"indices": indices, "lut": lut, "vector_axis": np.array(-1, np.int32)},
    )
    assert last[0].tolist() == [[1, 2, 3, 1, 2, 3], [7, 8, 9, 1, 2, 3]]


def test_sparse_both_generations() -> None:
    (old,) = evaluate(
        "constexpr_sparse_to_dense",
        {
            "nonzero_data": np.array([3, 5, 2], np.float16),
            "mask": np.array([0b00_011010], np.uint8),
            "shape": np.array([2, 3], np.uint32),
        },
    )
    assert old.tolist() == [[0, 3, 0], [5, 2, 0]]
    mask = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
    (new,) = evaluate(
        "constexpr_sparse_to_dense",
        {"nonzero_data": np.array([3, 5, 2], np.float16), "mask": mask},
    )
    assert new.tolist() == old.tolist()


def test_blockwise_with_offset() -> None:
    (dense,) = evaluate(
        "constexpr_blockwise_shift_scale",
        {
            "data": np.array([[1, 2, 3, 4], [5, 6, 7, -8]], np.int8),
            "scale": np.array([[0.5, 2.0], [1.0, 4.0]], np.float16),
            "offset": np.array([[1, 0], [5, -8]], np.int8),
        },
    )
    assert dense.tolist() == [[0, 0.5, 6, 8], [0, 1, 60, 0]]


def test_sparse_blockwise_follows_the_documentation() -> None:
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], np.uint8)
    same, values = evaluate(
        "constexpr_sparse_blockwise_shift_scale",
        {
            "data_mask": mask,
            "nonzero_data": np.array([10, 11, 3, 4, 5, 6, 7, 8, 9], np.int8),
            "scale": np.array([[0.1, 0.2, 0.3, 0.4]], np.float32),
            "offset": np.array([[1, 2, 3, 4]], np.int8),
        },
    )
    assert same is mask
    # Column by column: (value - offset) * scale.
    expected = [0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4]
    assert values.tolist() == pytest.approx(expected, rel=1e-6)


def test_sparse_palette_of_vectors() -> None:
    mask, values = evaluate(
        "constexpr_lut_to_sparse",
        {
            "indices_mask": np.array([[1, 0], [1, 1]], np.uint8),
            "indices_nonzero_data": np.array([0, 1, 0], np.uint8),
            "lut": np.array([[2, 4], [3, 5]], np.float16).reshape(1, 1, 2, 2),
            "vector_axis": np.array(0, np.int32),
        },
    )
    assert mask.tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]
    assert values.tolist() == [2, 4, 3, 2, 5, 4]


def test_cast() -> None:
    (wide,) = evaluate(
        "constexpr_cast",
        {"source_val": np.array([0.5], np.float16), "output_dtype": np.array("fp32")},
    )
    assert wide.dtype == np.float32
    assert wide.tolist() == [0.5]
