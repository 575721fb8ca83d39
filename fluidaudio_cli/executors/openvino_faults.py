"""What OpenVINO 2026.4 computes wrongly, and how such models run all the same, or do not.

- 8-bit integers beside fp16 fail in some batches and err in others (processors with AVX-512 FP16).
- On ARM 8-bit integers give other results altogether, and so do transposed convolutions over one
  axis; over two they are right. Found in emulation: the bundled networks' self-tests failed.
- Peepholes of an LSTM are left out without a word.
- An input that no operation reads is left out, and whoever gives it is refused.
"""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fluidaudio_cli.errors import ExecutorUnavailableError

# Their place among the inputs of ONNX's LSTM.
_PEEPHOLES = 7


@lru_cache(maxsize=1)
def faults_version() -> str:
    """Changes with what is done to models here."""
    return f"faults {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]}"


def spared(model: Any, package: Path, precision: str, precisions: tuple[str, ...]) -> Any:
    """A lowered model (ONNX) without what would be computed wrongly here; changed in place.

    Raises ``ExecutorUnavailableError`` where that cannot be avoided.
    """
    on_arm = platform.machine() in ("aarch64", "arm64")
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        integers = f"openvino does not run the 8-bit integers of {package.name}"
        if on_arm:
            raise ExecutorUnavailableError(f"{integers} on ARM", "use another --executor")
        if precision == "fp16":
            others = " or ".join(name for name in precisions if name != precision)
            raise ExecutorUnavailableError(
                f"{integers} beside fp16", f"use --precision {others}, or another --executor"
            )
    if any(node.op_type == "LSTM" and len(node.input) > _PEEPHOLES for node in model.graph.node):
        raise ExecutorUnavailableError(
            f"openvino leaves out the peepholes of the LSTM in {package.name}",
            "use another --executor",
        )
    if on_arm:
        _widen_transposed_convolutions(model)
    return model


def keep_inputs(openvino: Any, model: Any, lowered: Any) -> None:
    """Give OpenVINO's ``model`` of a ``lowered`` one (ONNX) the inputs that nobody reads."""
    from onnx import helper

    read = {name for port in model.inputs for name in port.names}
    for given in lowered.graph.input:
        if given.name not in read:
            kind = given.type.tensor_type
            sizes = [
                size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim
            ]
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            added = openvino.opset13.parameter(openvino.PartialShape(sizes), dtype)
            added.output(0).set_names({given.name})
            model.add_parameters([added])


# As ONNX has them for one axis: a list for each axis, or one value before and one after it.
_BY_AXIS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0}


def _widen_transposed_convolutions(model: Any) -> None:
    """Let those over one axis go over a second one, of length one."""
    from onnx import helper, numpy_helper

    axes = "fluidaudio/second_axis"
    nodes, found = [], False
    for node in model.graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type != "ConvTranspose" or len(attributes.get("kernel_shape", ())) != 1:
            nodes.append(node)
            continue
        found = True
        for name, alone in _BY_AXIS.items():
            if name in attributes:
                attributes[name] = [alone, *attributes[name]]
        if "pads" in attributes:
            before, after = attributes["pads"]
            attributes["pads"] = [0, before, 0, after]
        x, weight, *bias = node.input
        result = node.output[0]
        wide = {name: f"{result}/{name}" for name in ("x", "weight", "result")}
        nodes += [
            helper.make_node("Unsqueeze", [x, axes], [wide["x"]]),
            helper.make_node("Unsqueeze", [weight, axes], [wide["weight"]]),
            helper.make_node(
                "ConvTranspose",
                [wide["x"], wide["weight"], *bias],
                [wide["result"]],
                node.name,
                **attributes,
            ),
            helper.make_node("Squeeze", [wide["result"], axes], [result]),
        ]
    if found:
        model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), axes))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
