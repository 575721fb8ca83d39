"""Work of each operation, counted from the program: operations on floats, and bytes moved.

Counts are of the arithmetic that the operation defines, not of how a runtime performs it: a
multiply-add is two operations, a transcendental function one, moving data none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from fluidaudio_cli.coreml.dtypes import FLOAT_TYPES, stored_bytes
from fluidaudio_cli.coreml.ir import Operation, Program, TensorType, Value
from fluidaudio_cli.coreml.ops import indexing, shaping
from fluidaudio_cli.errors import ModelFormatError, UsageError

Shape = tuple[int, ...]

# Bytes of a float at run time: fp32 unless said otherwise, because lowering widens fp16.
FLOAT_BYTES = 4

# Operations that compute nothing: all that change shape, order or place, and a few more.
_MOVES = frozenset({"cast", "fill", "fill_like", "one_hot", "pad", "range_1d", "select"}).union(
    shaping.TABLE, indexing.TABLE
)
# Operations per element of the result where it is not one.
_PER_ELEMENT = {
    "batch_norm": 2,
    "gelu": 4,
    "instance_norm": 8,
    "l2_norm": 3,
    "layer_norm": 8,
    "sigmoid": 4,
    "sigmoid_hard": 4,
    "silu": 5,
    "softmax": 5,
    "softplus": 3,
}


@dataclass(frozen=True)
class OperationCost:
    """One operation's work for one prediction.

    ``flops`` float operations; ``weight_bytes`` constants read, ``read_bytes`` and
    ``written_bytes`` activations, all as they lie in memory at run time.
    """

    kind: str
    name: str
    flops: int
    read_bytes: int
    written_bytes: int
    weight_bytes: int

    @property
    def moved_bytes(self) -> int:
        """All bytes read or written."""
        return self.read_bytes + self.written_bytes + self.weight_bytes


def operation_costs(
    program: Program, dims: Mapping[str, int] | None = None, float_bytes: int = FLOAT_BYTES
) -> tuple[OperationCost, ...]:
    """Cost of every operation of the main function, in order.

    ``dims`` gives the flexible sizes of the inputs by symbol (``{"batch": 32}``). Raises
    ``UsageError`` if one is missing, ``ModelFormatError`` if a size stays unknown.
    """
    shapes = _Shapes(program, dims or {})
    return tuple(
        _cost(operation, shapes, float_bytes) for operation in program.main.block.operations
    )


class _Shapes:
    """Shapes of all values for given input sizes."""

    def __init__(self, program: Program, dims: Mapping[str, int]) -> None:
        self._known: dict[Value, Shape] = {}
        flexible = False
        for value in program.main.inputs:
            sizes = []
            for size in value.type.shape:
                if isinstance(size, str) and size not in dims:
                    raise UsageError(f"the size '{size}' of input '{value.name}' is not given")
                flexible |= not isinstance(size, int)
                sizes.append(dims[size] if isinstance(size, str) else int(size or 0))
            self._known[value] = tuple(sizes)
        self._inferred = _inferred_shapes(program, dims) if flexible else {}

    def of(self, value: Value) -> Shape:
        """The shape of ``value``."""
        shape = self._known.get(value) or value.type.static_shape
        if shape is None:
            shape = self._inferred.get(value.name)
        if shape is None:
            raise ModelFormatError(f"the size of '{value.name}' cannot be derived")
        return shape

    def settle(self, operation: Operation) -> None:
        """Note the shapes of results that lowering does without, being the same tensor."""
        for value in operation.outputs:
            if value.type.static_shape is None and value.name not in self._inferred:
                if operation.kind in ("cast", "identity"):
                    self._known[value] = self.of(operation.inputs["x"][0])
                else:
                    # Not in the lowered graph: nobody needs the result.
                    self._known[value] = (0,) * max(1, value.type.rank)


def _inferred_shapes(program: Program, dims: Mapping[str, int]) -> dict[str, Shape]:
    import onnx

    from fluidaudio_cli.coreml.lower import lower_to_onnx

    model = lower_to_onnx(program)
    for info in model.graph.input:
        for size in info.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = dims[size.dim_param]
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {}
    for info in (*model.graph.value_info, *model.graph.output):
        sizes = info.type.tensor_type.shape.dim
        if all(size.HasField("dim_value") for size in sizes):
            shapes[info.name] = tuple(size.dim_value for size in sizes)
    return shapes


def _cost(operation: Operation, shapes: _Shapes, float_bytes: int) -> OperationCost:
    shapes.settle(operation)
    read = weights = 0
    for value in dict.fromkeys(v for values in operation.inputs.values() for v in values):
        if value.type.dtype == "string":
            continue
        size = _bytes(value.type, shapes.of(value), float_bytes)
        if value.is_constant:
            weights += size if value.type.rank else 0
        else:
            read += size
    written = sum(_bytes(v.type, shapes.of(v), float_bytes) for v in operation.outputs)
    return OperationCost(
        operation.kind, operation.name, _flops(operation, shapes), read, written, weights
    )


def _bytes(kind: TensorType, shape: Shape, float_bytes: int) -> int:
    count = prod(shape)
    return count * float_bytes if kind.dtype in FLOAT_TYPES else stored_bytes(kind.dtype, count)


def _flops(operation: Operation, shapes: _Shapes) -> int:
    counter = _COUNTERS.get(operation.kind)
    if counter is not None:
        return counter(operation, shapes)
    if operation.kind in _MOVES or not operation.outputs:
        return 0
    result = prod(shapes.of(operation.outputs[0]))
    if operation.kind.startswith("reduce_") or operation.kind in ("cumsum", "topk", "argsort"):
        return prod(_shape(operation, shapes, "x"))
    return result * _PER_ELEMENT.get(operation.kind, 1)


def _shape(operation: Operation, shapes: _Shapes, parameter: str) -> Shape:
    return shapes.of(operation.inputs[parameter][0])


def _result(operation: Operation, shapes: _Shapes) -> Shape:
    return shapes.of(operation.outputs[0])


def _conv(operation: Operation, shapes: _Shapes) -> int:
    # Kernel [out, in / groups, *sizes]: each result takes that many multiply-adds.
    result = prod(_result(operation, shapes))
    terms = 2 * prod(_shape(operation, shapes, "weight")[1:])
    return result * (terms + ("bias" in operation.inputs))


def _conv_transpose(operation: Operation, shapes: _Shapes) -> int:
    given = prod(_shape(operation, shapes, "x"))
    terms = 2 * prod(_shape(operation, shapes, "weight")[1:])
    bias = prod(_result(operation, shapes)) if "bias" in operation.inputs else 0
    return given * terms + bias


def _linear(operation: Operation, shapes: _Shapes) -> int:
    result = prod(_result(operation, shapes))
    return result * (2 * _shape(operation, shapes, "weight")[1] + ("bias" in operation.inputs))


def _matmul(operation: Operation, shapes: _Shapes) -> int:
    x = _shape(operation, shapes, "x")
    flag = operation.inputs.get("transpose_x")
    transposed = bool(flag and flag[0].data)
    inner = x[-2] if transposed and len(x) > 1 else x[-1]
    return 2 * prod(_result(operation, shapes)) * inner


def _einsum(operation: Operation, shapes: _Shapes) -> int:
    return 2 * prod(_result(operation, shapes)) * shapes.of(operation.inputs["values"][0])[-1]


def _attention(operation: Operation, shapes: _Shapes) -> int:
    query, key = _shape(operation, shapes, "query"), _shape(operation, shapes, "key")
    value = _shape(operation, shapes, "value")
    scores = prod(query[:-1]) * key[-2]
    softmax = _PER_ELEMENT["softmax"] * scores
    return 2 * scores * query[-1] + softmax + 2 * scores * value[-1]


def _pool(operation: Operation, shapes: _Shapes) -> int:
    window = operation.inputs["kernel_sizes"][0].data
    return prod(_result(operation, shapes)) * (1 if window is None else int(window.prod()))


def _recurrent(gates: int, per_unit: int) -> Callable[[Operation, _Shapes], int]:
    """``gates`` matrix rows per hidden unit, then ``per_unit`` element-wise operations."""

    def count(operation: Operation, shapes: _Shapes) -> int:
        steps, batch, width = _shape(operation, shapes, "x")
        hidden = _shape(operation, shapes, "weight_hh")[1]
        directions = 2 if "weight_hh_back" in operation.inputs else 1
        each = 2 * gates * (width + hidden) + per_unit
        return steps * batch * directions * hidden * each

    return count


_COUNTERS: dict[str, Callable[[Operation, _Shapes], int]] = {
    "avg_pool": _pool,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "einsum": _einsum,
    # Biases, gate functions, and the blend of old and new state.
    "gru": _recurrent(3, 3 + 3 + 5),
    "l2_pool": _pool,
    "linear": _linear,
    # Four biases, five gate functions, three products and a sum.
    "lstm": _recurrent(4, 4 + 5 + 4),
    "matmul": _matmul,
    "max_pool": _pool,
    "rnn": _recurrent(1, 2),
    "scaled_dot_product_attention": _attention,
}


def total_flops(costs: Sequence[OperationCost]) -> int:
    """Float operations of a whole prediction."""
    return sum(cost.flops for cost in costs)
