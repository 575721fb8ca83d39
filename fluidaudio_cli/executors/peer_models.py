"""The bundled networks as ONNX files that sherpa-onnx reads, for benchmarks against it.

sherpa-onnx takes what it must know of a network from the file's metadata; keys and values are
those of its own export scripts for pyannote segmentation and 3D-Speaker models. It feeds the
embedding network a crop of any length, one at a time, so that the graph, which in the package
stands for 200 frames, is given back its free length here, and with it the original's pooling
over segments of 100 steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.errors import ModelFormatError

SEGMENTATION_METADATA = {
    "model_type": "pyannote-segmentation-3.0",
    "version": "1",
    "num_speakers": "3",
    "powerset_max_classes": "2",
    "num_classes": "7",
    "sample_rate": "16000",
    "window_size": "160000",
    "receptive_field_size": "991",
    "receptive_field_shift": "270",
}
EMBEDDING_METADATA = {
    "framework": "3d-speaker",
    "language": "Chinese-English",
    "sample_rate": "16000",
    "output_dim": "192",
    # Features from samples scaled as 16-bit integers, like ours. sherpa-onnx's own exports of
    # 3D-Speaker scale to ±1, where quiet bands fall under the floor of the logarithm: on the
    # development meetings that costs it 0.8 to 1.6 points of error.
    "normalize_samples": "0",
    "feature_normalize_type": "global-mean",
}
# Steps per segment of CAM++'s context pooling (Wang et al. 2023), after the stride of 2.
SEGMENT_STEPS = 100
Constants = dict[str, npt.NDArray[np.generic]]

_FREE_LENGTH = "length"
_INDEX = "segment_of_step"


def write_sherpa_segmentation(package: Path, target: Path) -> None:
    """Write the segmentation package as ONNX (fp32) with sherpa-onnx's metadata."""
    model = lower_to_onnx(read_program(package))
    helper.set_model_props(model, SEGMENTATION_METADATA)
    target.write_bytes(model.SerializeToString())


def write_sherpa_embedding(
    package: Path, target: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write the embedding package as ONNX (fp32) of free length with sherpa-onnx's metadata.

    ``metadata`` replaces single entries of ``EMBEDDING_METADATA``.
    """
    model = free_length_embedding(lower_to_onnx(read_program(package)))
    helper.set_model_props(model, {**EMBEDDING_METADATA, **(metadata or {})})
    target.write_bytes(model.SerializeToString())


def free_length_embedding(model: onnx.ModelProto) -> onnx.ModelProto:
    """CAM++ on (batch, 200, 80) frames rewritten for (batch, any number, 80).

    Three things in the package's graph hold for 200 frames only and are replaced:

    - the context of each mask, twice the global mean, becomes the global mean plus the mean of
      the segment of 100 steps that a step lies in. The mask is computed once per segment and
      then spread over its steps, which gives the same numbers as spreading first;
    - the divisor of the variance, steps - 1;
    - the fixed length in the reshape that joins channels and frequency.

    Raises ``ModelFormatError`` if the graph is not of that form.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    shape = graph.input[0].type.tensor_type.shape
    shape.dim[1].dim_param = _FREE_LENGTH

    nodes: list[onnx.NodeProto] = []
    added: Constants = {}
    masks = 0
    for node in graph.node:
        if node.op_type == "Reshape" and constants[node.input[1]].size == 3:
            channels = int(constants[node.input[1]][1])
            added["joined_shape"] = np.array([0, channels, -1], np.int64)
            node.input[1] = "joined_shape"
        if _doubles_mean(node, constants, producer):
            mean = producer[node.input[0]]
            if not masks:
                nodes.extend(_segment_index(mean.input[0], added))
            masks += 1
            pooled = f"{node.output[0]}/segments"
            nodes.append(
                helper.make_node(
                    "AveragePool",
                    [mean.input[0]],
                    [pooled],
                    name=pooled,
                    kernel_shape=[SEGMENT_STEPS],
                    strides=[SEGMENT_STEPS],
                    ceil_mode=1,
                    count_include_pad=0,
                )
            )
            nodes.append(helper.make_node("Add", [mean.output[0], pooled], list(node.output)))
            continue
        if node.op_type == "Mul" and producer[node.input[0]].op_type == "ReduceSum":
            nodes.extend(_divisor(producer[node.input[0]].input[0], added))
            nodes.append(
                helper.make_node("Div", [node.input[0], "steps_less_one"], list(node.output))
            )
            continue
        nodes.append(node)
        if node.op_type == "Sigmoid":
            inner = f"{node.output[0]}/segments"
            spread = helper.make_node("Gather", [inner, _INDEX], [node.output[0]], axis=2)
            node.output[0] = inner
            nodes.append(spread)
    if not masks or "joined_shape" not in added or "one" not in added:
        raise ModelFormatError(
            "the embedding package is not the CAM++ graph that sherpa-onnx's form is made from",
            "reinstall fluidaudio",
        )
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(data, name) for name, data in added.items())
    _drop_unused(graph)
    onnx.checker.check_model(result)
    return result


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _doubles_mean(
    node: onnx.NodeProto, constants: Constants, producer: dict[str, onnx.NodeProto]
) -> bool:
    """Whether ``node`` is twice a mean over time: the context of a mask."""
    if node.op_type != "Mul" or node.input[1] not in constants:
        return False
    factor, source = constants[node.input[1]], producer.get(node.input[0])
    return (
        factor.size == 1
        and float(factor.reshape(())) == 2.0
        and source is not None
        and source.op_type == "ReduceMean"
    )


def _segment_index(hidden: str, added: Constants) -> list[onnx.NodeProto]:
    """Nodes that number the segment of each step of ``hidden`` (batch, channels, steps)."""
    added["first"], added["next"] = np.array(0, np.int64), np.array(1, np.int64)
    added["segment_steps"] = np.array(SEGMENT_STEPS, np.int64)
    return [
        helper.make_node("Shape", [hidden], ["steps_1d"], start=2, end=3),
        helper.make_node("Squeeze", ["steps_1d"], ["steps"]),
        helper.make_node("Range", ["first", "steps", "next"], ["step"]),
        helper.make_node("Div", ["step", "segment_steps"], [_INDEX]),
    ]


def _divisor(values: str, added: Constants) -> list[onnx.NodeProto]:
    """Nodes for the number of steps of ``values`` (batch, channels, steps), less one."""
    added["one"] = np.array([1.0], np.float32)
    return [
        helper.make_node("Shape", [values], ["summed_steps"], start=2, end=3),
        helper.make_node(
            "Cast", ["summed_steps"], ["summed_steps_fp32"], to=onnx.TensorProto.FLOAT
        ),
        helper.make_node("Sub", ["summed_steps_fp32", "one"], ["steps_less_one"]),
    ]
