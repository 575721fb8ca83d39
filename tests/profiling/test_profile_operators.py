"""Operators in terms of the package: mapping, work and sums; then on real executors."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.coreml.costs import OperationCost
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.executors.base import ExecutorOptions, OperatorTime
from fluidaudio_cli.executors.gemm_probe import GemmPeak
from fluidaudio_cli.executors.select import select_executor
from fluidaudio_cli.measure import limits
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.profiling.models import (
    kind_profiles,
    layer_names,
    layer_profiles,
    measure_peaks,
    model_profile,
)
from fluidaudio_cli.profiling.records import Peak, Unavailable

COSTS = (
    OperationCost("conv", "conv_1", 1000, 40, 60, 200),
    OperationCost("relu", "relu_1", 10, 60, 60, 0),
    OperationCost("lstm", "lstm_1", 5000, 60, 20, 400),
)
TIMES = (
    OperatorTime("LSTMSequence_9", "LSTMSequence", "ref", 2, 0.3),
    OperatorTime("LSTMSequence_8", "LSTMSequence", "ref", 2, 0.3),
    OperatorTime("conv_1", "Convolution", "amx", 2, 0.3),
    OperatorTime("Reorder_3", "Reorder", "jit", 4, 0.1),
)
ORIGINS = {
    "LSTMSequence_9": ("lstm_1",),
    "LSTMSequence_8": ("lstm_1",),
    "conv_1": ("relu_1", "conv_1"),
}


def test_layers_by_hand() -> None:
    layers = layer_profiles("net", TIMES, ORIGINS, COSTS, work=(2, 8))
    rows = {row.layer: row for row in layers}
    assert [row.layer for row in layers] == ["lstm_1", "conv_1", "Reorder_3", "relu_1"]
    assert rows["lstm_1"].seconds == pytest.approx(0.6)
    assert rows["lstm_1"].share == pytest.approx(0.6)
    assert rows["lstm_1"].kernels == ("LSTMSequence (ref)", "LSTMSequence (ref)")
    # A fused operator counts for the layer with most work; the other took no time of its own.
    assert (rows["conv_1"].seconds, rows["relu_1"].seconds) == (0.3, 0.0)
    # 8 items of activations, weights once for each of 2 calls.
    assert rows["conv_1"].moved_bytes == 8 * 100 + 2 * 200
    assert rows["conv_1"].flops_per_second == pytest.approx(8000 / 0.3)
    assert (rows["Reorder_3"].op, rows["Reorder_3"].flops) == ("", 0)


def test_kinds_sum_their_layers() -> None:
    kinds = {
        kind.op: kind
        for kind in kind_profiles(layer_profiles("net", TIMES, ORIGINS, COSTS, work=(2, 8)))
    }
    assert list(kinds) == ["lstm", "conv", "executor", "relu"]
    assert (kinds["lstm"].operations, kinds["lstm"].flops) == (1, 40_000)
    assert kinds["executor"].share == pytest.approx(0.1)


def test_results_are_known_by_their_names_too() -> None:
    program = read_program(bundled_models()["fbank"].package)
    last = program.main.block.operations[-1]
    names = layer_names(program)
    assert names[last.outputs[0].name] == last.name
    assert names[last.name] == last.name


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_every_operator_of_segmentation_is_mapped(name: str) -> None:
    executor = select_executor(name)
    if not executor.availability().ok:
        pytest.skip(executor.availability().reason)
    bundled = bundled_models()["segmentation"]
    model = executor.load(bundled.package, ExecutorOptions(precision="fp32", profile=True))
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 1, 160_000)).astype(np.float32)
    model.request().run({"audio": noise})
    found = model_profile(
        "segmentation", model, bundled.package, model.operator_times(), (1, 1), Unavailable("no")
    )
    model.close()
    assert not isinstance(found.layers, Unavailable)
    products = [layer for layer in found.layers if layer.op in {"conv", "linear"}]
    assert len(products) == 6
    assert all(layer.seconds > 0 for layer in products)
    lstm = [layer for layer in found.layers if layer.op == "lstm" and layer.seconds > 0]
    assert len(lstm) == 4
    # Both directions of each, by the executor's own count of operators.
    if name == "openvino":
        assert [sum(k.startswith("LSTMSequence") for k in each.kernels) for each in lstm] == [2] * 4
    # 2.65 GFLOP for a window, as counted from the package.
    assert sum(layer.flops for layer in found.layers) == pytest.approx(2.654e9, rel=0.01)


def test_model_without_operator_times_says_why() -> None:
    executor = select_executor("onnxruntime")
    package = bundled_models()["fbank"].package
    model = executor.load(package, ExecutorOptions(precision="fp32"))
    unknown = Unavailable("not recorded"), (1, 1), Unavailable("no")
    found = model_profile("fbank", model, package, *unknown)
    assert str(found.layers) == "unavailable: not recorded"
    assert measure_peaks({"fbank": model}, (), wanted=False) == {
        "fbank": Unavailable("not measured (--no-peaks)")
    }
    model.close()


def test_a_network_in_integers_is_held_against_their_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"bf16": 200e9, "int8": 400e9}

    def measured(threads: tuple[int], products: Sequence[tuple[str, str]]) -> limits.MachinePeaks:
        ((name, precision),) = products
        return limits.MachinePeaks(
            (GemmPeak(name, precision, *threads, rates[precision], 0.0),), ()
        )

    monkeypatch.setattr(limits, "measure_machine", measured)
    ran = SimpleNamespace(executor="openvino", precision="bf16", threads=2, streams=2)
    models: Any = dict.fromkeys(("segmentation", "embedding"), SimpleNamespace(ran=ran))
    assert measure_peaks(models, ["embedding"], wanted=True) == {
        "segmentation": Peak("bf16", 1, 200e9, None),
        "embedding": Peak("int8", 1, 400e9, None),
    }
