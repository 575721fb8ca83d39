"""Spatial padding and output sizes of convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ir import Dimension

PAD_TYPES = ("valid", "same", "same_lower", "custom")


@dataclass(frozen=True)
class SpatialPadding:
    """Elements added before and after each spatial axis.

    ``automatic`` is ONNX's ``auto_pad`` mode where they depend on a size that is unknown until
    run time; ``before`` and ``after`` are then zero.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    automatic: str = ""

    def reaching(self, excess: Sequence[int]) -> SpatialPadding:
        """The same with ``excess`` more at the end of each axis."""
        after = tuple(a + e for a, e in zip(self.after, excess, strict=True))
        return SpatialPadding(self.before, after)

    def attributes(self) -> dict[str, Any]:
        """As attributes of an ONNX node."""
        if self.automatic:
            return {"auto_pad": self.automatic}
        return {"pads": [*self.before, *self.after]}


def spatial_padding(
    op: Lowering, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> SpatialPadding:
    """Padding of a convolution or pooling over ``x``.

    ``same`` gives outputs of ``ceil(size / stride)`` with the odd element at the end
    (``same_lower``: at the start).
    """
    kind = op.text("pad_type", "valid").lower()
    zeros = (0,) * len(kernel)
    if kind not in PAD_TYPES:
        raise op.error(f"has unknown pad_type '{kind}'")
    if kind == "valid":
        return SpatialPadding(zeros, zeros)
    if kind == "custom":
        pad = op.integers("pad", [0] * (2 * len(kernel)))
        return SpatialPadding(tuple(pad[0::2]), tuple(pad[1::2]))
    sizes: Sequence[Dimension] = op.type().shape[2:]
    less, more = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = (width - 1) * dilation  # at stride 1, whatever the size
        if isinstance(size, int):
            total = max(0, total + 1 + (-(-size // stride) - 1) * stride - size)
        elif stride > 1:
            return SpatialPadding(zeros, zeros, "SAME_UPPER" if kind == "same" else "SAME_LOWER")
        less.append(total // 2)
        more.append(total - total // 2)
    before, after = (less, more) if kind == "same" else (more, less)
    return SpatialPadding(tuple(before), tuple(after))
