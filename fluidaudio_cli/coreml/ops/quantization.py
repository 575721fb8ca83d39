"""Run-time quantization of activations (iOS 17)."""

from __future__ import annotations

from fluidaudio_cli.coreml.graph import Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction


def _convert(kind: str, quantized: str) -> LoweringFunction:
    def lower(op: Lowering) -> str:
        dtype = op.text("output_dtype") if quantized == "output" else op.type("input").dtype
        zero = op.array("zero_point") if op.has("zero_point") else op.array("scale") * 0
        axis = {"axis": op.axis(of="input")} if op.has("axis") and zero.ndim else {}
        return op.emit(
            kind, op.tensor("input"), op.tensor("scale"), op.constant(zero, dtype), **axis
        )

    return lower


TABLE: dict[str, LoweringFunction] = {
    "dequantize": _convert("DequantizeLinear", "input"),
    "quantize": _convert("QuantizeLinear", "output"),
}
