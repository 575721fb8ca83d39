"""What a profile says, in one tree of frozen records (schema ``fluidaudio.profile/1``).

Seconds and bytes throughout, shares as fractions. A figure that could not be had is an
:class:`Unavailable` with its reason; no other figure stands in for it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fluidaudio_cli.executors.compute_plan import PlannedOperation
from fluidaudio_cli.measure.environment import Environment
from fluidaudio_cli.profiling.clock import Call
from fluidaudio_cli.turns import Turn

SCHEMA = "fluidaudio.profile/1"

Limit = Literal["compute", "bandwidth", "waiting", "Python", "unknown"]


@dataclass(frozen=True)
class Unavailable:
    """A figure that could not be had, and why."""

    reason: str

    def __str__(self) -> str:
        """``unavailable: reason``."""
        return f"unavailable: {self.reason}"


@dataclass(frozen=True)
class StageProfile:
    """One stage of the measured run.

    ``wall_seconds``: busy time summed over threads; ``share``: of the busy time of all stages
    that do not wait. ``call_seconds``: p50, p90 and p99 of a call. ``copied_bytes``: what the
    pipeline itself copied. ``allocated_bytes``: highest that Python and NumPy allocated within
    one call, over what they held before. ``rss_delta_bytes``: highest resident memory seen while
    the stage ran, over that before the run; other stages may have run at the same time.
    ``rtfx``: audio seconds per busy second. ``waiting``: the stage waits and does no work.
    """

    name: str
    wall_seconds: float
    cpu_seconds: float | Unavailable
    share: float
    calls: int
    call_seconds: tuple[float, ...]
    items: int
    bytes_in: int | Unavailable
    bytes_out: int | Unavailable
    copied_bytes: int
    allocated_bytes: int | Unavailable
    rss_delta_bytes: int
    rtfx: float
    waiting: bool


@dataclass(frozen=True)
class ThreadProfile:
    """What one thread did with the wall time of the run.

    ``waiting_seconds``: in a stage that waits, by the clock. ``idle_seconds``: in no stage,
    which for a worker means that no batch was ready.
    """

    name: str
    busy_seconds: float
    waiting_seconds: float
    idle_seconds: float


@dataclass(frozen=True)
class Concurrency:
    """How far stages ran side by side. ``parallel_seconds[n]``: wall time with n at work."""

    concurrent: bool
    threads: tuple[ThreadProfile, ...]
    parallel_seconds: tuple[float, ...]

    @property
    def mean_parallel(self) -> float:
        """Stages at work, averaged over the time in which any was."""
        active = sum(self.parallel_seconds[1:])
        busy = sum(count * seconds for count, seconds in enumerate(self.parallel_seconds))
        return busy / active if active else 0.0

    @property
    def overlap_share(self) -> float:
        """Share of the wall time in which at least two stages were at work."""
        total = sum(self.parallel_seconds)
        return sum(self.parallel_seconds[2:]) / total if total else 0.0


@dataclass(frozen=True)
class Bottleneck:
    """Where the time goes, what limits it, and the figures that say so."""

    stage: str
    share: float
    limit: Limit
    reason: str


@dataclass(frozen=True)
class PassCost:
    """What one kind of measuring costs: seconds of a run without and with it.

    ``ratio`` is the median over pairs of with to without; 1.02 means 2 % slower. Without pairs
    it is reckoned, not measured.
    """

    name: str
    plain_seconds: float
    measured_seconds: float
    ratio: float
    pairs: int

    @classmethod
    def of_pairs(cls, name: str, plain: Sequence[float], measured: Sequence[float]) -> PassCost:
        """Medians of runs made in turn, ``plain`` ones without it and ``measured`` ones with it."""
        ratios = [with_it / without for without, with_it in zip(plain, measured, strict=True)]
        median = statistics.median
        return cls(name, median(plain), median(measured), median(ratios), len(ratios))


@dataclass(frozen=True)
class LayerProfile:
    """One operation of a package: measured time, and work by its definition.

    ``layer`` and ``op``: name and MIL type in the package; an operator that the executor added
    and that belongs to no layer keeps its own name, with ``op`` empty. ``kernels``: the
    executor's operators that this time is made of. Work is over the whole run; zero seconds
    means the executor fused the operation into another.
    """

    model: str
    layer: str
    op: str
    kernels: tuple[str, ...]
    calls: int
    seconds: float
    share: float
    flops: int
    moved_bytes: int

    @property
    def flops_per_second(self) -> float:
        """Rate reached, 0 where no time was measured."""
        return self.flops / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class KindProfile:
    """All operations of one MIL type in one model."""

    model: str
    op: str
    operations: int
    seconds: float
    share: float
    flops: int
    moved_bytes: int


@dataclass(frozen=True)
class Peak:
    """What this machine can do, measured: FLOP/s in a model's precision, bytes/s of its caches.

    Results of one operation are read by the next from the caches, not from memory.
    """

    precision: str
    threads: int
    flops_per_second: float | None
    bytes_per_second: float | None


@dataclass(frozen=True)
class ModelProfile:
    """One network: what ran, its operations, the machine's peak for it.

    ``attributed_share``: share of the operators' time that belongs to a layer of the package.
    """

    name: str
    executor: str
    precision: str
    layers: tuple[LayerProfile, ...] | Unavailable
    kinds: tuple[KindProfile, ...]
    attributed_share: float
    peak: Peak | Unavailable
    source: str


@dataclass(frozen=True)
class ModelPlan:
    """Core ML's ``MLComputePlan`` of one model: an estimate made before running, not measured."""

    model: str
    operations: tuple[PlannedOperation, ...] | Unavailable

    @property
    def neural_engine_share(self) -> float | None:
        """Estimated share of the time planned on the Neural Engine; ``None`` without a plan."""
        if isinstance(self.operations, Unavailable):
            return None
        costs = [(each.device, each.cost or 0.0) for each in self.operations]
        total = sum(cost for _, cost in costs)
        engine = sum(cost for device, cost in costs if device == "Neural Engine")
        return engine / total if total else None


@dataclass(frozen=True)
class ErrorSpan:
    """A stretch of the timeline in which the hypothesis is wrong: what kind of error."""

    start: float
    end: float
    kind: Literal["missed", "false alarm", "confusion"]


@dataclass(frozen=True)
class Timeline:
    """Turns found, and with a reference its turns, the errors, and the error rate.

    ``hypothesis`` bears the reference's speaker names where they are mapped.
    """

    hypothesis: tuple[Turn, ...]
    reference: tuple[Turn, ...] | Unavailable
    errors: tuple[ErrorSpan, ...] = ()
    der_strict: float | None = None


@dataclass(frozen=True)
class LayerError:
    """One layer computed with rounding after every operation, against fp32.

    ``max_error`` and ``rms_error`` are absolute; ``relative`` is the RMS error over the RMS of
    the fp32 result, ``added`` how much of it was not yet in the layer's inputs. Of the fp32
    numbers, ``overflow`` exceed the format's range, ``underflow`` become zero in it, and
    ``subnormal`` lose precision.
    """

    layer: str
    op: str
    max_error: float
    rms_error: float
    relative: float
    added: float
    overflow: int
    underflow: int
    subnormal: int
    numbers: int


@dataclass(frozen=True)
class PrecisionProfile:
    """One model in one precision, simulated layer by layer.

    ``entry``: the layer that adds most error. ``figure``: the model's own measure: lowest
    embedding cosine, share of flipped segmentation frames, or highest filter-bank error.
    ``executed``: the same figure with the executor's own arithmetic.
    """

    model: str
    precision: str
    layers: tuple[LayerError, ...] | Unavailable
    entry: str
    figure_name: str
    figure: float | Unavailable
    executed: float | Unavailable


@dataclass(frozen=True)
class PrecisionDer:
    """Strict error rate of the whole pipeline in one precision, and its change from fp32."""

    precision: str
    executor: str
    der: float | Unavailable
    change: float | Unavailable
    against: str


@dataclass(frozen=True)
class PrecisionReport:
    """Where precision is lost, on pieces of the profiled recording."""

    models: tuple[PrecisionProfile, ...]
    der: tuple[PrecisionDer, ...]
    note: str


@dataclass(frozen=True)
class Profile:
    """A whole profile of one recording in one mode.

    ``memory_curve`` and ``queues``: (seconds since ``started``, bytes or items). ``started`` and
    the ``calls`` are on ``time.perf_counter``.
    """

    version: str
    created: str
    uri: str
    path: str
    audio_seconds: float
    mode: str
    plan: Mapping[str, object]
    executors: Mapping[str, Mapping[str, object]]
    environment: Environment
    load_seconds: float
    load_cached: bool
    processing_seconds: float
    cpu_seconds: float
    started: float
    windows: int
    crops: int
    copied_bytes: int
    stages: tuple[StageProfile, ...]
    concurrency: Concurrency
    bottleneck: Bottleneck
    costs: tuple[PassCost, ...]
    models: tuple[ModelProfile, ...]
    plans: tuple[ModelPlan, ...]
    memory_curve: tuple[tuple[float, int], ...]
    peak_rss_bytes: int | Unavailable
    baseline_rss_bytes: int
    calls: tuple[Call, ...]
    queues: Mapping[str, tuple[tuple[float, int], ...]]
    timeline: Timeline
    precision: PrecisionReport | None
    notes: tuple[str, ...]

    @property
    def rtfx(self) -> float:
        """Audio seconds per processing second."""
        return self.audio_seconds / self.processing_seconds
