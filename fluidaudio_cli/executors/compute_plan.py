"""Core ML's plan for a model: which processor each operation is to run on, at what cost.

``MLComputePlan`` is made without running the model: an estimate by Core ML, not a measurement. See
coremltools, "MLComputePlan".
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import Any

from fluidaudio_cli.coreml.ir import iterate_operations
from fluidaudio_cli.errors import ExecutorUnavailableError, HostError
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.executors.coreml import UNITS

# coremltools' classes of processors.
_DEVICES = {
    "MLCPUComputeDevice": "CPU",
    "MLGPUComputeDevice": "GPU",
    "MLNeuralEngineComputeDevice": "Neural Engine",
}
UNPLANNED = "none"


@dataclass(frozen=True)
class PlannedOperation:
    """One operation: where it is planned, where it could run, its estimated share of the time.

    ``device`` is ``none`` and ``cost`` ``None`` for what Core ML does not run (constants).
    """

    layer: str
    op: str
    device: str
    supported: tuple[str, ...]
    cost: float | None


def model_plan(model: CompiledModel) -> tuple[PlannedOperation, ...]:
    """The plan of a loaded model in the order of its operations, for the compute units it may use.

    Raises ``ExecutorUnavailableError`` off macOS and for another executor's model, ``HostError``
    when Core ML cannot plan it.
    """
    if sys.platform != "darwin":
        raise ExecutorUnavailableError(
            f"MLComputePlan is part of macOS, and this is {platform.system()}"
        )
    compiled = getattr(getattr(model, "inner", model), "compiled_path", None)
    if compiled is None:
        raise ExecutorUnavailableError(
            f"MLComputePlan is Core ML's, and this ran on {model.ran.executor}"
        )
    import coremltools
    from coremltools.models.compute_plan import MLComputePlan

    units = getattr(coremltools.ComputeUnit, UNITS[model.asked.compute_units])
    try:
        plan = MLComputePlan.load_from_path(str(compiled), compute_units=units)
    except Exception as error:  # what the native module throws has no common base
        reason = " ".join(str(error).split())
        raise HostError(f"Core ML cannot plan {compiled}: {reason}") from error
    return read_plan(plan)


def read_plan(plan: Any) -> tuple[PlannedOperation, ...]:
    """What a ``coremltools.models.compute_plan.MLComputePlan`` says of the main function."""
    program = plan.model_structure.program
    if program is None:
        raise HostError("Core ML plans operations of ML Programs only, and this is none")
    main = program.functions["main"].block
    return tuple(_planned(plan, operation) for operation in iterate_operations(main))


def _planned(plan: Any, operation: Any) -> PlannedOperation:
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    outputs = operation.outputs
    return PlannedOperation(
        layer=outputs[0].name if outputs else "",
        # Core ML prefixes the opset, as in ``ios18.conv``.
        op=operation.operator_name.rsplit(".", 1)[-1],
        device=UNPLANNED if usage is None else _device(usage.preferred_compute_device),
        supported=()
        if usage is None
        else tuple(_device(each) for each in usage.supported_compute_devices),
        cost=None if cost is None else float(cost.weight),
    )


def _device(device: Any) -> str:
    name = type(device).__name__
    return _DEVICES.get(name, name)
