"""What a package holds, without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fluidaudio_cli.coreml.dtypes import FLOAT_TYPES
from fluidaudio_cli.coreml.ir import Feature, Function, Program, Value, iterate_operations
from fluidaudio_cli.coreml.package import package_sha256, read_program
from fluidaudio_cli.errors import ModelFormatError
from fluidaudio_cli.files import folder_bytes

# Constants given to these parameters are where a computation starts, not what was learned.
_NOT_LEARNED = frozenset({"initial_h", "initial_c", "epsilon", "constant_val"})


@dataclass(frozen=True)
class PackageReport:
    """Facts about one package. Sizes in bytes; counts are of the main function.

    ``operations`` counts MIL operations by kind, constants not included. ``compute`` counts
    operations by the float type of their result (other results are left out), ``weights``
    parameters by how they are stored (``fp16``, ``int8 affine``, ``uint4 palette`` ...).
    ``function`` is the one described, of ``functions``. ``unsupported`` lists operation kinds
    without a counterpart off the Mac; ``refusal`` is why the lowering refuses the function, for
    whatever reason, or ``None``: it runs there.
    """

    path: str
    kind: str
    sha256: str
    size_bytes: int
    specification_version: int
    opset: str
    function: str
    functions: tuple[str, ...]
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[Feature, ...]
    metadata: Mapping[str, str]
    operations: Mapping[str, int]
    compute: Mapping[str, int]
    weights: Mapping[str, int]
    parameters: int
    slice_by_index: int
    unsupported: tuple[str, ...]
    refusal: str | None

    def as_dict(self) -> dict[str, Any]:
        """The report as plain types for JSON."""
        plain = asdict(self)
        for key in ("inputs", "outputs", "states"):
            plain[key] = [
                {
                    "name": feature.name,
                    "kind": feature.kind,
                    "dtype": feature.type.dtype,
                    "shape": list(feature.type.shape),
                    "ranges": [list(one) for one in feature.ranges],
                    "description": feature.description,
                }
                for feature in getattr(self, key)
            ]
        return plain


def inspect_package(path: Path, function: str | None = None) -> PackageReport:
    """Read the package at ``path`` and report on ``function``, or its default one.

    Raises ``ModelFormatError`` if it cannot be read or has no such function.
    """
    from fluidaudio_cli.coreml.ops import LOWERINGS

    program = read_program(path, function)
    operations = list(iterate_operations(program.main.block))
    kinds = Counter(operation.kind for operation in operations)
    compute = Counter(
        operation.outputs[0].type.dtype
        for operation in operations
        if operation.outputs and operation.outputs[0].type.dtype in FLOAT_TYPES
    )
    weights: Counter[str] = Counter()
    for value in parameters(program.main):
        if value.data is not None:
            weights[value.storage] += value.data.size
    return PackageReport(
        path=str(path),
        kind="mlmodelc" if (path / "model.mil").is_file() else "mlpackage",
        sha256=package_sha256(path),
        size_bytes=folder_bytes(path),
        specification_version=program.specification_version,
        opset=program.main.opset,
        function=program.main.name,
        functions=tuple(program.functions),
        inputs=program.inputs,
        outputs=program.outputs,
        states=program.states,
        metadata=dict(program.metadata),
        operations=dict(kinds.most_common()),
        compute=dict(compute.most_common()),
        weights=dict(weights.most_common()),
        parameters=sum(weights.values()),
        slice_by_index=kinds["slice_by_index"],
        unsupported=tuple(kind for kind in kinds if kind not in LOWERINGS),
        refusal=_refusal(program),
    )


def _refusal(program: Program) -> str | None:
    """What the lowering itself says: it alone knows parameters, types and edges."""
    from fluidaudio_cli.coreml.lower import lower_to_onnx

    try:
        lower_to_onnx(program)
    except ModelFormatError as error:
        return error.message
    return None


def parameters(function: Function) -> Iterator[Value]:
    """The learned constants of a function, each once: float tensors of at least one axis."""
    seen: set[int] = set()
    for operation in iterate_operations(function.block):
        for parameter, values in operation.inputs.items():
            for value in values:
                learned = value.type.dtype in FLOAT_TYPES and value.type.rank > 0
                if learned and parameter not in _NOT_LEARNED and id(value) not in seen:
                    seen.add(id(value))
                    if value.is_constant:
                        yield value
