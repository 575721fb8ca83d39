"""How close each network comes to what this machine can do (Williams et al., CACM 2009).

The machine's limits are measured, the networks' work is counted from their packages, and the
time is the benchmark's. A stage takes at least as long as its arithmetic at the peak of the
products, as moving every operation's operands and results at the cache's bandwidth, and as moving
what no cache can keep (weights, the network's input and output) at the memory's: the longest of
the three binds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fluidaudio_cli.benchmark.results import CellRecord, RooflineRecord, StageSample
from fluidaudio_cli.executors.gemm_probe import products_of
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.measure.limits import MachinePeaks
from fluidaudio_cli.models.card import BUNDLED, NARROW, load_card

Bound = Literal["compute", "cache bandwidth", "memory bandwidth"]

_FLOAT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
_FREE_DIMENSION = "batch"


@dataclass(frozen=True)
class NetworkWork:
    """Work of one item (a window, a block, a crop) when run in batches of ``batch``.

    ``moved_bytes`` counts every operation's operands and results, as if none was fused into the
    next: an upper bound. ``least_bytes`` counts the network's own input and output and its
    weights once per batch: what no implementation can avoid.
    """

    flops: float
    moved_bytes: float
    least_bytes: float
    batch: int


@dataclass(frozen=True)
class StageLoad:
    """A measured stage: busy seconds of ``items`` items of a network, as the pipeline ran it.

    ``busy_seconds`` is summed over workers, so that ``threads`` is what one call can use: all of
    the model's threads over its streams.
    """

    stage: str
    busy_seconds: float
    items: int
    precision: str
    threads: int
    batch: int


def network_work(package: Path, batch: int, precision: str = "fp32") -> NetworkWork:
    """Work per item of a network in batches of ``batch``, or of the size that is fixed in it."""
    from fluidaudio_cli.coreml.costs import operation_costs, total_flops
    from fluidaudio_cli.coreml.package import read_program

    program = read_program(package)
    fixed = program.main.inputs[0].type.shape[0]
    batch = fixed if isinstance(fixed, int) else batch
    width = _FLOAT_BYTES[precision]
    costs = operation_costs(program, {_FREE_DIMENSION: batch}, width)
    edge = costs[0].read_bytes + costs[-1].written_bytes
    weights = sum(cost.weight_bytes for cost in costs)
    return NetworkWork(
        flops=total_flops(costs) / batch,
        moved_bytes=sum(cost.moved_bytes for cost in costs) / batch,
        least_bytes=(edge + weights) / batch,
        batch=batch,
    )


def roofline_records(
    cells: Sequence[CellRecord], peaks: MachinePeaks
) -> tuple[RooflineRecord, ...]:
    """The networks of every cell of this program, in the median pass of its longest audio.

    Their ``precision`` is that of their products.
    """
    records: list[RooflineRecord] = []
    for cell in cells:
        if cell.cell.program or not cell.finished:
            continue
        card = load_card(str(cell.plan.get("models", BUNDLED)))
        longest = max(cell.finished, key=lambda each: each.audio_seconds)
        by_time = sorted(longest.iterations, key=lambda sample: sample.wall_seconds)
        stages = by_time[(len(by_time) - 1) // 2].stages
        runs = {name: run["ran"] for name, run in cell.executors.items()}
        loads = stage_loads(stages, runs)  # type: ignore[arg-type]
        networks: Mapping[str, Any] = cell.plan.get("networks") or {}  # type: ignore[assignment]
        variants = {role: str(each["variant"]) for role, each in networks.items()}
        for each in (load for load in loads if load.stage in card.networks):
            variant = variants.get(each.stage, "")
            package = card.packages[f"{variant} {each.stage}".strip()]
            work = network_work(package, each.batch, each.precision)
            ran = runs[each.stage]["executor"]  # type: ignore[index,call-overload]
            products = products_of(str(ran), each.precision, narrow=variant == NARROW)
            row = replace(each, precision=products)
            records.append(roofline_row(cell.name, row, work, longest.audio_seconds, peaks))
    return tuple(records)


def stage_loads(
    stages: Sequence[StageSample], runs: Mapping[str, Mapping[str, Any]]
) -> tuple[StageLoad, ...]:
    """The stages of a diarization that run a network; ``runs``: how each network ran.

    The batch is the mean of what the calls held. Where the executor does not tell its threads,
    all processors are assumed.
    """
    return tuple(
        StageLoad(
            stage=stage.name,
            busy_seconds=stage.busy_seconds,
            items=stage.items,
            precision=str(runs[stage.name]["precision"]),
            threads=_threads_of_a_call(runs[stage.name]),
            batch=max(1, round(stage.items / stage.calls)),
        )
        for stage in stages
        if stage.items and stage.name in runs
    )


def _threads_of_a_call(run: Mapping[str, Any]) -> int:
    threads = run.get("threads") or processors()
    return max(1, int(threads) // int(run.get("streams") or 1))


def roofline_row(
    cell: str, load: StageLoad, work: NetworkWork, audio_seconds: float, peaks: MachinePeaks
) -> RooflineRecord:
    """A stage of ``cell`` against the machine."""
    flops = work.flops * load.items
    achieved = flops / load.busy_seconds
    intensity = work.flops / work.moved_bytes
    peak = peaks.flops_per_second(load.precision, load.threads)
    limit, bound = _limit(work, load.threads, peak, peaks)
    return RooflineRecord(
        cell=cell,
        stage=load.stage,
        precision=load.precision,
        gflop_per_audio_second=flops / audio_seconds / 1e9,
        achieved=achieved,
        share_of_peak=None if peak is None else achieved / peak,
        intensity=intensity,
        limit=limit,
        share_of_limit=None if limit is None else achieved / limit,
        bound=bound,
    )


def _limit(
    work: NetworkWork, threads: int, peak: float | None, peaks: MachinePeaks
) -> tuple[float | None, Bound | None]:
    """The highest possible rate and what sets it."""
    cache = peaks.bytes_per_second("cache", threads)
    memory = peaks.bytes_per_second("memory", threads)
    if peak is None or cache is None or memory is None:
        return None, None
    least_seconds: dict[Bound, float] = {
        "compute": work.flops / peak,
        "cache bandwidth": work.moved_bytes / cache,
        "memory bandwidth": work.least_bytes / memory,
    }
    bound = max(least_seconds, key=lambda each: least_seconds[each])
    return work.flops / least_seconds[bound], bound
