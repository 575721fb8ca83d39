"""Compressed constants: MIL's ``constexpr_*`` operations evaluated in NumPy when read.

Two generations exist under the same names: iOS 16 (flat packed bytes plus a ``shape``) and
iOS 18 (typed sub-byte tensors, block-wise scales and palettes). Formulas: coremltools'
public operation documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.coreml.dtypes import NUMPY_TYPES, unpack_bits

Array = NDArray[np.generic]
Inputs = Mapping[str, Array]


def _affine_dequantize(inputs: Inputs) -> tuple[Array, ...]:
    data, scale, zero = inputs["quantized_data"], inputs["scale"], inputs["zero_point"]
    shape = [1] * data.ndim
    shape[int(inputs["axis"])] = -1

    def spread(vector: Array) -> NDArray[np.float32]:
        return vector.astype(np.float32).reshape(shape if vector.ndim else ())

    exact = (data.astype(np.float32) - spread(zero)) * spread(scale)
    return (exact.astype(scale.dtype),)


def _lut_to_dense(inputs: Inputs) -> tuple[Array, ...]:
    indices, lut = inputs["indices"], inputs["lut"]
    if "shape" not in inputs:
        return (_look_up(indices, lut, inputs.get("vector_axis")),)
    shape = tuple(int(size) for size in inputs["shape"].ravel())
    bits = int(lut.size).bit_length() - 1
    numbers = unpack_bits(indices.astype(np.uint8), bits, int(np.prod(shape)))
    return (lut.ravel()[numbers].reshape(shape),)


def _look_up(indices: Array, lut: Array, vector_axis: Array | None) -> Array:
    # lut: one palette per block, [blocks along each dimension ..., entries, vector length].
    *blocks, _, length = lut.shape
    position = []
    for axis, (size, count) in enumerate(zip(indices.shape, blocks, strict=True)):
        along = [1] * indices.ndim
        along[axis] = size
        position.append((np.arange(size) * count // size).reshape(along))
    position.append(indices.astype(np.int64))
    chosen = np.asarray(lut[tuple(position)])
    if length == 1:
        return np.asarray(chosen[..., 0])
    if vector_axis is None:
        raise ValueError("a palette of vectors needs vector_axis")
    axis = int(vector_axis) % indices.ndim
    merged = list(indices.shape)
    merged[axis] *= length
    return np.asarray(np.moveaxis(chosen, -1, axis + 1).reshape(merged))


def _sparse_to_dense(inputs: Inputs) -> tuple[Array, ...]:
    nonzero, mask = inputs["nonzero_data"], inputs["mask"]
    if "shape" in inputs:
        shape = tuple(int(size) for size in inputs["shape"].ravel())
        mask = unpack_bits(mask.astype(np.uint8), 1, int(np.prod(shape))).reshape(shape)
    return (_fill(nonzero, mask),)


def _fill(nonzero: Array, mask: Array) -> Array:
    dense = np.zeros(mask.shape, nonzero.dtype)
    dense[mask != 0] = nonzero.ravel()
    return dense


def _blockwise(data: Array, scale: Array, offset: Array | None) -> Array:
    def spread(blocks: Array) -> NDArray[np.float32]:
        out = blocks.astype(np.float32)
        for axis, (size, count) in enumerate(zip(data.shape, blocks.shape, strict=True)):
            out = np.repeat(out, size // count, axis)
        return out

    shifted = data.astype(np.float32)
    if offset is not None:
        shifted = shifted - spread(offset)
    return (shifted * spread(scale)).astype(scale.dtype)


def _blockwise_shift_scale(inputs: Inputs) -> tuple[Array, ...]:
    return (_blockwise(inputs["data"], inputs["scale"], inputs.get("offset")),)


def _cast(inputs: Inputs) -> tuple[Array, ...]:
    return (inputs["source_val"].astype(NUMPY_TYPES[str(inputs["output_dtype"])]),)


def _lut_to_sparse(inputs: Inputs) -> tuple[Array, ...]:
    mask, lut, axis = inputs["indices_mask"], inputs["lut"], inputs.get("vector_axis")
    dense = _look_up(_fill(inputs["indices_nonzero_data"], mask), lut, axis)
    if lut.shape[-1] > 1 and axis is not None:
        mask = np.repeat(mask, lut.shape[-1], int(axis))
    return mask, dense[mask != 0]


def _sparse_blockwise_shift_scale(inputs: Inputs) -> tuple[Array, ...]:
    mask = inputs["data_mask"]
    dense = _blockwise(_fill(inputs["nonzero_data"], mask), inputs["scale"], inputs.get("offset"))
    return mask, dense[mask != 0]


# By operation: which parameter holds the compressed numbers, the scheme, and what it computes.
SCHEMES: dict[str, tuple[str, str, Callable[[Inputs], tuple[Array, ...]]]] = {
    "constexpr_affine_dequantize": ("quantized_data", "affine", _affine_dequantize),
    "constexpr_lut_to_dense": ("indices", "palette", _lut_to_dense),
    "constexpr_sparse_to_dense": ("nonzero_data", "sparse", _sparse_to_dense),
    "constexpr_cast": ("source_val", "", _cast),
    "constexpr_blockwise_shift_scale": ("data", "blockwise", _blockwise_shift_scale),
    "constexpr_lut_to_sparse": ("indices_nonzero_data", "palette", _lut_to_sparse),
    "constexpr_sparse_blockwise_shift_scale": (
        "nonzero_data",
        "blockwise",
        _sparse_blockwise_shift_scale,
    ),
}
