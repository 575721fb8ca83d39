"""Take the LSTM layers that the kernel can run out of a lowered model.

What is left are two models: one from the inputs to the first layer, one from the last layer to
the outputs. The layers are found by structure, so that any package with such layers gains.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluidaudio_cli.executors.lstm.kernel import HIDDEN
from fluidaudio_cli.executors.lstm.layers import LstmLayer

# Batch first outside the layers, second inside.
_SWAP = [1, 0, 2]
# (steps, directions, batch, hidden) to (steps, batch, directions, hidden), which is then joined.
_DIRECTIONS_INWARD = [0, 2, 1, 3]


@dataclass(frozen=True)
class CutModel:
    """The parts of a model (ONNX): ``before`` gives one tensor, ``after`` takes one.

    Both tensors are (windows, steps, features).
    """

    before: Any
    layers: tuple[LstmLayer, ...]
    after: Any


def cut_at_lstm(model: Any) -> CutModel | None:
    """Cut ``model`` at its LSTM layers; None where it has none that the kernel can run.

    Needed: bidirectional layers of 128 units, each reading the one before, batch first outside,
    and nothing beside them that leads from the inputs to the outputs.
    """
    import onnx

    graph = _Graph(model)
    layers, entry, end = graph.stack()
    if not layers or not entry or not end:
        return None
    inputs = [port.name for port in model.graph.input]
    outputs = [port.name for port in model.graph.output]
    try:
        extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model))
        before = extractor.extract_model(inputs, [entry])
        after = extractor.extract_model([end], outputs)
    except (KeyError, ValueError):
        # The shape of a tensor at a cut is not known.
        return None
    if not _is_closed(after):
        return None
    return CutModel(before, tuple(graph.layer(node) for node in layers), after)


class _Graph:
    """The model's nodes by what they make and who reads it."""

    def __init__(self, model: Any) -> None:
        import onnx

        self._arrays = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self._nodes = list(model.graph.node)
        self._makers = {name: node for node in self._nodes for name in node.output}
        self._readers: dict[str, list[Any]] = {}
        self._uses: Counter[str] = Counter(port.name for port in model.graph.output)
        for node in self._nodes:
            # An input that is not given has the empty name.
            for name in filter(None, node.input):
                self._readers.setdefault(name, []).append(node)
                self._uses[name] += 1

    def stack(self) -> tuple[list[Any], str, str]:
        """Nodes of the first run of layers, and the batch-first tensors before and after it."""
        first = next((node for node in self._nodes if node.op_type == "LSTM"), None)
        if first is None:
            return [], "", ""
        layers, node, joined = [], first, ""
        while node is not None and self._fits(node):
            layers.append(node)
            joined = self._joined(node)
            readers = self._readers.get(joined, []) if self._uses[joined] == 1 else []
            node = next((reader for reader in readers if reader.op_type == "LSTM"), None)
        swap = self._makers.get(first.input[0])
        entry = swap.input[0] if swap is not None and _transposes(swap, _SWAP) else ""
        end = self._only_reader(joined) if joined else None
        return layers, entry, end.output[0] if end is not None and _transposes(end, _SWAP) else ""

    def layer(self, node: Any) -> LstmLayer:
        """Weights of a node of the stack."""
        return LstmLayer(node.name, *(self._arrays[name] for name in node.input[1:4]))

    def _fits(self, node: Any) -> bool:
        """Whether the kernel computes this LSTM: plain activations, no states, nothing cut."""
        attributes = {each.name: each for each in node.attribute}
        given = [name for name in node.input if name]
        return (
            set(attributes) == {"direction", "hidden_size"}
            and attributes["direction"].s == b"bidirectional"
            and attributes["hidden_size"].i == HIDDEN
            and len(given) == len(node.input) == 4
            and all(self._is_fp32(name) for name in given[1:])
            and not any(self._uses[name] for name in node.output[1:])
            and bool(self._joined(node))
        )

    def _is_fp32(self, name: str) -> bool:
        array = self._arrays.get(name)
        return array is not None and array.dtype == np.float32

    def _joined(self, node: Any) -> str:
        """The (steps, batch, 256) tensor made of a layer's two directions, or ""."""
        inward = self._only_reader(node.output[0])
        if inward is None or not _transposes(inward, _DIRECTIONS_INWARD):
            return ""
        joined = self._only_reader(inward.output[0])
        if joined is None or joined.op_type != "Reshape":
            return ""
        shape = self._arrays.get(joined.input[1])
        wanted = [0, 0, 2 * HIDDEN]
        return str(joined.output[0]) if shape is not None and list(shape) == wanted else ""

    def _only_reader(self, tensor: str) -> Any:
        readers = self._readers.get(tensor, [])
        return readers[0] if self._uses[tensor] == len(readers) == 1 else None


def _transposes(node: Any, order: list[int]) -> bool:
    return node.op_type == "Transpose" and [list(each.ints) for each in node.attribute] == [order]


def _is_closed(model: Any) -> bool:
    """Whether every tensor that is read is an input, a constant, or made inside."""
    known = {port.name for port in model.graph.input} | {t.name for t in model.graph.initializer}
    known |= {name for node in model.graph.node for name in node.output}
    return all(name in known for node in model.graph.node for name in node.input if name)
