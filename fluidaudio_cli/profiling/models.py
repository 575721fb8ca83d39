"""Operator times of the networks, in terms of their packages; peaks and Core ML's plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fluidaudio_cli.coreml.costs import OperationCost, operation_costs
from fluidaudio_cli.coreml.ir import Program
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.errors import FluidAudioError, HostError
from fluidaudio_cli.executors.base import CompiledModel, OperatorTime
from fluidaudio_cli.executors.compute_plan import model_plan
from fluidaudio_cli.executors.operator_origins import operator_layers
from fluidaudio_cli.executors.select import traits_of
from fluidaudio_cli.models.card import NARROW
from fluidaudio_cli.profiling.passes import Options, run_seconds
from fluidaudio_cli.profiling.records import (
    KindProfile,
    LayerProfile,
    ModelPlan,
    ModelProfile,
    PassCost,
    Peak,
    Unavailable,
)

# Runs with operator times on: enough that the first one's own costs thin out.
_RUNS = 3
_LONG_SECONDS = 3.0
_FLOAT_BYTES = {"bf16": 2, "fp16": 2}
_SOURCES = {
    "openvino": "OpenVINO's performance counters",
    "onnxruntime": "ONNX Runtime's profiler",
}

_NEVER_RUN = OperatorTime("", "", "", 0, 0.0)

Work = tuple[int, int]  # calls, items


def operator_pass(
    pipeline: Pipeline, profiled: Pipeline, path: Path, options: Options
) -> tuple[dict[str, tuple[OperatorTime, ...] | Unavailable], dict[str, Work], PassCost]:
    """Operator times and work per model over one run, and what measuring them costs.

    OpenVINO's times leave out a first run; ONNX Runtime's profile can be read only once, and
    holds it.
    """
    clock = StageClock()
    profiled.diarize(path, speakers=options.speakers, clock=clock)
    work = {
        name: (
            sum(span.stage == name for span in clock.spans()),
            sum(span.items for span in clock.spans() if span.stage == name),
        )
        for name in profiled.compiled
    }
    first = {}
    for name, model in profiled.compiled.items():
        found = () if _read_once(model) else _times(model)
        ran = () if isinstance(found, Unavailable) else found
        first[name] = {_label(each): each for each in ran}
    plain: list[float] = []
    measured: list[float] = []
    while len(measured) < _RUNS and (not measured or sum(plain) + sum(measured) < _LONG_SECONDS):
        plain.append(run_seconds(pipeline, path, options))
        measured.append(run_seconds(profiled, path, options))
    cost = PassCost.of_pairs("operator times", plain, measured)
    times: dict[str, tuple[OperatorTime, ...] | Unavailable] = {}
    for name, model in profiled.compiled.items():
        every = _times(model)
        if isinstance(every, Unavailable):
            times[name] = every
            continue
        runs = len(measured) + _read_once(model)
        rows = []
        for each in every:
            before = first[name].get(_label(each), _NEVER_RUN)
            calls, seconds = each.calls - before.calls, each.seconds - before.seconds
            rows.append(replace(each, calls=round(calls / runs), seconds=seconds / runs))
        times[name] = tuple(rows)
    return times, work, cost


def _label(each: OperatorTime) -> tuple[str, str, str]:
    return each.name, each.kind, each.kernel


def _read_once(model: CompiledModel) -> bool:
    """Whether operator times are read once, for all runs: the first cannot be taken off them."""
    return traits_of(model.ran.executor).operator_times_once


def _times(model: CompiledModel) -> tuple[OperatorTime, ...] | Unavailable:
    try:
        return tuple(model.operator_times())
    except FluidAudioError as error:
        return Unavailable(error.message)


def model_profile(
    name: str,
    model: CompiledModel,
    package: Path,
    times: Sequence[OperatorTime] | Unavailable,
    work: Work,
    peak: Peak | Unavailable,
) -> ModelProfile:
    """One network: its operators' times by layer of the package, and by kind."""
    ran = model.ran
    source = _SOURCES.get(ran.executor, ran.executor)
    if isinstance(times, Unavailable):
        return ModelProfile(name, ran.executor, ran.precision, times, (), 0.0, peak, source)
    program = read_program(package)
    costs = program_costs(program, _FLOAT_BYTES.get(ran.precision, 4))
    rows = program.main.inputs[0].type.shape[0]
    if isinstance(rows, int):
        # A fixed batch is computed whole, however few rows of it are asked for.
        calls, items = work
        predictions = max(calls, -(-items // rows))
        work = predictions, predictions
    origins = operator_layers(model, times, layer_names(program))
    layers = layer_profiles(name, times, origins, costs, work)
    total = sum(each.seconds for each in times)
    known = sum(layer.seconds for layer in layers if layer.op)
    return ModelProfile(
        name,
        ran.executor,
        ran.precision,
        layers,
        kind_profiles(layers),
        known / total if total else 0.0,
        peak,
        source,
    )


def layer_names(program: Program) -> dict[str, str]:
    """Operation by its own name and by those of its results, which executors use too."""
    names = {
        value.name: operation.name
        for operation in program.main.block.operations
        for value in operation.outputs
    }
    return names | {operation.name: operation.name for operation in program.main.block.operations}


def program_costs(program: Program, float_bytes: int) -> tuple[OperationCost, ...]:
    """Cost of every operation for one item, or for a batch where that is fixed."""
    flexible = {
        size for value in program.main.inputs for size in value.type.shape if isinstance(size, str)
    }
    return operation_costs(program, dict.fromkeys(flexible, 1), float_bytes)


def layer_profiles(
    model: str,
    times: Sequence[OperatorTime],
    origins: Mapping[str, Sequence[str]],
    costs: Sequence[OperationCost],
    work: Work,
) -> tuple[LayerProfile, ...]:
    """One profile per operation of the package, then those of the executor's own; slowest first.

    An operator fused from several layers counts for the one with most work.
    """
    calls, items = work
    by_name = {cost.name: cost for cost in costs}
    total = sum(each.seconds for each in times)
    own: dict[str, list[OperatorTime]] = {}
    for each in times:
        layers = [layer for layer in origins.get(each.name, ()) if layer in by_name]
        layer = max(layers, key=lambda name: by_name[name].flops) if layers else each.name
        own.setdefault(layer, []).append(each)
    rows = []
    for layer in dict.fromkeys((*by_name, *own)):
        operators = own.get(layer, [])
        cost = by_name.get(layer)
        seconds = sum(each.seconds for each in operators)
        rows.append(
            LayerProfile(
                model=model,
                layer=layer,
                op=cost.kind if cost else "",
                kernels=tuple(f"{each.kind} ({each.kernel})" for each in operators),
                calls=max((each.calls for each in operators), default=0),
                seconds=seconds,
                share=seconds / total if total else 0.0,
                flops=cost.flops * items if cost else 0,
                # Weights are read once per batch.
                moved_bytes=(cost.read_bytes + cost.written_bytes) * items
                + cost.weight_bytes * calls
                if cost
                else 0,
            )
        )
    return tuple(sorted(rows, key=lambda row: row.seconds, reverse=True))


def kind_profiles(layers: Sequence[LayerProfile]) -> tuple[KindProfile, ...]:
    """Layers summed by MIL type, slowest first; ``executor`` stands for its own operators."""
    groups: dict[str, list[LayerProfile]] = {}
    for layer in layers:
        groups.setdefault(layer.op or "executor", []).append(layer)
    rows = [
        KindProfile(
            own[0].model,
            op,
            len(own),
            sum(each.seconds for each in own),
            sum(each.share for each in own),
            sum(each.flops for each in own),
            sum(each.moved_bytes for each in own),
        )
        for op, own in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: row.seconds, reverse=True))


def measure_peaks(
    models: Mapping[str, CompiledModel], narrow: Collection[str], wanted: bool
) -> dict[str, Peak | Unavailable]:
    """For each model what this machine can do in its products with the threads of one call.

    ``narrow``: names of those in 8-bit integers.
    """
    if not wanted:
        return dict.fromkeys(models, Unavailable("not measured (--no-peaks)"))
    from fluidaudio_cli.executors.gemm_probe import PRODUCTS, products_of
    from fluidaudio_cli.measure.limits import measure_machine

    found: dict[tuple[str, str, int], Peak | Unavailable] = {}
    peaks: dict[str, Peak | Unavailable] = {}
    for name, model in models.items():
        ran = model.ran
        if not traits_of(ran.executor).says_device:
            peaks[name] = Unavailable(f"{ran.executor} does not say which processor it used")
            continue
        products = products_of(ran.executor, ran.precision, narrow=name in narrow)
        if (ran.executor, products) not in PRODUCTS:
            peaks[name] = Unavailable(f"products in {products} are not measured")
            continue
        threads = max(1, (ran.threads or 1) // ran.streams)
        key = (ran.executor, products, threads)
        if key not in found:
            try:
                machine = measure_machine((threads,), [(ran.executor, products)])
                found[key] = Peak(
                    products,
                    threads,
                    machine.flops_per_second(products, threads),
                    machine.bytes_per_second("cache", threads),
                )
            except HostError as error:
                found[key] = Unavailable(error.message)
        peaks[name] = found[key]
    return peaks


def narrow_networks(pipeline: Pipeline) -> list[str]:
    """Networks that run in 8-bit integers."""
    return [name for name, each in pipeline.plan.networks.items() if each.variant == NARROW]


def model_plans(models: Mapping[str, CompiledModel]) -> tuple[ModelPlan, ...]:
    """Core ML's plan of every model, or why there is none."""
    plans = []
    for name, model in models.items():
        try:
            plans.append(ModelPlan(name, model_plan(model)))
        except FluidAudioError as error:  # noqa: PERF203 - the other models still have theirs
            plans.append(ModelPlan(name, Unavailable(error.message)))
    return tuple(plans)
