"""Core ML's plan, read through coremltools' own records; Apple's side is not here."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from fluidaudio_cli.errors import ExecutorUnavailableError, HostError
from fluidaudio_cli.executors.compute_plan import PlannedOperation, model_plan, read_plan
from fluidaudio_cli.profiling.records import ModelPlan, Unavailable


class MLCPUComputeDevice:
    pass


class MLNeuralEngineComputeDevice:
    pass


class Plan:
    """As ``MLComputePlan``: a structure, and two questions for each operation."""

    def __init__(self, program: Any) -> None:
        self.model_structure = SimpleNamespace(program=program)

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        return operation.usage

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        return operation.cost


def operation(kind: str, name: str, device: Any, cost: float | None) -> Any:
    usage = device and SimpleNamespace(
        preferred_compute_device=device(), supported_compute_devices=[MLCPUComputeDevice()]
    )
    return SimpleNamespace(
        operator_name=kind,
        outputs=[SimpleNamespace(name=name)],
        blocks=[],
        usage=usage,
        cost=None if cost is None else SimpleNamespace(weight=cost),
    )


def test_plan_by_hand() -> None:
    block = SimpleNamespace(
        operations=[
            operation("const", "w", None, None),
            operation("ios18.conv", "x", MLNeuralEngineComputeDevice, 0.75),
            operation("ios18.lstm", "y", MLCPUComputeDevice, 0.25),
        ]
    )
    found = read_plan(Plan(SimpleNamespace(functions={"main": SimpleNamespace(block=block)})))
    assert found == (
        PlannedOperation("w", "const", "none", (), None),
        PlannedOperation("x", "conv", "Neural Engine", ("CPU",), 0.75),
        PlannedOperation("y", "lstm", "CPU", ("CPU",), 0.25),
    )
    assert ModelPlan("net", found).neural_engine_share == pytest.approx(0.75)
    assert ModelPlan("net", Unavailable("no")).neural_engine_share is None


def test_only_ml_programs_have_operations() -> None:
    with pytest.raises(HostError, match="plans operations of ML Programs only"):
        read_plan(Plan(None))


@pytest.mark.skipif(sys.platform == "darwin", reason="what is said off the Mac")
def test_off_the_mac_it_says_so() -> None:
    with pytest.raises(ExecutorUnavailableError, match=r"MLComputePlan is part of macOS, and this"):
        model_plan(SimpleNamespace())
