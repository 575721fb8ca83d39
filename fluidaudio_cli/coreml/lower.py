"""Lowering of the MIL intermediate representation to ONNX.

Each MIL operation becomes one or a few ONNX nodes. The node that yields the first output bears
the operation's name, helpers ``name/Kind_n``; all carry ``mil.op`` and ``mil.name`` in their
``metadata_props``, and tensors keep their MIL names, so that a profile of the ONNX graph can be
read in terms of the package.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from fluidaudio_cli.coreml.graph import NARROW_TYPES, FloatType, Graph, Lowering, Node, rename
from fluidaudio_cli.coreml.ir import Block, Function, Operation, Program, Value
from fluidaudio_cli.coreml.ops import LOWERINGS
from fluidaudio_cli.errors import ModelFormatError

# Opset 20 has GELU and the corrected ceil mode of pooling; IR version 10 has node metadata. Both
# runtimes support them since well before the oldest versions that pyproject allows.
OPSET = 20
IR_VERSION = 10
PRODUCER = "fluidaudio"

_REMEDY = "run this package with Core ML on a Mac, or convert the model without it"
# Smaller constants may be shapes and axes, which the check looks at.
_CHECKED_WEIGHT_BYTES = 4096
# Operations through which a tensor of one repeated number stays one.
_KEEP_UNIFORM = frozenset(
    {
        "cast",
        "concat",
        "expand_dims",
        "identity",
        "reshape",
        "slice_by_index",
        "slice_by_size",
        "split",
        "squeeze",
        "stack",
        "tile",
        "transpose",
    }
)
# Operations that leave the numbers as they are.
_REARRANGE = frozenset({"expand_dims", "identity", "reshape", "squeeze", "transpose"})


def lower_to_onnx(program: Program, float_type: FloatType = "fp32") -> onnx.ModelProto:
    """An ONNX model that computes what the program's main function does.

    ``float_type`` ``fp32`` widens every fp16 tensor, so that an executor is free to choose its
    own precision; ``fp16`` keeps the types of the program. Flexible sizes of inputs stay
    symbolic (``dim_param``). int32 inputs and outputs keep their type.

    Raises ``ModelFormatError`` naming the operation, and where it stands, if the program uses
    an operation or parameter without a counterpart, an image input, or a state.
    """
    for feature in (*program.inputs, *program.states):
        if feature.kind != "tensor":
            raise ModelFormatError(
                f"input '{feature.name}' is of kind {feature.kind}, which is not supported",
                _REMEDY,
            )
    function = program.main
    graph = Graph(float_type)
    edge = _Edge(graph, function)
    inputs = edge.inputs()
    _lower_block(graph, function.block, function.name)
    outputs = edge.outputs()
    nodes = _reachable(graph.nodes, {one.name for one in outputs})
    used = {name for node in nodes for name in node.inputs}
    model = helper.make_model(
        helper.make_graph(
            [node.to_onnx() for node in nodes],
            function.name,
            inputs,
            outputs,
            graph.initializers(used),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
    helper.set_model_props(model, {"mil.opset": function.opset, "mil.float_type": float_type})
    _check(model)
    return model


def _check(model: onnx.ModelProto) -> None:
    """Refuse a graph that runtimes would refuse: types and shapes that do not fit each other."""
    from onnx import checker, shape_inference

    # Large weights are declared as inputs: their content does not matter here, and a model with
    # more than 2 GB cannot be checked.
    try:
        checker.check_model(_without_weights(model), full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())
        raise ModelFormatError(f"the lowered graph is not valid ({reason})", _REMEDY) from error


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = model.graph
    large = [one for one in graph.initializer if len(one.raw_data) > _CHECKED_WEIGHT_BYTES]
    names = {one.name for one in large}
    declared = [
        helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in large
    ]
    return helper.make_model(
        helper.make_graph(
            graph.node,
            graph.name,
            [*graph.input, *declared],
            graph.output,
            [one for one in graph.initializer if one.name not in names],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )


class _Edge:
    """Inputs and outputs of the model, which keep the integers that are int64 inside."""

    def __init__(self, graph: Graph, function: Function) -> None:
        self._graph = graph
        self._function = function

    def inputs(self) -> list[onnx.ValueInfoProto]:
        infos = []
        for value in self._function.inputs:
            if value.type.dtype.startswith("state"):
                raise ModelFormatError(f"input '{value.name}' is a state", _REMEDY)
            infos.append(self._info(value))
            name, inside = value.name, self._graph.onnx_type(value.type.dtype)
            if self._type(value) != inside:
                name = f"{value.name}/inside"
                self._add("Cast", value.name, name, {"to": inside})
            self._graph.bind(value, name)
        return infos

    def outputs(self) -> list[onnx.ValueInfoProto]:
        infos = []
        for value in self._function.block.outputs:
            if value in self._function.inputs:
                # Runtimes tell tensors by name: OpenVINO would read the output's memory for it.
                raise ModelFormatError(f"input '{value.name}' is an output, too", _REMEDY)
            source, kind = self._graph.name_of(value), self._type(value)
            same_type = kind == self._graph.onnx_type(value.type.dtype)
            if source != value.name or not same_type or source in self._graph.constants:
                # A constant, an alias of another tensor, or of another type inside: the output
                # is made of it, under the name that it alone has.
                if source == value.name or value.name in self._graph.constants:
                    self._graph.rename(value.name, f"{value.name}/inside")
                    source = self._graph.name_of(value)
                attributes = {} if same_type else {"to": kind}
                self._add("Identity" if same_type else "Cast", source, value.name, attributes)
            infos.append(self._info(value))
        return infos

    def _type(self, value: Value) -> int:
        """ONNX type at the edge."""
        inside: int = self._graph.onnx_type(value.type.dtype)
        if inside != TensorProto.INT64:
            return inside
        return int(NARROW_TYPES.get(value.type.dtype, TensorProto.INT32))

    def _info(self, value: Value) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(value.name, self._type(value), list(value.type.shape))

    def _add(self, kind: str, source: str, target: str, attributes: dict[str, int]) -> None:
        operation = Operation(kind.lower(), target, {}, ())
        self._graph.nodes.append(
            Node(kind, [source], [target], dict(attributes), operation, f"{target}/{kind}")
        )


def _lower_block(graph: Graph, block: Block, where: str) -> None:
    for index, operation in enumerate(block.operations):
        place = f"operation {index + 1} of {len(block.operations)} in '{where}'"
        lowering = LOWERINGS.get(operation.kind)
        if lowering is None:
            raise ModelFormatError(f"{operation} ({place}) is not supported", _REMEDY)
        work = Lowering(graph, operation)
        try:
            results = lowering(work)
        except ModelFormatError as error:
            raise ModelFormatError(f"{error.message} ({place})", _REMEDY) from error
        except (LookupError, ArithmeticError, ValueError, TypeError) as error:
            raise ModelFormatError(
                f"{operation} ({place}) has parameters that do not fit: {error}", _REMEDY
            ) from error
        _finish(graph, work, (results,) if isinstance(results, str) else tuple(results))
        _track_uniform(graph, operation)
        _track_origin(graph, operation)


def _finish(graph: Graph, work: Lowering, results: tuple[str, ...]) -> None:
    """Give results their MIL names and nodes theirs; add the nodes to the graph."""
    operation = work.operation
    own = {name for node in work.nodes for name in node.outputs}
    renamed: dict[str, str] = {}
    for value, result in zip(operation.outputs, results, strict=False):
        if result in own and result not in renamed:
            renamed[result] = value.name
        graph.bind(value, renamed.get(result, result))
    rename(work.nodes, renamed)
    for node in work.nodes:
        main = bool(operation.outputs) and operation.outputs[0].name in node.outputs
        node.name = operation.name if main else node.outputs[0]
    graph.nodes.extend(work.nodes)


def _track_uniform(graph: Graph, operation: Operation) -> None:
    """Record outputs known to hold one number throughout (their size may still be unknown)."""
    if operation.kind in ("fill", "fill_like"):
        value = operation.inputs.get("value")
        numbers = {0.0} if not value else {_uniform(graph, value[0])}
    elif operation.kind in _KEEP_UNIFORM:
        data = (operation.inputs.get(key, ()) for key in ("x", "values"))
        numbers = {_uniform(graph, value) for values in data for value in values}
    else:
        return
    if len(numbers) == 1 and (number := numbers.pop()) is not None:
        graph.uniform.update(dict.fromkeys(operation.outputs, number))


def _track_origin(graph: Graph, operation: Operation) -> None:
    if operation.kind in _REARRANGE:
        source = operation.inputs["x"][0]
        graph.origins[operation.outputs[0]] = graph.origins.get(source, source)


def _uniform(graph: Graph, value: Value) -> float | None:
    if value.data is None:
        return graph.uniform.get(value)
    if value.type.dtype == "string" or value.data.size == 0:
        return None
    first = value.data.reshape(-1)[0]
    return float(first) if np.all(value.data == first) else None


def _reachable(nodes: list[Node], wanted: set[str]) -> list[Node]:
    """The nodes, in order, that the wanted tensors depend on."""
    needed = set(wanted)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]
