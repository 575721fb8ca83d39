"""Each rule of the bottleneck, on made-up figures."""

from __future__ import annotations

from dataclasses import replace

from fluidaudio_cli.profiling.bottleneck import find_bottleneck
from fluidaudio_cli.profiling.records import (
    Concurrency,
    LayerProfile,
    ModelProfile,
    Peak,
    StageProfile,
    ThreadProfile,
    Unavailable,
)

SERIAL = Concurrency(False, (), ())
STAGE = StageProfile(
    "embedding", 6.0, 5.4, 0.6, 3, (2.0, 2.0, 2.0), 9, 1, 1, 0, 0, 0, 10.0, waiting=False
)
OTHER = replace(STAGE, name="clustering", wall_seconds=4.0, cpu_seconds=3.6, share=0.4)


def model(flops: int, moved: int, peak: Peak | Unavailable) -> ModelProfile:
    layer = LayerProfile("embedding", "conv_1", "conv", (), 3, 2.0, 1.0, flops, moved)
    return ModelProfile("embedding", "openvino", "bf16", (layer,), (), 1.0, peak, "")


PEAK = Peak("bf16", 1, 100.0, 1000.0)


def test_network_near_the_compute_peak() -> None:
    # 160 FLOP in 2 s of 100/s: 80 %; 160 bytes in 2 s of 1000/s: 8 %.
    found = find_bottleneck((STAGE, OTHER), SERIAL, [model(160, 160, PEAK)], None)
    assert (found.stage, found.share, found.limit) == ("embedding", 0.6, "compute")
    assert found.reason == (
        "its operators reach 80% of the bf16 compute peak and move bytes at 8% of the cache "
        "bandwidth"
    )


def test_network_nearer_to_the_bandwidth_and_far_from_both() -> None:
    found = find_bottleneck((STAGE, OTHER), SERIAL, [model(4, 120, PEAK)], None)
    assert found.limit == "bandwidth"
    assert found.reason.endswith("6% of the cache bandwidth; far from both: small or sequential "
                                 "operations")  # fmt: skip


def test_unknown_without_peaks_or_operator_times() -> None:
    blind = model(1, 1, Unavailable("not measured"))
    found = find_bottleneck((STAGE,), SERIAL, [blind], None)
    assert (found.limit, found.reason) == (
        "unknown",
        "machine's peaks unavailable: not measured",
    )
    silent = replace(model(1, 1, PEAK), layers=Unavailable("Core ML does not report them"))
    found = find_bottleneck((STAGE,), SERIAL, [silent], None)
    assert found.reason == "operator times unavailable: Core ML does not report them"
    for lacking in (replace(PEAK, flops_per_second=None), replace(PEAK, bytes_per_second=None)):
        found = find_bottleneck((STAGE,), SERIAL, [model(1, 1, lacking)], None)
        assert found.reason == "operator times or machine's peaks are missing"
    found = find_bottleneck((STAGE,), SERIAL, [replace(silent, layers=())], None)
    assert found.reason == "operator times or machine's peaks are missing"


def test_python_when_on_a_processor_else_waiting() -> None:
    top = replace(OTHER, wall_seconds=9.0, cpu_seconds=8.1)
    found = find_bottleneck((STAGE, top), SERIAL, [], None)
    assert (found.stage, found.limit) == ("clustering", "Python")
    assert "90% of its time" in found.reason
    found = find_bottleneck((replace(top, cpu_seconds=0.9),), SERIAL, [], None)
    assert found.limit == "waiting"


def test_idle_workers_point_at_what_they_waited_for() -> None:
    workers = (ThreadProfile("worker-0", 5.0, 1.0, 4.0), ThreadProfile("worker-1", 5.0, 1.0, 4.0))
    side = Concurrency(True, workers, (0.0, 10.0))
    found = find_bottleneck((STAGE, OTHER), side, [], "clustering")
    assert (found.stage, found.limit) == ("clustering", "waiting")
    assert found.reason.startswith("the workers had no batch to work on for 40% of the run")
    busy = replace(side, threads=tuple(replace(each, idle_seconds=2.0) for each in workers))
    assert find_bottleneck((STAGE, OTHER), busy, [], "clustering").stage == "embedding"


def test_nothing_ran() -> None:
    found = find_bottleneck((replace(STAGE, waiting=True),), SERIAL, [], None)
    assert (found.stage, found.limit) == ("none", "unknown")
