"""Which layers of a package an executor's operators come from.

OpenVINO keeps, in the graph it executes, the names of what each operator was made of; operators
that it adds itself (conversions, the two directions of an LSTM) have none, and belong to the
layer whose result they help to compute: the nearest one after them in that graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fluidaudio_cli.executors.base import CompiledModel, OperatorTime

_NAMES = "originalLayersNames"


def operator_layers(
    model: CompiledModel, operators: Collection[OperatorTime], layers: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Layers by operator name, the first reading the input; absent where none is known.

    ``layers``: the package's operation by every name that an executor may know it by. Without
    the executor's graph the operators' own names are all there is to go by.
    """
    found: dict[str, tuple[str, ...]] = {}
    for part in _parts(model):
        found.update(_graph_layers(getattr(part, "compiled", None), layers))
    for operator in operators:
        if operator.name not in found and operator.layer in layers:
            found[operator.name] = (layers[operator.layer],)
    return found


def _parts(model: CompiledModel) -> Iterator[CompiledModel]:
    """The models that a runtime holds, of which ``model`` is made."""
    inner: tuple[CompiledModel, ...] = getattr(model, "parts", ())
    if not inner:
        yield model
    for part in inner:
        yield from _parts(part)


def _graph_layers(compiled: Any, layers: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    if compiled is None or not hasattr(compiled, "get_runtime_model"):
        return {}
    try:
        nodes = list(compiled.get_runtime_model().get_ordered_ops())
    except RuntimeError:  # an imported model of a version without its graph
        return {}
    found: dict[str, tuple[str, ...]] = {}
    # From the end to the start, so that what follows a node is known before it.
    for node in reversed(nodes):
        own = _own_layers(node, layers)
        found[node.get_friendly_name()] = own or _following(node, found)
    return {name: own for name, own in found.items() if own}


def _own_layers(node: Any, layers: Mapping[str, str]) -> tuple[str, ...]:
    info: Mapping[str, Any] = node.get_rt_info()
    if _NAMES not in info:
        return ()
    entry = info[_NAMES]
    names = str(getattr(entry, "value", entry)).split(",")
    own = dict.fromkeys(layers.get(name.split("/", 1)[0], "") for name in names)
    return tuple(layer for layer in own if layer)


def _following(node: Any, found: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    for output in node.outputs():
        for target in output.get_target_inputs():
            layers = found.get(target.get_node().get_friendly_name())
            if layers:
                # The first layer of a fused operator reads the input; the others follow.
                return layers[:1]
    return ()
