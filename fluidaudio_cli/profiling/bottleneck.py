"""Name the stage that costs most, and by stated rules what limits it.

1. *Waiting*: the workers were idle for more than a third of the run. The stage named is then the
   one that they waited for: the one that ran longest while fewer than all workers were at work.
2. *Compute* or *bandwidth*: the costliest stage is a network. Its rate is set against the
   machine's measured peaks (FLOP/s in its precision, bytes/s of its caches): the nearer ceiling
   is the limit. Bytes are those that the operations define, fusion ignored, so that nearness to
   the bandwidth is overstated rather than understated.
3. *Python*: any other stage whose thread was on a processor for at least half of its time
   (interpreter and NumPy, one thread).
4. *Waiting* again: any other stage that was mostly off the processor (disk, locks).

Without the figures that a rule needs the limit is *unknown*.
"""

from __future__ import annotations

from collections.abc import Sequence

from fluidaudio_cli.profiling.records import (
    Bottleneck,
    Concurrency,
    Limit,
    ModelProfile,
    StageProfile,
    Unavailable,
)

IDLE_LIMIT = 1 / 3
ON_PROCESSOR = 0.5
_FAR = 0.1


def find_bottleneck(
    stages: Sequence[StageProfile],
    concurrency: Concurrency,
    models: Sequence[ModelProfile],
    waited_for: str | None,
) -> Bottleneck:
    """The bottleneck of a run; ``waited_for``: see :func:`busiest_while_idle`."""
    working = [stage for stage in stages if not stage.waiting]
    if not working:
        return Bottleneck("none", 0.0, "unknown", "no stage did any work")
    idle = idle_share(concurrency)
    if concurrency.concurrent and idle > IDLE_LIMIT:
        stage = next((each for each in working if each.name == waited_for), working[0])
        return Bottleneck(
            stage.name,
            stage.share,
            "waiting",
            f"the workers had no batch to work on for {idle:.0%} of the run (limit "
            f"{IDLE_LIMIT:.0%}), most of it while {stage.name} ran",
        )
    top = max(working, key=lambda stage: stage.wall_seconds)
    model = next((each for each in models if each.name == top.name), None)
    limited = _network(model) if model is not None else _other(top)
    return Bottleneck(top.name, top.share, *limited)


def idle_share(concurrency: Concurrency) -> float:
    """Share of the workers' time that they spent in no stage, 0 without workers."""
    workers = [each for each in concurrency.threads if each.name.startswith("worker")]
    total = sum(each.busy_seconds + each.waiting_seconds + each.idle_seconds for each in workers)
    return sum(each.idle_seconds for each in workers) / total if total else 0.0


def _network(model: ModelProfile) -> tuple[Limit, str]:
    peak = model.peak
    if isinstance(peak, Unavailable):
        return "unknown", f"machine's peaks {peak}"
    if isinstance(model.layers, Unavailable):
        return "unknown", f"operator times {model.layers}"
    seconds = sum(layer.seconds for layer in model.layers)
    if not seconds or peak.flops_per_second is None or peak.bytes_per_second is None:
        return "unknown", "operator times or machine's peaks are missing"
    compute = sum(layer.flops for layer in model.layers) / seconds / peak.flops_per_second
    moved = sum(layer.moved_bytes for layer in model.layers) / seconds / peak.bytes_per_second
    far = "; far from both: small or sequential operations" if max(compute, moved) < _FAR else ""
    return (
        "compute" if compute >= moved else "bandwidth",
        f"its operators reach {compute:.0%} of the {peak.precision} compute peak and move bytes "
        f"at {moved:.0%} of the cache bandwidth{far}",
    )


def _other(stage: StageProfile) -> tuple[Limit, str]:
    if isinstance(stage.cpu_seconds, Unavailable):
        return "unknown", f"processor time {stage.cpu_seconds}"
    on = stage.cpu_seconds / stage.wall_seconds if stage.wall_seconds else 0.0
    return (
        "Python" if on >= ON_PROCESSOR else "waiting",
        f"no network; its thread was on a processor for {on:.0%} of its time",
    )
