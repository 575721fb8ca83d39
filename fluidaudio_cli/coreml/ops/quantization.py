"""Run-time quantization of activations (iOS 17)."""

from __future__ import annotations

from onnx import TensorProto, helper

from fluidaudio_cli.coreml.graph import NARROW_TYPES, Lowering
from fluidaudio_cli.coreml.ops.table import LoweringFunction


def _convert(kind: str, quantized: str) -> LoweringFunction:
    def lower(op: Lowering) -> str:
        dtype = op.text("output_dtype") if quantized == "output" else op.type("input").dtype
        zero = op.array("zero_point") if op.has("zero_point") else op.array("scale") * 0
        axis = {"axis": op.axis(of="input")} if op.has("axis") and zero.ndim else {}
        narrow = NARROW_TYPES[dtype]
        zero_point = op.graph.constant(zero.astype(helper.tensor_dtype_to_np_dtype(narrow)))
        x = op.tensor("input")
        if quantized == "input":  # int64 in the graph, as all integers
            x = op.emit("Cast", x, to=narrow)
        result = op.emit(kind, x, op.tensor("scale"), zero_point, **axis)
        return result if quantized == "input" else op.emit("Cast", result, to=TensorProto.INT64)

    return lower


TABLE: dict[str, LoweringFunction] = {
    "dequantize": _convert("DequantizeLinear", "input"),
    "quantize": _convert("QuantizeLinear", "output"),
}
