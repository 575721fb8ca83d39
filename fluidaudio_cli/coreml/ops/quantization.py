"""Run-time quantization of activations (iOS 17), and the weights they are multiplied by."""

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
        scale, result = op.tensor("scale"), op.operation.outputs[0]
        if quantized == "output":
            narrowed = op.emit(kind, op.tensor("input"), scale, zero_point, **axis)
            op.graph.narrow[result] = narrowed
            return op.emit("Cast", narrowed, to=TensorProto.INT64)
        x = op.graph.narrow.get(op.value("input"), "")
        if x:
            op.graph.dequantized.add(result)
        else:  # int64 in the graph, as all integers
            x = op.emit("Cast", op.tensor("input"), to=narrow)
        return op.emit(kind, x, scale, zero_point, **axis)

    return lower


def quantized_weight(op: Lowering, parameter: str = "weight") -> str:
    """8-bit weights as integers where the input ``x`` is made of integers; else as numbers.

    Runtimes multiply integers where both sides are dequantized just before.
    """
    quantized = op.value(parameter).quantized
    if quantized is None or op.value("x") not in op.graph.dequantized:
        return op.tensor(parameter)
    scale = quantized.scale.astype(op.graph.numpy_type("fp16"))
    constant = op.graph.constant
    # No zero point: OpenVINO computes in floats where several weights share one.
    return op.emit("DequantizeLinear", constant(quantized.data), constant(scale), axis=0)


TABLE: dict[str, LoweringFunction] = {
    "dequantize": _convert("DequantizeLinear", "input"),
    "quantize": _convert("QuantizeLinear", "output"),
}
