"""The roofline's arithmetic by hand, and its probes on this machine without judging speed."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarking import cell, file_record, result

from fluidaudio_cli.benchmark.findings import conclude
from fluidaudio_cli.benchmark.results import StageSample
from fluidaudio_cli.benchmark.roofline import (
    NetworkWork,
    StageLoad,
    network_work,
    roofline_records,
    roofline_row,
    stage_loads,
)
from fluidaudio_cli.errors import ExecutorUnavailableError
from fluidaudio_cli.executors.gemm_probe import GemmPeak, gemm_peak
from fluidaudio_cli.measure.bandwidth import (
    Bandwidth,
    last_level_cache_bytes,
    measure_bandwidth,
)
from fluidaudio_cli.measure.limits import MachinePeaks, measure_machine
from fluidaudio_cli.models.card import load_card
from fluidaudio_cli.models.registry import package_of
from fluidaudio_cli.report.benchmark_csv import to_csv
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, remarks
from fluidaudio_cli.report.benchmark_tables import summary_tables

PEAKS = MachinePeaks(
    gemm=(
        GemmPeak("openvino", "fp32", 1, 80e9, 75e9),
        GemmPeak("onnxruntime", "fp32", 1, 100e9, 90e9),
        GemmPeak("openvino", "bf16", 1, 800e9, 700e9),
    ),
    bandwidth=(
        Bandwidth("memory", 1, 4e9, 5e9, 2**30),
        Bandwidth("cache", 1, 10e9, 8e9, 2**23),
    ),
    unavailable=("openvino int8: not here",),
)
# 2 GFLOP and 100 MB an item: 20 FLOP per byte.
WORK = NetworkWork(flops=2e9, moved_bytes=1e8, least_bytes=1e7, batch=8)


def load(precision: str, threads: int = 1) -> StageLoad:
    return StageLoad("embedding", 4.0, 100, precision, threads, 8)


def test_a_stage_that_moves_much_is_bound_by_the_cache() -> None:
    row = roofline_row("cell", load("bf16"), WORK, 1000.0, PEAKS)
    assert row.gflop_per_audio_second == pytest.approx(0.2)  # 200 GFLOP over 1000 s
    assert row.achieved == pytest.approx(50e9)  # in 4 s
    assert row.share_of_peak == pytest.approx(0.0625)  # of 800 GFLOP/s
    assert row.intensity == pytest.approx(20.0)
    assert row.limit == pytest.approx(200e9)  # 20 FLOP per byte, 10 GB/s
    assert row.share_of_limit == pytest.approx(0.25)
    assert row.bound == "cache bandwidth"


def test_a_stage_with_large_weights_is_bound_by_memory() -> None:
    work = NetworkWork(flops=2e9, moved_bytes=1e8, least_bytes=1e8, batch=1)
    row = roofline_row("cell", load("bf16"), work, 1000.0, PEAKS)
    assert row.limit == pytest.approx(100e9)  # 20 FLOP per byte, 5 GB/s
    assert row.bound == "memory bandwidth"


def test_a_stage_that_computes_much_is_bound_by_arithmetic_of_the_best_executor() -> None:
    row = roofline_row("cell", load("fp32"), WORK, 1000.0, PEAKS)
    assert (row.limit, row.bound) == (100e9, "compute")
    assert row.share_of_peak == row.share_of_limit == pytest.approx(0.5)


def test_without_a_measured_peak_there_is_no_share() -> None:
    row = roofline_row("cell", load("fp32", threads=2), WORK, 1000.0, PEAKS)
    assert row.achieved == pytest.approx(50e9)
    assert (row.share_of_peak, row.limit, row.bound) == (None, None, None)


STAGES = tuple(
    StageSample(name=name, busy_seconds=busy, calls=calls, items=items)
    for name, busy, calls, items in (
        ("decode", 1.0, 4, 4),
        ("segmentation", 3.0, 5, 38),
        ("embedding", 6.0, 2, 20),
        ("fbank", 0.0, 0, 0),
    )
)


def test_loads_are_the_stages_that_run_a_network() -> None:
    runs = {
        "segmentation": {"precision": "bf16", "threads": 4, "streams": 2},
        "embedding": {"precision": "fp32", "threads": 4, "streams": 1},
    }
    assert stage_loads(STAGES, runs) == (
        StageLoad("segmentation", 3.0, 38, "bf16", threads=2, batch=8),
        StageLoad("embedding", 6.0, 20, "fp32", threads=4, batch=10),
    )


def test_work_of_the_fbank_package_is_what_its_two_products_take() -> None:
    work = network_work(package_of("fbank"), batch=2)
    # A crop of 200 frames; each 512 sums of 400 products, 512 squares, 80 sums of 512 products,
    # and clip and log of 80.
    assert work.flops == 200 * (2 * 512 * 400 + 512 + 2 * 80 * 512 + 2 * 80)
    constants = 4 * (512 * 400 + 80 * 512)
    edge = 4 * (199 * 160 + 400 + 200 * 80)
    assert work.least_bytes == pytest.approx(edge + constants / 2, rel=1e-3)
    assert network_work(
        package_of("fbank"), batch=2, precision="bf16"
    ).least_bytes == pytest.approx(work.least_bytes / 2, rel=1e-3)


def test_larger_batches_share_the_weights() -> None:
    one, sixteen = (
        network_work(package_of("embedding"), 1),
        network_work(package_of("embedding"), 16),
    )
    assert one.flops == sixteen.flops
    weights = (one.least_bytes - sixteen.least_bytes) * 16 / 15
    assert 25e6 < weights < 30e6  # 7 million parameters in fp32
    assert one.moved_bytes - sixteen.moved_bytes == pytest.approx(weights * 15 / 16, rel=1e-3)


def test_products_are_measured_in_what_they_ran_in() -> None:
    peak = gemm_peak("onnxruntime", "fp32", 1, seconds=0.02)
    assert (peak.executor, peak.precision, peak.threads) == ("onnxruntime", "fp32", 1)
    assert peak.flops_per_second >= peak.median_flops_per_second > 1e8
    assert gemm_peak("openvino", "fp32", 1, seconds=0.02).flops_per_second > 1e8
    with pytest.raises(ExecutorUnavailableError, match="onnxruntime has no bf16 product"):
        gemm_peak("onnxruntime", "bf16", 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, whose allocator this is")
def test_a_product_keeps_its_operands_though_memory_is_given_back() -> None:
    """A stream lets the allocator do so (``return_large_blocks``)."""
    script = (
        "from fluidaudio_cli.executors import gemm_probe, machine\n"
        "machine.return_large_blocks()\n"
        "assert gemm_probe.gemm_peak('openvino', 'fp32', 1, seconds=0.02).flops_per_second > 1e8\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_precision_that_would_run_as_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from fluidaudio_cli.executors import gemm_probe

    monkeypatch.setitem(gemm_probe._HINT, "bf16", "f32")
    with pytest.raises(ExecutorUnavailableError, match="asked for bf16 products and runs f32"):
        gemm_peak("openvino", "bf16", 1)


def test_what_cannot_be_measured_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    from fluidaudio_cli.measure import limits

    def probe(executor: str, precision: str, threads: int) -> GemmPeak:
        if precision == "int8":
            raise ExecutorUnavailableError("no such product")
        return GemmPeak(executor, precision, threads, threads * 1e9, 1e9)

    monkeypatch.setattr(limits, "gemm_peak", probe)
    monkeypatch.setattr(
        limits, "measure_bandwidth", lambda level, n: Bandwidth(level, n, 1e9, 2e9, 4096)
    )
    products = [("openvino", "fp32"), ("openvino", "int8"), ("onnxruntime", "fp32")]
    peaks = measure_machine(threads=(1, 2), products=products)
    assert peaks.unavailable == ("openvino int8: no such product",)
    assert [(each.executor, each.threads) for each in peaks.gemm] == [
        ("openvino", 1),
        ("openvino", 2),
        ("onnxruntime", 1),
        ("onnxruntime", 2),
    ]
    assert peaks.flops_per_second("fp32", 2) == 2e9
    assert peaks.flops_per_second("bf16", 2) is None
    assert peaks.bytes_per_second("cache", 1) == 2e9
    assert [(each.level, each.threads) for each in peaks.bandwidth] == [
        ("memory", 1),
        ("memory", 2),
        ("cache", 1),
        ("cache", 2),
    ]


def test_bandwidth_counts_the_bytes_of_whole_arrays() -> None:
    measured = measure_bandwidth("memory", 2, array_bytes=2**20)
    assert (measured.threads, measured.array_bytes) == (2, 2**20)
    assert measured.copy > 1e6
    assert measured.triad > 1e6
    assert measured.best == max(measured.copy, measured.triad)


def test_the_largest_cache_counts(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "2048K", "480M")):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "size").write_text(f"{size}\n")
    assert last_level_cache_bytes(tmp_path) == 480 * 2**20
    assert last_level_cache_bytes(tmp_path / "absent") == 0


def test_findings_and_tables_hold_limits_and_shares() -> None:
    record = file_record(walls=(4.0,), audio_seconds=1000.0)
    sample = record.iterations[0].model_copy(update={"stages": STAGES})
    measured = cell("fast", record.model_copy(update={"iterations": (sample,)}))
    ran = {"executor": "openvino", "precision": "bf16", "threads": 1, "streams": 1}
    measured = measured.model_copy(update={"executors": {"embedding": {"asked": {}, "ran": ran}}})
    whole = result(measured)
    whole = whole.model_copy(update={"findings": conclude(whole, PEAKS)})
    (network,) = whole.findings.roofline
    assert (network.cell, network.stage, network.bound) == ("fast", "embedding", "cache bandwidth")
    assert network.achieved == pytest.approx(
        20 * network_work(package_of("embedding"), 10).flops / 6.0
    )
    report = BenchmarkReport(whole)
    tables = {table.title: table for table in summary_tables(report)}
    limits = tables["Measured limits of this machine"].rows
    assert ("products bf16, openvino", "1", "800.0 GFLOP/s", "700.0 GFLOP/s") in limits
    assert ("memory triad, 1024 MiB arrays", "1", "5.0 GB/s", "—") in limits
    (row,) = tables["Networks against these limits"].rows
    assert (row[0], row[-1]) == ("fast: embedding (bf16)", "cache bandwidth")
    assert network.share_of_peak is not None
    assert network.limit is not None
    assert (row[2], row[3], row[5]) == (
        f"{network.achieved / 1e9:.1f}",
        f"{100 * network.share_of_peak:.1f} %",
        f"{network.limit / 1e9:.1f}",
    )
    known = {
        (each["study"], each["mode"], each["file"], each["metric"], each["unit"]): each["median"]
        for each in csv.DictReader(io.StringIO(to_csv(whole)))
    }
    rate = f"{network.achieved / 1e9:.6g}"
    assert known["modes", "fast", "embedding", "achieved", "GFLOP/s"] == rate
    bf16 = "products bf16, openvino, 1 thread(s)"
    assert known["limits", "", "", bf16, "GFLOP/s"] == "800"
    assert known["limits", "", "", "memory triad, 1024 MiB arrays, 1 thread(s)", "GB/s"] == "5"
    assert "unavailable: openvino int8: not here" in remarks(report)


@pytest.mark.parametrize(
    ("executor", "products", "peak"),
    [("openvino", "int8", 1000e9), ("onnxruntime", "fp32", 100e9)],
)
def test_a_narrow_network_is_held_against_the_products_that_it_runs_in(
    executor: str, products: str, peak: float
) -> None:
    record = file_record(walls=(4.0,), audio_seconds=1000.0)
    sample = record.iterations[0].model_copy(update={"stages": STAGES})
    measured = cell("fast", record.model_copy(update={"iterations": (sample,)}))
    ran = {"executor": executor, "precision": "fp32", "threads": 1, "streams": 1}
    plan = {"networks": {"embedding": {"variant": "narrow"}}}
    measured = measured.model_copy(
        update={"executors": {"embedding": {"asked": {}, "ran": ran}}, "plan": plan}
    )
    peaks = replace(PEAKS, gemm=(*PEAKS.gemm, GemmPeak("openvino", "int8", 1, 1000e9, 900e9)))
    (network,) = roofline_records([measured], peaks)
    work = network_work(load_card().packages["narrow embedding"], 10)
    assert network.precision == products
    assert network.achieved == pytest.approx(20 * work.flops / 6.0)
    assert network.share_of_peak == pytest.approx(network.achieved / peak)
