"""Interpolation of the last two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction

# MIL's sampling mode -> ONNX's coordinate transformation.
_SAMPLING = {
    "STRICT_ALIGN_CORNERS": "align_corners",
    "ALIGN_CORNERS": "align_corners",
    "DEFAULT": "asymmetric",
    "UNALIGN_CORNERS": "half_pixel",
}


def _resize(op: Lowering, mode: str, coordinates: str, sizes: Sequence[int]) -> str:
    """``x`` with its last axes resampled to ``sizes``."""
    rank = op.type().rank
    nearest: dict[str, Any] = {"nearest_mode": "floor"} if mode == "nearest" else {}
    return op.emit(
        "Resize",
        op.tensor("x"),
        "",
        "",
        op.constant(list(sizes)),
        mode=mode,
        coordinate_transformation_mode=coordinates,
        axes=list(range(rank - len(sizes), rank)),
        **nearest,
    )


def _scaled_sizes(op: Lowering) -> list[int]:
    factors = (op.number("scale_factor_height", 1), op.number("scale_factor_width", 1))
    sizes = []
    for size, factor in zip(op.type().shape[-2:], factors, strict=True):
        if not isinstance(size, int):
            raise op.error("scales an image of unknown size, which is not supported")
        # The factor is stored as fp32: 1.1 lies below 1.1, and 10 times it must still be 11.
        sizes.append(math.floor(float(np.float32(size * factor))))
    return sizes


def _upsample_bilinear(op: Lowering) -> str:
    if op.flag("align_corners", True):
        coordinates = "align_corners"
    else:
        coordinates = "half_pixel" if op.flag("half_pixel_centers", True) else "asymmetric"
    return _resize(op, "linear", coordinates, _scaled_sizes(op))


def _target(op: Lowering) -> list[int]:
    return [op.integer("target_size_height", 1), op.integer("target_size_width", 1)]


def _sampled(op: Lowering, kind: str, sizes: Sequence[int]) -> str:
    mode = op.text("sampling_mode", "DEFAULT")
    # Where several elements are as near as each other, only DEFAULT is documented.
    if mode not in _SAMPLING or (kind == "nearest" and mode != "DEFAULT"):
        raise op.error(f"has sampling_mode '{mode}', which is not supported for {kind}")
    if mode == "ALIGN_CORNERS" and 1 in sizes:
        # The middle of the axis, where ONNX takes its first element.
        raise op.error("resizes an axis to 1 by ALIGN_CORNERS, which is not supported")
    return _resize(op, kind, _SAMPLING[mode], sizes)


def _resize_any(op: Lowering) -> str:
    count = op.integer("resized_dims")
    sizes = op.integers("shape")[-count:]
    known = op.type().shape[-count:]
    # 0 keeps the size of x.
    merged = [size or old for size, old in zip(sizes, known, strict=True)]
    if any(not isinstance(size, int) for size in merged):
        raise op.error("keeps an unknown size, which is not supported")
    mode = op.text("interpolation_mode", "LINEAR")
    kind = "linear" if mode == "LINEAR" else "nearest"
    return _sampled(op, kind, [int(size or 0) for size in merged])


TABLE: dict[str, LoweringFunction] = {
    "resize": _resize_any,
    "resize_bilinear": lambda op: _sampled(op, "linear", _target(op)),
    "resize_nearest_neighbor": lambda op: _resize(op, "nearest", "asymmetric", _target(op)),
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": lambda op: _resize(op, "nearest", "asymmetric", _scaled_sizes(op)),
}
